"""lidar_node in its own process: what comes out for what goes in, one scan at a time and without TF."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from ros_harness import Inbox, Lidar, random_cloud, stamped_like, values_of
from sensor_msgs.msg import PointCloud2
from vision_msgs.msg import LabelInfo

from ov3d_msgs.msg import FeatureBasis, FeatureCloud, VocabularyClass
from ov3d_perception.bags import pointcloud2
from ov3d_perception.inference import Segmenter
from ov3d_perception.language.vocabulary import TextBank, Vocabulary
from ov3d_perception.ros import messages, qos

pytestmark = pytest.mark.live

NAME = "lidar_single"


@pytest.fixture(scope="module")
def lidar(start_node: Callable[..., Any], lidar_named: Callable[[str], Lidar], tiny_model: Path) -> Lidar:
    """One process for all tests of this file."""
    parameters = {
        "checkpoint": str(tiny_model / "net.safetensors"),
        "text": str(tiny_model / "bank.npz"),
        "device": "cpu",
        "intensity_scale": "1.0",
        "diagnostics_period": "0.1",
    }
    start_node("ov3d_perception.ros.lidar_node", NAME, parameters)
    return lidar_named(NAME)


@pytest.fixture(scope="module")
def core(tiny_model: Path) -> SimpleNamespace:
    """The same network and words in this process: what the node should answer."""
    segmenter = Segmenter.load(tiny_model / "net.safetensors", device="cpu")
    bank = TextBank.load(tiny_model / "bank.npz")
    return SimpleNamespace(
        segmenter=segmenter, bank=bank, vocabulary=Vocabulary.from_words(segmenter.info.vocabulary, bank)
    )


@pytest.fixture
def labelled(lidar: Lidar) -> Iterator[Inbox]:
    """Labelled clouds; the subscription lasts for the test."""
    with lidar.probe.listening(PointCloud2, lidar.labelled) as inbox:
        yield inbox


@pytest.fixture
def default_words(lidar: Lidar, core: SimpleNamespace) -> None:
    """Whatever an earlier test asked for, the checkpoint's classes are in force."""
    classes = [VocabularyClass(name=name, prompts=words) for name, words in core.segmenter.info.vocabulary.items()]
    lidar.probe.wait_for(lambda: lidar.set_vocabulary(classes=classes).success, "a configured node")


def expected(core: SimpleNamespace, message: PointCloud2, vocabulary: Vocabulary) -> tuple[Any, Any]:
    scan = pointcloud2.decode(message, intensity_scale=1.0)
    return scan, core.segmenter(scan, vocabulary)


def test_each_point_gets_the_networks_label(lidar, labelled, core, default_words) -> None:
    sent = random_cloud()
    received = lidar.exchange(labelled, sent)
    assert received.header == sent.header
    assert [(f.name, f.datatype) for f in received.fields] == [
        ("x", 7), ("y", 7), ("z", 7), ("label", 4), ("vocabulary", 4), ("probability", 7), ("rgb", 7),
    ]  # fmt: skip
    points = pointcloud2.structured(received)
    scan, result = expected(core, sent, core.vocabulary)
    np.testing.assert_array_equal(np.stack([points["x"], points["y"], points["z"]], 1), scan.xyz)
    np.testing.assert_array_equal(points["label"], result.label)
    assert set(points["vocabulary"].tolist()) == {pointcloud2.vocabulary_id(core.vocabulary.names)}
    np.testing.assert_allclose(points["probability"], result.probability, rtol=1e-4)
    assert len(np.unique(result.label)) > 1, "a test that any constant label would pass"


def test_points_without_return_are_left_out_in_order(lidar, labelled, core, default_words) -> None:
    sent = random_cloud(seed=1)
    holes = pointcloud2.structured(sent).copy()
    holes["x"][10:20] = np.nan
    holes["z"][400] = np.inf
    sent = messages.point_cloud({name: holes[name] for name in holes.dtype.names}, time.time_ns(), "lidar")
    points = pointcloud2.structured(lidar.exchange(labelled, sent))
    keep = np.setdiff1d(np.arange(500), [*range(10, 20), 400])
    np.testing.assert_array_equal(points["x"], holes["x"][keep])
    np.testing.assert_array_equal(points["label"], expected(core, sent, core.vocabulary)[1].label)


