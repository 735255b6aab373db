"""The simulated street as a data set: drives by seed, rendered once, then read from a cache on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Int32
from tqdm import tqdm

from ov3d_perception.datasets.source import FrameSource
from ov3d_perception.datasets.splits import parse_seeds
from ov3d_perception.errors import DatasetError
from ov3d_perception.files import replacing
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.paths import cache_dir
from ov3d_perception.sim import VERSION, rig
from ov3d_perception.sim.drive import SimFrame, SimulatedDrive, simulate
from ov3d_perception.types import UNLABELLED, Frame, Preparation, Scan, Sweep, View

_SKY = 255  # how UNLABELLED is written in 8-bit class images
TRAIN_SEEDS, VALIDATION_SEEDS = range(0, 1000), range(1000, 1100)  # 2000 and above: demo and tests


@dataclass(frozen=True)
class Rendered:
    """A frame with all its truth: instances of the key sweep's points, class of each pixel (UNLABELLED: sky)."""

    frame: Frame
    instances: Int32[np.ndarray, " n"]
    class_images: tuple[Int32[np.ndarray, "h w"], ...]


@dataclass(frozen=True)
class _Options:
    """What the rendered files depend on, besides the simulator's version. The LiDAR turns at 10 Hz."""

    frames: int
    stride: int
    image_size: tuple[int, int]
    robot: str = "car"
    paint: int = 0
    cameras: bool = True

    def drive(self, seed: int) -> SimulatedDrive:
        seconds = self.frames * self.stride / 10.0
        found = _drive(seed, seconds, self.stride, self.image_size, self.robot, self.paint)
        return found if self.cameras else replace(found, cameras=False)

    def sweep(self, seed: int, revolution: int) -> Sweep:
        """Any revolution of the drive, without images."""
        drive = self.drive(seed)
        dense = replace(drive, frames=drive.frames * drive.stride, stride=1, cameras=False)
        return dense[revolution].frame().sweeps[0]

    def earlier(self, number: int, sweeps: int) -> range:
        """The revolutions before key frame ``number`` that make it one of ``sweeps``, latest first."""
        key = number * self.stride
        return range(key - 1, max(key - sweeps, -1), -1)

    def folder(self, root: Path) -> Path:
        about = asdict(self)
        if (self.robot, self.paint) == ("car", 0):  # the key that they had before there were others
            del about["robot"], about["paint"]
        if self.cameras:
            del about["cameras"]
        key = hashlib.sha256(json.dumps([VERSION, about]).encode()).hexdigest()[:12]
        return root / key


@lru_cache(maxsize=1)
def _drive(
    seed: int, duration_s: float, stride: int, image_size: tuple[int, int], robot: str, paint: int
) -> SimulatedDrive:
    return simulate(seed, duration_s, stride=stride, image_size=image_size, robot=robot, paint=paint)


