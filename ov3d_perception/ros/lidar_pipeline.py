"""What happens to one scan: read, accumulate, network, classify, publish; each stage timed, each failure reported.

A scan is worked on by one :class:`InForce` from its first stage to its last; another takes its place between two scans.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ov3d_msgs.msg import FeatureCloud
from ov3d_perception.bags.cloud_reader import CloudReader, faults
from ov3d_perception.bags.clouds import registered
from ov3d_perception.bags.pointcloud2 import Cloud
from ov3d_perception.errors import TransformError
from ov3d_perception.geometry.deskew import deskew
from ov3d_perception.geometry.sweeps import Merged, SweepAccumulator
from ov3d_perception.geometry.upright import Gravity, Upright, as_sensed
from ov3d_perception.geometry.voxels import voxel_coordinates
from ov3d_perception.language.vocabulary import TextSource
from ov3d_perception.mapping.basis import Basis
from ov3d_perception.ros import messages
from ov3d_perception.ros.diagnostics import WARN, Health
from ov3d_perception.ros.lidar_parameters import LidarParameters
from ov3d_perception.ros.points_input import Points
from ov3d_perception.ros.transforms import Transforms
from ov3d_perception.types import Pose, Poses, Preparation, Scan, Segmentation, Stamps, VoxelFeatures
from ov3d_perception.viz.palette import colourise

if TYPE_CHECKING:
    from ov3d_perception.inference import LiveModel

_STALE_NS = 1_000_000_000
_EARTH_FIXED = ("odom", "map", "earth")  # REP 105


@dataclass(frozen=True)
class Arrived:
    """A message and the moment it came (time.perf_counter)."""

    message: Points
    at: float


@dataclass(frozen=True)
class Output:
    """A publisher that is only worth feeding when somebody listens."""

    publisher: Any

    @property
    def wanted(self) -> bool:
        """True if the topic has a subscriber."""
        return bool(self.publisher.get_subscription_count())


@dataclass(frozen=True, eq=False)
class InForce:
    """All that decides what becomes of a scan. Immutable: replaced as a whole, between two scans.

    reader, upright, accumulator: made for the model's preparation. They remember earlier scans, so a successor that is
    prepared alike takes them over. text: where other words come from. path, sha256: the checkpoint file.
    """

    model: LiveModel
    parameters: LidarParameters
    text: TextSource
    path: Path
    sha256: str
    basis: Basis
    reader: CloudReader
    upright: Upright
    accumulator: SweepAccumulator

    @classmethod
    def of(
        cls, model: LiveModel, parameters: LidarParameters, text: TextSource, path: Path, sha256: str, gravity: Gravity
    ) -> InForce:
        """All of it for a network that was loaded just now."""
        segmenter, preparation = model.segmenter, model.preparation
        return cls(
            model,
            parameters,
            text,
            path,
            sha256,
            Basis(segmenter.basis, segmenter.identity, segmenter.info.logit_scale),
            CloudReader(preparation.intensity_scale or None, parameters.time_unit, parameters.time_offset),
            Upright(preparation.upright, parameters.base_frame, gravity),
            SweepAccumulator(preparation.sweeps, preparation.max_sweep_age),
        )

    def after(self, former: InForce) -> InForce:
        """This one with the memory of its predecessor, where that prepared clouds alike."""
        if former.model.preparation != self.model.preparation:
            return self
        return replace(self, reader=former.reader, upright=former.upright, accumulator=former.accumulator)


@dataclass(frozen=True, eq=False)
class Trial:
    """The first scans of a new network: where it fails on one that its predecessor can label, that comes back.

    scans: that are left. failed: told of the error when the predecessor is in force again.
    """

    former: InForce
    scans: int
    failed: Callable[[InForce, Exception], None]


Watch = Callable[[Points, Segmentation, InForce], None]


class LidarPipeline:
    """Works on scans one at a time, in the worker's thread. Nothing is computed that nobody subscribes to.

    watch: shown each scan and its labels after they are published, in the worker's thread; None: nothing is.
    """

    def __init__(
        self,
        in_force: InForce,
        transforms: Transforms,
        health: Health,
        points: Output,
        features: Output,
        report: Callable[[str], None],
        announce: Callable[[InForce], None],
    ) -> None:
        self._in_force = in_force
        self._transforms = transforms
        self._health = health
        self._points = points
        self._features = features
        self._report = report
        self._announce = announce
        self._announced: InForce | None = None
        self._trial: Trial | None = None
        self._exchange = threading.Lock()  # held for an assignment
        self.watch: Watch | None = None

    @property
    def in_force(self) -> InForce:
        """What works on the next scan."""
        return self._in_force

    def put_in_force(self, change: Callable[[InForce], InForce], trial: Trial | None = None) -> InForce:
        """Replace what is in force by what ``change`` makes of it, from the next scan on; announces and returns that.

        ``change`` is called again where another thread was faster. trial: None leaves the present one, which ends with
        the network that it is about.
        """
        while True:
            before, running = self._in_force, self._trial
            after = change(before)
            with self._exchange:
                if self._in_force is before and self._trial is running:
                    same = after.model.segmenter is before.model.segmenter
                    self._in_force, self._trial = after, trial if trial or not same else running
                    break
        self._announce(after)
        self._announced = after
        return after

    def process(self, arrived: Arrived) -> None:
        """One scan from message to message. Never raises: trouble goes to the diagnostics and the log."""
        health = self._health
        try:
            if not (self._points.wanted or self._features.wanted):
                health.count("idle (no subscriber)")
                return
            health.spent("wait", time.perf_counter() - arrived.at)
            self._work_on_trial(arrived.message)
            health.spent("total", time.perf_counter() - arrived.at)
            health.count("processed")
            health.clear("scan")
        except Exception as error:  # not only Ov3dError: a broken device must not end the node either
            health.count("refused")
            self._report(health.fail("scan", error))

    def _work_on_trial(self, message: Points) -> None:
        """:meth:`_work`; where a network on trial fails, its predecessor labels the scan and is in force again."""
        with self._exchange:
            in_force, trial = self._in_force, self._trial
        if trial is None:
            return self._work(message, in_force)
        try:
            self._work(message, in_force)
        except Exception as error:
            self._work(message, trial.former)  # what fails, too, where the scan is to blame
            with self._exchange:
                if self._trial is not trial:
                    return
                self._in_force, self._trial = trial.former, None
            trial.failed(in_force, error)
        else:
            left = replace(trial, scans=trial.scans - 1)
            with self._exchange:
                if self._trial is trial:
                    self._trial = left if left.scans > 0 else None

    def _work(self, message: Points, in_force: InForce) -> None:
        health, model = self._health, in_force.model
        if self._announced is not in_force:
            self._announce(in_force)  # before the first message that needs it
            self._announced = in_force
        with health.timed("convert"):
            cloud = in_force.reader.read(message)
            scan = cloud.scan
        self._tell(cloud, model.preparation)
        with health.timed("accumulate"):
            self._check_frame(scan, in_force.parameters)
            merged, scan = self._prepare(scan, in_force)
            health.value("sweeps", merged.sweeps)
        with health.timed("voxelise+network"):
            voxels = model.features(merged, len(scan))
        health.value("points", len(scan))
        health.value("voxels", len(voxels))
        result = None
        if self._points.wanted:
            with health.timed("classify"):
                result = model.label(voxels)
        with health.timed("publish"):
            if result is not None:
                names = model.vocabulary.names
                rgb = colourise(result.label, names)
                self._points.publisher.publish(messages.labelled_cloud(scan, result, rgb, names))
            if self._features.wanted:
                self._features.publisher.publish(self._feature_message(scan, voxels.cpu(), in_force))
        if self.watch is not None:
            self.watch(message, model.label(voxels) if result is None else result, in_force)

    def label(self, message: Points, by: InForce) -> Segmentation:
        """The labels that ``by`` gives a scan; nothing is published. In the worker's thread only."""
        scan = by.reader.read(message).scan
        merged, scan = self._prepare(scan, by)
        return by.model.label(by.model.features(merged, len(scan)))

    def _prepare(self, scan: Scan, in_force: InForce) -> tuple[Merged, Scan]:
        scan = self._turn_upright(scan, in_force)
        scan, T_fixed_lidar = self._compensate(scan, in_force)
        return in_force.accumulator.merge(scan, T_fixed_lidar), scan

    def _feature_message(self, scan: Scan, voxels: VoxelFeatures, in_force: InForce) -> FeatureCloud:
        """In the sensor's frame, also where the network saw the scan turned upright."""
        if scan.R_upright is not None:
            coords = voxel_coordinates(as_sensed(scan, voxels.centres), voxels.voxel_size)
            voxels = replace(voxels, coords=coords.astype(np.int32))
        int8 = in_force.parameters.feature_encoding == "int8"
        encoding = FeatureCloud.INT8 if int8 else FeatureCloud.FLOAT16
        return messages.feature_cloud(scan, voxels, in_force.basis, encoding)

    def _tell(self, cloud: Cloud, preparation: Preparation) -> None:
        """What was decided about a cloud, and what is wrong with it, to the diagnostics."""
        health, found = self._health, faults(cloud)
        times = "no time field" if cloud.times is None else f"{cloud.time_field}: {cloud.times}"
        health.value("point times", times)
        health.value("intensity", cloud.intensity or "none in the cloud, zeros used")
        health.value("points without return", cloud.without_return)
        health.count("far points", cloud.far)
        health.count("stray times", 0 if cloud.times is None else cloud.times.strays)
        health.value("row_step", cloud.row_step or "as it should be")
        health.value("byte order", cloud.byte_order or "as it should be")
        if not preparation.deskew:
            found.pop("times", None)
        for kind in ("times", "intensity"):
            if kind in found:
                health.set(kind, WARN, f"{found[kind]}.")
            else:
                health.clear(kind)

    def _check_frame(self, scan: Scan, parameters: LidarParameters) -> None:
        """Warn of a cloud in the frame in which the robot moves: such as the map that LiDAR odometry builds."""
        frame, base = scan.frame_id.lstrip("/"), parameters.base_frame
        if frame in (parameters.fixed_frame, *_EARTH_FIXED) and self._transforms.latest(frame, base):
            self._health.set("frame", WARN, f"{registered('The cloud', frame, base)}~/input/points.")
        else:
            self._health.clear("frame")

    def _turn_upright(self, scan: Scan, in_force: InForce) -> Scan:
        def lookup(target: str, source: str, stamp: int) -> Pose:
            return self._transforms.lookup(target, source, stamp, in_force.parameters.tf_timeout)

        try:
            scan, how = in_force.upright.apply(scan, lookup)
        except TransformError as error:
            how = f"as it came: {error.cause}"
            self._health.fail("upright", error, WARN)
        else:
            self._health.clear("upright")
        self._health.value("upright", how)
        return scan

    def _compensate(self, scan: Scan, in_force: InForce) -> tuple[Scan, Pose | None]:
        """The scan, de-skewed if asked, and its pose in the fixed frame. Without TF: the scan as it is, and None."""
        parameters, preparation = in_force.parameters, in_force.model.preparation
        moves = preparation.deskew and scan.time is not None
        if preparation.sweeps <= 1 and not moves:
            self._check_map_transform(scan, parameters)
            return scan, None

        def poses_at(stamps: Stamps) -> Poses:
            return self._transforms.lookup_each(parameters.fixed_frame, scan.frame_id, stamps, parameters.tf_timeout)

        try:
            (pose,) = poses_at(np.array([scan.stamp]))
            compensated = deskew(scan, poses_at) if moves else scan
        except TransformError as error:
            self._warn_of_tf(f"Scans are labelled one by one, as they came: {error.cause}", error.remedy)
            return scan, None
        self._health.clear("tf")
        return compensated, pose

    def _check_map_transform(self, scan: Scan, parameters: LidarParameters) -> None:
        """One scan alone needs no TF; whoever puts its features into a map does. Warn of what is missing there."""
        fixed = parameters.fixed_frame
        newest = self._transforms.latest(fixed, scan.frame_id) if self._features.wanted else 0
        if newest is None:
            cause = f"No transform connects '{scan.frame_id}' to '{fixed}'"
        elif newest and abs(scan.stamp - newest) > _STALE_NS:
            apart = (scan.stamp - newest) / 1e9
            side = "ahead of" if apart > 0 else "behind"
            cause = (
                f"The scans' stamps are {abs(apart):.1f} s {side} the newest transform '{fixed}' <- '{scan.frame_id}' "
                "(another clock, or TF has stopped)"
            )
        else:
            self._health.clear("tf")
            return
        remedy = "Start the odometry and the robot's static transforms, check use_sim_time, or set fixed_frame"
        self._warn_of_tf(f"The features cannot be put into a map: {cause}", remedy)

    def _warn_of_tf(self, cause: str, remedy: str) -> None:
        self._health.fail("tf", TransformError(cause, remedy), WARN)
