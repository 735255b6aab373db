"""What is timed in sparse.py: clouds, networks, and who runs them."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ov3d_perception.networks.live import LiveNetwork
from ov3d_perception.networks.precision import choose
from ov3d_perception.networks.registry import Network, build_network
from ov3d_perception.sim.drive import simulate
from ov3d_perception.sparse import SparseTensor, quantize
from ov3d_perception.sparse.kernels import multiplies_bytes

IN_CHANNELS, OUT_CHANNELS = 3, 768
DATA = ("semantickitti", "nuscenes", "simulated")
Run = Callable[[], Tensor]


@dataclass(frozen=True)
class Case:
    """One row of the table: network, cloud, voxel [m], clouds in the batch, and forward only or a training step."""

    arch: str
    data: str
    voxel: float
    batch: int
    train: bool

    def __str__(self) -> str:
        return f"{self.arch} {self.data} {self.voxel * 100:g} cm x{self.batch} {'step' if self.train else 'forward'}"


def clouds(data: str, count: int) -> list[np.ndarray]:
    """(N, 4) x y z intensity: consecutive scans; the one key frame of nuScenes turned by quarters."""
    root = Path(os.environ.get("OV3D_TEST_DATA", "../shared/data"))
    if data == "simulated":
        drive = simulate(7, 1.0, cameras=False)
        scans = [drive[number].scan for number in range(count)]
        return [np.column_stack([scan.xyz, scan.intensity]).astype(np.float32) for scan in scans]
    assert root.is_dir(), f"no test data: set OV3D_TEST_DATA to a folder with {data}"
    if data == "semantickitti":
        files = sorted(Path(root, "semantickitti/sequences/00/velodyne").glob("*.bin"))[:count]
        return [np.fromfile(file, np.float32).reshape(-1, 4) for file in files]
    (file,) = Path(root, "nuscenes_keyframe").glob("*LIDAR_TOP*.bin")
    points = np.fromfile(file, np.float32).reshape(-1, 5)[:, :4]
    x, y, z, intensity = points.T
    turned = [(x, y), (-y, x), (-x, -y), (y, -x)]
    return [np.column_stack([*turned[quarter % 4], z, intensity]) for quarter in range(count)]


@cache
def voxels(data: str, voxel: float, count: int) -> tuple[Tensor, Tensor]:
    """Coordinates and features of a batch: three columns, ones, intensity and height."""
    scans = [torch.from_numpy(scan) for scan in clouds(data, count)]
    points = torch.cat(scans)
    batch = torch.arange(len(scans)).repeat_interleave(torch.tensor([len(scan) for scan in scans]))
    feats = torch.stack([torch.ones(len(points)), points[:, 3], points[:, 2]], dim=1)
    coords, mean, _ = quantize(points[:, :3], voxel, feats, batch)
    return coords, mean


@cache
def network(arch: str) -> Network:
    """With seeded weights, and running statistics that make its batch normalisations do something."""
    torch.manual_seed(0)
    made = build_network(arch, IN_CHANNELS, OUT_CHANNELS)
    for norm in made.modules():
        if isinstance(norm, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(norm.running_mean, std=0.1)  # type: ignore[arg-type]
            torch.nn.init.uniform_(norm.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return made


@dataclass(frozen=True)
class Ours:
    """A network of ours: as the Segmenter runs it (folded) or as trained, in a precision, on a backend."""

    backend: str = "torch"
    precision: str = "fp32"
    folded: bool = True

    def __call__(self, case: Case, device: str) -> Run:
        """Ready to run on the case's voxels; each run starts from coordinates, and so makes its kernel maps anew."""
        coords, feats = (tensor.to(device) for tensor in voxels(case.data, case.voxel, case.batch))
        bf16, made = self.precision == "bf16", copy.deepcopy(network(case.arch)).to(device).train(case.train)
        if not case.train:
            largest = largest_outputs(case.arch, SparseTensor(feats, coords)) if self.precision == "int8" else ()
            dtype, largest = choose(self.precision, torch.device(device), self.backend, largest)
            made, feats = made.to(dtype), feats.to(dtype)
        run = LiveNetwork(network(case.arch), torch.device(device), dtype, largest) if self.folded else made

        def features() -> Tensor:
            return made.head(run(SparseTensor(feats, coords, backend=self.backend)).feats)

        return lambda: _step(features, made, device, bf16) if case.train else _forward(features)


def largest_outputs(arch: str, x: SparseTensor) -> tuple[float, ...]:
    """By which int8 is calibrated: on the cloud itself."""
    plan = LiveNetwork(network(arch), torch.device("cpu"), torch.float32).plan
    assert plan is not None
    with torch.inference_mode():
        return tuple(plan.largest_outputs(x))


class Minkowski:
    """The same network out of MinkowskiEngine's own modules."""

    def __call__(self, case: Case, device: str) -> Run:
        """As :meth:`Ours.__call__`."""
        from minkowski_networks import MinkowskiMinkUNet

        coords, feats = voxels(case.data, case.voxel, case.batch)
        made = MinkowskiMinkUNet(case.arch, IN_CHANNELS, OUT_CHANNELS).to(device).train(case.train)
        made.load_state_dict(network(case.arch).state_dict())
        feats, rows = feats.to(device), coords.int().to(device)

        def features() -> Tensor:
            return made(feats, rows)

        return lambda: _step(features, made, device, False) if case.train else _forward(features)


Contender = Ours | Minkowski
PEER = "MinkowskiEngine"


def contenders(case: Case, device: str) -> dict[str, Contender]:
    """Who can run a case, by name; the peer that the others are divided by comes first."""
    found: dict[str, Contender] = {}
    if find_spec("MinkowskiEngine") is not None and device == "cpu":
        found[PEER] = Minkowski() if case.arch.startswith("MinkUNet") else Ours("minkowski", folded=False)
    backends = ["torch"]
    if device == "cuda" and any(find_spec(name) is not None for name in ("spconv_triton", "spconv")):
        backends.append("spconv")
    for backend in backends:
        found[f"{backend} fp32"] = Ours(backend, folded=False)
        if not case.train:
            found[f"{backend} fp32 folded"] = Ours(backend)
        found[f"{backend} bf16" + ("" if case.train else " folded")] = Ours(backend, "bf16", folded=not case.train)
    if device == "cpu" and multiplies_bytes() and case.arch.startswith("MinkUNet") and not case.train:
        found["torch int8 folded"] = Ours(precision="int8")
    return found


@torch.inference_mode()
def _forward(features: Run) -> Tensor:
    return features()


def _step(features: Run, made: torch.nn.Module, device: str, bf16: bool) -> Tensor:
    """Forward and backward; the gradient that comes in is the output itself, so that no loss is timed."""
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        out = features()
    out.backward(out.detach())
    made.zero_grad()
    return out.detach()
