"""nuScenes' JSON tables, read row by row, since the whole data set's hold three million rows and a split few of them.

A table is a list of rows; rows point to each other by token. ``sample``: a moment, twice a second, at which everything
is annotated (key frame). ``sample_data``: one file of one sensor, chained by ``prev`` to the one before. ``ego_pose``:
where the car was at a file's stamp. ``calibrated_sensor``: where a sensor sits on the car, with a camera's matrix.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from ov3d_perception.datasets.nuscenes_files import CAMERAS, CATEGORIES, LIDAR
from ov3d_perception.errors import TransformError
from ov3d_perception.geometry.poses import from_quaternion
from ov3d_perception.types import Pose

TABLES = ("scene", "sample", "sample_data", "sensor", "calibrated_sensor", "ego_pose")
LABEL_TABLES = ("category", "lidarseg")
_CHUNK = 1 << 22  # characters read at once
_BETWEEN = re.compile(r"[\s,]*")

Row = dict[str, Any]


@dataclass(frozen=True)
class Calibration:
    """A sensor as mounted. K: of a camera, None for a LiDAR."""

    channel: str
    T_ego_sensor: Pose
    K: Float64[np.ndarray, "3 3"] | None


@dataclass(frozen=True, slots=True)
class Reading:
    """One file of one sensor. stamp: nanoseconds; ego: x y z and quaternion w x y z of the car; prev: a token or "".

    size: width and height of an image, as its camera's matrix means them; 0, 0 for a sweep.
    """

    token: str
    file: str
    stamp: int
    size: tuple[int, int]
    prev: str
    sensor: Calibration
    ego: Float64[np.ndarray, " 7"]

    @property
    def T_world_sensor(self) -> Pose:
        """Pose of the sensor (its raw axes) in the map's frame at ``stamp``."""
        return from_quaternion(self.ego[:3], self.ego[[4, 5, 6, 3]]) @ self.sensor.T_ego_sensor


@dataclass(frozen=True)
class KeyFrame:
    """An annotated moment. name: "<scene>/<number in it>"; earlier: sweeps before the key sweep, latest first.

    images: by camera, in the order of ``CAMERAS``. labels: file of the key sweep's labels, "" where none is wanted.
    """

    scene: str
    name: str
    lidar: Reading
    earlier: tuple[Reading, ...]
    images: tuple[Reading, ...]
    labels: str


@dataclass(frozen=True)
class Selection:
    """What of the tables is to be read: scenes by name, channels of cameras, sweeps before the key one, labels."""

    scenes: Collection[str]
    cameras: Collection[str] = CAMERAS
    earlier: int = 0
    labels: bool = True


def rows(path: Path) -> Iterator[Row]:
    """The rows of a table. Raises ValueError where the file is no whole list of rows."""
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8") as file:
        text = file.read(_CHUNK).lstrip()
        if not text.startswith("["):
            raise ValueError("no list")
        position = 1
        while True:
            position = _BETWEEN.match(text, position).end()  # type: ignore[union-attr]  # it matches anything
            if text.startswith("]", position):
                return
            try:
                row, position = decoder.raw_decode(text, position)
            except ValueError:
                more = file.read(_CHUNK)
                if not more:
                    raise
                text, position = text[position:] + more, 0
                continue
            if not isinstance(row, dict):
                raise ValueError(f"{row!r} is no row")
            yield row


def read_scenes(folder: Path) -> list[str]:
    """Names of all scenes, in the order of ``scene.json``. Raises ValueError, KeyError as the file is bad."""
    return [row["name"] for row in rows(folder / "scene.json")]


