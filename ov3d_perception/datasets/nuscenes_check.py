"""What of nuScenes is on this disk, and what a data set asked for lacks, told folder by folder."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ov3d_perception.datasets.nuscenes_files import LIDAR, POINT_BYTES
from ov3d_perception.datasets.nuscenes_tables import LABEL_TABLES, TABLES, KeyFrame, Selection

REMEDY = (
    "Unpack the missing archives of https://www.nuscenes.org/download over the folder (v1.0-* metadata last but before "
    "lidarseg's), or name the scenes that are there: scenes="
)


def missing_pieces(root: Path, version: str, wanted: Selection) -> list[str]:
    """Tables and folders that are not there at all."""
    tables = [*TABLES, *(LABEL_TABLES if wanted.labels else ())]
    places = [f"{version}/{table}.json" for table in tables]
    folders = [f"samples/{channel}" for channel in (LIDAR, *wanted.cameras)]
    folders += [f"sweeps/{LIDAR}"] if wanted.earlier else []
    folders += [f"lidarseg/{version}"] if wanted.labels else []
    found = [f"{place}: missing" for place in places if not (root / place).is_file()]
    found += [f"{folder}/: missing" for folder in folders if not (root / folder).is_dir()]
    others = sorted(path.name for path in root.glob("v1.0-*") if path.is_dir())
    if others and not (root / version).is_dir():
        found.append(f"{version}/: not there, but {', '.join(others)}")
    return found


@dataclass
class _Faults:
    """Files of one kind with one fault: how many of how many, an example, and the scenes they belong to."""

    files: list[str] = field(default_factory=list)
    scenes: set[str] = field(default_factory=set)

    def add(self, file: str, scene: str) -> None:
        self.files.append(file)
        self.scenes.add(scene)

    def __str__(self) -> str:
        scenes = f"{len(self.scenes)} scenes, such as {min(self.scenes)}" if len(self.scenes) > 1 else min(self.scenes)
        return f"{len(self.files)} file{'s' * (len(self.files) > 1)}, such as {self.files[0]} (in {scenes})"


class Disk:
    """Sizes of files below ``root``, a folder listed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[str, dict[str, int]] = {}

    def size(self, file: str) -> int | None:
        """In bytes; None where there is no such file."""
        folder, _, name = file.rpartition("/")
        if folder not in self._folders:
            path = self.root / folder
            entries = list(os.scandir(path)) if path.is_dir() else []
            self._folders[folder] = {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        return self._folders[folder].get(name)


def check_files(disk: Disk, frames: Iterable[KeyFrame]) -> list[str]:
    """Faults of the files that a key frame cannot be without: sweep, images, labels."""
    faults: defaultdict[str, _Faults] = defaultdict(_Faults)
    for frame in frames:
        points = disk.size(frame.lidar.file)
        files = [frame.lidar.file, *(image.file for image in frame.images), *([frame.labels] if frame.labels else [])]
        for file in files:
            if disk.size(file) is None:
                faults[f"{file.rpartition('/')[0]}: missing"].add(file, frame.scene)
        if points is not None and (points == 0 or points % POINT_BYTES):
            faults[f"no whole points of {POINT_BYTES} bytes"].add(frame.lidar.file, frame.scene)
        elif points is not None and frame.labels and disk.size(frame.labels) not in (None, points // POINT_BYTES):
            faults["labels for another number of points"].add(frame.labels, frame.scene)
    return [f"{kind}: {fault}" for kind, fault in faults.items()]


def absent_sweeps(disk: Disk, frames: Sequence[KeyFrame], problems: list[str]) -> set[str]:
    """Sweeps between key frames that are not there; a scene with none of its own is a problem (a missing archive)."""
    asked: defaultdict[str, set[str]] = defaultdict(set)
    for frame in frames:
        asked[frame.scene].update(sweep.file for sweep in frame.earlier if sweep.file.startswith("sweeps/"))
    absent = {scene: {file for file in files if disk.size(file) is None} for scene, files in asked.items()}
    none = _Faults()
    for scene, files in absent.items():
        if files and files == asked[scene]:
            none.add(min(files), scene)
    if none.files:
        problems.append(f"sweeps/{LIDAR}: no sweep at all of a scene: {none}")
    return set().union(*absent.values())
