"""Per-point times of any driver as seconds after the scan's stamp. Unit and clock are decided by the values, and told.

Drivers write the field in seconds, milliseconds, microseconds or nanoseconds; after the header's stamp, or on the same
clock as the stamp, or on the sensor's own clock since power-on. The unit is the one in which the spread of the values
is nearest to a scan's period; the clock is the one on which they lie nearest to the stamp. What lies far from the stamp
or spreads farther than a scan is not believed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Shaped

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
USUAL_PERIOD_S = 0.1
_UNIT_PERIODS_S = 0.05, 0.2  # by which units are told: stamps may be those of a selection, or of two LiDARs on a topic
_LONGEST_PERIOD_S = 1.0  # of a LiDAR that gathers points for as long as that
_SHORTEST_S = 1e-9  # the spread of numbers that are no times, such as integers in a float field
_SAMPLE = 4096
_UNIX_S = 1e9  # stamps above are Unix time ...
_UPTIME_S = 1e8  # ... and those below time since power-on


@dataclass(frozen=True)
class PointTimes:
    """What a time field was taken for.

    seconds: after the stamp, one a point; None where the times cannot be used, for the reason in ``problem``.
    kind: the field's dtype; unit: key of :data:`UNITS`, "" where it could not be decided; clock: what they count from.
    first, last: of the believed times, seconds after the stamp. strays: points whose time lies outside the scan; theirs
    is 0, so that they stay where they were measured. problem may also tell of an assumption behind usable times.
    """

    seconds: Float32[np.ndarray, " n"] | None
    kind: str
    unit: str = ""
    clock: str = ""
    first: float = 0.0
    last: float = 0.0
    strays: int = 0
    problem: str = ""

    @property
    def middle(self) -> float:
        """The middle of the measured times, in seconds after the stamp; 0 where they are unknown."""
        return 0.0 if self.seconds is None else (self.first + self.last) / 2

    def __str__(self) -> str:
        unit = f" {NAMES[self.unit]}" if self.unit else ""
        clock = f" {self.clock}" if self.clock else ""
        span = "" if self.seconds is None else f", {self.first * 1e3:.1f} .. {self.last * 1e3:.1f} ms"
        strays = f", {self.strays} stray times ignored" if self.strays else ""
        problem = f" ({self.problem})" if self.problem else ""
        return f"{self.kind}{unit}{clock}{span}{strays}{problem}"


def interpret(
    raw: Shaped[np.ndarray, " n"],
    stamp_ns: int,
    *,
    unit: str = "auto",
    offset_s: float = 0.0,
    period_s: float | None = None,
) -> PointTimes:
    """Decide what a time field means, and convert it.

    raw: the field as sent, any integer or floating type. stamp_ns: the header's. unit: a key of :data:`UNITS`, or auto.
    offset_s: added to every time, for a sensor whose clock is known to differ, or a stamp at the end of the scan.
    period_s: time from scan to scan, None where unknown (a tenth of a second is assumed).
    """
    kind = raw.dtype.name
    with np.errstate(invalid="ignore"):  # signalling NaNs of garbage
        values = raw.astype(np.float64)
    some = values[:: max(1, len(values) // _SAMPLE)]
    sample = some[np.isfinite(some)]
    if _zero_is_unset(sample):
        values[values == 0] = np.nan
        sample = sample[sample != 0]
    if 2 * len(sample) < len(some) or len(sample) == 0:
        without = int(np.count_nonzero(~np.isfinite(values)))
        return PointTimes(
            None, kind, problem=f"{without} of {len(values)} points have no finite time, or 0: all are left as measured"
        )
    lower, median, upper = (float(quartile) for quartile in np.quantile(sample, (0.25, 0.5, 0.75)))
    spread = 2 * (upper - lower)  # of evenly spread times the whole; a quarter of strays at either side does not matter
    if spread == 0:
        return PointTimes(None, kind, problem=f"all points have the same time, {median:.10g}: nothing to undo by it")
    if raw.dtype.kind == "f" and spread < 8 * np.spacing(raw.dtype.type(abs(median))):
        return PointTimes(None, kind, problem=f"{kind} is too coarse for times around {median:.10g}")
    period = float(np.clip(period_s or USUAL_PERIOD_S, USUAL_PERIOD_S, _LONGEST_PERIOD_S))
    if unit == "auto":
        usual = float(np.clip(period_s or USUAL_PERIOD_S, *_UNIT_PERIODS_S))
        unit = min(UNITS, key=lambda name: abs(np.log(spread * UNITS[name] / usual)))
    second = UNITS[unit]
    if spread * second < _SHORTEST_S:
        return PointTimes(
            None, kind, unit, problem=f"they spread over {spread * second:.3g} s, as no times of a scan do"
        )
    apart = values - median
    believed = np.abs(apart) * second <= (2 * period if period_s is None else 1.25 * period)
    strays = int(len(values) - np.count_nonzero(believed))
    if strays > len(values) / 2:
        return PointTimes(
            None, kind, unit, problem=f"they spread over {spread * second:.3g} s, a scan takes {period:.3g} s"
        )
    inside = apart if strays == 0 else apart[believed]
    first, last = float(inside.min()) * second, float(inside.max()) * second
    after_stamp = median * second + offset_s
    same_clock = (median - stamp_ns * (1e-9 / second)) * second + offset_s
    base, clock, problem = _clock(after_stamp, same_clock, first, last, median * second, stamp_ns * 1e-9, period)
    if base is None:
        return PointTimes(None, kind, unit, clock, strays=strays, problem=problem)
    base += offset_s if clock == _OWN else 0.0
    seconds = (apart * second + base).astype(np.float32)
    if strays:
        seconds[~believed] = 0.0
    return PointTimes(seconds, kind, unit, clock, first + base, last + base, strays, problem)


def _zero_is_unset(sample: Float64[np.ndarray, " n"]) -> bool:
    """True if the points with time 0 were given none: all others lie together, far from 0."""
    others = sample[sample != 0]
    if len(others) in (0, len(sample)):
        return False
    lower, median, upper = (float(quartile) for quartile in np.quantile(others, (0.25, 0.5, 0.75)))
    return upper > lower and abs(median) > 20 * (upper - lower)


_RELATIVE, _ABSOLUTE, _OWN = "after the stamp", "on the stamp's clock", "on the sensor's own clock"


def _clock(
    after_stamp: float, same_clock: float, first: float, last: float, own: float, stamp: float, period: float
) -> tuple[float | None, str, str]:
    """Where the median time lies, in seconds after the stamp (None: unknown), on which clock, and what is assumed."""

    def gap(median: float) -> float:  # between the stamp and the nearest time
        return max(0.0, median + first, -(median + last))

    base, clock = (after_stamp, _RELATIVE) if gap(after_stamp) <= gap(same_clock) else (same_clock, _ABSOLUTE)
    if gap(base) <= max(period, USUAL_PERIOD_S):
        return base, clock, ""
    if (own < _UPTIME_S) != (stamp < _UNIX_S):
        known = "time since power-on" if own < _UPTIME_S else "Unix time"
        return -first, _OWN, f"{known}, {own + first:.3f} s: the first point is taken for the stamp's moment"
    side = "before" if base + first < 0 else "after"
    problem = (
        f"they begin {abs(base + first):.3f} s {side} the stamp and are not believed; time_offset corrects a clock"
    )
    return None, clock, problem
