"""``lidar_node``: LiDAR scans in, clouds labelled in words and voxel features out. A managed (lifecycle) node.

Topics, parameters and diagnostics are described in ``docs/nodes.md``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import Imu, PointCloud2
from vision_msgs.msg import LabelInfo

from ov3d_msgs.msg import FeatureBasis, FeatureCloud
from ov3d_msgs.srv import SetVocabulary
from ov3d_perception.errors import Ov3dError
from ov3d_perception.geometry.transform_tree import PARENTS_REMEDY
from ov3d_perception.geometry.upright import Gravity
from ov3d_perception.language.vocabulary import Vocabulary, classes_of
from ov3d_perception.language.words import require_list
from ov3d_perception.ros import messages, parameters, qos
from ov3d_perception.ros.bond import ManagerBond
from ov3d_perception.ros.diagnostics import ERROR, STALE, WARN, DiagnosticsPublisher, Health
from ov3d_perception.ros.environment import shared_memory_fault
from ov3d_perception.ros.guard import GuardedCallbacks
from ov3d_perception.ros.lidar_parameters import LidarParameters
from ov3d_perception.ros.lidar_pipeline import Arrived, InForce, LidarPipeline, Output
from ov3d_perception.ros.load_network import initial_vocabulary, load_network
from ov3d_perception.ros.model_swap import ModelSwap
from ov3d_perception.ros.points_input import Points, PointsInput
from ov3d_perception.ros.run import keep_loaded, run
from ov3d_perception.ros.transforms import listen
from ov3d_perception.ros.worker import NewestWorker

if TYPE_CHECKING:
    from ov3d_perception.inference import LiveModel

#: Parameters that count at once; a configured node refuses the others.
AT_ONCE = (
    *("vocabulary", "min_probability", "stale_after", "tf_timeout"),
    *("follow_site", "shadow_every", "min_agreement", "trial_scans"),
)
_TO_UNCONFIGURED = (
    "Deactivate and clean up the node first (ros2 lifecycle set {0} deactivate, cleanup), set it, then configure and "
    "activate it; words can be changed at any time: {0}/set_vocabulary; and the network: {0}/load_checkpoint"
)
_NEXT = {
    "unconfigured": "Next: ros2 lifecycle set {0} configure",
    "inactive": "Next: ros2 lifecycle set {0} activate",
    "finalized": "Start it anew",
}
_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class LidarNode(GuardedCallbacks, LifecycleNode):
    """configure: load and warm up; activate: subscribe and work; deactivate, cleanup: the same backwards.

    A failing configure (checkpoint, words) leaves the node unconfigured and alive, with the cause and the remedy on
    /diagnostics; correct the parameter and configure again.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("lidar_node", **options)
        parameters.declare(self, LidarParameters)
        values = self._values = parameters.read(self, LidarParameters)
        self._health = Health(f"{self.get_name()}: segmentation", self.get_namespace())
        for counter in ("received", "processed", "dropped", "refused", "failures"):
            self._health.count(counter, 0)
        self._transforms = listen(self, values.tf_cache)
        self._frame_id: str | None = None
        self._last_arrival = time.monotonic()
        self._pipeline: LidarPipeline | None = None
        self._worker: NewestWorker[Arrived] | None = None
        self._gravity = Gravity(keep_s=10.0)
        self._bond = ManagerBond(self)
        self._create_interfaces()
        self._swap = ModelSwap(self, self._health, lambda: self._pipeline, self._gravity)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._diagnostics = DiagnosticsPublisher(self, self._health, self._refresh, values.diagnostics_period)
        wall = Clock(clock_type=ClockType.STEADY_TIME)  # a simulated clock may not run yet
        self._autostart = self.create_timer(0.0, self._start, clock=wall) if values.autostart else None

    def _create_interfaces(self) -> None:
        """All of them live as long as the node: rclpy's executor can trip over one that is destroyed while it waits."""
        self._points_output = self.create_lifecycle_publisher(PointCloud2, "~/output/points", qos.OUTPUT)
        self._features_output = self.create_lifecycle_publisher(FeatureCloud, "~/output/features", qos.OUTPUT)
        self._basis_output = self.create_lifecycle_publisher(FeatureBasis, "~/output/basis", qos.LATCHED)
        self._label_output = self.create_lifecycle_publisher(LabelInfo, "~/output/label_info", qos.LATCHED)
        group = MutuallyExclusiveCallbackGroup()
        self._points_input = PointsInput(self, self._on_points, self._refuse)
        self.create_subscription(Imu, "~/input/imu", self._on_imu, qos.SENSOR, callback_group=group)
        self.create_service(SetVocabulary, "~/set_vocabulary", self._on_set_vocabulary)

    # -- lifecycle ---------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load network and words, run the network once."""
        self._values = values = parameters.read(self, LidarParameters)
        try:
            in_force = load_network(values.checkpoint_path, values, self._gravity)
            self._pipeline = self._make_pipeline(in_force)
            self._show(in_force)
        except Exception as error:  # not only Ov3dError: the libraries underneath have errors of their own
            self.get_logger().error(f"Not configured. {self._health.fail('configuration', error)}")
            self._release()
            return _FAILURE
        for condition in ("configuration", "vocabulary", "swap"):
            self._health.clear(condition)
        segmenter = in_force.model.segmenter
        self.get_logger().info(f"Configured: {in_force.path} on {segmenter.device} in {segmenter.precision}")
        self.get_logger().info(f"Scans: {_described(in_force.model)}")
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to work on what the sensor sends."""
        result = super().on_activate(state)
        assert self._pipeline is not None
        self._announce(self._pipeline.in_force)
        # The network runs in a thread of its own: an executor's callback that takes longer than a scan lasts would
        # work through the middleware's queue of old scans. The executor (run.py) has several threads for one reason:
        # a transition or a change of words may take seconds, and TF and diagnostics must not stop for it.
        self._worker = NewestWorker(self._pipeline.process, self._values.queue, "segmentation")
        self._last_arrival = time.monotonic()
        self._bond.form()
        keep_loaded()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Finish the scan at work, let the waiting ones go."""
        self._stop_working()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the network."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything, from whichever state."""
        self._release()
        return super().on_shutdown(state)

    def close(self) -> None:
        """End the worker; call before the node is destroyed."""
        self._stop_working()

    # -- callbacks ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Configure and activate, once, from inside the executor, so that diagnostics are alive meanwhile."""
        assert self._autostart is not None
        self._autostart.cancel()
        if self.trigger_configure() == _SUCCESS:
            self.trigger_activate()

    def _on_points(self, message: Points) -> None:
        worker = self._worker  # may be taken away meanwhile, by a transition in another thread
        if worker is None:
            return
        self._health.count("received")
        self._last_arrival = time.monotonic()
        self._frame_id = message.header.frame_id
        if worker.put(Arrived(message, time.perf_counter())):
            self._health.count("dropped")

    def _on_imu(self, message: Imu) -> None:
        a = message.linear_acceleration
        self._gravity.add(messages.stamp_to_ns(message.header.stamp), (a.x, a.y, a.z), message.header.frame_id)

    def _on_set_vocabulary(
        self, request: SetVocabulary.Request, response: SetVocabulary.Response
    ) -> SetVocabulary.Response:
        start = time.perf_counter()
        try:
            pipeline = self._pipeline
            if pipeline is None:
                raise Ov3dError("The node is not configured", "Configure it, or read /diagnostics for what hinders it")
            response.known_words = sorted(getattr(pipeline.in_force.text, "words", ()))
            changed = pipeline.put_in_force(lambda now: _with_words(now, _requested(request)))
            self._health.clear("vocabulary")
            response.success = True
            response.message = f"Labelling with {len(changed.model.vocabulary.names)} classes"
        except Exception as error:  # not only Ov3dError: a text tower has errors of its own
            response.message = f"The words have not changed: {self._health.fail('vocabulary', error, WARN)}"
            self.get_logger().warning(response.message)
        if self._pipeline is not None:
            response.class_names = list(self._pipeline.in_force.model.vocabulary.names)
        spent = time.perf_counter() - start
        self._health.spent("set vocabulary", spent)
        response.duration = Duration(nanoseconds=int(spent * 1e9)).to_msg()
        return response

    def _on_parameters(self, changed: Sequence[Parameter]) -> SetParametersResult:
        """Apply what can change at once; refuse what a configured node has taken over already."""
        pipeline, own = self._pipeline, {field.name for field in fields(LidarParameters)}
        new = {p.name: p.value for p in changed if p.name in own and p.value != self.get_parameter(p.name).value}
        state = self._state_machine.current_state[1]
        if not new or state == "unconfigured":
            return SetParametersResult(successful=True)
        late = sorted(set(new) - set(AT_ONCE))
        if pipeline is None or late or state not in ("inactive", "active"):
            then = _TO_UNCONFIGURED.format(self.get_fully_qualified_name())
            reason = f"{', '.join(late or new)}: taken over when the node is configured, and it is {state}. {then}"
            return SetParametersResult(successful=False, reason=reason)
        try:
            self._apply(pipeline, new)
        except Exception as error:  # not only Ov3dError: a text tower has errors of its own
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply(self, pipeline: LidarPipeline, new: Mapping[str, Any]) -> None:
        """Let new values of :data:`AT_ONCE` count from the next scan on. Raises as :meth:`Vocabulary.from_words`."""
        changes: dict[str, Any] = {**new}
        if "vocabulary" in changes:
            changes["vocabulary"] = tuple(word for word in changes["vocabulary"] if word)
        values = replace(self._values, **changes)

        def apply(now: InForce) -> InForce:
            model = replace(now.model, min_probability=values.min_probability)
            if "vocabulary" in new:
                model = model.with_words(initial_vocabulary(now.path, values, model.segmenter, now.text))
            return replace(now, model=model, parameters=values)

        pipeline.put_in_force(apply)
        self._values = values
        self._health.clear("vocabulary")

    def _refresh(self) -> None:
        """Bring the diagnostics' values up to date (called by the diagnostics' timer)."""
        health = self._health
        state = self._state_machine.current_state[1]
        health.value("state", state)
        if state == "active":
            health.clear("lifecycle")
        else:
            level = ERROR if state == "finalized" else WARN
            then = _NEXT.get(state, "Wait for the transition to end").format(self.get_fully_qualified_name())
            health.set("lifecycle", level, f"No scan is labelled: the node is {state}. {then}.")
        waited = time.monotonic() - self._last_arrival
        if self._worker is not None and waited > self._values.stale_after:
            causes = [f"No scan for {waited:.1f} s", self._points_input.why_silent(), shared_memory_fault()]
            health.set("input", STALE, " ".join(f"{cause}." for cause in causes if cause))
        else:
            health.clear("input")
        health.value("shared memory", shared_memory_fault() or "enough")
        health.value("TF age [s]", self._tf_age())
        health.value("TF skipped", "; ".join(self._transforms.skipped) or "none")
        if parents := self._transforms.parent_faults:
            health.set("TF parents", WARN, f"{'; '.join(parents)}. {PARENTS_REMEDY}.")
        else:
            health.clear("TF parents")

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _make_pipeline(self, in_force: InForce) -> LidarPipeline:
        points, features = Output(self._points_output), Output(self._features_output)
        return LidarPipeline(in_force, self._transforms, self._health, points, features, self._report, self._announce)

    def _announce(self, in_force: InForce) -> None:
        """To whoever reads labels and features: what they mean from now on. Also from the worker's thread."""
        self._show(in_force)
        if self._label_output.is_activated:
            self._basis_output.publish(messages.basis_to_message(in_force.basis, self._now()))
            names = in_force.model.vocabulary.names
            self._label_output.publish(messages.label_info(names, in_force.parameters.min_probability, self._now()))

    def _show(self, in_force: InForce) -> None:
        """On /diagnostics."""
        health, model = self._health, in_force.model
        health.value("checkpoint", in_force.path)
        health.value("checkpoint sha256", in_force.sha256)
        health.value("encoder", model.segmenter.identity)
        health.value("precision", model.segmenter.precision)
        health.value("preparation", _described(model))
        health.value("classes", len(model.vocabulary.names))

    def _stop_working(self) -> None:
        self._bond.end()
        worker, self._worker = self._worker, None
        if worker is not None and not worker.close():
            self.get_logger().warning("The scan at work did not finish in time")

    def _release(self) -> None:
        self._stop_working()
        self._pipeline = None
        self._swap.forget()

    def _tf_age(self) -> str:
        """Seconds from the newest transform between sensor and fixed frame to now, as text."""
        if self._frame_id is None:
            return "no scan yet"
        newest = self._transforms.latest(self._values.fixed_frame, self._frame_id)
        if newest is None:
            return f"'{self._frame_id}' not connected to '{self._values.fixed_frame}'"
        return f"{(self._now() - newest) * 1e-9:.3f}" if newest else "static"

    def _refuse(self, error: Ov3dError) -> None:
        self._health.count("refused")
        self._report(self._health.fail("scan", error))

    def _report(self, text: str) -> None:
        if self.context.ok():  # else the process is ending, and publishing had to fail
            self.get_logger().error(f"A scan was not labelled. {text}", throttle_duration_sec=5.0)

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def _requested(request: SetVocabulary.Request) -> dict[str, list[str]]:
    """Class names to prompt words, in the order of their ids. Raises VocabularyError."""
    require_list(request.words)
    classes = [(entry.name, list(entry.prompts) or [entry.name]) for entry in request.classes]
    return classes_of([*((word, [word]) for word in request.words), *classes])


def _with_words(now: InForce, words: Mapping[str, list[str]]) -> InForce:
    background = now.model.segmenter.info.vocabulary
    return replace(now, model=now.model.with_words(Vocabulary.from_words(words, now.text, background)))


def _described(model: LiveModel) -> str:
    """What is done to scans, and what of it differs from the network's training."""
    trained = asdict(model.segmenter.info.preparation)
    return ", ".join(
        f"{name} {value}" + ("" if value == trained[name] else f" by parameter (trained with {trained[name]})")
        for name, value in asdict(model.preparation).items()
    )


def main() -> None:
    """Entry point of the ``lidar_node`` executable."""
    run(LidarNode, libraries=("ov3d_perception.inference",))


if __name__ == "__main__":
    main()
