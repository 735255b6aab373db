"""Rates, gaps, stamps against arrival, and stamps of cameras against those of the LiDAR."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ov3d_perception.bags.streams import CLOCK_REMEDY, Stream, clock_fault
from ov3d_perception.doctor.report import Finding, Severity

_SECOND = 1_000_000_000
_GAP = 2.5  # times the usual interval
_FEW_GAPS = 0.01  # of the intervals
_LATE_S, _EARLY_S = 0.5, 0.02  # from the stamp to the arrival
_JITTER_S = 0.05  # of arrival, by which a stamp that was made on arrival is off, too
_FAR_S = 0.05  # a quarter of a metre at 5 m/s
_PAIRED = 0.9  # share of the scans
_SCAN_S = 0.1  # that a scan without point times takes at most


def check(
    cloud: Stream, images: Sequence[Stream], others: Sequence[Stream] = (), middle_s: float | None = None
) -> Iterator[Finding]:
    """cloud, images: the streams that learning uses; others: whose clock alone is looked at (TF). middle_s: of a scan's
    points, after its stamp, where they have times."""
    for stream in (cloud, *images):
        yield from _of_one(stream)
    for stream in (*images, *others):
        if fault := clock_fault(stream, cloud):
            yield Finding(
                Severity.ERROR, "clock", stream.topic, fault,
                "Images and poses of another moment paint wrong points", CLOCK_REMEDY,
            )  # fmt: skip
    for stream in images:
        yield from _pairs(cloud, stream, middle_s)


def _of_one(stream: Stream) -> Iterator[Finding]:
    steps = np.diff(stream.stamps)
    if len(steps) == 0:
        yield Finding(
            Severity.WARNING, "rate", stream.topic, "a single message", "One scan is no drive", "Record longer"
        )
        return
    if repeated := int((steps == 0).sum()):
        yield Finding(
            Severity.WARNING, "stamps", stream.topic, f"{repeated} messages have the stamp of the one before",
            "Which of the two was measured then is not known", "Look at the driver: does it stamp each measurement?",
        )  # fmt: skip
    period = stream.period_s
    if period is None:
        return
    long = steps[steps > _GAP * period * _SECOND] / _SECOND
    rate = f"{1 / period:.1f} Hz over {(stream.stamps[-1] - stream.stamps[0]) / _SECOND:.1f} s"
    if len(long) > _FEW_GAPS * len(steps) or (len(long) and long.max() > 1):
        lost = round(float((long / period - 1).sum()))
        yield Finding(
            Severity.WARNING, "gaps", stream.topic,
            f"{rate}, with {len(long)} gaps, the longest {long.max():.2f} s: about {lost} messages are missing",
            "Scans without images teach nothing; poses across gaps are guessed",
            "Look for a full disk, network or buffer: best effort drops; shared memory and larger queues help",
            {"gaps": len(long), "longest_s": float(long.max()), "missing": lost},
        )  # fmt: skip
    else:
        yield Finding(Severity.GOOD, "rate", stream.topic, rate, figures={"rate_hz": 1 / period})
    yield from _arrival(stream)


def _arrival(stream: Stream) -> Iterator[Finding]:
    delay = (stream.received - stream.stamps) / _SECOND
    if delay.std() == 0 or abs(np.median(delay)) > 2:  # written, not received; or another clock, which clock tells
        return
    low, middle, high = np.quantile(delay, [0.05, 0.5, 0.95])
    figures = {"median_s": float(middle), "spread_s": float(high - low)}
    if middle < -_EARLY_S:
        yield Finding(
            Severity.WARNING, "arrival", stream.topic, f"stamps lie {-middle * 1e3:.0f} ms after the arrival",
            "What has a stamp of the future is looked up at a pose of the future",
            "Let the sensor's clock follow the host's (PTP, chrony), or let the driver stamp by the host", figures,
        )  # fmt: skip
    elif middle > _LATE_S:
        yield Finding(
            Severity.WARNING, "arrival", stream.topic, f"messages arrive {middle * 1e3:.0f} ms after their stamp",
            "Live labels come that much too late, and TF's buffer may have forgotten the pose",
            "Look at the load of the machine and at the network; compress images on the camera's side", figures,
        )  # fmt: skip


def _pairs(cloud: Stream, images: Stream, middle_s: float | None) -> Iterator[Finding]:
    """How far from a scan's middle the nearest image is. Scans of a throttled topic last no longer than others."""
    half = round((min(cloud.period_s or 0.0, _SCAN_S) / 2 if middle_s is None else middle_s) * _SECOND)
    first, last = images.stamps[0] - half, images.stamps[-1] + half
    middles = cloud.stamps[(cloud.stamps >= first - half) & (cloud.stamps <= last)] + half
    if not len(middles):
        return  # no common time: clock tells
    lags = np.array([images.stamps[images.nearest(int(at))] - int(at) for at in middles]) / _SECOND
    typical, near = float(np.median(lags)), float((np.abs(lags) < 0.1).mean())
    figures = {"median_s": typical, "paired": near}
    if near < _PAIRED:
        yield Finding(
            Severity.WARNING, "pairs", images.topic, f"{1 - near:.0%} of the scans have no image within 0.1 s",
            "These scans teach nothing", "Record the camera at the LiDAR's rate or faster", figures,
        )  # fmt: skip
    elif abs(typical) > abs(half) / _SECOND + _FAR_S:
        yield Finding(
            Severity.WARNING, "pairs", images.topic, f"images lie {typical * 1e3:+.0f} ms from the middle of the scans",
            "What moves meanwhile is painted beside itself", "Trigger the camera when the LiDAR looks its way", figures,
        )  # fmt: skip
    else:
        yield Finding(Severity.GOOD, "pairs", images.topic, f"{near:.0%} of the scans have an image", figures=figures)
