"""Units and clocks of per-point times: every driver's habit gives the same seconds; what cannot be true is not used."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ov3d_perception.geometry.scan_time import UNITS, interpret

S = 1_000_000_000
STAMP = 1_700_000_012 * S + 345_678_901
TRUE = np.linspace(0, 0.0998, 500)  # seconds after the stamp
rng = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("raw", "unit", "clock"),
    [
        (np.float32(TRUE), "s", "after"),  # Velodyne
        (np.uint32(TRUE * 1e9), "ns", "after"),  # Ouster, Livox' offset_time
        (np.uint32(TRUE * 1e6), "us", "after"),
        (np.float32(TRUE * 1e6), "us", "after"),
        (np.float32(TRUE * 1e3), "ms", "after"),
        (np.uint16(TRUE * 1e5) / 100.0, "ms", "after"),
        (TRUE * 1e9, "ns", "after"),  # Livox' timestamp of some versions
        (STAMP / 1e9 + TRUE, "s", "stamp's clock"),  # Hesai, RoboSense
        (STAMP / 1e6 + TRUE * 1e3, "ms", "stamp's clock"),
        (STAMP / 1e3 + TRUE * 1e6, "us", "stamp's clock"),
        (STAMP + TRUE * 1e9, "ns", "stamp's clock"),  # Livox
        (1234.5e9 + TRUE * 1e9, "ns", "own clock"),  # Livox without PTP
        (1234.5 + TRUE, "s", "own clock"),
        (np.uint32(1234.5e6 + TRUE * 1e6), "us", "own clock"),
    ],
)
def test_every_habit_gives_the_same_seconds(raw: np.ndarray, unit: str, clock: str) -> None:
    times = interpret(raw, STAMP, period_s=0.1)
    assert times.unit == unit and clock in times.clock
    np.testing.assert_allclose(times.seconds, TRUE, atol=2e-5)
    assert (times.first, times.last, times.middle) == pytest.approx((0, 0.0998, 0.0499), abs=2e-5)
    assert bool(times.problem) == ("own" in clock), "an assumption is told"
    np.testing.assert_array_equal(interpret(raw, STAMP).seconds, times.seconds)


@pytest.mark.parametrize("start", [-0.1, -0.05, 0.0, 0.05])
@pytest.mark.parametrize("epoch", [0, 100 * S, STAMP])
def test_stamp_at_the_start_middle_or_end(start: float, epoch: int) -> None:
    """On the stamp's clock, which may be Unix time, time since power-on or a simulation's; and after the stamp."""
    for raw in (start + TRUE, epoch / 1e9 + start + TRUE):
        times = interpret(raw, epoch, period_s=0.1)
        np.testing.assert_allclose(times.seconds, start + TRUE, atol=1e-6)
        assert times.middle == pytest.approx(start + 0.0499, abs=1e-6)


@given(
    st.sampled_from(sorted(UNITS)),
    st.floats(0.01, 0.2),
    st.floats(0.3, 1.0),
    st.sampled_from(["after", "clock"]),
    st.integers(200, 400),
)
def test_any_period_and_share_of_a_revolution(unit: str, period: float, share: float, clock: str, n: int) -> None:
    seconds = np.sort(np.random.default_rng(n).uniform(0, period * share, n))
    raw = (seconds if clock == "after" else STAMP / 1e9 + seconds) / UNITS[unit]
    times = interpret(raw, STAMP, period_s=period)
    assert times.unit == unit
    np.testing.assert_allclose(times.seconds, seconds, atol=1e-6)


@pytest.mark.parametrize("unit", sorted(UNITS))
@pytest.mark.parametrize(
    ("period", "last"),
    [
        (0.001, 0.0998),  # two LiDARs take turns on one topic: from stamp to stamp is no scan's period
        (10.0, 0.0998),  # one scan of a hundred was kept
        (1.0, 0.998),  # a LiDAR that gathers for a second
    ],
)
def test_stamps_that_do_not_tell_the_period(unit: str, period: float, last: float) -> None:
    seconds = np.linspace(0, last, 500)
    times = interpret(seconds / UNITS[unit], STAMP, period_s=period)
    assert times.unit == unit and times.strays == 0
    np.testing.assert_allclose(times.seconds, seconds, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e9])
def test_zeros_among_absolute_times_are_points_without_one(scale: float) -> None:
    raw = (STAMP / 1e9 + TRUE) * scale
    raw[::3] = 0
    times = interpret(raw, STAMP, period_s=0.1)
    assert times.strays == 167
    np.testing.assert_allclose(times.seconds, np.where(raw == 0, 0, TRUE), atol=1e-6)
    raw[::2] = 0
    times = interpret(raw, STAMP, period_s=0.1)
    assert times.seconds is None and "333 of 500 points have no finite time" in times.problem


def test_most_points_in_a_small_part_of_the_revolution() -> None:
    """A wall on one side, open sky on the other."""
    seconds = np.concatenate([rng.uniform(0.03, 0.04, 900), rng.uniform(0, 0.1, 100)])
    times = interpret(np.uint32(seconds * 1e9), STAMP, period_s=0.1)
    np.testing.assert_allclose(times.seconds, seconds, atol=1e-6)
    assert times.strays == 0


@pytest.mark.parametrize(
    ("raw", "stray"),
    [
        (np.uint32(TRUE * 1e9), 2**32 - 50_000),  # the packet's clock stepped back below the stamp
        (STAMP / 1e9 + TRUE, 0.0),  # returns without a time
        (STAMP + TRUE * 1e9, np.nan),
        (STAMP + TRUE * 1e9, 0.0),
        (np.float32(TRUE), np.inf),
    ],
)
def test_stray_times_do_not_cost_the_others(raw: np.ndarray, stray: float) -> None:
    raw = raw.copy()
    raw[:20] = stray
    times = interpret(raw, STAMP, period_s=0.1)
    np.testing.assert_allclose(times.seconds[20:], TRUE[20:], atol=2e-5)
    np.testing.assert_array_equal(times.seconds[:20], 0.0)  # as measured
    assert times.strays == 20 and "20 stray times ignored" in str(times)
    assert times.middle == pytest.approx((TRUE[20] + TRUE[-1]) / 2, abs=2e-5)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (np.full(500, STAMP / 1e9), "same time"),  # frozen
        (np.zeros(500, np.uint32), "same time"),
        (STAMP / 1e9 - 5 + TRUE, "5.000 s before the stamp"),
        (STAMP + 37e9 + TRUE * 1e9, "37.000 s after the stamp"),  # TAI
        (np.float32(STAMP / 1e9 + TRUE), "same time|too coarse"),
        (rng.uniform(0, 1e12, 500), "spread over"),
        (np.full(500, np.nan), "500 of 500 points have no finite time"),
        (np.where(np.arange(500) % 4, np.nan, TRUE), "375 of 500 points have no finite time"),
        (np.uint64(STAMP + TRUE * 1e9).view(np.float64), "as no times of a scan do"),  # integers in a float field
    ],
)
def test_what_cannot_be_true_is_not_used(raw: np.ndarray, why: str) -> None:
    times = interpret(raw, STAMP, period_s=0.1)
    assert times.seconds is None and times.middle == 0
    assert re.search(why, times.problem)


def test_options_overrule() -> None:
    np.testing.assert_allclose(interpret(STAMP / 1e9 + 37 + TRUE, STAMP, offset_s=-37).seconds, TRUE, atol=1e-6)
    np.testing.assert_allclose(interpret(TRUE, STAMP, offset_s=-0.1).seconds, TRUE - 0.1, atol=1e-6)
    np.testing.assert_allclose(interpret(1200 + TRUE, STAMP, offset_s=-0.1).seconds, TRUE - 0.1, atol=1e-6)
    burst = np.uint32(200_000 * rng.uniform(size=50))  # 0.2 ms in ns: a few points of a revolution
    np.testing.assert_allclose(interpret(burst, STAMP, unit="ns").seconds, burst * 1e-9, atol=1e-9)


def test_it_says_what_it_decided() -> None:
    text = str(interpret(np.uint32(TRUE * 1e9), STAMP))
    assert text == "uint32 nanoseconds after the stamp, 0.0 .. 99.8 ms"
