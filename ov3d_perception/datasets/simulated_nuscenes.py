"""The simulated street in nuScenes' on-disk format, with the names of real scenes, so that its splits hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from ov3d_perception.datasets.nuscenes_writer import Drive, write_nuscenes
from ov3d_perception.datasets.splits import nuscenes_scenes, parse_seeds
from ov3d_perception.errors import DatasetError
from ov3d_perception.sim import rig
from ov3d_perception.sim.drive import simulate
from ov3d_perception.sim.lidar import LidarModel
from ov3d_perception.types import Frame

SPLITS = {"v1.0-mini": ("mini_train", "mini_val"), "v1.0-trainval": ("slidr_train", "val")}


def write_street(
    root: str | Path,
    train: Sequence[int] | str = "0-7",
    validation: Sequence[int] | str = "1000-1001",
    *,
    version: str | None = None,
    seconds: float = 6.0,
    image_size: tuple[int, int] = (480, 270),
    rate_hz: float = 20.0,
    key_every: int = 10,
    lidar: LidarModel | None = None,
) -> Path:
    """Simulate a scene for each seed and write all of them under ``root``, which is returned.

    rate_hz: sweeps a second; each ``key_every``-th is a key frame with six images of ``image_size`` (width, height) and
    labels. Scenes get names of the version's training and validation scenes; version: v1.0-mini or v1.0-trainval (whose
    training scenes are SLidR's 600); None: the first that has enough.
    Raises DatasetError for an unknown version, or more seeds than it has scenes.
    """
    worlds = parse_seeds(train), parse_seeds(validation)
    version = version or ("v1.0-mini" if len(worlds[0]) <= 8 and len(worlds[1]) <= 2 else "v1.0-trainval")
    if version not in SPLITS:
        raise DatasetError(f"The street cannot be written as {version!r}", f"Use one of {', '.join(SPLITS)}")
    named: list[tuple[str, int]] = []
    for split, seeds in zip(SPLITS[version], worlds, strict=True):
        names = nuscenes_scenes(split)
        if len(seeds) > len(names):
            raise DatasetError(f"{len(seeds)} seeds for the {len(names)} scenes of {split}", "Give fewer seeds")
        named += zip(names, seeds, strict=False)

    def drive(name: str, seed: int) -> Drive:
        street = simulate(seed, seconds, rate_hz=rate_hz, image_every=key_every, image_size=image_size, lidar=lidar)
        frames: Iterator[Frame] = (shot.frame() for shot in tqdm(street, total=len(street), desc=name, unit="sweep"))
        mounts = {mounted.camera.name: mounted.T_base_camera for mounted in street.rig}
        return Drive(name, frames, rig.lidar_mount(), mounts)

    return write_nuscenes(root, (drive(name, seed) for name, seed in named), version)
