"""map_node in its own process: features and transforms in, answers, map cloud, markers and diagnostics out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Point, Vector3
from map_harness import IDENTITY, WORDS, Mapper, block
from ros_harness import values_of
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import Marker, MarkerArray

from ov3d_msgs.srv import QueryText
from ov3d_perception.bags.pointcloud2 import structured
from ov3d_perception.language.vocabulary import TextBank
from ov3d_perception.mapping.basis import Basis
from ov3d_perception.ros import qos
from ov3d_perception.types import EncoderIdentity

pytestmark = pytest.mark.live

Answer = QueryText.Response


@pytest.fixture(scope="module")
def mapper(mapper_named: Callable[..., Mapper]) -> Mapper:
    return mapper_named("map_main")


@pytest.fixture
def empty(mapper: Mapper) -> Mapper:
    """The node with its basis and nothing mapped."""
    mapper.publish_basis()
    mapper.clear()
    return mapper


CAR, TREE = block((0, 0, 0), (20, 9, 7)), block((8, 4, 0), (5, 5, 15))


def test_nothing_mapped_yet(empty: Mapper) -> None:
    answer = empty.ask("car")
    assert answer.status == Answer.NO_MAP and "/diagnostics" in answer.message


def test_where_is_a_car(empty: Mapper) -> None:
    empty.drive({"car": CAR, "tree": TREE}, x=100.0)
    answer = empty.ask("car")
    assert (answer.status, answer.header.frame_id) == (Answer.OK, empty.map_frame)
    (match,) = answer.matches
    assert match.word == "car" and match.count == len(CAR) and match.score > 0.99
    np.testing.assert_allclose([match.centroid.x, match.centroid.y, match.centroid.z], [102.0, 0.9, 0.7], atol=1e-3)
    position, size = match.pose.position, match.size
    np.testing.assert_allclose([position.x, position.y, position.z], [102.0, 0.9, 0.7], atol=1e-3)
    np.testing.assert_allclose([size.x, size.y, size.z], [4.0, 1.8, 1.4], atol=1e-3)
    assert match.last_seen == answer.header.stamp and match.last_seen.sec > 1e9


def test_two_scans_from_two_places_make_one_map(empty: Mapper) -> None:
    empty.drive({"car": CAR}, x=0.0)
    status = empty.drive({"car": CAR - np.float32([2.0, 0, 0])}, x=2.0)
    assert int(values_of(status)["voxels"]) == len(CAR), "the same car, seen again from 2 m farther"
    (match,) = empty.ask("car").matches
    assert match.count == len(CAR)


def test_absent_unknown_and_senseless_questions(empty: Mapper) -> None:
    empty.drive({"car": CAR})
    absent = empty.ask("giraffe")
    assert (absent.status, absent.matches) == (Answer.NOTHING_FOUND, [])
    assert absent.message == "giraffe: nothing above the threshold"
    unknown = empty.ask("zebra")
    assert unknown.status == Answer.UNKNOWN_WORD and "zebra" in unknown.message and "giraffe" in unknown.message
    assert empty.ask().status == Answer.BAD_REQUEST
    assert empty.ask("car", threshold=1.5).status == Answer.BAD_REQUEST
    assert empty.ask("car", region_size=Vector3(x=-1.0)).status == Answer.BAD_REQUEST
    assert empty.ask("car", region_centre=Point(x=float("nan"))).status == Answer.BAD_REQUEST


def test_words_limit_region_and_negatives(empty: Mapper) -> None:
    second = CAR + np.float32([0, 10, 0])
    empty.drive({"car": np.concatenate([CAR, second]), "tree": TREE})
    assert [m.word for m in empty.ask("tree", "giraffe", "car").matches] == ["tree", "car", "car"]
    assert len(empty.ask("car", limit=1).matches) == 1
    near = {"region_centre": Point(x=2.0, y=10.9, z=0.0), "region_size": Vector3(x=9.0, y=9.0, z=9.0)}
    (match,) = empty.ask("car", **near).matches
    assert match.centroid.y == pytest.approx(10.9, abs=1e-3)
    assert empty.ask("giraffe", negatives=["road"], threshold=0.4).status == Answer.OK, "cars are as little road"


def test_map_cloud_and_markers(empty: Mapper) -> None:
    empty.drive({"car": CAR, "tree": TREE})
    with empty.probe.listening(PointCloud2, f"/{empty.name}/output/map") as inbox:
        cloud = inbox.wait(lambda cloud: cloud.width == len(CAR) + len(TREE))
    assert cloud.header.frame_id == empty.map_frame
    points = structured(cloud)
    assert points.dtype.names == ("x", "y", "z", "label", "probability", "rgb")
    tree_label = points["label"][points["x"] > 7]
    assert len(set(tree_label)) == 1 and tree_label[0] not in points["label"][points["x"] < 5]
    empty.ask("car", "tree")
    with empty.probe.listening(MarkerArray, f"/{empty.name}/output/markers", qos.LATCHED) as inbox:
        shown = inbox.wait(lambda array: len(array.markers) == 5)
    assert shown.markers[0].action == Marker.DELETEALL
    box = next(m for m in shown.markers if m.type == Marker.CUBE)
    np.testing.assert_allclose([box.scale.x, box.scale.y, box.scale.z], [4.0, 1.8, 1.4], atol=1e-3)


def test_tf_that_is_missing_at_first_is_no_error(mapper_named: Callable[..., Mapper]) -> None:
    early = mapper_named("map_patient")
    early.publish_basis()
    status = early.status(
        lambda s: "nowhere" in s.message,
        lambda: early.publish_features({"car": CAR}, time.time_ns(), frame="nowhere"),
    )
    assert status.level == DiagnosticStatus.WARN
    early.drive({"car": CAR})
    early.probe.wait_for(
        lambda: any("integrated into the map now" in line for line in early.log), "a line that says so"
    )
    first, last = (line for line in early.log if "integrated" in line)
    assert "[INFO]" in first and "Waiting for TF, as usual at the start" in first
    assert "[INFO]" in last and last.endswith(f"in frame '{early.map_frame}'")


def test_without_tf_it_says_so_and_lives(empty: Mapper) -> None:
    def send() -> None:
        empty.publish_features({"car": CAR}, time.time_ns(), frame="nowhere")

    status = empty.status(lambda s: s.level == DiagnosticStatus.ERROR and "nowhere" in s.message, send)
    assert "Publish a transform" in status.message or "Check" in status.message
    assert "set map_frame to odom" in status.message
    assert int(values_of(status)["refused"]) > 0
    empty.drive({"car": CAR})
    assert empty.ask("car").status == Answer.OK
    empty.status(lambda s: s.level == DiagnosticStatus.OK)


def test_stale_tf_is_refused(empty: Mapper) -> None:
    now = time.time_ns()
    empty.publish_pose(now, frame="stale_lidar")

    def send() -> None:
        empty.publish_pose(now, frame="stale_lidar")
        empty.publish_features({"car": CAR}, now + 60 * 10**9, frame="stale_lidar")

    status = empty.status(lambda s: s.level == DiagnosticStatus.ERROR and "stale_lidar" in s.message, send)
    assert "newer" in status.message or "extrapolation" in status.message


def test_the_map_survives_a_swapped_network(empty: Mapper) -> None:
    empty.drive({"car": CAR})
    other = Basis(2 * np.eye(4, dtype=np.float32), IDENTITY, 10.0)
    empty.publish_basis(other)

    def send() -> None:
        stamp = time.time_ns()
        empty.publish_pose(stamp)
        empty.publish_features({"tree": TREE}, stamp, other)

    status = empty.status(lambda s: int(values_of(s)["voxels"]) == len(TREE) + len(CAR), send)
    assert values_of(status)["lost to another network"] == "0.0 %"
    assert empty.ask("car").status == empty.ask("tree").status == Answer.OK
    assert empty.clear().success
    empty.publish_basis()


def test_features_of_another_encoder_are_refused_until_cleared(empty: Mapper) -> None:
    empty.publish_basis()
    empty.drive({"car": CAR})
    other = Basis(2 * np.eye(4, dtype=np.float32), EncoderIdentity("other", "test", 4), 10.0)
    empty.publish_basis(other)

    def send() -> None:
        stamp = time.time_ns()
        empty.publish_pose(stamp)
        empty.publish_features({"tree": TREE}, stamp, other)

    status = empty.status(lambda s: s.level == DiagnosticStatus.ERROR and "other/test/4" in s.message, send)
    assert "start a new map" in status.message
    assert empty.ask("tree").status == Answer.NOTHING_FOUND
    assert empty.clear().message == f"Forgot {len(CAR)} voxels"
    empty.status(lambda s: int(values_of(s)["voxels"]) == len(TREE), send)
    assert empty.ask("tree").status == Answer.IDENTITY_MISMATCH
    assert empty.clear().success
    empty.publish_basis()


def test_features_before_their_basis_wait(mapper_named: Callable[..., Mapper]) -> None:
    mapper = mapper_named("map_early")

    def send() -> None:
        stamp = time.time_ns()
        mapper.publish_pose(stamp)
        mapper.publish_features({"car": CAR}, stamp)

    status = mapper.status(lambda s: "without their basis" in s.message, send)
    assert status.level == DiagnosticStatus.WARN
    mapper.publish_basis()
    mapper.status(lambda s: int(values_of(s)["voxels"]) == len(CAR), send)
    mapper.status(lambda s: "basis" not in s.message)


def test_words_of_another_encoder(mapper_named: Callable[..., Mapper], tmp_path: Path) -> None:
    TextBank(WORDS, np.eye(4, dtype=np.float32), EncoderIdentity("other", "test", 4)).save(tmp_path / "other.npz")
    mapper = mapper_named("map_other", text=str(tmp_path / "other.npz"))
    mapper.publish_basis()
    mapper.drive({"car": CAR})
    answer = mapper.ask("car")
    assert answer.status == Answer.IDENTITY_MISMATCH
    assert "tiny/test/4" in answer.message and "other/test/4" in answer.message


def test_without_words_it_maps_and_says_what_is_wrong(mapper_named: Callable[..., Mapper]) -> None:
    mapper = mapper_named("map_mute", text="/nowhere/bank.npz")
    status = mapper.status(lambda s: s.level == DiagnosticStatus.ERROR)
    assert "/nowhere/bank.npz" in status.message
    mapper.publish_basis()
    mapper.drive({"car": CAR})
    answer = mapper.ask("car")
    assert answer.status == Answer.UNKNOWN_WORD and "text" in answer.message


def test_bound_and_age(mapper_named: Callable[..., Mapper]) -> None:
    mapper = mapper_named("map_small", max_voxels="1000", max_age="3600.0")
    mapper.publish_basis()
    for x in (0.0, 50.0, 100.0):
        status = mapper.drive({"car": CAR[:600]}, x)
    values = values_of(status)
    assert int(values["voxels"]) <= 1000 and int(values["evicted"]) >= 200
    assert any(match.centroid.x > 90 for match in mapper.ask("car").matches), "the newest is kept"


def test_diagnostics_tell_how_it_fares(empty: Mapper) -> None:
    empty.drive({"car": CAR})
    empty.ask("car")
    values = values_of(empty.status(lambda s: "query [ms]" in values_of(s)))
    for key in (
        "received",
        "integrated",
        "dropped",
        "refused",
        "voxels",
        "memory [MB]",
        "integrate [ms]",
        "last error",
    ):
        assert key in values
    assert float(values["integrate [ms]"]) > 0
    assert values["encoder"] == "tiny/test/4"
    assert abs(float(values["TF age [s]"])) < 3600
