"""Lets every room's tests share what lies in ``support/``, and verifies the package's array annotations meanwhile.

Not in the processes that live tests start: importing a node would take three times as long.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import config, install_import_hook

sys.path.insert(0, str(Path(__file__).parent / "support"))

install_import_hook("ov3d_perception", "shape_checks.checked")

settings.register_profile("untimed", deadline=None)  # how long an example takes says more about the machine
settings.load_profile("untimed")


@pytest.fixture
def shapes_unchecked() -> Iterator[None]:
    """For a test of what the package itself says about a wrong shape."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
