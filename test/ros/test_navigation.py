"""What Nav2 takes from nodes in processes of their own: mask and filter info, approach poses, the filtered cloud."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from map_harness import VOXEL, Mapper, block
from nav2_msgs.msg import CostmapFilterInfo
from nav_msgs.msg import OccupancyGrid
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_harness import Inbox, Probe, transform_stamped, values_of
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage

from ov3d_msgs.srv import ApproachPose
from ov3d_perception.bags.pointcloud2 import structured, vocabulary_id
from ov3d_perception.ros import messages, qos

pytestmark = pytest.mark.live

#: As KeepoutFilter subscribes to its mask and info.
NAV2 = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
ROAD = block((-4.0, -4.0, -0.2), (50, 40, 1))  # x from -4 to 6, y from -4 to 4
CAR = block((2.0, 0.0, 0.0), (10, 5, 7))  # x from 2 to 4, y from 0 to 1, 1.4 m high
TREE = block((-3.0, 2.0, 0.0), (2, 2, 12))
STREET = {"road": ROAD, "car": CAR, "tree": TREE}


def set_parameter(probe: Probe, node: str, name: str, value: Any) -> None:
    if isinstance(value, list):
        content = ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=value)
    else:
        content = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
    request = SetParameters.Request(parameters=[Parameter(name=name, value=content)])
    (result,) = probe.call(SetParameters, f"/{node}/set_parameters", request).results
    assert result.successful, result.reason


def cell(grid: OccupancyGrid, x: float, y: float) -> int:
    """Value at a place of the map, as nav2's Costmap2D::worldToMap finds it."""
    column = math.floor((x - grid.info.origin.position.x) / grid.info.resolution)
    row = math.floor((y - grid.info.origin.position.y) / grid.info.resolution)
    assert 0 <= column < grid.info.width and 0 <= row < grid.info.height
    return grid.data[row * grid.info.width + column]


@pytest.fixture(scope="module")
def mapper(mapper_named: Callable[..., Mapper]) -> Mapper:
    return mapper_named(
        "map_nav",
        costs="['car: 100', 'road: 30']",
        mask_period="0.2",
        robot_frame="map_nav_robot",
        stand_off="1.0",
        mask_cell="0.0",
    )


@pytest.fixture
def street(mapper: Mapper) -> Mapper:
    """The street mapped, the costs those of the start."""
    mapper.publish_basis()
    mapper.clear()
    set_parameter(mapper.probe, mapper.name, "costs", ["car: 100", "road: 30"])
    mapper.drive(STREET)
    return mapper


def late_mask(mapper: Mapper, wanted: Callable[[OccupancyGrid], bool] = lambda _: True) -> OccupancyGrid:
    with mapper.probe.listening(OccupancyGrid, f"/{mapper.name}/output/costmap_filter_mask", NAV2) as inbox:
        return inbox.wait(wanted)


def test_who_comes_late_gets_mask_and_info(street: Mapper) -> None:
    street.status(lambda s: "costmap filter [ms]" in values_of(s))
    grid = late_mask(street, lambda g: g.info.width == 50 and max(g.data) == 100)
    with street.probe.listening(CostmapFilterInfo, f"/{street.name}/output/costmap_filter_info", NAV2) as inbox:
        info = inbox.wait()
    assert (info.type, info.base, info.multiplier) == (0, 0.0, 1.0)
    assert info.filter_mask_topic == f"/{street.name}/output/costmap_filter_mask"
    assert info.header.frame_id == grid.header.frame_id == street.map_frame
    assert grid.header.stamp.sec > 1e9
    assert (grid.info.width, grid.info.height) == (50, 40)
    assert grid.info.resolution == pytest.approx(VOXEL)
    origin = grid.info.origin
    np.testing.assert_allclose([origin.position.x, origin.position.y, origin.position.z], [-4, -4, 0], atol=1e-6)
    assert (origin.orientation.z, origin.orientation.w) == (0.0, 1.0)
    values = np.array(grid.data).reshape(40, 50)
    expected = np.full((40, 50), 30)
    expected[20:25, 30:40] = 100
    np.testing.assert_array_equal(values, expected)


