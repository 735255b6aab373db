"""One small drive, shared by the tests: building a world takes seconds."""

from __future__ import annotations

import pytest

from ov3d_perception.sim.drive import SimFrame, SimulatedDrive, simulate


@pytest.fixture(scope="session")
def drive() -> SimulatedDrive:
    return simulate(2100, 3.0, stride=10, image_size=(320, 180))


@pytest.fixture(scope="session")
def shot(drive: SimulatedDrive) -> SimFrame:
    return drive[1]
