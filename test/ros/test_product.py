"""The product's sentence: a bag is trained on, evaluated, and its network labels the bag live and answers the map."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ros_harness import Inbox, Lidar, Probe, transform_stamped, values_of
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage
from typer.testing import CliRunner

from ov3d_msgs.srv import QueryText
from ov3d_perception.bags import pointcloud2
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.cli import app
from ov3d_perception.datasets.bag import Bag
from ov3d_perception.inference import LiveModel, Segmenter
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.sources import class_vocabulary
from ov3d_perception.networks.checkpoint import CheckpointInfo, save_checkpoint
from ov3d_perception.networks.checkpoint_info import words_of_checkpoint
from ov3d_perception.paths import share_dir
from ov3d_perception.ros import messages, qos
from ov3d_perception.sim.bag import write_drive
from ov3d_perception.sim.drive import simulate
from ov3d_perception.training.callbacks import stored_words
from ov3d_perception.types import Preparation

pytestmark = pytest.mark.live

SHARE = share_dir()
NETWORK = "network={arch: MinkUNet14A, width: 0.125, inputs: [ones, intensity], voxel_size: 0.4}"


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five scans of a simulated street and small pictures of it."""
    drive = simulate(2000, 0.5, image_size=(96, 54))
    return write_drive(tmp_path_factory.mktemp("site") / "my_site", drive)


@pytest.fixture(scope="module")
def trained(bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's distillation, with the small CLIP of the street, on two sweeps, two steps long."""
    out, cache = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("cache")
    changes = {
        "train.root": str(bag),
        "train.options": "{every: 1, sweeps: 2}",
        "teacher": f"{{model: {SHARE / 'models' / 'street_clip'}, pretrained: null}}",
        "vocabulary": f"{{labelset: street, text: {SHARE / 'models' / 'street_bank.npz'}}}",
        "pairs": "{sweeps: 2, max_depth: 60}",
        "network": NETWORK.removeprefix("network="),
    }
    given = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    recipe = SHARE / "config" / "train" / "ggsd_bag.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OV3D_CACHE", str(cache))
        run("train", str(recipe), "--out", str(out), "--fast-dev-run", *given)
        evaluated = run("evaluate", str(out / "student.safetensors"), "--dataset", "bag", "--root", str(bag))
    assert "| class | share of points | mean confidence |" in evaluated
    assert "student against its teacher" in evaluated
    return out / "student.safetensors"


def run(*arguments: str) -> str:
    """The output of a command that must succeed."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    return done.output


class Player:
    """Sends what a bag holds, with frames of its own so that no other test's TF meets it."""

    def __init__(self, probe: Probe, bag: Path, prefix: str) -> None:
        self._node, self._prefix = probe.node, prefix
        with open_bag(bag) as reader:
            self.scans = [m.decode() for m in reader.messages(["/points"])]
            self._moving = [self._mine(m.decode()) for m in reader.messages(["/tf"])]
            self._static = [self._mine(m.decode()) for m in reader.messages(["/tf_static"])]
        self._tf = self._node.create_publisher(TFMessage, "/tf", qos.TF)
        self._tf_static = self._node.create_publisher(TFMessage, "/tf_static", qos.TF_STATIC)
        self.clouds = [self._cloud(scan) for scan in self.scans]

    def close(self) -> None:
        self._node.destroy_publisher(self._tf)
        self._node.destroy_publisher(self._tf_static)

    def transforms(self) -> None:
        edges = [edge for message in self._static for edge in message.transforms]
        self._tf_static.publish(TFMessage(transforms=edges))
        self._tf.publish(TFMessage(transforms=[edge for message in self._moving for edge in message.transforms]))

    def _mine(self, message: Any) -> TFMessage:
        return TFMessage(
            transforms=[
                transform_stamped(
                    self._prefix + edge.header.frame_id,
                    self._prefix + edge.child_frame_id,
                    messages.stamp_to_ns(edge.header.stamp),
                    messages.transform_to_pose(edge.transform),
                )
                for edge in message.transforms
            ]
        )

    def _cloud(self, scan: Any) -> PointCloud2:
        rows = pointcloud2.structured(scan)
        columns = {name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names}
        return messages.point_cloud(columns, messages.stamp_to_ns(scan.header.stamp), self._prefix + "lidar")


@pytest.fixture(scope="module")
def player(probe: Probe, bag: Path) -> Iterator[Player]:
    player = Player(probe, bag, "product_")
    yield player
    player.close()


