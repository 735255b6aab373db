"""A working lidar_node gets other networks: between two scans, with its words, and back again."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ros_harness import Inbox, Lidar, random_cloud, values_of
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger

from ov3d_msgs.msg import FeatureBasis
from ov3d_msgs.srv import LoadCheckpoint
from ov3d_perception.bags import pointcloud2
from ov3d_perception.inference import Segmenter
from ov3d_perception.language.vocabulary import TextBank, Vocabulary
from ov3d_perception.ledger import ACCEPTED, Site, file_hash
from ov3d_perception.networks.checkpoint import load_checkpoint, save_checkpoint
from ov3d_perception.ros import qos
from ov3d_perception.types import WordEmbeddings

pytestmark = pytest.mark.live

NAME = "lidar_swap"


@pytest.fixture(scope="module")
def networks(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside the first network: "second" (other weights), "twin" (the first's weights in another file), "stranger" (of
    another encoder, without words), "guest" (of another encoder, with words)."""
    folder = tmp_path_factory.mktemp("networks")
    network, info = load_checkpoint(tiny_model / "net.safetensors")
    save_checkpoint(folder / "first.safetensors", network, info)
    save_checkpoint(folder / "twin.safetensors", network, replace(info, commit="twin"))
    torch.manual_seed(2)
    save_checkpoint(folder / "second.safetensors", info.build(), info)
    other = TextBank.load(tiny_model / "other_bank.npz")
    torch.manual_seed(3)
    stranger = replace(info, identity=other.identity)
    save_checkpoint(folder / "stranger.safetensors", stranger.build(), stranger)
    guest = replace(stranger, bank=WordEmbeddings(tuple(other.words), other.embeddings))
    save_checkpoint(folder / "guest.safetensors", guest.build(), guest)
    return folder


@pytest.fixture(scope="module")
def lidar(
    start_node: Callable[..., Any], lidar_named: Callable[[str], Lidar], tiny_model: Path, networks: Path
) -> Lidar:
    """One process for all tests of this file; 100 scans may wait, so that none is dropped on a busy machine."""
    parameters = {
        "checkpoint": str(networks / "first.safetensors"),
        "text": str(tiny_model / "bank.npz"),
        "device": "cpu",
        "intensity_scale": "1.0",
        "queue": "100",
        "diagnostics_period": "0.1",
        "shadow_every": "1",
    }
    start_node("ov3d_perception.ros.lidar_node", NAME, parameters)
    return lidar_named(NAME)


@pytest.fixture
def labelled(lidar: Lidar) -> Iterator[Inbox]:
    with lidar.probe.listening(PointCloud2, lidar.labelled) as inbox:
        yield inbox


@pytest.fixture
def first(lidar: Lidar, networks: Path) -> None:
    """Whatever an earlier test loaded, the first network works."""
    lidar.probe.wait_for(lambda: load(lidar, networks / "first.safetensors").success, "a configured node")


def load(lidar: Lidar, path: Path | str, shadow: int = 0) -> LoadCheckpoint.Response:
    request = LoadCheckpoint.Request(checkpoint=str(path), shadow=shadow)
    return lidar.probe.call(LoadCheckpoint, f"/{NAME}/load_checkpoint", request)


def roll_back(lidar: Lidar) -> Trigger.Response:
    return lidar.probe.call(Trigger, f"/{NAME}/rollback", Trigger.Request())


def labels_by(path: Path, bank: TextBank, message: PointCloud2, words: Any = None) -> np.ndarray:
    """What the node should publish with this network."""
    segmenter = Segmenter.load(path, device="cpu")
    vocabulary = Vocabulary.from_words(words or segmenter.info.vocabulary, bank, segmenter.info.vocabulary)
    return segmenter(pointcloud2.decode(message, intensity_scale=1.0), vocabulary).label


def published(lidar: Lidar, inbox: Inbox, message: PointCloud2) -> np.ndarray:
    return pointcloud2.structured(lidar.exchange(inbox, message))["label"]


