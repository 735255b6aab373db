"""The clouds of one topic are read alike, whatever one of them looks like alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ov3d_perception.bags import messages
from ov3d_perception.bags.cloud_reader import CloudReader

S = 1_000_000_000


def cloud(number: int, points: int = 200, **columns: np.ndarray) -> Any:
    xyz = dict.fromkeys("xyz", np.ones(points, np.float32))
    return messages.point_cloud(xyz | columns, number * S // 20, "lidar")


def test_a_burst_of_points_does_not_change_the_unit() -> None:
    """50 points within 0.2 ms, in nanoseconds, look like a whole scan in microseconds."""
    burst = np.linspace(0, 200_000, 50).astype(np.uint32)
    assert CloudReader().read(cloud(0, 50, t=burst)).times.unit == "us"
    reader = CloudReader()
    reader.read(cloud(0, t=np.linspace(0, 5e7, 200).astype(np.uint32)))
    np.testing.assert_allclose(reader.read(cloud(1, 50, t=burst)).scan.time, burst * 1e-9, atol=1e-9)


def test_a_wrong_first_guess_is_given_up() -> None:
    reader = CloudReader(learn=1)
    reader.read(cloud(0, t=np.linspace(0, 200_000, 200).astype(np.uint32)))
    whole = np.linspace(0, 5e7, 200).astype(np.uint32)
    assert reader.read(cloud(1, t=whole)).scan.time is None, "50 s in microseconds"
    np.testing.assert_allclose(reader.read(cloud(2, t=whole)).scan.time, whole * 1e-9, atol=1e-8)


def test_the_scale_stays_after_the_first_clouds() -> None:
    reader = CloudReader(learn=3)
    for number in range(3):
        reader.read(cloud(number, intensity=np.linspace(0, 200, 200, dtype=np.float32)))
    dark = reader.read(cloud(3, intensity=np.ones(200, np.float32)))
    np.testing.assert_allclose(dark.scan.intensity, 1 / 255)
    given = CloudReader(intensity_scale=0.5, learn=1)
    for number in range(2):
        np.testing.assert_allclose(given.read(cloud(number, intensity=np.ones(200, np.float32))).scan.intensity, 0.5)


def test_the_period_is_measured() -> None:
    reader = CloudReader()
    assert reader.period is None
    for number in (0, 1, 1, 2, 3, 7, 8):  # one twice, three lost
        reader.read(cloud(number))
    assert reader.period == pytest.approx(0.05)
    assert CloudReader(period=0.2).period == 0.2
