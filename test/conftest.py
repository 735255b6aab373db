"""Lets every room's tests share what lies in ``support/``, and verifies the package's array annotations meanwhile.

Not in the processes that live tests start: importing a node would take longer.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import config

sys.path.insert(0, str(Path(__file__).parent / "support"))

from shape_checks import check_shapes

check_shapes("ov3d_perception")

settings.register_profile("untimed", deadline=None)  # how long an example takes says more about the machine
settings.load_profile("untimed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several workers (make test), each takes the next file: those that take long come first."""
    if hasattr(config, "workerinput"):
        long = {item.path for item in items if {"live", "slow"} & {mark.name for mark in item.iter_markers()}}
        items.sort(key=lambda item: item.path not in long)


@pytest.fixture
def shapes_unchecked() -> Iterator[None]:
    """For a test of what the package itself says about a wrong shape."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