@pytest.fixture(scope="module")
def bank(tiny_model: Path) -> TextBank:
    return TextBank.load(tiny_model / "bank.npz")


def test_another_network_labels_from_the_next_scan_on_and_back(lidar, labelled, networks, bank, first) -> None:
    sent = random_cloud(seed=1)
    before, second = published(lidar, labelled, sent), networks / "second.safetensors"
    np.testing.assert_array_equal(before, labels_by(networks / "first.safetensors", bank, sent))
    answer = load(lidar, second)
    assert answer.success, answer.message
    assert answer.running == file_hash(second) and answer.previous == file_hash(networks / "first.safetensors")
    assert math.isnan(answer.agreement) and (answer.duration.sec, answer.duration.nanosec) > (0, 0)
    sent = random_cloud(seed=1)
    after = published(lidar, labelled, sent)
    np.testing.assert_array_equal(after, labels_by(second, bank, sent))
    assert (after != before).any(), "a test that any network would pass"
    assert roll_back(lidar).success
    np.testing.assert_array_equal(published(lidar, labelled, random_cloud(seed=1)), before)
    answer = roll_back(lidar)
    assert not answer.success and "There is no former network" in answer.message


def test_words_stay_through_a_swap_and_a_rollback(lidar, labelled, networks, bank, first) -> None:
    words = ["person", "building", "tree", "road", "car"]
    assert lidar.set_vocabulary(words).success
    assert load(lidar, networks / "second.safetensors").success
    sent = random_cloud(seed=2)
    expected = labels_by(networks / "second.safetensors", bank, sent, words)
    np.testing.assert_array_equal(published(lidar, labelled, sent), expected)
    changed = ["bush", *words]
    assert lidar.set_vocabulary(changed).success
    assert roll_back(lidar).success
    sent = random_cloud(seed=2)
    expected = labels_by(networks / "first.safetensors", bank, sent, changed)
    np.testing.assert_array_equal(published(lidar, labelled, sent), expected)
    assert lidar.set_vocabulary(["car", "tree", "road", "person", "building"]).success


def test_no_scan_is_lost_while_networks_come_and_go(lidar, labelled, networks, diagnostics, first) -> None:
    """Scans at 20 Hz all the while: all that came are labelled, and no two are far apart."""
    published(lidar, labelled, random_cloud(seed=3))
    done, sent = threading.Event(), []

    def drive() -> None:
        while not done.is_set():
            sent.append(random_cloud(seed=len(sent)))
            lidar.publish(sent[-1])
            done.wait(0.05)

    before = values_of(lidar.status(diagnostics))
    driver = threading.Thread(target=drive)
    driver.start()
    try:
        for name in ("second", "first", "second"):
            assert load(lidar, networks / f"{name}.safetensors").success
        assert roll_back(lidar).success
        # More than are asked for below: a best-effort scan may get lost on its way to the node.
        lidar.probe.wait_for(lambda: len(sent) > 10, "scans enough, however fast the swaps were")
    finally:
        done.set()
        driver.join()

    def settled(status: Any) -> bool:
        values = values_of(status)
        gain = {name: int(values[name]) - int(before[name]) for name in ("received", "processed", "refused")}
        return gain["received"] == gain["processed"] > 5 and gain["refused"] == 0

    after = values_of(lidar.status(diagnostics, settled))
    assert after["dropped"] == before["dropped"]


