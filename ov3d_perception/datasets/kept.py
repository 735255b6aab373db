"""Frames kept in a folder, one file each: the replay memory of a site, or any others whose bag may go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from ov3d_perception.datasets.source import FrameSource
from ov3d_perception.errors import DatasetError
from ov3d_perception.files import replacing, write_text
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.types import UNLABELLED, Camera, Frame, Preparation, Scan, Sweep, View

EXAM = "exam_"
"""How the files begin whose frames are never trained on: the gate asks them."""
_ABOUT = "about.json"
_MILLI = 1000


class Kept(FrameSource):
    """The frames of a folder, in the order of their files' names.

    root: the folder. part: "train" leaves out the frames for the gate, "exam" has only those, "all" has both.
    labelset: what the labels mean; None: what the folder says.
    """

    def __init__(self, root: str | Path, part: str = "all", labelset: str | None = None) -> None:
        if part not in ("train", "exam", "all"):
            raise DatasetError(f"part is '{part}'", "Choose train, exam or all")
        self.root = Path(root)
        about = _about(self.root)
        named = labelset or about.get("labelset")
        self.labelset = LabelSet.load(named) if named else None
        self.preparation = Preparation(**about.get("preparation", {}))
        paths = sorted(self.root.glob("*.npz"))
        self.paths = [path for path in paths if part == "all" or is_exam(path.stem) == (part == "exam")]
        self.sequences = (self.root.name,)

    def __len__(self) -> int:
        return len(self.paths)

    def frame(self, index: int) -> Frame:
        return load_frame(self.paths[index])


def is_exam(stem: str) -> bool:
    """Whether a frame's file is kept from training."""
    return stem.startswith(EXAM)


def describe(folder: Path, labelset: str | None, preparation: Preparation) -> None:
    """Write down what the frames of a folder have in common."""
    write_text(folder / _ABOUT, json.dumps({"labelset": labelset, "preparation": asdict(preparation)}))


def save_frame(path: Path, frame: Frame, about: Mapping[str, np.ndarray] | None = None) -> None:
    """One frame in one file, whole or not at all; pictures as JPEG, measured depth in millimetres up to 65 m as PNG.

    about: arrays to keep with it.
    """
    arrays: dict[str, Any] = {f"about_{name}": value for name, value in (about or {}).items()}
    cameras = []
    for number, sweep in enumerate(frame.sweeps):
        scan = sweep.scan
        arrays[f"xyz_{number}"] = scan.xyz
        arrays[f"intensity_{number}"] = scan.intensity.astype(np.float16)
        arrays[f"pose_{number}"] = sweep.T_world_lidar
        if scan.R_upright is not None:
            arrays[f"upright_{number}"] = scan.R_upright
    for number, view in enumerate(frame.views):
        camera = view.camera
        cameras.append([camera.name, camera.width, camera.height, camera.model, view.stamp])
        arrays[f"K_{number}"], arrays[f"distortion_{number}"] = camera.K, camera.distortion
        arrays[f"camera_pose_{number}"] = view.T_world_camera
        bgr = cv2.cvtColor(view.image, cv2.COLOR_RGB2BGR)
        arrays[f"image_{number}"] = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        if view.depth is not None:
            arrays[f"depth_{number}"] = _packed(view.depth)
    if frame.labels is not None:
        arrays["labels"] = frame.labels.astype(np.uint16)
    stamps = [[sweep.scan.stamp, sweep.scan.frame_id] for sweep in frame.sweeps]
    text = json.dumps({"name": frame.name, "sweeps": stamps, "cameras": cameras})
    arrays["text"] = np.frombuffer(text.encode(), np.uint8)
    with replacing(path, durable=False) as file:
        np.savez(file, **arrays)


def load_frame(path: Path) -> Frame:
    """Read what :func:`save_frame` wrote. Raises DatasetError where it is gone or damaged."""
    try:
        with np.load(path) as data:
            text = json.loads(bytes(data["text"]))
            sweeps = tuple(_sweep(data, number, *about) for number, about in enumerate(text["sweeps"]))
            views = tuple(_view(data, number, *about) for number, about in enumerate(text["cameras"]))
            labels = data["labels"].astype(np.int32) if "labels" in data else None
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, cv2.error) as error:
        raise DatasetError(f"The frame {path} cannot be read ({error})", "Remove it; the others go on") from error
    if labels is not None and not (labels != UNLABELLED).any():
        labels = None
    return Frame(text["name"], sweeps, views, labels)


def read_about(path: Path, name: str) -> np.ndarray:
    """An array kept with a frame by :func:`save_frame`. Raises DatasetError where it is not there."""
    try:
        with np.load(path) as data:
            return np.asarray(data[f"about_{name}"])
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise DatasetError(f"The frame {path} cannot be read ({error})", "Remove it; the others go on") from error


def _about(root: Path) -> dict[str, Any]:
    if not root.is_dir():
        raise DatasetError(f"There is no folder {root}", "Name one with kept frames")
    path = root / _ABOUT
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def _sweep(data: Mapping[str, np.ndarray], number: int, stamp: int, frame_id: str) -> Sweep:
    upright = data.get(f"upright_{number}")
    intensity = data[f"intensity_{number}"].astype(np.float32)
    scan = Scan(data[f"xyz_{number}"], intensity, stamp, frame_id, R_upright=upright)
    return Sweep(scan, data[f"pose_{number}"])


def _view(
    data: Mapping[str, np.ndarray], number: int, name: str, width: int, height: int, model: str, stamp: int
) -> View:
    camera = Camera(name, width, height, data[f"K_{number}"], model, data[f"distortion_{number}"])
    bgr = np.asarray(cv2.imdecode(data[f"image_{number}"], cv2.IMREAD_COLOR))
    packed = data.get(f"depth_{number}")
    depth = None if packed is None else np.asarray(cv2.imdecode(packed, cv2.IMREAD_UNCHANGED), np.float32) / _MILLI
    return View(camera, data[f"camera_pose_{number}"], cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), stamp, depth)


def _packed(depth: Float32[np.ndarray, "h w"]) -> UInt8[np.ndarray, " n"]:
    """Depth (metres) as a PNG of 16 bits; what lies beyond them was not measured."""
    milli = np.round(depth * _MILLI)
    return np.asarray(cv2.imencode(".png", np.where(milli > 65535, 0, milli).astype(np.uint16))[1])
