"""A bag of a LiDAR that hangs, leans or has optical axes teaches as one of a level LiDAR does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ov3d_perception.bags import messages
from ov3d_perception.bags.messages import stamp_ns
from ov3d_perception.bags.pointcloud2 import structured
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.bags.writer import BagWriter
from ov3d_perception.datasets.bag import Bag
from ov3d_perception.evaluation.score import STUDENT_ALL
from ov3d_perception.paths import share_dir
from ov3d_perception.recipes.method_specs import Clip2SceneSpec
from ov3d_perception.recipes.specs import (
    AugmentSpec,
    NetworkSpec,
    OptimiserSpec,
    PairSpec,
    Recipe,
    SourceSpec,
    TeacherSpec,
    VocabularySpec,
)
from ov3d_perception.sim import rig
from ov3d_perception.sim.bag import write_drive
from ov3d_perception.sim.drive import simulate
from ov3d_perception.sim.lidar import LidarModel
from ov3d_perception.training.data.readers import SweepReader
from ov3d_perception.training.run import train

#: T_base_lidar's rotation, as Euler angles about x, y, z in degrees.
MOUNTS = {"roll180": (180, 0, 0), "pitch30": (0, 30, 0), "roll20_yaw": (20, 0, 130), "optical": (-90, 0, -90)}


@pytest.fixture(scope="module")
def upright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scans of a street, small pictures."""
    lidar = LidarModel(columns=400)
    drive = simulate(2002, 2.4, stride=4, image_size=(160, 90), lidar=lidar)
    return write_drive(tmp_path_factory.mktemp("street") / "upright", drive)


def turned(bag: Path, mount: str) -> Path:
    """The same drive as a LiDAR with this mounting records it: other axes, the same points."""
    out = bag.with_name(mount)
    if out.exists():
        return out
    R = Rotation.from_euler("xyz", MOUNTS[mount], degrees=True).as_matrix()
    T = rig.lidar_mount()
    T[:3, :3] = R
    with open_bag(bag) as source, BagWriter(out) as target:
        for message in source.messages():
            if message.topic in ("/points", "/ground_truth/points"):
                decoded = message.decode()
                points = structured(decoded)
                xyz = np.stack([points[axis] for axis in "xyz"], 1).astype(np.float64) @ R  # R^T of each point
                columns = {name: points[name] for name in points.dtype.names or ()}
                columns |= {axis: xyz[:, i].astype(np.float32) for i, axis in enumerate("xyz")}
                cloud = messages.point_cloud(columns, stamp_ns(decoded), decoded.header.frame_id)
                target.write(message.topic, cloud, message.stamp)
            else:
                target.write_raw(message.topic, message.msgtype, message.data, message.stamp)
        first = stamp_ns(decoded)
        target.write("/tf_static", messages.tf_message([("base_link", "lidar", first, T)]), first)
    return out


def recipe_of(bag: Path) -> Recipe:
    models = share_dir() / "models"
    source = SourceSpec("bag", str(bag), {"labelset": "street"})
    return Recipe(
        name="turned",
        train=source,
        validation=source,
        teacher=TeacherSpec(str(models / "street_clip")),
        vocabulary=VocabularySpec("street", str(models / "street_bank.npz")),
        pairs=PairSpec(),
        network=NetworkSpec(width=0.25, voxel_size=0.4, inputs=("ones", "intensity", "height")),
        augment=AugmentSpec(intensity=0.05),
        optimiser=OptimiserSpec(epochs=8, batch=1, learning_rate=0.01),
    )


@pytest.mark.slow
def test_a_turned_lidar_is_distilled_as_well_as_an_upright_one(
    upright: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same images teach the same points: what is learned differs by the rounding of coordinates alone."""
    monkeypatch.setenv("OV3D_CACHE", str(tmp_path / "cache"))
    found = {}
    for name in ("upright", "optical"):
        bag = upright if name == "upright" else turned(upright, name)
        found[name] = train(recipe_of(bag), tmp_path / name, device="cpu").modes[STUDENT_ALL]
    level, leaning = found.values()
    assert leaning.points == level.points > 10_000
    assert level.accuracy > 0.5
    assert abs(leaning.accuracy - level.accuracy) < 0.02


@pytest.mark.parametrize("mount", MOUNTS)
def test_several_sweeps_of_a_turned_lidar_are_the_same_cloud(upright: Path, mount: str, tmp_path: Path) -> None:
    """Also without the vehicle's own returns, which are left out by their level distance."""
    recipe = dataclasses.replace(recipe_of(upright), method=Clip2SceneSpec(sweeps=3, seconds=5.0, grid=0.4))
    clouds = [
        SweepReader(Bag(bag, sweeps=4), None, tmp_path, recipe).read(4, np.random.default_rng(0))
        for bag in (upright, turned(upright, mount))
    ]
    level, leaning = clouds
    np.testing.assert_allclose(leaning.xyz, level.xyz, atol=1e-3)
    np.testing.assert_array_equal(leaning.sweep, level.sweep)
    assert set(level.sweep.tolist()) == {0, 1, 2}
    np.testing.assert_allclose(leaning.uv, level.uv, atol=0.1)