def test_ouster_layout_is_read(lidar, labelled, core, default_words) -> None:
    """Organised, big-endian, gaps between fields: an OS1's point of 48 bytes."""
    fields = {"x": (0, ">f4"), "y": (4, ">f4"), "z": (8, ">f4"), "intensity": (16, ">f4"), "t": (20, ">u4"),
              "reflectivity": (24, ">u2"), "ring": (26, ">u1"), "noise": (28, ">u2"), "range": (32, ">u4")}  # fmt: skip
    dtype = np.dtype({"names": list(fields), "formats": [f for _, f in fields.values()],
                      "offsets": [o for o, _ in fields.values()], "itemsize": 48})  # fmt: skip
    plain = pointcloud2.structured(random_cloud(512, seed=2))
    points = np.zeros(512, dtype)
    for name in ("x", "y", "z", "intensity"):
        points[name] = plain[name]
    sent = random_cloud(512, seed=2)
    datatypes = {"f4": 7, "u4": 6, "u2": 4, "u1": 2}
    sent.fields = [
        type(sent.fields[0])(name=name, offset=offset, datatype=datatypes[code[1:]], count=1)
        for name, (offset, code) in fields.items()
    ]
    sent.height, sent.width, sent.point_step, sent.row_step, sent.is_bigendian = 8, 64, 48, 48 * 64, True
    sent.data = array("B", points.tobytes())
    received = pointcloud2.structured(lidar.exchange(labelled, sent))
    np.testing.assert_array_equal(received["x"], plain["x"])
    _, result = expected(core, random_cloud(512, seed=2), core.vocabulary)
    np.testing.assert_array_equal(received["label"], result.label)


def test_features_and_basis_answer_words_as_the_network_does(lidar, core) -> None:
    """A receiver with nothing but the two messages scores a word exactly."""
    listening = lidar.probe.listening
    with listening(FeatureCloud, lidar.features) as features, listening(FeatureBasis, lidar.basis, qos.LATCHED) as late:
        basis = messages.message_to_basis(late.wait())
        sent = random_cloud(seed=3)
        message = lidar.exchange(features, sent)
    assert message.basis_id == basis.basis_id
    assert messages.message_to_identity(message.encoder) == core.segmenter.identity
    scan = pointcloud2.decode(sent, intensity_scale=1.0)
    voxels = core.segmenter.features(scan.xyz, scan.intensity)
    centres, features = messages.message_to_features(message)
    np.testing.assert_allclose(centres, voxels.centres, atol=1e-5)
    np.testing.assert_allclose(features, voxels.features, atol=np.abs(voxels.features).max() / 127)
    text = core.bank.embed(["tree"])[0]
    wide, true = features @ basis.weights, voxels.features @ core.segmenter.basis
    cosine = wide @ text / np.linalg.norm(wide, axis=1)
    np.testing.assert_allclose(cosine, true @ text / np.linalg.norm(true, axis=1), atol=0.03)


def test_new_words_hold_from_the_next_scan_on(lidar, labelled, core, default_words) -> None:
    with lidar.probe.listening(LabelInfo, lidar.label_info, qos.LATCHED) as late:
        first = late.wait()
        assert [c.class_name for c in first.class_map] == list(core.vocabulary.names)
        green = VocabularyClass(name="green", prompts=["bush", "tree"])
        answer = lidar.set_vocabulary(["person", "building"], [green])
        assert answer.success, answer.message
        assert answer.class_names == ["person", "building", "green"]
        assert set(answer.known_words) == set(core.bank.words)
        info = late.wait(lambda m: len(m.class_map) == 3 and m.class_map[0].class_name == "person")
        assert [c.class_id for c in info.class_map] == [0, 1, 2]
    words = {"person": ["person"], "building": ["building"], "green": ["bush", "tree"]}
    sent = random_cloud(seed=4)
    points = pointcloud2.structured(lidar.exchange(labelled, sent))
    _, result = expected(core, sent, Vocabulary.from_words(words, core.bank, core.segmenter.info.vocabulary))
    np.testing.assert_array_equal(points["label"], result.label)


def test_an_unknown_word_is_refused_and_the_old_words_stay(lidar, labelled, diagnostics, core, default_words) -> None:
    answer = lidar.set_vocabulary(["car", "giraffe"])
    assert not answer.success
    assert "giraffe" in answer.message and "person" in answer.message, "names the word, and what the bank knows"
    assert answer.class_names == list(core.vocabulary.names)
    status = lidar.status(diagnostics, lambda s: s.level == DiagnosticStatus.WARN)
    assert "giraffe" in status.message
    sent = random_cloud(seed=5)
    points = pointcloud2.structured(lidar.exchange(labelled, sent))
    np.testing.assert_array_equal(points["label"], expected(core, sent, core.vocabulary)[1].label)


@pytest.mark.parametrize(
    ("words", "why"),
    [([], "empty"), (["person", "tree", "Person"], "'person' more than once"), (list("tree"), "[tree]")],
)
def test_no_words_a_word_twice_and_a_string_are_refused(lidar, core, default_words, words, why) -> None:
    answer = lidar.set_vocabulary(words)
    assert not answer.success and why in answer.message
    assert answer.class_names == list(core.vocabulary.names)


def _empty() -> PointCloud2:
    return random_cloud(0)


def _all_nan() -> PointCloud2:
    nan = np.full(100, np.nan, np.float32)
    return random_cloud(100, x=nan)


def _point_step_too_small() -> PointCloud2:
    message = random_cloud()
    message.point_step, message.row_step = 8, 8 * 500
    return message