class TableReader:
    """Key frames from the tables in ``folder``; every inconsistency goes to ``problems``."""

    def __init__(self, folder: Path, wanted: Selection, problems: list[str]) -> None:
        self.folder, self.wanted, self.problems = folder, wanted, problems
        self._reading = ""

    def key_frames(self) -> list[KeyFrame]:
        """Those of the wanted scenes, in the order of ``scene.json`` and of time; what is inconsistent is left out."""
        try:
            return self._read()
        except KeyError as error:
            self._add(f"{self._reading}.json: a row has no {error}")
            return []

    def _read(self) -> list[KeyFrame]:
        scenes = {row["token"]: row["name"] for row in self._rows("scene") if row["name"] in self.wanted.scenes}
        samples: dict[str, list[Row]] = {token: [] for token in scenes}
        for row in self._rows("sample"):
            if row["scene_token"] in samples:
                samples[row["scene_token"]].append({"token": row["token"], "timestamp": row["timestamp"]})
        ordered = [
            (scenes[token], f"{scenes[token]}/{number:03d}", sample["token"])
            for token, members in samples.items()
            for number, sample in enumerate(sorted(members, key=lambda row: int(row["timestamp"])))
        ]
        keys, sweeps = self._readings({token for _, _, token in ordered})
        labels = self._labels({reading.token for found in keys.values() for reading in found.values()})
        frames = [self._key_frame(*place, keys.get(place[2], {}), sweeps, labels) for place in ordered]
        return [frame for frame in frames if frame is not None]

    def _rows(self, table: str) -> Iterator[Row]:
        """Rows of a table; what is wrong with it ends the iteration and becomes a problem."""
        self._reading = table
        try:
            yield from rows(self.folder / f"{table}.json")
        except (ValueError, OSError) as error:
            self._add(f"{table}.json: {error}")

    def _add(self, problem: str) -> None:
        self.problems.append(f"{self.folder.name}/{problem}")

    def _calibrations(self) -> dict[str, Calibration]:
        channels = {row["token"]: row["channel"] for row in self._rows("sensor")}
        found = {}
        for row in self._rows("calibrated_sensor"):
            channel = channels.get(row["sensor_token"], "")
            if channel != LIDAR and channel not in self.wanted.cameras:
                continue
            try:
                w, x, y, z = row["rotation"]
                T_ego_sensor = from_quaternion(row["translation"], [x, y, z, w])
                K = None if channel == LIDAR else np.array(row["camera_intrinsic"], np.float64).reshape(3, 3)
                found[row["token"]] = Calibration(channel, T_ego_sensor, K)
            except (TransformError, ValueError) as error:
                self._add(f"calibrated_sensor.json, {row['token']} ({channel}): {error}")
        return found

    def _readings(self, samples: set[str]) -> tuple[dict[str, dict[str, Reading]], dict[str, Reading]]:
        """Readings of the key frames, by sample and channel; and sweeps of any kind, by token."""
        calibrations = self._calibrations()
        found = []
        for row in self._rows("sample_data"):
            sensor = calibrations.get(row["calibrated_sensor_token"])
            if sensor is None or row["sample_token"] not in samples:
                continue
            if row["is_key_frame"] or (sensor.channel == LIDAR and self.wanted.earlier):
                found.append((row, sensor))
        poses = self._poses({row["ego_pose_token"] for row, _ in found})
        keys: dict[str, dict[str, Reading]] = {}
        sweeps: dict[str, Reading] = {}
        for row, sensor in found:
            ego = poses.get(row["ego_pose_token"])
            if ego is None:
                self._add(f"ego_pose.json: none for {row['filename']}")
                continue
            stamp, size = int(row["timestamp"]) * 1000, (int(row["width"]), int(row["height"]))
            reading = Reading(row["token"], row["filename"], stamp, size, row["prev"], sensor, ego)
            if row["is_key_frame"]:
                keys.setdefault(row["sample_token"], {})[sensor.channel] = reading
            if sensor.channel == LIDAR:
                sweeps[reading.token] = reading
        return keys, sweeps

    def _poses(self, tokens: set[str]) -> dict[str, Float64[np.ndarray, " 7"]]:
        return {
            row["token"]: np.array([*row["translation"], *row["rotation"]], np.float64)
            for row in self._rows("ego_pose")
            if row["token"] in tokens
        }

    def _labels(self, sweeps: set[str]) -> dict[str, str]:
        """File of the labels of each key sweep; the meaning of a label is checked."""
        if not self.wanted.labels:
            return {}
        names = {row.get("index"): row["name"] for row in self._rows("category")}
        wrong = [f"{i} {name}" for i, name in enumerate(CATEGORIES) if names.get(i) != name]
        if wrong:
            self._add(f"category.json: {len(wrong)} of lidarseg's categories are not in it, such as {wrong[0]}")
        return {
            row["sample_data_token"]: row["filename"]
            for row in self._rows("lidarseg")
            if row["sample_data_token"] in sweeps
        }

    def _key_frame(
        self,
        scene: str,
        name: str,
        sample: str,
        found: dict[str, Reading],
        sweeps: dict[str, Reading],
        labels: dict[str, str],
    ) -> KeyFrame | None:
        channels = (LIDAR, *(camera for camera in CAMERAS if camera in self.wanted.cameras))
        missing = [channel for channel in channels if channel not in found]
        if missing:
            self._add(f"sample_data.json: key frame {name} ({sample}) has no {', '.join(missing)}")
            return None
        lidar = found[LIDAR]
        if self.wanted.labels and lidar.token not in labels:
            self._add(f"lidarseg.json: no labels for key frame {name} ({sample})")
            return None
        earlier: list[Reading] = []
        before = sweeps.get(lidar.prev)
        while before is not None and len(earlier) < self.wanted.earlier:
            earlier.append(before)
            before = sweeps.get(before.prev)
        images = tuple(found[channel] for channel in channels[1:])
        return KeyFrame(scene, name, lidar, tuple(earlier), images, labels.get(lidar.token, ""))