@pytest.fixture(scope="module")
def lidar(start_node: Callable[..., Any], lidar_named: Callable[[str], Lidar], trained: Path) -> Lidar:
    parameters = {"checkpoint": str(trained), "device": "cpu", "precision": "fp32", "fixed_frame": "product_odom"}
    start_node("ov3d_perception.ros.lidar_node", "product_lidar", parameters | {"diagnostics_period": "0.1"})
    return lidar_named("product_lidar")


def test_live_labels_are_those_of_the_evaluation(
    lidar: Lidar, player: Player, bag: Path, trained: Path, diagnostics: Inbox
) -> None:
    """The same bag through lidar_node and through the evaluation: de-skewed, two sweeps, as the checkpoint says."""
    segmenter = Segmenter.load(trained, device="cpu", precision="fp32")
    assert segmenter.info.preparation == Preparation(deskew=True, sweeps=2)
    words = Vocabulary.from_words(segmenter.info.vocabulary, words_of_checkpoint(segmenter.info, trained))
    offline, alone = LiveModel.of(segmenter, words), LiveModel.of(segmenter, words, Preparation(deskew=True))
    frames = Bag(bag, sweeps=2, images=False)

    def share(found: np.ndarray, expected: Any) -> float:
        same = (found["label"] == expected.label) & np.isclose(found["probability"], expected.probability, rtol=1e-3)
        return float(same.mean())

    with lidar.probe.listening(PointCloud2, lidar.labelled) as labelled:

        def send() -> None:
            player.transforms()
            lidar.publish(player.clouds[0])

        still = frames[0].sweeps[0].scan.xyz
        lidar.probe.until(send, labelled, lambda m: np.allclose(xyz_of(m), still, atol=1e-3))
        for number in range(1, len(frames)):
            found = pointcloud2.structured(lidar.exchange(labelled, player.clouds[number]))
            sweeps = frames[number].sweeps
            assert len(sweeps) == 2
            # rounding takes some points over a voxel's border, and that changes their neighbours
            assert share(found, offline(sweeps)) > 0.95
            assert share(found, alone(sweeps)) < 0.5, "a test that a single sweep would pass"
    said = values_of(lidar.status(diagnostics))["preparation"]
    assert "deskew True" in said and "sweeps 2" in said and "by parameter" not in said


def xyz_of(message: PointCloud2) -> np.ndarray:
    rows = pointcloud2.structured(message)
    return np.stack([rows[name] for name in "xyz"], 1)


def test_the_map_answers_in_the_checkpoints_words(
    lidar: Lidar, player: Player, trained: Path, start_node: Callable[..., Any], probe: Probe
) -> None:
    parameters = {"checkpoint": str(trained), "map_frame": "product_map", "threshold": "0.01"}
    parameters |= {"min_sure": "1", "min_voxels": "1", "min_observations": "1"}
    remappings = {"~/input/features": lidar.features, "~/input/basis": lidar.basis}
    start_node("ov3d_perception.ros.map_node", "product_map_node", parameters, remappings)

    def ask(word: str) -> Any:
        player.transforms()
        lidar.publish(player.clouds[-1])
        return probe.call(QueryText, "/product_map_node/query", QueryText.Request(words=[word]))

    answer = ask("tree")
    probe.wait_for(lambda: ask("tree").status != QueryText.Response.NO_MAP, "a map")
    answer = ask("tree")
    assert answer.status == QueryText.Response.OK, answer.message
    assert ask("submarine on wheels").status == QueryText.Response.UNKNOWN_WORD


def test_a_fine_tuned_network_runs_live(
    tmp_path: Path, start_node: Callable[..., Any], lidar_named: Callable[[str], Lidar], player: Player
) -> None:
    classes = class_vocabulary(LabelSet.load("street"))
    info = CheckpointInfo("MinkUNet14A", 0.125, ("ones", "intensity"), 0.4, classes.identity)
    info = CheckpointInfo(**{
        **vars(info), "vocabulary": {name: [name] for name in classes.names}, "bank": stored_words(classes)
    })  # fmt: skip
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "tuned.safetensors", info.build(), info)
    parameters = {"checkpoint": str(tmp_path / "tuned.safetensors"), "device": "cpu"}
    start_node("ov3d_perception.ros.lidar_node", "product_tuned", parameters)
    tuned = lidar_named("product_tuned")
    with tuned.probe.listening(PointCloud2, tuned.labelled) as labelled:
        rows = pointcloud2.structured(tuned.exchange(labelled, player.clouds[0]))
    assert rows["label"].max() < len(classes.names)
