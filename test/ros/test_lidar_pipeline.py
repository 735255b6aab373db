"""The pipeline between two networks: one that fails on trial is taken back, and the scan it failed on is labelled."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ros_harness import random_cloud

from ov3d_perception.bags import pointcloud2
from ov3d_perception.errors import CheckpointError
from ov3d_perception.geometry.upright import Gravity
from ov3d_perception.ros.diagnostics import Health
from ov3d_perception.ros.lidar_parameters import LidarParameters
from ov3d_perception.ros.lidar_pipeline import Arrived, InForce, LidarPipeline, Output, Trial
from ov3d_perception.types import EncoderIdentity, Preparation, Segmentation


@dataclass(frozen=True, eq=False)
class Stub:
    """A model that calls every point ``label``, or raises."""

    label_given: int
    error: Exception | None = None
    preparation: Preparation = field(default_factory=lambda: Preparation(intensity_scale=1.0, upright="off"))
    vocabulary: Any = field(default_factory=lambda: SimpleNamespace(names=("car", "tree")))

    @property
    def segmenter(self) -> Any:
        info = SimpleNamespace(logit_scale=1.0)
        return SimpleNamespace(basis=np.eye(2, dtype=np.float32), identity=EncoderIdentity("a", "b", 2), info=info)

    def features(self, merged: Any, points: int) -> Any:
        if self.error is not None:
            raise self.error
        return np.zeros((points, 1))

    def label(self, voxels: np.ndarray) -> Segmentation:
        n = len(voxels)
        return Segmentation(np.full(n, self.label_given, np.int32), np.ones(n, np.float32))


def in_force(model: Any, name: str) -> InForce:
    return InForce.of(model, LidarParameters(), SimpleNamespace(), Path(name), name, Gravity())


class Bench:
    """A pipeline whose publisher, TF and log are lists."""

    def __init__(self, first: InForce) -> None:
        self.published: list[int] = []
        self.announced: list[str] = []
        self.refused: list[str] = []
        publisher = SimpleNamespace(publish=self._publish, get_subscription_count=lambda: 1)
        nobody = SimpleNamespace(get_subscription_count=lambda: 0)
        transforms: Any = SimpleNamespace(latest=lambda *_: None)
        self.health = Health("test")
        self.pipeline = LidarPipeline(
            first, transforms, self.health, Output(publisher), Output(nobody), self.refused.append,
            lambda now: self.announced.append(now.sha256),
        )  # fmt: skip

    def _publish(self, message: Any) -> None:
        (label,) = set(pointcloud2.structured(message)["label"].tolist())
        self.published.append(label)

    def scan(self, points: int = 50) -> None:
        self.pipeline.process(Arrived(random_cloud(points), 0.0))


def test_a_network_that_fails_on_trial_is_taken_back_and_the_scan_is_labelled() -> None:
    good, bad = in_force(Stub(0), "good"), in_force(Stub(1, RuntimeError("boom")), "bad")
    bench, failures = Bench(good), []
    bench.scan()
    bench.pipeline.put_in_force(lambda _: bad, Trial(good, 10, lambda gone, error: failures.append((gone, error))))
    bench.scan()
    bench.scan()
    assert bench.published == [0, 0, 0] and not bench.refused
    ((gone, error),) = failures
    assert gone is bad and str(error) == "boom" and bench.pipeline.in_force is good


def test_a_scan_that_no_network_can_read_ends_no_trial() -> None:
    good, other = in_force(Stub(0), "good"), in_force(Stub(1), "other")
    bench, failures = Bench(good), []
    bench.pipeline.put_in_force(lambda _: other, Trial(good, 10, lambda *gone: failures.append(gone)))
    bench.scan(points=0)
    bench.scan()
    assert len(bench.refused) == 1 and bench.published == [1] and not failures


def test_after_the_trial_a_failure_is_a_refused_scan() -> None:
    good = in_force(Stub(0), "good")
    late = in_force(Stub(1), "late")
    bench = Bench(good)
    bench.pipeline.put_in_force(lambda _: late, Trial(good, 2, lambda *_: pytest.fail("the trial was over")))
    bench.scan()
    bench.scan()
    bench.pipeline.put_in_force(lambda now: replace(now, model=replace(late.model, error=CheckpointError("no", "yes"))))
    bench.scan()
    assert bench.published == [1, 1] and len(bench.refused) == 1


def test_what_a_scan_needs_is_announced_before_it_and_once() -> None:
    first, second = in_force(Stub(0), "first"), in_force(Stub(1), "second")
    bench = Bench(first)
    for _ in range(2):
        bench.scan()
    bench.pipeline.put_in_force(lambda _: second)
    for _ in range(2):
        bench.scan()
    assert bench.announced == ["first", "second"] and bench.published == [0, 0, 1, 1]


def test_what_the_scans_taught_is_taken_over_where_clouds_are_prepared_alike() -> None:
    first, second = in_force(Stub(0), "first"), in_force(Stub(1), "second")
    assert second.after(first).reader is first.reader and second.after(first).model is second.model
    other = in_force(Stub(1, preparation=Preparation(sweeps=3)), "other")
    assert other.after(first) is other


def test_a_change_is_made_again_where_another_thread_was_faster() -> None:
    first, second, third = (in_force(Stub(0), name) for name in ("first", "second", "third"))
    pipeline, seen = Bench(first).pipeline, []

    def change(now: InForce) -> InForce:
        seen.append(now.sha256)
        if now is first:
            pipeline.put_in_force(lambda _: second)
        return third

    assert pipeline.put_in_force(change) is third and seen == ["first", "second"]
