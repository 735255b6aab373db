"""A site's bags: what is in them, poses for those without, and which part of them teaches."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ov3d_perception.datasets.registry import open_dataset
from ov3d_perception.datasets.source import FrameSource
from ov3d_perception.doctor.calibration import CHECK
from ov3d_perception.doctor.examine import Examination, examine
from ov3d_perception.doctor.report import Finding, Severity
from ov3d_perception.errors import DatasetError, NoPosesError, Ov3dError
from ov3d_perception.lifting.sources import FrameSubset
from ov3d_perception.types import Frame

TAUGHT, HELD = (0.0, 0.8), (0.85, 1.0)
"""Which stretch of a drive teaches, and which one the gate asks; the gap keeps their places apart."""
MORE = 160
"""Frames that the doctor is given where the usual ones do not tell a calibration."""
_PROBED = 40
_MOST_WINDOW, _BESIDE_S = 5, 0.5
_APART_DEG = 1.0  # half a metre at 30 m: from here on a calibration that cannot be told is asked about
_MANY_EDGES = 2000  # points; with fewer, that none meets an edge of the images tells nothing
_log = logging.getLogger(__name__)


def open_bag_frames(bag: Path, options: Mapping[str, Any], **more: Any) -> FrameSource:
    """The frames of a bag. Raises BagError and DatasetError as the data set does."""
    return open_dataset("bag", bag, **{**options, **more})


def look(bag: Path, options: Mapping[str, Any], odometry: Path) -> dict[str, Any]:
    """What a bag can teach: scans, cameras, share of scans with an image; options with poses where it has none; "dark":
    cameras most of whose images are of one colour.

    odometry: where a bag of poses is written, by KISS-ICP, if the bag's TF lacks them.
    Raises BagError, DatasetError: it cannot be read, or has no LiDAR or no calibrated camera.
    """
    options = dict(options)
    try:
        source = open_bag_frames(bag, options)
    except NoPosesError:
        options |= {"tf": str(_poses(bag, odometry, options.get("points"), options.get("fixed_frame", "odom")))}
        source = open_bag_frames(bag, options)
    probed = np.unique(np.linspace(0, len(source) - 1, min(_PROBED, len(source))).astype(int)).tolist()
    views, points, stamps, errors = [], [], dict[int, int](), list[str]()
    shown, dark = Counter[str](), Counter[str]()
    for index in probed:
        try:
            frame = source[index]
        except Ov3dError as error:
            errors.append(str(error))
            continue
        views.append(len(frame.views))
        points.append(len(frame.sweeps[0].scan))
        stamps[index] = frame.sweeps[0].scan.stamp
        shown.update(view.camera.name for view in frame.views)
        dark.update(view.camera.name for view in frame.views if float(view.image.std()) < 2.0)
    if not views:
        raise DatasetError(f"No scan of {bag} can be read ({errors[0]})", "Look at it: ov3d bag info")
    if not any(views):
        raise DatasetError(f"No scan of {bag} has an image near it", "Record camera_info and images with the scans")
    return {
        "bag": str(bag),
        "options": options,
        "scans": len(source),
        "period": _period(stamps),
        "points": int(np.median(points)),
        "views": float(np.mean([count for count in views if count])),
        "with images": float(np.mean([count > 0 for count in views])),
        "dark": sorted(name for name, count in dark.items() if 2 * count > shown[name]),
        "poses": "KISS-ICP" if "tf" in options else "TF",
        "unreadable": len(errors),
    }


@dataclass(frozen=True)
class Advice:
    """What the doctor says of a bag, a line each. errors: what is wrong, and what to do about it. doubts: cameras whose
    calibration looks wrong without being surely so; a person should look. notes: what could not be judged.
    """

    errors: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def consult(bag: Path, options: Mapping[str, Any]) -> Advice:
    """Ask the doctor about a bag; where 40 frames do not tell a calibration, up to 160 further ones may.

    options: those with which :func:`look` could read it.
    """
    own = {name: options[name] for name in ("points", "fixed_frame", "base_frame", "tf") if options.get(name)}
    report = examine(bag, Examination(cameras=tuple(options.get("cameras") or ()), more=MORE, **own))
    unjudged = [one for one in report.findings if one.check == CHECK and one.severity is Severity.UNKNOWN]
    return Advice(
        tuple(f"{finding.subject}: {finding.what}. {finding.do}" for finding in report.errors),
        tuple(f"{finding.subject}: {finding.what}" for finding in unjudged if _suspicious(finding)),
        tuple(f"{finding.subject}: {finding.what}" for finding in unjudged if not _suspicious(finding)),
    )


def _suspicious(finding: Finding) -> bool:
    """Whether the best estimate is far off, or so many edges meet hardly any of the images'."""
    if "apart_deg" in finding.figures:
        return float(finding.figures["apart_deg"]["value"]) > _APART_DEG
    return int(finding.figures["points"]) > _MANY_EDGES


def _poses(bag: Path, out: Path, points: str | None, fixed_frame: str) -> Path:
    """A bag of TF, made by LiDAR odometry unless an earlier start of the run has made it."""
    from ov3d_perception.odometry.of_bag import write_transforms

    done = out.with_suffix(".done")
    if not done.is_file():
        write_transforms(bag, out, points, fixed_frame)
        done.write_text("")
    return out


def every_of(about: Mapping[str, Any], frames: int) -> int:
    """Take each n-th scan of the part that teaches, so that ``frames`` with images or more are left, or all."""
    return max(1, int(_usable(about) // frames))


def taught_of(about: Mapping[str, Any], frames: int) -> float:
    """About how many scans with images that leaves: fewer than twice ``frames``."""
    return _usable(about) / every_of(about, frames)


def _usable(about: Mapping[str, Any]) -> float:
    return float(about["scans"] * (TAUGHT[1] - TAUGHT[0]) * about["with images"])


def window_of(about: Mapping[str, Any], frames: int) -> int:
    """How many of the scans that teach lie within half a second to either side of one: their images may teach it."""
    spacing = every_of(about, frames) * about.get("period", 0.0)
    return min(_MOST_WINDOW, int(_BESIDE_S / spacing + 1e-3)) if spacing else 0


def _period(stamps: Mapping[int, int]) -> float:
    """Mean seconds from scan to scan, by the stamps (ns) of some; 0 where they do not tell."""
    first, last = min(stamps), max(stamps)
    return max(0.0, (stamps[last] - stamps[first]) * 1e-9 / max(last - first, 1))


def with_images(source: Sequence[Frame], count: int) -> FrameSubset:
    """About ``count`` frames with images, spread over a source; where one has none, the next one that has."""
    step = max(1, len(source) // max(count, 1))
    chosen: list[int] = []
    for start in range(0, len(source), step):
        for index in range(start, min(start + step, len(source))):
            try:
                if source[index].views:
                    chosen.append(index)
                    break
            except Ov3dError as error:
                _log.warning("Frame %d is left out: %s", index, error)
    kept = min(count, len(chosen))
    return FrameSubset(source, [chosen[number * len(chosen) // kept] for number in range(kept)])
