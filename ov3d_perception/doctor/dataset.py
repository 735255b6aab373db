"""The checks that need frames alone: what a data set, in its own format, can teach."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from ov3d_perception.doctor import calibration, sensors
from ov3d_perception.doctor.calibration import PosesAt
from ov3d_perception.doctor.drives import Drive, look
from ov3d_perception.doctor.report import Finding, Report, Severity
from ov3d_perception.types import Frame

Also = Callable[[Sequence[Frame]], Iterable[Finding]]
"""A further check, on a recording's frames."""


def examine_dataset(source: Sequence[Frame], subject: str, frames: int = 40, also: Also | None = None) -> Report:
    """Density, pictures, points in view and calibration of about ``frames`` frames, drive by drive; and ``also``.

    Whatever is wrong is a finding. What only a bag can tell (stamps against arrival, TF, layouts) is not looked at.
    """
    drives, problems = look(source, frames)
    more = also(source) if also is not None and drives else ()
    return Report.of(subject, [*_unread(problems, subject), *_of_drives(drives, subject), *more])


def check_frames(
    frames: Sequence[Frame], subject: str, poses_at: PosesAt | None, more: Iterable[Frame] = ()
) -> Iterator[Finding]:
    """What needs pixels and points together. poses_at: where the LiDAR was; None where it has no poses. more: read
    where ``frames`` do not tell the calibration."""
    seen = [frame for frame in frames if frame.views]
    yield from sensors.check_pictures(seen)
    yield Finding(
        Severity.GOOD if seen else Severity.ERROR, "teaching", subject,
        f"{len(seen)} of {len(frames)} scans looked at have images near",
        figures={"share": len(seen) / max(len(frames), 1)},
    )  # fmt: skip
    yield from calibration.check(seen, poses_at, more)


def _unread(problems: list[str], subject: str) -> Iterator[Finding]:
    if problems:
        yield Finding(
            Severity.WARNING, "frames", subject, f"{len(problems)} frames cannot be read: {problems[0]}",
            "They are left out", "Copy the files again",
        )  # fmt: skip


def _of_drives(drives: dict[str, Drive], subject: str) -> Iterator[Finding]:
    if not drives:
        yield Finding(
            Severity.ERROR, "frames", subject, "no frame can be read", "Nothing can be learned", "Copy the files again"
        )
    for name, drive in drives.items():
        middle = drive.frames[len(drive.frames) // 2].sweeps[0].scan
        for finding in (
            *sensors.check_density("points", middle),
            *check_frames(drive.frames, "scans", drive.poses_at if drive.placed else None),
        ):  # fmt: skip
            yield replace(finding, subject=f"{name} {finding.subject}".strip() if len(drives) > 1 else finding.subject)
