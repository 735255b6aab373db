"""Networks in and out of a working ``lidar_node``: ``~/load_checkpoint``, ``~/rollback``, and a site that is followed.

A network is loaded and run once in the service's thread while the present one labels scans. Then one assignment puts
it in force between two scans. The former one is kept: ``~/rollback`` brings it back, and so does the first scan that
the new one fails on and the former one does not.

The thread has the priority of all others: one of a lower priority would keep Python's lock while it waits for a core,
and so stop the scans.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from std_srvs.srv import Trigger

from ov3d_msgs.srv import LoadCheckpoint
from ov3d_perception.errors import CheckpointError, Ov3dError
from ov3d_perception.geometry.upright import Gravity
from ov3d_perception.ledger import FILE, Site, file_hash, resolve
from ov3d_perception.models import shipped_checkpoint
from ov3d_perception.ros.diagnostics import WARN, Health
from ov3d_perception.ros.lidar_parameters import LidarParameters
from ov3d_perception.ros.lidar_pipeline import InForce, LidarPipeline, Trial
from ov3d_perception.ros.load_network import in_present_words, load_network
from ov3d_perception.ros.shadow import Shadow

_FOLLOW_S = 1.0


class ModelSwap:
    """The two services, and the site's ledger where ``follow_site`` asks for it.

    pipeline: the node's at the time, None while it is not configured.
    """

    def __init__(
        self, node: Node, health: Health, pipeline: Callable[[], LidarPipeline | None], gravity: Gravity
    ) -> None:
        self._node, self._health, self._pipeline, self._gravity = node, health, pipeline, gravity
        self._former: InForce | None = None
        self._seen = (0, 0)  # time and size of the ledger looked at last
        group = MutuallyExclusiveCallbackGroup()
        node.create_service(LoadCheckpoint, "~/load_checkpoint", self._on_load, callback_group=group)
        node.create_service(Trigger, "~/rollback", self._on_rollback, callback_group=group)
        wall = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(_FOLLOW_S, self._follow, callback_group=group, clock=wall)

    def forget(self) -> None:
        """The node is not configured any more."""
        self._former = None

    # -- callbacks ---------------------------------------------------------------------------------------------------

    def _on_load(self, request: LoadCheckpoint.Request, response: LoadCheckpoint.Response) -> LoadCheckpoint.Response:
        start, response.agreement = time.perf_counter(), math.nan
        try:
            pipeline = self._configured()
            path = resolve(request.checkpoint or pipeline.in_force.parameters.checkpoint, shipped_checkpoint())
            response.message, response.agreement = self._load(pipeline, path, request.shadow)
            response.success = True
        except Exception as error:  # not only Ov3dError: PyTorch and the libraries below have errors of their own
            response.message = f"The network has not changed: {self._health.fail('swap', error, WARN)}"
        self._tell(response.success, response.message)
        running = self._pipeline()
        response.running = running.in_force.sha256 if running is not None else ""
        response.previous = self._former.sha256 if self._former is not None else ""
        response.duration = Duration(nanoseconds=int((time.perf_counter() - start) * 1e9)).to_msg()
        return response

    def _on_rollback(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            pipeline, former = self._configured(), self._former
            if former is None:
                raise CheckpointError("There is no former network", "Load one by name: ~/load_checkpoint")
            gone = pipeline.in_force
            pipeline.put_in_force(lambda present: in_present_words(former, present))
            self._former = None
            self._write_down(gone, "asked for by ~/rollback")
            self._health.clear("swap")
            response.success, response.message = True, f"{_name(former)} labels again"
        except Exception as error:
            response.message = f"The network has not changed: {self._health.fail('swap', error, WARN)}"
        self._tell(response.success, response.message)
        return response

    def _follow(self) -> None:
        """Put in force what the site's ledger has in force, if asked to and if that has changed."""
        pipeline = self._pipeline()
        if pipeline is None or not pipeline.in_force.parameters.follow_site:
            return
        site = Path(pipeline.in_force.parameters.checkpoint).expanduser()
        with suppress(OSError):
            state = (site / FILE).stat()
            if (seen := (state.st_mtime_ns, state.st_size)) == self._seen:
                return
            self._seen = seen
            try:
                path = resolve(site, shipped_checkpoint())
                if path.resolve() != pipeline.in_force.path.resolve():
                    self._tell(True, self._load(pipeline, path, 0)[0])
            except Exception as error:
                text = self._health.fail("swap", error, WARN)
                self._tell(False, f"{site} has another network, which is not used: {text}")

    # -- what they do ------------------------------------------------------------------------------------------------

    def _load(self, pipeline: LidarPipeline, path: Path, shadow: int) -> tuple[str, float]:
        """Put a file's network in force; what was done, and the agreement. Raises what hinders it."""
        present = pipeline.in_force
        if path.is_file() and file_hash(path) == present.sha256:
            return f"{_name(present)} labels already", math.nan
        with self._health.timed("load network"):
            made = load_network(path, present.parameters, self._gravity, present)
        values: LidarParameters = present.parameters
        agreement = self._compare(pipeline, made, shadow, values) if shadow else math.nan
        if self._pipeline() is not pipeline:
            raise Ov3dError("The node was cleaned up meanwhile", "Configure it; it then loads the parameter checkpoint")
        former = pipeline.in_force
        trial = Trial(former, values.trial_scans, self._failed) if values.trial_scans else None
        pipeline.put_in_force(lambda now: in_present_words(made, now).after(now), trial)
        self._former = former
        self._health.clear("swap")
        self._health.count("networks loaded")
        compared = "" if math.isnan(agreement) else f"; both label {100 * agreement:.1f} % of the points alike"
        words = f"the words stay ({len(pipeline.in_force.model.vocabulary.names)} classes)"
        return f"{_name(made)} labels from the next scan on; {words}{compared}", agreement

    def _compare(self, pipeline: LidarPipeline, made: InForce, scans: int, values: LidarParameters) -> float:
        """Run both on live scans. Raises CheckpointError where they agree too little, or no scans come."""
        shadow = Shadow(made, pipeline.label, scans, values.shadow_every, self._health)
        pipeline.watch = shadow.watch
        try:
            came = shadow.wait(max(10.0, 5 * values.stale_after))
        finally:
            pipeline.watch = None
        if shadow.error is not None:
            raise shadow.error
        if not came:
            raise CheckpointError(
                f"Only {shadow.compared} of {scans} scans came to compare the networks on",
                "See that scans come and that somebody listens to ~/output/points, or load without shadow",
            )
        if shadow.agreement < values.min_agreement:
            raise CheckpointError(
                f"{_name(made)} labels only {100 * shadow.agreement:.1f} % of the points as the present network does "
                f"({shadow.differences()})",
                "Look at both, and lower min_agreement if the new one is right",
            )
        return shadow.agreement

    def _failed(self, gone: InForce, error: Exception) -> None:
        """In the worker's thread: the new network failed on a scan, and the former one is in force again."""
        pipeline, self._former = self._pipeline(), None
        if pipeline is not None:
            pipeline.put_in_force(lambda former: in_present_words(former, gone))
        why = f"{type(error).__name__}: {error}" if not isinstance(error, Ov3dError) else str(error)
        failure = CheckpointError(
            f"{_name(gone)} failed on a scan ({why.rstrip('.')}), and the former network labels again",
            "Look at the file; no scan was lost",
        )
        self._tell(False, self._health.fail("swap", failure, WARN))
        self._health.count("networks rolled back")
        self._write_down(gone, f"failed on a scan: {why}")

    def _write_down(self, gone: InForce, why: str) -> None:
        """In the ledger of the site whose network went out of force; the robot goes on without that, too."""
        site = Site.around(gone.path)
        if site is None:
            return
        try:
            number = next((v.number for v in site.read().versions if v.sha256 == gone.sha256), None)
            if number is not None:
                site.roll_back(why, number)
        except Ov3dError as error:
            self._tell(False, f"The site's ledger was not written. {error}")

    def _configured(self) -> LidarPipeline:
        pipeline = self._pipeline()
        if pipeline is None:
            raise Ov3dError("The node is not configured", "Set the parameter checkpoint, and configure it")
        return pipeline

    def _tell(self, good: bool, text: str) -> None:
        logger = self._node.get_logger()
        logger.info(text) if good else logger.warning(text)


def _name(one: InForce) -> str:
    return f"Network {one.sha256[:12]} ({one.path})"