def _truncated() -> PointCloud2:
    message = random_cloud()
    message.data = message.data[: len(message.data) // 2]
    return message


def _without_z() -> PointCloud2:
    message = random_cloud()
    message.fields = [field for field in message.fields if field.name != "z"]
    return message


@pytest.mark.parametrize(
    ("broken", "cause"),
    [
        (_empty, "is empty"),
        (_all_nan, "None of the cloud's 100 points is finite"),
        (_point_step_too_small, "do not fit points of 8 bytes"),
        (_truncated, "truncated"),
        (_without_z, "without x, y and z"),
    ],
)
def test_a_broken_scan_is_reported_and_survived(broken, cause, lidar, labelled, diagnostics, default_words) -> None:
    lidar.exchange(labelled, random_cloud(seed=6))
    message = broken()
    status = lidar.status(
        diagnostics,
        lambda s: s.level == DiagnosticStatus.ERROR and cause in s.message,
        act=lambda: lidar.publish(message),
    )
    assert int(values_of(status)["refused"]) > 0
    assert len(pointcloud2.structured(lidar.exchange(labelled, random_cloud(seed=7)))) == 500
    status = lidar.status(diagnostics, lambda s: s.level == DiagnosticStatus.OK)
    assert cause in values_of(status)["last error"], "kept for whoever looks later"


def test_without_intensity_zeros_are_used(lidar, labelled, diagnostics, core, default_words) -> None:
    columns = {name: pointcloud2.structured(random_cloud(seed=8))[name] for name in "xyz"}
    sent = messages.point_cloud(columns, time.time_ns(), "lidar")
    points = pointcloud2.structured(lidar.exchange(labelled, sent))
    np.testing.assert_array_equal(points["label"], expected(core, sent, core.vocabulary)[1].label)
    lidar.status(diagnostics, lambda s: values_of(s)["intensity"] == "none in the cloud, zeros used")


def test_features_without_tf_are_sent_with_a_warning(lidar, labelled, diagnostics, default_words) -> None:
    with lidar.probe.listening(FeatureCloud, lidar.features) as features:
        lidar.exchange(features, random_cloud(seed=9, frame_id="adrift"))
        lidar.exchange(labelled, random_cloud(seed=10, frame_id="adrift"))
        status = lidar.status(diagnostics, lambda s: s.level == DiagnosticStatus.WARN)
        assert "cannot be put into a map: No transform connects 'adrift' to 'odom'" in status.message
        assert "odometry" in status.message, "the remedy"
        assert "not connected" in values_of(status)["TF age [s]"]
    lidar.status(diagnostics, lambda s: s.level == DiagnosticStatus.OK, act=lambda: lidar.publish(random_cloud()))


def test_diagnostics_break_the_time_down(lidar, labelled, diagnostics, default_words) -> None:
    lidar.exchange(labelled, random_cloud(seed=11))
    values = values_of(lidar.status(diagnostics, lambda s: "total [ms]" in values_of(s)))
    stages = [float(values[f"{stage} [ms]"]) for stage in
              ("wait", "convert", "accumulate", "voxelise+network", "classify", "publish")]  # fmt: skip
    assert all(ms >= 0 for ms in stages)
    assert max(stages) <= float(values["total worst [ms]"])
    assert values["state"] == "active"
    counted = {name: int(values[name]) for name in ("received", "processed", "dropped", "refused")}
    assert counted["received"] >= counted["processed"] > 0


def test_when_scans_come_too_fast_the_newest_is_kept(lidar, labelled, diagnostics, default_words) -> None:
    """A burst of scans: the last one is labelled, others are dropped and counted, nothing is lost from the books."""
    lidar.exchange(labelled, random_cloud(seed=12))
    burst = [random_cloud(20_000, seed=seed) for seed in range(12)]
    labelled.clear()
    sent = 0
    while sent < 20 * len(burst):  # best effort: a burst whose last scan gets lost on the way proves nothing
        sent += len(burst)
        for message in burst:
            message.header.stamp = messages.ns_to_stamp(time.time_ns())
            lidar.publish(message)
        if labelled.find(stamped_like(burst[-1]), 3.0):
            break
    else:
        pytest.fail("the newest scan was never labelled")
    stamps = [messages.stamp_to_ns(m.header.stamp) for m in labelled.messages]
    assert stamps == sorted(stamps)
    assert len(stamps) < sent

    def books_balance(status: DiagnosticStatus) -> bool:
        values = values_of(status)
        handled = sum(int(values.get(key, 0)) for key in ("processed", "dropped", "refused", "idle (no subscriber)"))
        return int(values["dropped"]) > 0 and int(values["received"]) == handled

    lidar.status(diagnostics, books_balance)


def test_nothing_is_computed_that_nobody_wants(lidar, diagnostics, default_words) -> None:
    def count(status: DiagnosticStatus) -> tuple[int, int]:
        values = values_of(status)
        return int(values.get("idle (no subscriber)", 0)), int(values["processed"])

    idle, processed = count(lidar.status(diagnostics))
    scan = random_cloud(seed=13)
    status = lidar.status(diagnostics, lambda s: count(s)[0] > idle, act=lambda: lidar.publish(scan))
    assert count(status)[1] <= processed + 1, "at most a scan from before the last subscriber left"
