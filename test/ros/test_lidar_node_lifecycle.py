"""lidar_node's states: what it refuses to start with, how it says so, and how it recovers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.parameter import Parameter
from ros_harness import Inbox, Lidar, random_cloud, values_of
from sensor_msgs.msg import PointCloud2
from vision_msgs.msg import LabelInfo

from ov3d_perception.bags.pointcloud2 import structured
from ov3d_perception.ros import qos

pytestmark = pytest.mark.live

NAME = "lidar_states"


class Managed:
    """A lidar_node and the services that a lifecycle manager calls."""

    def __init__(self, lidar: Lidar) -> None:
        self.lidar = lidar

    def change(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.lidar.probe.call(ChangeState, f"/{NAME}/change_state", request).success

    def configure(self) -> bool:
        return self.change(Transition.TRANSITION_CONFIGURE)

    def state(self) -> int:
        return self.lidar.probe.call(GetState, f"/{NAME}/get_state", GetState.Request()).current_state.id

    def set(self, **values: Any) -> list[str]:
        """Set parameters; the reasons of the refused ones."""
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        request = SetParameters.Request(parameters=parameters)
        results = self.lidar.probe.call(SetParameters, f"/{NAME}/set_parameters", request).results
        return [result.reason for result in results if not result.successful]


@pytest.fixture(scope="module")
def process(start_node: Callable[..., Any], tiny_model: Path) -> Any:
    """Started with a damaged checkpoint, as after a broken download, and with a simulated clock that stands still."""
    damaged = tiny_model / "damaged.safetensors"
    content = bytearray((tiny_model / "net.safetensors").read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged.write_bytes(bytes(content))
    parameters = {
        "checkpoint": str(damaged),
        "text": str(tiny_model / "bank.npz"),
        "device": "cpu",
        "diagnostics_period": "0.1",
        "stale_after": "0.5",
        "use_sim_time": "true",
    }
    return start_node("ov3d_perception.ros.lidar_node", NAME, parameters)


@pytest.fixture
def managed(process: Any, lidar_named: Callable[[str], Lidar], tiny_model: Path) -> Iterator[Managed]:
    """Unconfigured, as at the start, and with good values for all parameters but those a test sets."""
    managed = Managed(lidar_named(NAME))
    yield managed
    if managed.state() == State.PRIMARY_STATE_ACTIVE:
        managed.change(Transition.TRANSITION_DEACTIVATE)
    if managed.state() == State.PRIMARY_STATE_INACTIVE:
        managed.change(Transition.TRANSITION_CLEANUP)
    good = {"checkpoint": str(tiny_model / "net.safetensors"), "text": str(tiny_model / "bank.npz")}
    assert not managed.set(**good, vocabulary=[""], device="cpu", min_probability=0.0)


def test_a_damaged_checkpoint_leaves_the_node_alive_and_telling(managed: Managed, process, diagnostics: Inbox) -> None:
    status = managed.lidar.status(diagnostics, lambda s: s.level == DiagnosticStatus.ERROR)
    assert "damaged.safetensors" in status.message and "checksum" in status.message
    assert "again" in status.message, "the remedy"
    assert values_of(status)["state"] == "unconfigured"
    assert process.running
    answer = managed.lidar.set_vocabulary(["car"])
    assert not answer.success and "not configured" in answer.message


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ({"checkpoint": "/nowhere/net.safetensors"}, "There is no checkpoint /nowhere/net.safetensors"),
        ({"text": "{folder}/other_bank.npz"}, "other/test/8"),
        ({"text": "/nowhere/bank.npz"}, "text bank"),
        ({"vocabulary": ["car", "giraffe"]}, "giraffe"),
        ({"device": "cuda:99"}, "cannot run on device 'cuda:99'"),
    ],
)
def test_what_cannot_work_is_refused_in_configure_and_can_be_corrected(
    wrong, cause, managed: Managed, process, diagnostics, tiny_model
) -> None:
    filled = {k: v.format(folder=tiny_model) if isinstance(v, str) else v for k, v in wrong.items()}
    good = {"checkpoint": str(tiny_model / "net.safetensors"), "text": str(tiny_model / "bank.npz")}
    assert not managed.set(**(good | filled))
    assert not managed.configure()
    assert managed.state() == State.PRIMARY_STATE_UNCONFIGURED
    status = managed.lidar.status(diagnostics, lambda s: s.level == DiagnosticStatus.ERROR)
    assert cause in status.message
    assert process.running
    assert not managed.set(**good, vocabulary=[""], device="cpu")
    assert managed.configure()
    status = managed.lidar.status(diagnostics, lambda s: values_of(s)["state"] == "inactive")
    assert status.level == DiagnosticStatus.WARN and "ros2 lifecycle set /lidar_states activate" in status.message
    assert cause in values_of(status)["last error"]


def test_a_managed_life(managed: Managed, diagnostics: Inbox) -> None:
    """configure, activate, work, deactivate (silent), activate (works again), cleanup."""
    lidar = managed.lidar
    scan = random_cloud()
    with lidar.probe.listening(PointCloud2, lidar.labelled) as labelled:
        assert managed.configure()
        assert managed.state() == State.PRIMARY_STATE_INACTIVE
        assert managed.change(Transition.TRANSITION_ACTIVATE)
        lidar.exchange(labelled, scan)
        received = int(values_of(lidar.status(diagnostics))["received"])
        assert managed.change(Transition.TRANSITION_DEACTIVATE)
        labelled.clear()
        inactive = lambda s: values_of(s)["state"] == "inactive"  # noqa: E731
        status = lidar.status(diagnostics, inactive, act=lambda: lidar.publish(scan))
        assert int(values_of(status)["received"]) <= received + 1 and not labelled.messages
        assert managed.change(Transition.TRANSITION_ACTIVATE)
        labelled.clear()
        lidar.exchange(labelled, random_cloud(seed=1))
        assert managed.change(Transition.TRANSITION_DEACTIVATE)
        assert managed.change(Transition.TRANSITION_CLEANUP)
        assert managed.state() == State.PRIMARY_STATE_UNCONFIGURED


def test_only_an_active_node_is_ok(managed: Managed, diagnostics: Inbox) -> None:
    def in_state(name: str) -> DiagnosticStatus:
        return managed.lidar.status(diagnostics, lambda s: values_of(s)["state"] == name)

    status = in_state("unconfigured")
    assert status.level != DiagnosticStatus.OK
    assert managed.configure()
    assert in_state("inactive").level == DiagnosticStatus.WARN
    assert managed.change(Transition.TRANSITION_ACTIVATE)
    managed.lidar.status(diagnostics, lambda s: "lifecycle" not in s.message and "inactive" not in s.message)


def test_a_parameter_that_an_active_node_cannot_change_is_refused_with_the_way(managed: Managed) -> None:
    assert managed.configure() and managed.change(Transition.TRANSITION_ACTIVATE)
    for name, value in (("sweeps", 3), ("checkpoint", "/other.safetensors"), ("fixed_frame", "map"), ("queue", 2)):
        (reason,) = managed.set(**{name: value})
        assert name in reason and "/lidar_states/set_vocabulary" in reason and "cleanup" in reason
    assert not managed.set(sweeps=0, fixed_frame="odom"), "the present values are no change"
    assert managed.change(Transition.TRANSITION_DEACTIVATE) and managed.change(Transition.TRANSITION_CLEANUP)
    assert not managed.set(sweeps=3)
    assert not managed.set(sweeps=0)


def test_words_and_their_least_probability_count_at_once(managed: Managed) -> None:
    assert managed.configure() and managed.change(Transition.TRANSITION_ACTIVATE)
    lidar = managed.lidar
    with (
        lidar.probe.listening(PointCloud2, lidar.labelled) as labelled,
        lidar.probe.listening(LabelInfo, f"/{NAME}/output/label_info", qos.LATCHED) as names,
    ):
        assert not managed.set(vocabulary=["person", "building"])
        info = names.wait(lambda info: [c.class_name for c in info.class_map] == ["person", "building"])
        assert info.threshold == 0.0
        (reason,) = managed.set(vocabulary=["giraffe"])
        assert "giraffe" in reason
        assert not managed.set(min_probability=1.0)
        names.wait(lambda info: info.threshold == 1.0)
        cloud = lidar.exchange(labelled, random_cloud(seed=5))
        assert set(structured(cloud)["label"].tolist()) == {65535}
        assert not managed.set(min_probability=0.0)
        cloud = lidar.exchange(labelled, random_cloud(seed=6))
        labels = set(structured(cloud)["label"].tolist())  # what neither word fits has none
        assert labels & {0, 1} and labels <= {0, 1, 65535}


def test_silence_of_the_sensor_is_stale(managed: Managed, diagnostics: Inbox) -> None:
    assert managed.configure() and managed.change(Transition.TRANSITION_ACTIVATE)
    status = managed.lidar.status(diagnostics, lambda s: s.level == DiagnosticStatus.STALE)
    assert f"/{NAME}/input/points has a publisher that sends nothing" in status.message  # ours, which the test holds


def test_parameters_describe_and_defend_themselves(managed: Managed) -> None:
    names = ["sweeps", "precision", "autostart", "checkpoint"]
    request = DescribeParameters.Request(names=names)
    call = managed.lidar.probe.call
    described = call(DescribeParameters, f"/{NAME}/describe_parameters", request).descriptors
    by_name = {d.name: d for d in described}
    assert all(by_name[name].description for name in names)
    assert (by_name["sweeps"].integer_range[0].from_value, by_name["sweeps"].integer_range[0].to_value) == (0, 20)
    assert by_name["autostart"].read_only
    assert managed.set(sweeps=21) and managed.set(autostart=False)
    assert "one of: auto, int8, bf16, fp32" in managed.set(precision="fp64")[0]
