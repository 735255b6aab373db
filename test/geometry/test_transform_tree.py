"""The frame tree against hand-computed transforms and scipy's slerp."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from ov3d_perception.errors import TransformError
from ov3d_perception.geometry.poses import invert
from ov3d_perception.geometry.transform_tree import TransformTree

S = 1_000_000_000


def shift(x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("z", yaw).as_matrix()
    T[:3, 3] = x, y, z
    return T


def robot() -> TransformTree:
    """odom -> base_link moves 1 m/s along x; lidar 2 m above base_link, camera 0.5 m before the lidar."""
    tree = TransformTree()
    for second in range(5):
        tree.add("odom", "base_link", second * S, shift(x=second))
    tree.add("base_link", "lidar", 0, shift(z=2.0), static=True)
    tree.add("lidar", "camera", 0, shift(x=0.5), static=True)
    return tree


def test_chain_is_interpolated_at_the_stamp() -> None:
    np.testing.assert_allclose(robot().lookup("odom", "camera", int(2.25 * S)), shift(x=2.75, z=2.0), atol=1e-12)


def test_goes_down_as_well_as_up() -> None:
    tree = robot()
    tree.add("base_link", "gripper", 0, shift(y=1.0, yaw=np.pi / 2), static=True)
    # A point 1 m ahead of the camera: base (1.5, 0, 2); from the gripper's origin (1.5, -1, 2), turned by -90 deg.
    p = tree.lookup("gripper", "camera", S) @ [1.0, 0.0, 0.0, 1.0]
    np.testing.assert_allclose(p[:3], [-1.0, -1.5, 2.0], atol=1e-12)


def test_static_frames_need_no_time() -> None:
    np.testing.assert_allclose(robot().lookup("base_link", "camera", 99 * S), shift(x=0.5, z=2.0))


def test_leading_slash_and_same_frame() -> None:
    np.testing.assert_array_equal(robot().lookup("/lidar", "lidar"), np.eye(4))
    np.testing.assert_allclose(robot().lookup("/odom", "/base_link", S), shift(x=1.0))


@given(st.floats(0.0, 1.0), st.floats(-3.0, 3.0), st.floats(-3.0, 3.0))
def test_rotation_is_slerp(fraction: float, yaw: float, pitch: float) -> None:
    ends = Rotation.from_euler("zyx", [[0.3, 0.1, -0.2], [yaw, pitch / 2, 0.5]])
    tree = TransformTree()
    for second in range(2):
        T = np.eye(4)
        T[:3, :3] = ends[second].as_matrix()
        tree.add("a", "b", second * S, T)
    stamp = round(fraction * S)
    expected = Slerp([0, S], ends)(stamp).as_matrix()
    np.testing.assert_allclose(tree.lookup("a", "b", stamp)[:3, :3], expected, atol=1e-9)


@given(st.lists(st.integers(-S // 10, int(4.1 * S)), min_size=1, max_size=8))
def test_many_moments_at_once_are_slerp_on_each_edge(stamps: list[int]) -> None:
    """Up one turning edge and down another, of unequal stamps; a tenth of a second beyond the ends is allowed."""
    tree, rng = TransformTree(), np.random.default_rng(1)
    turns, places, times = {}, {}, {"b": [0, S, 2 * S, 4 * S], "c": [0, 3 * S // 2, 4 * S]}
    for child, at in times.items():
        turns[child], places[child] = Rotation.random(len(at), rng=rng), rng.normal(size=(len(at), 3))
        for stamp, turn, place in zip(at, turns[child], places[child], strict=True):
            T = np.eye(4)
            T[:3, :3], T[:3, 3] = turn.as_matrix(), place
            tree.add("a", child, stamp, T)
    found = tree.lookup_each("c", "b", np.array(stamps), tolerance_ns=S // 10)
    for T_c_b, stamp in zip(found, np.clip(stamps, 0, 4 * S), strict=True):
        T_a = {}
        for child, at in times.items():
            T_a[child] = np.eye(4)
            T_a[child][:3, :3] = Slerp(at, turns[child])(stamp).as_matrix()
            T_a[child][:3, 3] = [np.interp(stamp, at, axis) for axis in places[child].T]
        np.testing.assert_allclose(T_c_b, np.linalg.inv(T_a["c"]) @ T_a["b"], atol=1e-9)


def test_one_of_many_moments_beyond_the_ends_is_told() -> None:
    with pytest.raises(TransformError, match=r"0\.200 s newer than the last of odom <- base_link"):
        robot().lookup_each("odom", "lidar", np.array([0, int(4.2 * S), S]))
    np.testing.assert_array_equal(robot().lookup_each("lidar", "lidar", np.arange(3)), [np.eye(4)] * 3)


def test_where_the_pose_is_known_and_why_it_is_not_elsewhere() -> None:
    stamps = np.array([S, int(4.2 * S), 2 * S])
    known, poses, problems = robot().lookup_known("odom", "lidar", stamps)
    assert known.tolist() == [True, False, True]
    np.testing.assert_array_equal(poses, robot().lookup_each("odom", "lidar", stamps[known]))
    assert len(problems) == 1 and "odom" in problems[0]
    known, poses, problems = robot().lookup_known("odom", "lidar", stamps[known])
    assert known.all() and len(poses) == 2 and not problems
    assert len(robot().lookup_known("odom", "nowhere", stamps)[1]) == 0


@given(st.integers(0, 4 * S))
def test_back_and_forth_is_identity(stamp: int) -> None:
    tree = robot()
    there, back = tree.lookup("odom", "camera", stamp), tree.lookup("camera", "odom", stamp)
    np.testing.assert_allclose(there @ back, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(invert(there), back, atol=1e-12)


@given(st.permutations(range(6)))
def test_order_of_arrival_does_not_matter(order: list[int]) -> None:
    tree = TransformTree()
    for second in order:
        tree.add("odom", "base_link", second * S, shift(x=second**2))
    np.testing.assert_allclose(tree.lookup("odom", "base_link", int(3.5 * S)), shift(x=12.5))


def test_beyond_the_ends_only_within_the_tolerance() -> None:
    tree = robot()
    with pytest.raises(TransformError, match=r"0\.200 s newer than the last of odom <- base_link"):
        tree.lookup("odom", "lidar", int(4.2 * S))
    with pytest.raises(TransformError, match=r"1\.000 s older than the first"):
        tree.lookup("odom", "lidar", -S)
    np.testing.assert_allclose(tree.lookup("odom", "base_link", int(4.2 * S), tolerance_ns=S // 4), shift(x=4.0))


def test_newest_is_that_of_the_slowest_edge() -> None:
    tree = robot()
    tree.add("map", "odom", 3 * S, shift(x=10.0))
    tree.add("map", "odom", 2 * S, shift(x=20.0))
    assert tree.newest("map", "lidar") == 3 * S
    np.testing.assert_allclose(tree.lookup("map", "base_link"), shift(x=13.0))
    assert tree.newest("base_link", "camera") is None


def test_history_is_bounded() -> None:
    tree = TransformTree(history_s=2.0)
    for second in range(10):
        tree.add("odom", "base_link", second * S, shift(x=second))
    np.testing.assert_allclose(tree.lookup("odom", "base_link", 7 * S), shift(x=7.0))
    with pytest.raises(TransformError, match="older"):
        tree.lookup("odom", "base_link", int(6.9 * S))


def test_unknown_frame_names_the_known_ones() -> None:
    with pytest.raises(TransformError, match=r"No frame 'gps'.*base_link, camera, lidar, odom"):
        robot().lookup("odom", "gps", 0)


def test_unconnected_trees() -> None:
    tree = robot()
    tree.add("earth", "map", 0, np.eye(4))
    with pytest.raises(TransformError, match=r"two unconnected trees.*'earth'.*'odom'"):
        tree.lookup("map", "lidar", 0)


def test_loop_is_an_error_not_a_hang() -> None:
    tree = TransformTree()
    tree.add("a", "b", 0, np.eye(4), static=True)
    tree.add("b", "a", 0, np.eye(4), static=True)
    with pytest.raises(TransformError, match="loop"):
        tree.lookup("a", "b", 0)


def test_new_parent_replaces_the_old_one() -> None:
    tree = robot()
    tree.add("hand", "camera", 0, shift(z=9.0), static=True)
    np.testing.assert_allclose(tree.lookup("hand", "camera", 0), shift(z=9.0))
    with pytest.raises(TransformError):
        tree.lookup("lidar", "camera", 0)


@pytest.mark.parametrize("pose", [np.full((4, 4), np.nan), np.eye(3)])
@pytest.mark.usefixtures("shapes_unchecked")
def test_refuses_bad_poses(pose: np.ndarray) -> None:
    with pytest.raises(TransformError, match="not a finite 4x4 pose"):
        TransformTree().add("a", "b", 0, pose)


@pytest.mark.parametrize(("parent", "child"), [("a", "a"), ("", "b"), ("a", "")])
def test_refuses_bad_names(parent: str, child: str) -> None:
    with pytest.raises(TransformError, match="two different"):
        TransformTree().add(parent, child, 0, np.eye(4))


def test_two_parents_at_once_are_named() -> None:
    tree = robot()
    for tick in range(6):
        tree.add("map" if tick % 2 else "odom", "base_link", tick * S, shift(x=tick))
    assert tree.parent_faults == ["Frame 'base_link' has 2 parents at once: 'map' and 'odom'"]
    with pytest.raises(
        TransformError, match=r"'base_link' has 2 parents at once: 'map' and 'odom'.*Stop one of the two"
    ):
        tree.lookup("odom", "camera", 4 * S)
    again = pickle.loads(pickle.dumps(tree))
    assert again.parent_faults == tree.parent_faults


def test_a_frame_may_change_its_parent_once() -> None:
    tree = robot()
    tree.add("map", "base_link", 9 * S, shift(z=9.0))
    assert tree.parent_faults == []


def test_two_static_parents_hold_both() -> None:
    """The robot's model and the camera's driver each place the camera once, latched."""
    tree = robot()
    tree.add("camera_link", "camera", 0, shift(z=9.0), static=True)
    (fault,) = tree.parent_faults
    assert "'camera' has 2 parents at once: '" in fault and "'camera_link' (static)" in fault


def test_static_and_moving_at_once_is_the_same_trouble() -> None:
    tree = TransformTree(history_s=10.0)
    for tick in range(4):
        tree.add("odom", "base_link", tick * S, shift(), static=bool(tick % 2))
    assert tree.parent_faults == ["Frame 'base_link' has 2 parents at once: 'odom' and 'odom' (static)"]
    for tick in range(4, 210):
        tree.add("odom", "base_link", tick * S, shift())
    assert tree.parent_faults == [], "one of the two was stopped"


def test_skipped_transforms_are_counted_by_their_frames() -> None:
    tree = robot()
    for _ in range(2):
        tree.skip("map", "map", "A frame in itself")
    assert tree.skipped == ["2 transforms 'map' <- 'map' skipped: A frame in itself"]


def driven(ticks: Sequence[float], speed: float = 1.0) -> TransformTree:
    """base_link at speed * t in odom, known at these seconds."""
    tree = TransformTree()
    for at in ticks:
        tree.add("odom", "base_link", int(at * S), shift(x=speed * at))
    return tree


def test_a_pause_across_which_a_frame_moved_is_not_interpolated() -> None:
    """10 Hz, nothing from 1 s to 4 s, a second pause from 5 s to 7 s."""
    ticks = [*np.arange(0, 1.05, 0.1), *np.arange(4, 5.05, 0.1), *np.arange(7, 8.05, 0.1)]
    tree = driven(ticks)
    assert tree.lookup("odom", "base_link", int(0.95 * S))[0, 3] == pytest.approx(0.95)
    assert tree.lookup("odom", "base_link", 4 * S)[0, 3] == pytest.approx(4.0), "a pose of the history itself"
    for stamps in ([int(1.5 * S)], [int(0.9 * S), int(1.1 * S)], [int(3.95 * S), int(4.05 * S)]):
        with pytest.raises(TransformError, match=r"odom <- base_link: .* pauses for 3\.0 s and has moved by 3\.0 m"):
            tree.lookup_each("odom", "base_link", np.array(stamps))
        with pytest.raises(TransformError, match="pauses"):
            tree.require_no_gap("odom", "base_link", np.array(stamps))
    tree.require_no_gap("odom", "base_link", np.array([int(0.95 * S), 90 * S]))
    tree.require_no_gap("odom", "elsewhere", np.array([0]))
    (line,) = tree.gaps
    assert line.startswith("'odom' <- 'base_link' has a gap at 1.000 s: it pauses for 3.0 s")
    assert line.endswith("(2 such gaps)")


@pytest.mark.parametrize(
    ("ticks", "speed"),
    [
        ((0, 0.1, 0.2, 5, 5.1), 0.04),  # 0.19 m: it stood
        ((0, 0.1, 0.9, 1.8), 1.0),  # shorter than a second
        ((0, 2, 4, 12, 14), 1.0),  # four of its intervals: a map's correction, now and then
        ((0, 60), 1.0),  # two poses: no interval is usual
    ],
)
def test_what_is_no_gap_is_interpolated(ticks: tuple[float, ...], speed: float) -> None:
    tree = driven(ticks, speed)
    assert tree.gaps == []
    for before, after in pairwise(ticks):
        middle = (before + after) / 2
        assert tree.lookup("odom", "base_link", int(middle * S))[0, 3] == pytest.approx(speed * middle, abs=1e-6)


def test_a_turn_on_the_spot_counts_as_motion() -> None:
    tree = driven([0, 0.1, 0.2])
    for at in (5.0, 5.1):
        T = shift(x=0.2)
        T[:3, :3] = Rotation.from_euler("z", 30, degrees=True).as_matrix()
        tree.add("odom", "base_link", int(at * S), T)
    with pytest.raises(TransformError, match=r"0\.0 m and 30 degrees"):
        tree.lookup("odom", "base_link", 3 * S)


def test_clear_keeps_static_frames() -> None:
    tree = robot()
    tree.clear()
    assert tree.frames == ["base_link", "camera", "lidar"]


def test_filled_and_asked_from_two_threads() -> None:
    tree = TransformTree(history_s=0.01)
    tree.add("odom", "base_link", 0, np.eye(4))
    failures: list[Exception] = []

    def ask() -> None:
        for _ in range(300):
            try:
                T = tree.lookup("odom", "base_link")
                assert T[0, 3] == round(T[0, 3])
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    for millisecond in range(1000):
        tree.add("odom", "base_link", millisecond * 1_000_000, shift(x=millisecond))
    thread.join()
    assert not failures
