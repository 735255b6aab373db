"""One drive for all tests here, and ``faulty_bags`` beside them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from faulty_bags import Drive


@pytest.fixture(scope="session")
def drive() -> Drive:
    return Drive.measured()