def test_the_basis_comes_before_the_features_that_need_it(lidar, labelled, networks, first) -> None:
    with lidar.probe.listening(FeatureBasis, lidar.basis, qos.LATCHED) as bases:
        former = bases.wait().basis_id
        assert load(lidar, networks / "second.safetensors").success
        published(lidar, labelled, random_cloud(seed=4))
        bases.wait(lambda basis: basis.basis_id != former)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("missing", "There is no checkpoint"),
        ("stranger", "brings none of its own"),
        ("damaged", "is damaged"),
    ],
)
def test_what_cannot_run_changes_nothing(name, cause, lidar, labelled, networks, bank, diagnostics, first) -> None:
    if name == "damaged":
        content = bytearray((networks / "second.safetensors").read_bytes())
        content[len(content) // 2] ^= 0xFF
        (networks / "damaged.safetensors").write_bytes(bytes(content))
    answer = load(lidar, networks / f"{name}.safetensors")
    assert not answer.success and cause in answer.message
    assert answer.running == file_hash(networks / "first.safetensors")
    lidar.status(diagnostics, lambda s: cause in values_of(s)["last error"])
    assert load(lidar, "").success, "the parameter's network, which works already"


def test_a_network_of_another_encoder_brings_its_words(lidar, labelled, networks, tiny_model, first) -> None:
    guest, bank = networks / "guest.safetensors", TextBank.load(tiny_model / "other_bank.npz")
    answer = load(lidar, guest)
    assert answer.success, answer.message
    sent = random_cloud(seed=5)
    words = ["car", "tree", "road", "person", "building"]
    np.testing.assert_array_equal(published(lidar, labelled, sent), labels_by(guest, bank, sent, words))
    assert roll_back(lidar).success


def test_shadow_mode_compares_before_it_swaps(lidar, labelled, networks, diagnostics, first) -> None:
    """A network with the same weights agrees, another random one does not."""
    done = threading.Event()

    def drive() -> None:
        seed = 0
        while not done.wait(0.05):
            lidar.publish(random_cloud(seed=(seed := seed + 1)))

    driver = threading.Thread(target=drive)
    driver.start()
    try:
        answer = load(lidar, networks / "twin.safetensors", shadow=3)
        assert answer.success and answer.agreement == pytest.approx(1.0), answer.message
        refused = load(lidar, networks / "second.safetensors", shadow=3)
    finally:
        done.set()
        driver.join()
    values = values_of(lidar.status(diagnostics, lambda s: "shadow agreement" in values_of(s)))
    assert not refused.success and "labels only" in refused.message and "->" in values["shadow differs"]
    assert refused.agreement < 0.5 or math.isnan(refused.agreement)
    assert refused.running == file_hash(networks / "twin.safetensors"), "the refused one changed nothing"


def test_a_site_is_loaded_by_its_folder_and_its_ledger_learns_of_a_rollback(
    lidar, labelled, networks, bank, first, tmp_path
) -> None:
    site = Site(tmp_path / "site")
    site.begin(str(networks / "first.safetensors"))
    number = site.add(networks / "second.safetensors", ["monday"], ACCEPTED).number
    site.put_in_force(number, "accepted")
    answer = load(lidar, site.folder)
    assert answer.success and answer.running == file_hash(networks / "second.safetensors"), answer.message
    assert roll_back(lidar).success
    assert site.read().in_force == 0 and site.read().changes[-1].rollback
    assert "asked for" in site.read().changes[-1].why


def test_a_followed_site_changes_the_network_by_its_ledger(
    start_node, lidar_named, tiny_model, networks, diagnostics, tmp_path
) -> None:
    site = Site(tmp_path / "site")
    site.begin(str(networks / "first.safetensors"))
    parameters = {"checkpoint": str(site.folder), "text": str(tiny_model / "bank.npz"), "device": "cpu"}
    start_node(
        "ov3d_perception.ros.lidar_node",
        "lidar_following",
        parameters | {"follow_site": "true", "diagnostics_period": "0.1"},
    )
    lidar = lidar_named("lidar_following")

    def runs(name: str) -> Callable[[Any], bool]:
        return lambda status: values_of(status).get("checkpoint sha256") == file_hash(networks / f"{name}.safetensors")

    lidar.status(diagnostics, runs("first"))
    site.put_in_force(site.add(networks / "second.safetensors", ["monday"], ACCEPTED).number, "accepted")
    lidar.status(diagnostics, runs("second"))
    site.roll_back("a person asked for it")
    lidar.status(diagnostics, runs("first"))