class Simulated(FrameSource):
    """Frames of simulated drives.

    root: folder of the cache; an empty path (``Path()``) means ``cache_dir()/sim``.
    seeds: worlds: integers, one, or a string such as "0-19,1000". frames: per drive. stride: scans at 10 Hz between two
    frames. image_size: width, height. robot, paint: see ``sim.drive.simulate``.
    sweeps: a frame's own and the drive's sweeps before it, newest first, as far as there are that many. Frames that are
    not in the cache are rendered when asked (seconds each); :meth:`prepare` renders all of them with several processes.
    cache: the folder of these options' files.
    """

    preparation = Preparation(deskew=True)  # its clouds come without the sensor's motion

    def __init__(
        self,
        root: Path = Path(),
        *,
        seeds: Sequence[int] | str | int = (0,),
        frames: int = 20,
        stride: int = 5,
        image_size: tuple[int, int] = (480, 270),
        sweeps: int = 1,
        robot: str = "car",
        paint: int = 0,
        cameras: bool = True,
    ) -> None:
        if min(frames, stride, sweeps) < 1:
            raise DatasetError(f"frames={frames}, stride={stride}, sweeps={sweeps}", "All must be at least 1")
        self.labelset = LabelSet.load("street")
        self._seeds = parse_seeds(seeds)
        self._rig = rig.robot(robot)
        size = (int(image_size[0]), int(image_size[1]))
        self._options = _Options(int(frames), int(stride), size, robot, int(paint), bool(cameras))
        self._sweeps = sweeps
        base = cache_dir() / "sim" if root == Path() else root
        self.cache = self._options.folder(base)
        self.sequences = tuple(str(seed) for seed in self._seeds)

    def __len__(self) -> int:
        return len(self._seeds) * self._options.frames

    def frame(self, index: int) -> Frame:
        """The frame at ``index``; its name is "<seed>/<number>"."""
        key = self.rendered(index).frame
        seed, number = self._place(index)
        earlier = (self._sweep(seed, revolution) for revolution in self._options.earlier(number, self._sweeps))
        return replace(key, sweeps=(*key.sweeps, *earlier))

    def rendered(self, index: int) -> Rendered:
        """The frame at ``index`` with instances and class images, and with the key sweep alone."""
        seed, number = self._place(index)
        cameras = self._rig.cameras(*self._options.image_size) if self._options.cameras else ()
        return _load(self._rendered_path(index), f"{seed}/{number:03d}", cameras)

    def _place(self, index: int) -> tuple[int, int]:
        return self._seeds[index // self._options.frames], index % self._options.frames

    def _rendered_path(self, index: int) -> Path:
        """Of a frame's file, which is rendered now if it is not there."""
        seed, number = self._place(index)
        path = _path(self.cache, seed, number)
        if not path.is_file():
            _save(path, self._options.drive(seed)[number])
        return path

    def prepare(self, workers: int = 2, *, progress: bool = True) -> None:
        """Render every frame that the cache lacks, with ``workers`` processes, one drive each at a time."""
        missing = [seed for seed in self._seeds if any(_missing(self.cache, seed, self._options, self._sweeps))]
        if not missing:
            return
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            jobs = [pool.submit(_render_drive, self.cache, seed, self._options, self._sweeps) for seed in missing]
            for job in tqdm(jobs, desc="rendering drives", disable=not progress):
                job.result()

    def _sweep(self, seed: int, revolution: int) -> Sweep:
        path = _sweep_path(self.cache, seed, revolution)
        if not path.is_file():
            _save_sweep(path, self._options.sweep(seed, revolution))
        return _load_sweep(path)


def prepare(seeds: Sequence[int] | str, workers: int = 2, root: Path = Path(), **options: object) -> Simulated:
    """A :class:`Simulated` of these seeds and options, all its frames rendered."""
    source = Simulated(root, seeds=seeds, **options)  # type: ignore[arg-type]
    source.prepare(workers)
    return source


def _path(folder: Path, seed: int, number: int) -> Path:
    return folder / str(seed) / f"{number:03d}.npz"


def _sweep_path(folder: Path, seed: int, revolution: int) -> Path:
    return folder / str(seed) / f"sweep_{revolution:04d}.npz"


def _missing(folder: Path, seed: int, options: _Options, sweeps: int) -> tuple[list[int], list[int]]:
    """Frames and revolutions of a drive that the cache lacks."""
    frames = range(options.frames)
    earlier = sorted({revolution for number in frames for revolution in options.earlier(number, sweeps)})
    return (
        [number for number in frames if not _path(folder, seed, number).is_file()],
        [revolution for revolution in earlier if not _sweep_path(folder, seed, revolution).is_file()],
    )


def _render_drive(folder: Path, seed: int, options: _Options, sweeps: int) -> None:
    frames, earlier = _missing(folder, seed, options, sweeps)
    for number in frames:
        _save(_path(folder, seed, number), options.drive(seed)[number])
    for revolution in earlier:
        _save_sweep(_sweep_path(folder, seed, revolution), options.sweep(seed, revolution))


def _save(path: Path, shot: SimFrame) -> None:
    """One file a frame. Pictures as JPEG, class images as PNG."""
    arrays = _sweep_arrays(Sweep(shot.scan, shot.T_world_lidar)) | {
        "labels": shot.labels.astype(np.uint8),
        "instances": shot.instances.astype(np.uint16),
        "view_stamps": np.array([v.stamp for v in shot.views], np.int64),
        "T_world_camera": np.array([v.T_world_camera for v in shot.views]),
    }
    for number, (view, truth) in enumerate(zip(shot.views, shot.class_images, strict=True)):
        bgr = cv2.cvtColor(view.image, cv2.COLOR_RGB2BGR)
        arrays[f"image_{number}"] = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        arrays[f"truth_{number}"] = cv2.imencode(".png", np.where(truth == UNLABELLED, _SKY, truth).astype(np.uint8))[1]
    _write(path, arrays)


def _save_sweep(path: Path, sweep: Sweep) -> None:
    _write(path, _sweep_arrays(sweep))


def _sweep_arrays(sweep: Sweep) -> dict[str, np.ndarray]:
    return {
        "xyz": sweep.scan.xyz,
        "intensity": sweep.scan.intensity.astype(np.float16),
        "ring": np.asarray(sweep.scan.ring, np.uint8),
        "stamp": np.array(sweep.scan.stamp, np.int64),
        "T_world_lidar": sweep.T_world_lidar,
    }


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with replacing(path, durable=False) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub takes names for options


def _sweep_of(data: Mapping[str, np.ndarray]) -> Sweep:
    ring, intensity = data["ring"].astype(np.int32), data["intensity"].astype(np.float32)
    scan = Scan(data["xyz"], intensity, int(data["stamp"]), "lidar", None, ring)
    return Sweep(scan, data["T_world_lidar"])


def _load_sweep(path: Path) -> Sweep:
    with np.load(path) as data:
        return _sweep_of(data)


def _load(path: Path, name: str, cameras: Sequence[rig.MountedCamera]) -> Rendered:
    with np.load(path) as data:
        views, truths = [], []
        for number, mounted in enumerate(cameras):
            image = cv2.cvtColor(_decoded(data[f"image_{number}"], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            truth = _decoded(data[f"truth_{number}"], cv2.IMREAD_UNCHANGED).astype(np.int32)
            views.append(View(mounted.camera, data["T_world_camera"][number], image, int(data["view_stamps"][number])))
            truths.append(np.where(truth == _SKY, UNLABELLED, truth))
        labels, instances = data["labels"].astype(np.int32), data["instances"].astype(np.int32)
        frame = Frame(name, (_sweep_of(data),), tuple(views), labels)
    return Rendered(frame, instances, tuple(truths))


def _decoded(data: np.ndarray, flags: int) -> np.ndarray:
    return np.asarray(cv2.imdecode(data, flags))