def test_the_mask_has_the_costmaps_cells(mapper_named: Callable[..., Mapper]) -> None:
    """Nav2's KeepoutFilter renews as many cells of the costmap as the mask has, from the costmap's corner."""
    mapper = mapper_named("map_cells", costs="['car: 100', 'road: 30']", mask_period="0.2", mask_size="12.0")
    mapper.publish_basis()
    mapper.drive(STREET)
    grid = late_mask(mapper, lambda g: cell(g, 3.0, 0.5) == 100)
    assert grid.info.resolution == pytest.approx(0.05)
    assert (grid.info.width, grid.info.height) == (240, 240)
    assert [cell(grid, x, 0.97) for x in (1.99, 2.01, 3.99, 4.01)] == [30, 100, 100, 30]
    assert cell(grid, 7.0, 7.0) == -1


def test_the_mask_grows_with_the_map(street: Mapper) -> None:
    late_mask(street, lambda g: g.info.width == 50)
    street.drive({"road": ROAD, "car": CAR}, x=10.0)
    grown = [100, 30, 100, 30]
    grid = late_mask(street, lambda g: g.info.width == 100 and [cell(g, x, 0.5) for x in (3, 5, 13, 15)] == grown)
    assert grid.info.origin.position.x == pytest.approx(-4.0)


def test_other_costs_from_now_on(street: Mapper) -> None:
    late_mask(street, lambda g: cell(g, 3.0, 0.5) == 100)
    set_parameter(street.probe, street.name, "costs", ["tree: 60"])
    grid = late_mask(street, lambda g: cell(g, -2.9, 2.1) == 60)
    assert cell(grid, 3.0, 0.5) == -1, "an obstacle that costs nothing is not declared free"
    assert cell(grid, 5.0, 3.0) == 0
    set_parameter(street.probe, street.name, "costs", [""])
    grid = late_mask(street, lambda g: cell(g, -2.9, 2.1) == -1)
    assert max(grid.data) == 0


def test_wrong_costs_are_told_and_the_others_hold(street: Mapper) -> None:
    set_parameter(street.probe, street.name, "costs", ["zebra: 50", "road", "car: 40"])
    grid = late_mask(street, lambda g: cell(g, 3.0, 0.5) == 40)
    assert cell(grid, 5.0, 3.0) == 0
    status = street.status(lambda s: s.level == DiagnosticStatus.ERROR and "zebra" in s.message)
    assert "'road' is no cost" in status.message and "giraffe" in status.message, "the remedy"
    set_parameter(street.probe, street.name, "costs", ["car: 40"])
    street.status(lambda s: s.level == DiagnosticStatus.OK)


def test_a_cleared_map_clears_the_mask(street: Mapper) -> None:
    late_mask(street, lambda g: cell(g, 3.0, 0.5) == 100)
    street.clear()
    grid = late_mask(street, lambda g: set(g.data) == {-1})
    assert (grid.info.width, grid.info.height, grid.header.frame_id) == (50, 40, street.map_frame)


def approach(mapper: Mapper, *words: str, **request: Any) -> ApproachPose.Response:
    return mapper.probe.call(
        ApproachPose, f"/{mapper.name}/approach", ApproachPose.Request(words=list(words), **request)
    )


def heading(answer: ApproachPose.Response) -> tuple[float, float]:
    z, w = answer.pose.pose.orientation.z, answer.pose.pose.orientation.w
    return math.cos(2 * math.atan2(z, w)), math.sin(2 * math.atan2(z, w))


