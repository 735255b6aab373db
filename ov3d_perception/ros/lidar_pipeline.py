"""What happens to one scan: read, accumulate, network, classify, publish; each stage timed, each failure reported."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ov3d_msgs.msg import FeatureCloud
from ov3d_perception.bags.cloud_reader import CloudReader, faults
from ov3d_perception.bags.clouds import registered
from ov3d_perception.bags.pointcloud2 import Cloud
from ov3d_perception.errors import TransformError
from ov3d_perception.geometry.deskew import deskew
from ov3d_perception.geometry.sweeps import SweepAccumulator
from ov3d_perception.geometry.upright import Gravity, Upright, as_sensed
from ov3d_perception.geometry.voxels import voxel_coordinates
from ov3d_perception.inference import LiveModel
from ov3d_perception.mapping.basis import Basis
from ov3d_perception.ros import messages
from ov3d_perception.ros.diagnostics import WARN, Health
from ov3d_perception.ros.lidar_parameters import LidarParameters
from ov3d_perception.ros.points_input import Points
from ov3d_perception.ros.transforms import Transforms
from ov3d_perception.types import Pose, Poses, Preparation, Scan, Stamps, VoxelFeatures
from ov3d_perception.viz.palette import colourise

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


class LidarPipeline:
    """Works on scans one at a time, in the worker's thread. Nothing is computed that nobody subscribes to."""

    def __init__(
        self,
        parameters: LidarParameters,
        model: LiveModel,
        transforms: Transforms,
        health: Health,
        points: Output,
        features: Output,
        report: Callable[[str], None],
        gravity: Gravity,
    ) -> None:
        segmenter, preparation = model.segmenter, model.preparation
        self.basis = Basis(segmenter.basis, segmenter.identity, segmenter.info.logit_scale)
        self.model = model  # replaced as a whole, from the service's thread
        self.parameters = parameters  # replaced as a whole, as the model
        self._transforms = transforms
        self._health = health
        self._points = points
        self._features = features
        self._report = report
        self._reader = CloudReader(preparation.intensity_scale or None, parameters.time_unit, parameters.time_offset)
        self._upright = Upright(preparation.upright, parameters.base_frame, gravity)
        self._accumulator = SweepAccumulator(preparation.sweeps, preparation.max_sweep_age)
        self._encoding = FeatureCloud.INT8 if parameters.feature_encoding == "int8" else FeatureCloud.FLOAT16

    def process(self, arrived: Arrived) -> None:
        """One scan from message to message. Never raises: trouble goes to the diagnostics and the log."""
        health = self._health
        try:
            if not (self._points.wanted or self._features.wanted):
                health.count("idle (no subscriber)")
                return
            health.spent("wait", time.perf_counter() - arrived.at)
            self._work(arrived.message)
            health.spent("total", time.perf_counter() - arrived.at)
            health.count("processed")
            health.clear("scan")
        except Exception as error:  # not only Ov3dError: a broken device must not end the node either
            health.count("refused")
            self._report(health.fail("scan", error))

    def _work(self, message: Points) -> None:
        health, model = self._health, self.model
        with health.timed("convert"):
            cloud = self._reader.read(message)
            scan = cloud.scan
        self._tell(cloud)
        with health.timed("accumulate"):
            self._check_frame(scan)
            scan = self._turn_upright(scan)
            scan, T_fixed_lidar = self._compensate(scan, model.preparation)
            merged = self._accumulator.merge(scan, T_fixed_lidar)
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
                self._features.publisher.publish(self._feature_message(scan, voxels.cpu()))

    def _feature_message(self, scan: Scan, voxels: VoxelFeatures) -> FeatureCloud:
        """In the sensor's frame, also where the network saw the scan turned upright."""
        if scan.R_upright is not None:
            coords = voxel_coordinates(as_sensed(scan, voxels.centres), voxels.voxel_size)
            voxels = replace(voxels, coords=coords.astype(np.int32))
        return messages.feature_cloud(scan, voxels, self.basis, self._encoding)

    def _tell(self, cloud: Cloud) -> None:
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
        if not self.model.preparation.deskew:
            found.pop("times", None)
        for kind in ("times", "intensity"):
            if kind in found:
                health.set(kind, WARN, f"{found[kind]}.")
            else:
                health.clear(kind)

    def _check_frame(self, scan: Scan) -> None:
        """Warn of a cloud in the frame in which the robot moves: such as the map that LiDAR odometry builds."""
        frame, base = scan.frame_id.lstrip("/"), self.parameters.base_frame
        if frame in (self.parameters.fixed_frame, *_EARTH_FIXED) and self._transforms.latest(frame, base):
            self._health.set("frame", WARN, f"{registered('The cloud', frame, base)}~/input/points.")
        else:
            self._health.clear("frame")

    def _turn_upright(self, scan: Scan) -> Scan:
        def lookup(target: str, source: str, stamp: int) -> Pose:
            return self._transforms.lookup(target, source, stamp, self.parameters.tf_timeout)

        try:
            scan, how = self._upright.apply(scan, lookup)
        except TransformError as error:
            how = f"as it came: {error.cause}"
            self._health.fail("upright", error, WARN)
        else:
            self._health.clear("upright")
        self._health.value("upright", how)
        return scan

    def _compensate(self, scan: Scan, preparation: Preparation) -> tuple[Scan, Pose | None]:
        """The scan, de-skewed if asked, and its pose in the fixed frame. Without TF: the scan as it is, and None."""
        parameters = self.parameters
        moves = preparation.deskew and scan.time is not None
        if preparation.sweeps <= 1 and not moves:
            self._check_map_transform(scan)
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

    def _check_map_transform(self, scan: Scan) -> None:
        """One scan alone needs no TF; whoever puts its features into a map does. Warn of what is missing there."""
        fixed = self.parameters.fixed_frame
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
