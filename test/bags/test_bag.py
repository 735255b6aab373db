"""Writing and reading whole bags, with rosbags itself as the oracle of the format; and broken ones."""

from __future__ import annotations

import resource
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import yaml
from real_data import data_dir
from rosbags.convert.cli import main as rosbags_convert
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from ov3d_perception.bags import messages
from ov3d_perception.bags.info import info
from ov3d_perception.bags.pointcloud2 import decode
from ov3d_perception.bags.reader import BagMessage, open_bag
from ov3d_perception.bags.salvage import repair, salvage
from ov3d_perception.bags.typestore import learn, typestore
from ov3d_perception.bags.writer import LATCHED, BagWriter, whole_bag
from ov3d_perception.errors import BagError, DamagedBagError, TransformError, WriteError

S = 1_000_000_000


def storage(path: Path) -> Path:
    return path / f"{path.name}.mcap"


def truncate(path: Path, fraction: float) -> None:
    """As a killed recorder or a broken copy leaves it: no metadata.yaml, the end missing."""
    (path / "metadata.yaml").unlink()
    data = storage(path).read_bytes()
    storage(path).write_bytes(data[: int(len(data) * fraction)])


def test_rosbags_reads_what_we_write(drive: Path) -> None:
    with AnyReader([drive], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
        assert counts == {"/tf_static": 1, "/tf": 20, "/odom": 20, "/points": 20}
        connections = [c for c in reader.connections if c.topic == "/points"]
        stamps = [stamp for _, stamp, _ in reader.messages(connections)]
        assert stamps == [S + index * S // 10 for index in range(20)]
    metadata = yaml.safe_load((drive / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert (metadata["version"], metadata["storage_identifier"]) == (8, "mcap")


def test_we_read_what_we_write(drive: Path) -> None:
    with open_bag(drive) as bag:
        assert (bag.start, bag.end) == (S, S + 19 * S // 10)
        assert bag.duration_s == pytest.approx(1.9)
        clouds = [decode(message.decode()) for message in bag.messages(["/points"])]
        assert [cloud.xyz[0, 0] for cloud in clouds] == list(range(1, 21))
        assert [cloud.stamp for cloud in clouds] == [S + index * S // 10 for index in range(20)]
        assert bag.topics_of("nav_msgs/msg/Odometry") == ["/odom"]
        assert len(list(bag.messages(start=2 * S, stop=2 * S + 1))) == 3


def test_messages_come_in_the_order_of_their_stamps(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for stamp in (5, 3, 4, 1):
            writer.write("/tf", messages.tf_message([]), stamp)
    with open_bag(tmp_path / "bag") as bag:
        assert [message.stamp for message in bag.messages()] == [1, 3, 4, 5]


def test_transforms(drive: Path) -> None:
    with open_bag(drive) as bag:
        tree = bag.transforms()
    np.testing.assert_allclose(tree.lookup("odom", "lidar", S + S // 4)[:3, 3], [0.25, 0, 0], atol=1e-9)


def test_tf_of_two_robots_is_not_mixed(tmp_path: Path) -> None:
    """Both have odom -> base_link, their stamps take turns; the second is 50 m aside."""
    with BagWriter(tmp_path / "bag") as writer:
        for tick in range(20):
            for robot, y, shift in (("r1", 0.0, 0), ("r2", 50.0, S // 20)):
                stamp, T = S + tick * S // 10 + shift, np.eye(4)
                T[:2, 3] = tick / 10 + shift / S, y
                writer.write(f"/{robot}/tf", messages.tf_message([("odom", "base_link", stamp, T)]), stamp)
    with open_bag(tmp_path / "bag") as bag:
        for robot, y in (("r1", 0), ("r2", 50)):
            tree = bag.transforms(f"/{robot}/points")
            np.testing.assert_allclose(tree.lookup("odom", "base_link", 2 * S + 10**7)[:3, 3], [1.01, y, 0], atol=1e-9)
            assert f"Only TF of /{robot}/ is taken" in bag.notes[-1]
        with pytest.raises(TransformError, match=r"TF of /r1/tf, /r2/tf place frame 'base_link', and /points"):
            bag.transforms("/points")


def test_time_that_was_set_back_is_told(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for tick in range(40):
            stamp = S + (tick % 20) * S // 10  # a simulation begins anew
            writer.write("/tf", messages.tf_message([("odom", "base_link", stamp, np.eye(4))]), tick * S // 10)
    with open_bag(tmp_path / "bag") as bag:
        bag.transforms()
        assert bag.notes == [note for note in bag.notes if "'base_link' run back by 1.9 s" in note] != []


def test_a_wrong_bit_in_a_bag_of_ours_is_told(tmp_path: Path) -> None:
    """rosbags writes no checksums; ours are those of the chunks, of which a bag may have several."""
    cloud = messages.point_cloud({axis: np.ones(50_000, np.float32) for axis in "xyz"}, 1, "lidar")
    with BagWriter(tmp_path / "bag") as writer:
        for stamp in range(1, 6):
            writer.write("/points", cloud, stamp)
    file = storage(tmp_path / "bag")
    whole = file.read_bytes()
    for at in (len(whole) // 4, 3 * len(whole) // 4):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        file.write_bytes(damaged)
        with open_bag(tmp_path / "bag") as bag, pytest.raises(DamagedBagError, match="checksum"):
            list(bag.messages())
    file.write_bytes(whole)
    with open_bag(tmp_path / "bag") as bag:
        assert len(list(bag.messages())) == 5


def test_one_storage_file_is_a_bag_too(drive: Path) -> None:
    with open_bag(storage(drive)) as bag:
        assert bag.topics["/points"].count == 20


def test_without_metadata_the_storage_files_are_read(drive: Path) -> None:
    (drive / "metadata.yaml").unlink()
    with open_bag(drive) as bag:
        assert len(list(bag.messages())) == 61


def test_split_bag_without_metadata_is_read_in_order(drive: Path, tmp_path: Path) -> None:
    joined = tmp_path / "joined"
    joined.mkdir()
    for number in (2, 10):
        with BagWriter(tmp_path / f"part_{number}") as writer:
            writer.write("/tf", messages.tf_message([]), number)
        shutil.copy(storage(tmp_path / f"part_{number}"), joined / f"part_{number}.mcap")
    with open_bag(joined) as bag:
        assert [message.stamp for message in bag.messages()] == [2, 10]
        assert (bag.start, bag.end, bag.topics["/tf"].count) == (2, 10, 2)


def test_sqlite_bags_read(tmp_path: Path) -> None:
    store = typestore()
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection("/tf", "tf2_msgs/msg/TFMessage", typestore=store)
        writer.write(connection, 7, store.serialize_cdr(messages.tf_message([]), "tf2_msgs/msg/TFMessage"))
    with open_bag(tmp_path / "bag") as bag:
        assert [message.stamp for message in bag.messages()] == [7]


def test_latched_topics_are_recorded_as_such(drive: Path) -> None:
    with open_bag(drive) as bag:
        assert bag.topics["/tf_static"].qos[0].durability is QosDurability.TRANSIENT_LOCAL
        assert bag.topics["/points"].qos == ()


def test_exception_while_writing_keeps_what_was_written(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), BagWriter(tmp_path / "bag") as writer:
        writer.write("/tf", messages.tf_message([]), 1)
        raise ZeroDivisionError
    with open_bag(tmp_path / "bag") as bag:
        assert bag.topics["/tf"].count == 1


def test_a_bag_made_of_other_data_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with whole_bag(tmp_path / "bag") as writer:
        writer.write("/tf", messages.tf_message([]), 1)
        assert not (tmp_path / "bag").exists()
    with pytest.raises(ZeroDivisionError), whole_bag(tmp_path / "bag", overwrite=True) as writer:
        writer.write("/tf", messages.tf_message([]), 1)
        writer.write("/tf", messages.tf_message([]), 2)
        raise ZeroDivisionError
    assert [entry.name for entry in tmp_path.iterdir()] == ["bag"]
    with open_bag(tmp_path / "bag") as bag:
        assert bag.topics["/tf"].count == 1
    with pytest.raises(BagError, match="exists already"), whole_bag(tmp_path / "bag"):
        pass
    assert sorted(entry.name for entry in (tmp_path / "bag").iterdir()) == ["bag.mcap", "metadata.yaml"]


@pytest.mark.parametrize("write", [BagWriter, whole_bag])
def test_a_full_disk_is_an_error_with_a_remedy(
    write: Callable[[Path], AbstractContextManager[BagWriter]], tmp_path: Path
) -> None:
    limits, former = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    noise = np.random.default_rng(0).integers(0, 256, 2_000_000, np.uint8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with (
            pytest.raises(WriteError, match=rf"^{tmp_path}/bag could not be written.*Free some space"),
            write(tmp_path / "bag") as bag,
        ):
            for stamp in (1, 2):
                bag.write("/image", messages.compressed_image(noise, "jpeg", stamp, "camera"), stamp)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, former)


def test_two_threads_write_one_bag(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:

        def write(topic: str) -> None:
            for stamp in range(100):
                writer.write(topic, messages.tf_message([]), stamp)

        threads = [threading.Thread(target=write, args=(f"/tf{number}",)) for number in range(3)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert writer.counts == {"/tf0": 100, "/tf1": 100, "/tf2": 100}
    with open_bag(tmp_path / "bag") as bag:
        assert len(list(bag.messages())) == 300


def test_existing_folders_are_not_overwritten(drive: Path, tmp_path: Path) -> None:
    with pytest.raises(BagError, match="exists already"):
        BagWriter(drive)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").touch()
    with pytest.raises(BagError, match="exists already"):
        BagWriter(tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "holiday.jpg").exists()
    BagWriter(drive, overwrite=True).close()
    with open_bag(drive) as bag:
        assert not bag.topics


def test_topic_keeps_its_type(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/a", messages.tf_message([]), 1)
        with pytest.raises(BagError, match=r"/a has type tf2_msgs/msg/TFMessage, not std_msgs/msg/Header"):
            writer.write("/a", messages.header(0, ""), 2)
        with pytest.raises(BagError, match="No definition of type no_msgs/msg/Such"):
            writer.add_topic("/b", "no_msgs/msg/Such")


def test_types_stored_in_the_bag_are_learnt(tmp_path: Path) -> None:
    """A type that only the bag defines: ours must decode it from the stored definition."""
    assert learn("test_msgs_ov3d/msg/Pair", "int32 a\nstring b")
    kind = typestore().types["test_msgs_ov3d/msg/Pair"]
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/pair", kind(a=3, b="x"), 1)
    for registry in (typestore().types, typestore().fielddefs, typestore().cache):
        registry.pop("test_msgs_ov3d/msg/Pair")
    with open_bag(tmp_path / "bag") as bag:
        assert bag.topics["/pair"].readable
        pair = next(bag.messages()).decode()
    assert (pair.a, pair.b) == (3, "x")


def test_a_message_that_changed_between_two_bags_is_not_read_by_the_other_definition(tmp_path: Path) -> None:
    """The fields of the second bag are swapped: by the first one's definition x would be y, without an error."""
    name = "test_msgs_ov3d/msg/Changed"
    values = {}
    for bag, fields in (("first", "xy"), ("second", "yx"), ("third", "xy")):
        store = get_typestore(Stores.ROS2_JAZZY)
        store.register(get_types_from_msg("\n".join(f"float32 {field}" for field in fields), name))
        with Writer(tmp_path / bag, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            connection = writer.add_connection("/changed", name, typestore=store)
            writer.write(connection, S, store.serialize_cdr(store.types[name](**{"x": 1.0, "y": 2.0}), name))
        with open_bag(tmp_path / bag) as opened:
            (message,) = opened.messages()
            if bag == "second":
                assert any("another version of its message" in note for note in opened.notes)
                with pytest.raises(BagError, match="has the fields y, x there, and is read as x, y"):
                    message.decode()
            else:
                assert not opened.notes
                values[bag] = message.decode().x
    assert values == {"first": 1.0, "third": 1.0}


@pytest.mark.parametrize("plugin", ["sqlite3", "mcap"])
def test_a_ros1_bag_that_rosbags_converts_has_its_cameras(tmp_path: Path, plugin: str) -> None:
    """The converter copies ROS 1's definition, whose matrices are named D, K, R and P, and we tell users to run it."""
    store = get_typestore(Stores.ROS1_NOETIC)
    kinds = store.types
    stamp = kinds["builtin_interfaces/msg/Time"](100, 5)
    info = kinds["sensor_msgs/msg/CameraInfo"](
        header=kinds["std_msgs/msg/Header"](seq=7, stamp=stamp, frame_id="camera"), height=480, width=640,
        distortion_model="plumb_bob", D=np.arange(5.0), K=np.arange(9.0), R=np.eye(3).ravel(), P=np.arange(12.0),
        binning_x=0, binning_y=0, roi=kinds["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
    )  # fmt: skip
    with Ros1Writer(tmp_path / "drive.bag") as writer:
        connection = writer.add_connection("/camera_info", info.__msgtype__, typestore=store)
        writer.write(connection, S, store.serialize_ros1(info, info.__msgtype__))
    command = ["rosbags-convert", "--src", str(tmp_path / "drive.bag"), "--dst", str(tmp_path / "drive")]
    with patch("sys.argv", [*command, "--dst-storage", plugin]), pytest.raises(SystemExit) as ended:
        rosbags_convert()
    assert ended.value.code == 0
    with open_bag(tmp_path / "drive") as bag:
        assert not bag.notes
        (message,) = bag.messages()
        read = message.decode()
    assert (read.header.frame_id, read.width, read.distortion_model) == ("camera", 640, "plumb_bob")
    for name in "dkrp":
        np.testing.assert_array_equal(getattr(read, name), getattr(info, name.upper()), err_msg=name)


def test_definition_that_does_not_parse_is_not_fatal() -> None:
    assert not learn("test_msgs_ov3d/msg/Broken", "%%%")


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("notes.txt", b"x", "not a storage file"),
        ("a.mcap", b"", "a.mcap cannot be read"),
        ("a.mcap", b"PK\3\4" * 99, "a.mcap cannot be read"),
        ("a.db3", b"PK\3\4" * 99, "a.db3 cannot be read"),
    ],
)
def test_files_that_are_no_bag_say_why(tmp_path: Path, name: str, content: bytes, cause: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BagError, match=cause) as raised:
        open_bag(tmp_path / name)
    assert raised.value.remedy


def test_static_transforms_that_a_tool_made_volatile_are_latched_in_a_repaired_bag(tmp_path: Path) -> None:
    """kappe rewrites recordings so (findings/kappe_static_transforms_are_volatile.sh); TF listeners then get none."""
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic("/tf_static", "tf2_msgs/msg/TFMessage", [LATCHED._replace(durability=QosDurability.VOLATILE)])
        writer.write("/tf_static", messages.tf_message([("base", "lidar", 0, np.eye(4))]), S)
    with open_bag(tmp_path / "bag") as bag:
        assert bag.topics["/tf_static"].qos[0].durability is QosDurability.VOLATILE
    assert repair(tmp_path / "bag", tmp_path / "repaired") == {"/tf_static": 1}
    with open_bag(tmp_path / "repaired") as bag:
        assert bag.topics["/tf_static"].qos[0].durability is QosDurability.TRANSIENT_LOCAL


def test_folders_that_are_no_bag_say_why(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="no bag at"):
        open_bag(tmp_path / "nothing")
    with pytest.raises(BagError, match="holds no bag"):
        open_bag(tmp_path)
    (tmp_path / "metadata.yaml").write_text("{")
    with pytest.raises(BagError, match=r"holds no bag: no \.mcap or \.db3 file"):
        open_bag(tmp_path)


def test_missing_storage_file(drive: Path) -> None:
    storage(drive).unlink()
    with pytest.raises(BagError, match="missing"):
        open_bag(drive)


@pytest.mark.parametrize("fraction", [0.3, 0.7, 0.95, 0.999])
def test_truncated_bag_is_refused_with_the_remedy_and_repaired(drive: Path, fraction: float) -> None:
    truncate(drive, fraction)
    with pytest.raises(BagError, match="ov3d bag repair"):
        open_bag(drive)
    kept = repair(drive, drive.parent / "repaired")
    with open_bag(drive.parent / "repaired") as bag:
        assert {topic.name: topic.count for topic in bag.topics.values()} == kept
        clouds = [decode(message.decode()) for message in bag.messages(["/points"])]
    assert [cloud.xyz[0, 0] for cloud in clouds] == list(range(1, len(clouds) + 1)), "a prefix, whole and in order"
    assert len(clouds) >= int(20 * fraction) - 1


@pytest.mark.parametrize("begun", [b"", b"\x89MCAP"])
def test_repair_keeps_the_whole_parts_beside_one_that_was_just_begun(drive: Path, begun: bytes) -> None:
    """The recorder was killed right after a split."""
    (drive / "metadata.yaml").unlink()
    (drive / f"{drive.name}_1.mcap").write_bytes(begun)
    assert "ov3d bag repair" in info(drive).damage
    assert repair(drive, drive.parent / "repaired") == {"/tf_static": 1, "/tf": 20, "/odom": 20, "/points": 20}


def test_info_of_a_truncated_bag_counts_what_is_readable(drive: Path) -> None:
    truncate(drive, 0.7)
    summary = info(drive)
    found = list(salvage(drive))
    assert sum(topic.count for topic in summary.topics) == len(found) > 30
    assert "DAMAGED" in str(summary) and "ov3d bag repair" in str(summary)


def test_flipped_bytes_in_a_chunk(drive: Path) -> None:
    """Damage that only reading finds: it is reported as such, not as some library's exception."""
    data = bytearray(storage(drive).read_bytes())
    at = data.index(b"\x05", len(data) // 2)
    data[at : at + 64] = b"\xff" * 64
    storage(drive).write_bytes(bytes(data))
    with open_bag(drive) as bag, pytest.raises(BagError, match="cannot be read"):
        for message in bag.messages():
            message.decode()


def test_info_of_a_good_bag(drive: Path) -> None:
    text = str(info(drive))
    assert "1.90 s, 61 messages" in text and "10.0 Hz  sensor_msgs/msg/PointCloud2" in text and "DAMAGED" not in text


def test_receive_stamps_of_zero_are_told(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for stamp in (0, 1_700_000_000 * S):
            bag.write("/tf", messages.tf_message([]), stamp)
    assert "NOTE: the receive stamps span 54 years, from 0 ns" in str(info(tmp_path / "bag"))


def test_unknown_topic_is_named(drive: Path) -> None:
    with open_bag(drive) as bag, pytest.raises(BagError, match=r"no topic /lidar.*/points"):
        list(bag.messages(["/lidar"]))


def test_bytes_that_do_not_fit_their_type() -> None:
    with pytest.raises(BagError, match="A message on /points cannot be read"):
        BagMessage("/points", "sensor_msgs/msg/PointCloud2", 0, b"\0\1\0\0\1\2\3").decode()
    with pytest.raises(BagError, match="No definition of type"):
        BagMessage("/x", "no_msgs/msg/Such", 0, b"").decode()


def test_our_interfaces_are_known() -> None:
    assert "ov3d_msgs/msg/FeatureCloud" in typestore().fielddefs


def test_real_ouster_bag() -> None:
    if (data := data_dir()) is None:
        pytest.skip("no shared test data")
    summary = info(data / "ouster_bag")
    counts = {topic.name: topic.count for topic in summary.topics}
    assert counts["/os1_cloud_node/points"] == 2 and counts["/os1_cloud_node/imu"] == 17
    with open_bag(data / "ouster_bag") as bag:
        assert "os1_lidar" in bag.transforms().frames