def test_a_pose_in_front_of_the_car(street: Mapper) -> None:
    """The robot stands at the left; TF tells where."""
    street.publish_pose(time.time_ns(), x=-2.0, frame="map_nav_robot")
    street.probe.until(
        lambda: street.publish_pose(time.time_ns(), x=-2.0, frame="map_nav_robot"),
        inbox := _Answers(lambda: approach(street, "car")),
        lambda answer: "unknown" not in answer.message,
    )
    answer = inbox.last
    assert answer.status == ApproachPose.Response.OK, answer.message
    assert answer.pose.header.frame_id == street.map_frame
    assert answer.match.word == "car" and answer.match.count == len(CAR)
    position = answer.pose.pose.position
    mask = late_mask(street, lambda g: cell(g, 3.0, 0.5) == 100)
    assert cell(mask, position.x, position.y) == 30, "on the road"
    assert position.x < 1.2 and abs(position.y) < 1.5, "on the robot's side"
    gap = np.linalg.norm(CAR[:, :2] - [position.x, position.y], axis=1).min()
    assert 1.0 - 1e-3 <= gap <= 2.0
    assert heading(answer)[0] > 0.9
    assert position.z == pytest.approx(-0.1, abs=1e-3)


class _Answers(Inbox):
    """Asks whenever it is looked into."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        super().__init__("answers")
        self._ask = ask
        self.last: Any = None

    def find(self, wanted: Callable[[Any], bool], timeout_s: float) -> Any | None:
        self.last = self._ask()
        return self.last if wanted(self.last) else None


def test_poses_that_cannot_be_and_questions_that_make_no_sense(street: Mapper) -> None:
    Answer = ApproachPose.Response
    far = approach(street, "car", stand_off=20.0)
    assert far.status == Answer.NO_FREE_POSE and "20.0 to 21.0 m" in far.message
    assert far.match.word == "car"
    wide = approach(street, "car", robot_radius=3.5)
    assert wide.status == Answer.NO_FREE_POSE and "3.50 m" in wide.message
    assert approach(street, "giraffe").status == Answer.NOTHING_FOUND
    assert approach(street, "zebra").status == Answer.UNKNOWN_WORD
    assert approach(street).status == Answer.BAD_REQUEST
    assert approach(street, "car", stand_off=-1.0).status == Answer.BAD_REQUEST
    assert approach(street, "car", robot_radius=float("nan")).status == Answer.BAD_REQUEST
    street.clear()
    assert approach(street, "car").status == Answer.NO_MAP


def test_without_the_robot_in_tf_there_is_a_pose_and_a_warning(mapper_named: Callable[..., Mapper]) -> None:
    mapper = mapper_named("map_lost", robot_frame="nobody")
    mapper.publish_basis()
    mapper.drive(STREET)
    answer = approach(mapper, "car")
    assert answer.status == ApproachPose.Response.OK
    assert "'nobody' is not connected" in answer.message
    status = mapper.status(lambda s: "nobody" in s.message, lambda: mapper.send(STREET))  # else "No features" hides it
    assert status.level == DiagnosticStatus.WARN and "robot_frame" in status.message


NAMES = ("car", "driveable_surface", "vegetation")
#: Where words alone are looked at; the clouds' frame is upright by itself.
ANY_HEIGHT = {"min_height": "-100.0", "min_height_of_ground": "-100.0", "base_frame": "roof_lidar"}


class Filter:
    """lidar_node's side of a cloud_filter_node, and Nav2's."""

    def __init__(self, probe: Probe, diagnostics: Inbox, name: str) -> None:
        self.probe, self.name, self._diagnostics = probe, name, diagnostics
        self._points = probe.node.create_publisher(PointCloud2, f"/{name}/input/labelled", qos.OUTPUT)
        self._labels = probe.node.create_publisher(messages.LabelInfo, f"/{name}/input/label_info", qos.LATCHED)

    def close(self) -> None:
        for publisher in (self._points, self._labels):
            self.probe.node.destroy_publisher(publisher)

    def name_classes(self, *names: str) -> None:
        self._labels.publish(messages.label_info(names or NAMES, 0.0, time.time_ns()))

    def publish(self, cloud: PointCloud2) -> None:
        self._points.publish(cloud)

    def passed(self, cloud: PointCloud2) -> PointCloud2:
        with self.probe.listening(PointCloud2, f"/{self.name}/output/points", qos.SENSOR) as inbox:
            return self.probe.until(
                lambda: self.publish(cloud), inbox, lambda got: got.header.stamp == cloud.header.stamp
            )

    def status(self, wanted: Callable[[DiagnosticStatus], bool], act: Callable[[], Any] = lambda: None) -> Any:
        def own(report: Any) -> list[DiagnosticStatus]:
            return [s for s in report.status if s.name.startswith(f"{self.name}:") and wanted(s)]

        self._diagnostics.clear()
        return own(self.probe.until(act, self._diagnostics, lambda report: bool(own(report))))[0]


def labelled_cloud(stamp: int | None = None, names: Sequence[str] = ()) -> PointCloud2:
    """names: the words that it says it was labelled in; none: it does not say."""
    label = np.array([0, 1, 2, 65535, 0, 1], np.uint16)
    columns = {
        "x": np.arange(6, dtype=np.float32),
        "y": np.zeros(6, np.float32),
        "z": np.full(6, 7.5, np.float32),
        "label": label,
        **({"vocabulary": np.full(6, vocabulary_id(names), np.uint16)} if names else {}),
        "probability": np.array([0.9, 0.9, 0.9, 0.1, 0.3, 0.3], np.float32),
        "rgb": np.arange(6, dtype=np.float32),
    }
    return messages.point_cloud(columns, stamp or time.time_ns(), "roof_lidar")


@pytest.fixture(scope="module")
def filter_named(start_node: Callable[..., Any], probe: Probe, diagnostics: Inbox) -> Iterator[Callable[..., Filter]]:
    with contextlib.ExitStack() as stack:

        def make(name: str, **parameters: str) -> Filter:
            made = Filter(probe, diagnostics, name)
            stack.callback(made.close)
            start_node("ov3d_perception.ros.cloud_filter_node", name, {"diagnostics_period": "0.1"} | parameters)
            return made

        yield make


@pytest.fixture(scope="module")
def cloud_filter(filter_named: Callable[..., Filter]) -> Filter:
    made = filter_named("filter_main", **ANY_HEIGHT)
    made.name_classes()
    return made


@pytest.mark.parametrize(
    ("keep", "drop", "least", "rows"),
    [
        ([""], [""], 0.0, [0, 1, 2, 3, 4, 5]),
        (["car"], [""], 0.0, [0, 4]),
        ([""], ["driveable surface"], 0.0, [0, 2, 3, 4]),
        (["Car", "vegetation"], ["car"], 0.0, [2]),
        (["car"], [""], 0.5, [0]),
        ([""], ["driveable_surface"], 0.5, [0, 2, 3, 4, 5]),
        (["unicorn"], [""], 0.0, []),
        ([""], ["ground"], 0.0, [0, 2, 3, 4]),
    ],
)
def test_chosen_points_keep_stamp_frame_and_bytes(
    cloud_filter: Filter, keep: list[str], drop: list[str], least: float, rows: list[int]
) -> None:
    for name, value in (("keep", keep), ("drop", drop), ("min_probability", least)):
        set_parameter(cloud_filter.probe, cloud_filter.name, name, value)
    cloud = labelled_cloud()
    passed = cloud_filter.passed(cloud)
    assert (passed.header.stamp, passed.header.frame_id) == (cloud.header.stamp, "roof_lidar")
    assert (passed.fields, passed.point_step, passed.height) == (cloud.fields, cloud.point_step, 1)
    assert (passed.width, passed.row_step) == (len(rows), len(rows) * cloud.point_step)
    points = np.frombuffer(cloud.data, f"V{cloud.point_step}")  # with the bytes between the fields
    assert passed.data.tobytes() == points[rows].tobytes()


def test_a_cloud_that_fails_in_a_way_nobody_foresaw_does_not_end_the_node(cloud_filter: Filter) -> None:
    """Nav2 would go on without obstacles. Here: vocabularies that are numbers, and not finite."""
    columns = {axis: np.ones(3, np.float32) for axis in "xyz"}
    columns |= {"label": np.zeros(3, np.uint16), "probability": np.ones(3, np.float32)}
    strange = messages.point_cloud({**columns, "vocabulary": np.full(3, np.nan, np.float32)}, 1, "roof_lidar")
    failed = cloud_filter.status(
        lambda s: int(values_of(s).get("failures", 0)) > 0, lambda: cloud_filter.publish(strange)
    )
    assert failed.level == DiagnosticStatus.ERROR
    set_parameter(cloud_filter.probe, cloud_filter.name, "keep", [""])
    assert cloud_filter.passed(labelled_cloud()).width > 0


def test_words_that_are_no_classes_are_told(cloud_filter: Filter) -> None:
    set_parameter(cloud_filter.probe, cloud_filter.name, "keep", ["car", "unicorn"])
    status = cloud_filter.status(lambda s: "unicorn" in s.message, lambda: cloud_filter.publish(labelled_cloud()))
    assert status.level == DiagnosticStatus.WARN and "vegetation" in status.message
    set_parameter(cloud_filter.probe, cloud_filter.name, "keep", ["car"])
    cloud_filter.status(lambda s: s.level == DiagnosticStatus.OK, lambda: cloud_filter.publish(labelled_cloud()))


def test_a_word_to_drop_that_the_new_vocabulary_lacks_stops_the_output(filter_named: Callable[..., Filter]) -> None:
    """What it was to leave out would pass as an obstacle. Words are looked up again when they change."""
    changing = filter_named("filter_words", drop="[driveable_surface]", **ANY_HEIGHT)
    changing.name_classes()
    assert changing.passed(labelled_cloud()).width == 4
    changing.name_classes("car", "road", "tree")
    status = changing.status(
        lambda s: s.level == DiagnosticStatus.ERROR and int(values_of(s)["refused"]) > 0,
        lambda: changing.publish(labelled_cloud()),
    )
    assert "driveable_surface" in status.message and "road" in status.message
    assert "Nothing is passed on" in status.message
    set_parameter(changing.probe, changing.name, "drop", ["ground"])
    assert changing.passed(labelled_cloud()).width == 4
    changing.status(lambda s: s.level == DiagnosticStatus.OK, lambda: changing.publish(labelled_cloud()))


def test_a_cloud_is_filtered_in_the_words_it_was_labelled_in(filter_named: Callable[..., Filter]) -> None:
    """Scans on their way while words change: label 0 is a car, then road. Of six points, 0 and 4 have it; 1 and 5 have
    label 1."""
    racing = filter_named("filter_race", drop="[car]", **ANY_HEIGHT)
    before, after, unheard = ("car", "road", "tree"), ("road", "car"), ("road", "car", "tree")
    racing.name_classes(*before)
    assert racing.passed(labelled_cloud(names=before)).width == 4
    racing.name_classes(*after)
    two, one = (structured(racing.passed(labelled_cloud(names=names)))["x"].tolist() for names in (after, before))
    assert (two, one) == ([0, 2, 3, 4], [1, 2, 3, 5])
    status = racing.status(lambda s: "other words" in s.message, lambda: racing.publish(labelled_cloud(names=unheard)))
    assert status.level == DiagnosticStatus.WARN and int(values_of(status)["refused"]) > 0
    with racing.probe.listening(PointCloud2, f"/{racing.name}/output/points", qos.SENSOR) as inbox:
        last = labelled_cloud(names=after)
        passed: list[PointCloud2] = []

        def send() -> None:
            racing.publish(labelled_cloud(names=unheard))
            racing.publish(last)

        racing.probe.until(send, inbox, lambda got: passed.append(got) or got.header.stamp == last.header.stamp)
    assert {got.header.stamp.nanosec for got in passed} == {last.header.stamp.nanosec}
    racing.name_classes(*unheard)
    assert racing.passed(labelled_cloud(names=unheard)).width == 4


def ground_and_post(hangs: bool) -> PointCloud2:
    """Road 1.7 m below a LiDAR, and a post of 1 m on it; ``hangs``: the LiDAR is mounted upside down."""
    x, y = np.meshgrid(np.arange(-5.0, 5.0, 0.2), np.arange(-5.0, 5.0, 0.2))
    road = np.stack([x.ravel(), y.ravel(), np.full(x.size, -1.7)], 1)
    post = np.stack([np.full(5, 2.0), np.full(5, 1.0), -1.7 + np.arange(0.2, 1.2, 0.2)], 1)
    xyz = np.concatenate([road, post]) * ([1, -1, -1] if hangs else [1, 1, 1])
    columns = {axis: xyz[:, i].astype(np.float32) for i, axis in enumerate("xyz")}
    columns |= {"label": np.repeat([1, 0], [len(road), 5]).astype(np.uint16)}
    columns |= {"probability": np.full(len(xyz), 0.9, np.float32), "rgb": np.zeros(len(xyz), np.float32)}
    return messages.point_cloud(columns, time.time_ns(), "hanging_lidar" if hangs else "upright_lidar")


def test_what_stands_above_the_ground_passes_also_of_a_lidar_that_hangs(filter_named: Callable[..., Filter]) -> None:
    standing = filter_named("filter_height", base_frame="upright_lidar")
    standing.name_classes()
    assert standing.passed(ground_and_post(hangs=False)).width == 5
    hanging = ground_and_post(hangs=True)
    status = standing.status(lambda s: "hanging_lidar" in s.message, lambda: standing.publish(hanging))
    assert status.level == DiagnosticStatus.WARN and "as it came" in values_of(status)["upright"]
    publisher = standing.probe.node.create_publisher(TFMessage, "/tf_static", qos.TF_STATIC)
    T = np.diag([1.0, -1.0, -1.0, 1.0])
    publisher.publish(TFMessage(transforms=[transform_stamped("upright_lidar", "hanging_lidar", 1, T)]))
    standing.status(lambda s: "180.0 degrees" in values_of(s)["upright"], lambda: standing.publish(hanging))
    assert standing.passed(ground_and_post(hangs=True)).width == 5
    standing.probe.node.destroy_publisher(publisher)


def test_a_cloud_without_labels_is_refused_and_the_node_lives(cloud_filter: Filter) -> None:
    bare = messages.point_cloud({axis: np.ones(3, np.float32) for axis in "xyz"}, time.time_ns(), "roof_lidar")
    status = cloud_filter.status(lambda s: s.level == DiagnosticStatus.ERROR, lambda: cloud_filter.publish(bare))
    assert "label" in status.message
    assert cloud_filter.passed(labelled_cloud()).header.frame_id == "roof_lidar"


def test_clouds_before_their_classes_wait(filter_named: Callable[..., Filter]) -> None:
    early = filter_named("filter_early", keep="[car]", **ANY_HEIGHT)
    status = early.status(lambda s: "names" in s.message, lambda: early.publish(labelled_cloud()))
    assert status.level == DiagnosticStatus.WARN
    early.name_classes()
    assert early.passed(labelled_cloud()).width == 2


def test_silence_is_told(filter_named: Callable[..., Filter]) -> None:
    quiet = filter_named("filter_quiet", stale_after="0.1")
    status = quiet.status(lambda s: s.level == DiagnosticStatus.STALE)
    assert "/filter_quiet/input/labelled" in status.message
