"""SPVCNN against the paper in loops: voxels in dictionaries, one multiplication for each pair of voxels."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ov3d_perception.networks.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from ov3d_perception.networks.folding import fold_batch_norm
from ov3d_perception.networks.spvcnn import ARCHITECTURES, SPVCNN
from ov3d_perception.sparse import SparseTensor, quantize
from ov3d_perception.types import EncoderIdentity

Voxel = tuple[int, int, int, int]
Voxels = dict[Voxel, Tensor]
Norm = dict[str, Tensor]
NARROW = 1 / 16  # channels 2, 2, 4, 8, 16, 16, 8, 6, 6


class Slow:
    """The network of the paper from a state_dict. Points are (batch, x, y, z) in voxels."""

    def __init__(self, state: dict[str, Tensor], training: bool) -> None:
        self.state, self.training = state, training

    def __call__(self, points: list[tuple[float, ...]], feats: Tensor) -> list[Tensor]:
        """z1, z2, z3: features after each of the point stages."""
        x = self.to_voxels(points, feats, 1)
        for number in (0, 3):
            x = self.relu(self.norm(self.convolve(x, f"stem.{number}", 3, 1), f"stem.{number + 1}"))
        skips, z = [x], self.to_points(points, x, 1)
        x = self.to_voxels(points, z, 1)
        for level in (1, 2, 3, 4):
            x = self.halve(x, f"stage{level}.0", 2 ** (level - 1))
            for block in (1, 2):
                x = self.residual(x, f"stage{level}.{block}", 2**level)
            skips.append(x)
        results = [z := self.to_points(points, x, 16) + self.transform(z, 0)]
        for level, stage in ((3, 0), (1, 1)):
            x = self.to_voxels(points, z, 2 ** (level + 1))
            for up in (level, level - 1):
                x = self.double(x, skips[up], f"up{4 - up}", 2**up)
            z = self.to_points(points, x, 2 ** (level - 1)) + self.transform(z, stage + 1)
            results.append(z)
        return results

    def to_voxels(self, points: list[tuple[float, ...]], feats: Tensor, stride: int) -> Voxels:
        members: dict[Voxel, list[Tensor]] = {}
        for (batch, *position), feat in zip(points, feats, strict=True):
            voxel = (int(batch), *(math.floor(p / stride) * stride for p in position))
            members.setdefault(voxel, []).append(feat)
        return {voxel: torch.stack(found).mean(0) for voxel, found in members.items()}

    def to_points(self, points: list[tuple[float, ...]], voxels: Voxels, stride: int) -> Tensor:
        """Voxel c is a sample at c + 1/2 (of its first voxel of stride 1), as the reference's integer points are."""
        rows = []
        for batch, *position in points:
            low = [math.floor((p - 0.5) / stride) for p in position]
            far = [(p - 0.5) / stride - c for p, c in zip(position, low, strict=True)]
            total, weights = torch.zeros(()), 0.0
            for corner in itertools.product((0, 1), repeat=3):
                voxel = (int(batch), *((c + o) * stride for c, o in zip(low, corner, strict=True)))
                weight = math.prod(f if o else 1 - f for f, o in zip(far, corner, strict=True))
                if voxel in voxels:
                    total, weights = total + weight * voxels[voxel], weights + weight
            rows.append(total / weights)
        return torch.stack(rows)

    def convolve(self, voxels: Voxels, name: str, size: int, step: int) -> Voxels:
        kernel, out = self.state[f"{name}.kernel"], {}
        reach = range(-(size // 2), size // 2 + 1)
        for batch, x, y, z in voxels:
            total = torch.zeros(kernel.shape[-1], dtype=kernel.dtype)
            for index, (dz, dy, dx) in enumerate(itertools.product(reach, repeat=3)):  # x fastest
                neighbour = voxels.get((batch, x + dx * step, y + dy * step, z + dz * step))
                if neighbour is not None:
                    total = total + neighbour @ (kernel if size == 1 else kernel[index])
            out[batch, x, y, z] = total
        return out

    def halve(self, voxels: Voxels, name: str, step: int) -> Voxels:
        kernel = self.state[f"{name}.net.0.kernel"]
        out: Voxels = {}
        for (batch, *position), feat in voxels.items():
            parent = (batch, *(c // (2 * step) * 2 * step for c in position))
            x, y, z = ((c - p) // step for c, p in zip(position, parent[1:], strict=True))
            out[parent] = out.get(parent, 0) + feat @ kernel[x + 2 * y + 4 * z]
        return self.relu(self.norm(out, f"{name}.net.1"))

    def double(self, voxels: Voxels, skip: Voxels, name: str, step: int) -> Voxels:
        kernel = self.state[f"{name}.0.net.0.kernel"]
        out = {}
        for batch, *position in skip:
            parent = (batch, *(c // (2 * step) * 2 * step for c in position))
            x, y, z = ((c - p) // step for c, p in zip(position, parent[1:], strict=True))
            out[(batch, *position)] = voxels[parent] @ kernel[x + 2 * y + 4 * z]
        out = self.relu(self.norm(out, f"{name}.0.net.1"))
        joined = {voxel: torch.cat([feat, skip[voxel]]) for voxel, feat in out.items()}
        for block in (0, 1):
            joined = self.residual(joined, f"{name}.1.{block}", step)
        return joined

    def residual(self, voxels: Voxels, name: str, step: int) -> Voxels:
        out = self.relu(self.norm(self.convolve(voxels, f"{name}.net.0", 3, step), f"{name}.net.1"))
        out = self.norm(self.convolve(out, f"{name}.net.3", 3, step), f"{name}.net.4")
        if f"{name}.downsample.0.kernel" in self.state:
            voxels = self.norm(self.convolve(voxels, f"{name}.downsample.0", 1, step), f"{name}.downsample.1")
        return self.relu({voxel: feat + voxels[voxel] for voxel, feat in out.items()})

    def transform(self, feats: Tensor, number: int) -> Tensor:
        name = f"point_transforms.{number}"
        linear = feats @ self.state[f"{name}.0.weight"].T + self.state[f"{name}.0.bias"]
        return self.normalise(linear, f"{name}.1").clamp(min=0)

    def norm(self, voxels: Voxels, name: str) -> Voxels:
        return dict(zip(voxels, self.normalise(torch.stack(list(voxels.values())), name), strict=True))

    def normalise(self, feats: Tensor, name: str) -> Tensor:
        mean, variance = self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"]
        if self.training:
            mean = feats.mean(0)
            variance = (feats - mean).square().mean(0)
        return (feats - mean) / (variance + 1e-5).sqrt() * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    @staticmethod
    def relu(voxels: Voxels) -> Voxels:
        return {voxel: feat.clamp(min=0) for voxel, feat in voxels.items()}


def network(arch: str = "SPVCNN", width: float = NARROW, head_bias: bool = False) -> SPVCNN:
    """In double precision and evaluation mode, with statistics as after some training."""
    torch.manual_seed(0)
    net = SPVCNN(arch, 2, 5, width, head_bias).double().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 2.0)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.3, 0.3)
    return net


def cloud(seed: int = 0, count: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, features, batch: 26 voxels across, negative positions, several points in some voxels."""
    generator = torch.Generator().manual_seed(seed)
    positions = torch.randn((count, 3), generator=generator, dtype=torch.float64) * 4 - 1
    positions[: count // 2] = positions[: count // 2] * 0.3
    feats = torch.randn((count, 2), generator=generator, dtype=torch.float64)
    return positions, feats, torch.randint(0, 2, (count,), generator=generator)


def slow(net: SPVCNN, positions: Tensor, feats: Tensor, batch: Tensor) -> list[Tensor]:
    points = [(b, *p) for b, p in zip(batch.tolist(), positions.tolist(), strict=True)]
    return Slow(net.state_dict(), net.training)(points, feats)


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_point_features_are_the_papers(training: bool) -> None:
    net = network("SPVCNNConcat").train(training)
    positions, feats, batch = cloud()
    expected = slow(net, positions, feats, batch)
    features = net.forward_points(positions, feats, batch)
    assert features.shape == (50, 16 + 8 + 6) and bool((features.std(0) > 0).all())
    torch.testing.assert_close(features, torch.cat(expected, dim=1), rtol=1e-6, atol=1e-7)
    last = SPVCNN("SPVCNN", 2, 5, NARROW).double().train(training)
    weights = {name: value for name, value in net.state_dict().items() if not name.startswith("classifier")}
    assert last.load_state_dict(weights, strict=False).missing_keys == ["classifier.0.weight"]
    last.dropout.p = 0.0
    torch.testing.assert_close(last.forward_points(positions, feats, batch), features[:, -6:])


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_voxel_features_are_those_of_points_in_the_middle_of_each_voxel(training: bool) -> None:
    net = network("SPVCNNConcat").train(training)
    coords = quantize(*(cloud()[0], 1.0, cloud()[1], cloud()[2]))[0]
    coords = coords[torch.randperm(len(coords), generator=torch.Generator().manual_seed(1))]
    feats = torch.randn(len(coords), 2, dtype=torch.float64)
    centres = coords[:, 1:].double() + 0.5
    expected = torch.cat(slow(net, centres, feats, coords[:, 0]), dim=1)
    out = net(SparseTensor(feats, coords))
    assert torch.equal(out.coords, coords)
    torch.testing.assert_close(out.feats, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(net.forward_points(centres, feats, coords[:, 0]), expected, rtol=1e-6, atol=1e-7)


def test_one_sample_without_batch_numbers() -> None:
    positions, feats, batch = cloud()
    net = network()
    with torch.no_grad():
        assert torch.equal(net.forward_points(positions, feats), net.forward_points(positions, feats, batch * 0))


@given(st.integers(0, 1000), st.tuples(*[st.integers(-3, 3)] * 3))
@settings(max_examples=10)
def test_permutation_and_translation(seed: int, by: tuple[int, int, int]) -> None:
    """The order of points does not matter, nor a shift by a multiple of the coarsest stride."""
    positions, feats, batch = cloud(seed)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(seed))
    net = network()
    with torch.no_grad():
        expected = net.forward_points(positions, feats, batch)[order]
        moved = positions[order] + 16.0 * torch.tensor(by)
        torch.testing.assert_close(net.forward_points(moved, feats[order], batch[order]), expected)


@given(st.integers(0, 1000))
@settings(max_examples=10)
def test_samples_of_a_batch_do_not_see_each_other(seed: int) -> None:
    positions, feats, batch = cloud(seed)
    net = network()
    with torch.no_grad():
        both = net.forward_points(positions, feats, batch)
        for sample in (0, 1):
            mine = batch == sample
            alone = net.forward_points(positions[mine], feats[mine])
            torch.testing.assert_close(alone, both[mine])


def sample(seed: int = 0) -> SparseTensor:
    positions, feats, batch = cloud(seed, 300)
    coords, mean, _ = quantize(positions * 2, 1.0, feats, batch)
    return SparseTensor(mean.float(), coords)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("head_bias", [False, True])
def test_every_parameter_gets_a_gradient(arch: str, head_bias: bool) -> None:
    net = network(arch, head_bias=head_bias).float().train()
    x = sample()
    out = net(x)
    width = {"SPVCNN": 6, "SPVCNNConcat": 30}[arch] + head_bias
    assert out.feats.shape == (len(x), width) == (len(x), net.feature_dim) and net.basis.shape == (width, 5)
    torch.testing.assert_close(net.head(out.feats), net.classifier(out.feats))
    net.head(out.feats).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.abs().sum() > 0) or name.endswith(".0.bias"), name  # a bias before a norm


def test_dropout_is_on_the_voxels_before_the_first_and_the_third_doubling() -> None:
    net = network().float()
    seen: list[Tensor] = []
    net.dropout.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    x = sample()
    assert torch.equal(net(x).feats, net(x).feats)
    manager = x.manager
    rows = [len(manager.voxels(16)), len(manager.voxels(4))]
    assert [tuple(t.shape) for t in seen] == [(rows[0], 16), (rows[1], 8)] * 2
    net.train()
    assert not torch.equal(net(x).feats, net(x).feats)
    assert (net.dropout.p, SPVCNN("SPVCNNConcat", 2, 5).dropout.p) == (0.3, 0.0)


def test_bias_of_the_head_is_the_constant_channels_row() -> None:
    net = network("SPVCNNConcat", head_bias=True).float()
    plain = torch.nn.Linear(30, 5)
    net.classifier[0].weight.data = torch.cat([plain.weight, plain.bias[:, None]], dim=1)
    z = net(sample()).feats
    assert bool((z[:, -1] == 1).all())
    torch.testing.assert_close(net.head(z), plain(z[:, :-1]))


def release_keys() -> set[str]:
    """The names in the releases, written out from their constructors."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    convolutions = {"stem.0": "stem.1", "stem.3": "stem.4"}
    for level in (1, 2, 3, 4):
        convolutions |= {f"stage{level}.0.net.0": f"stage{level}.0.net.1", f"up{level}.0.net.0": f"up{level}.0.net.1"}
        for block in (f"stage{level}.1", f"stage{level}.2", f"up{level}.1.0", f"up{level}.1.1"):
            convolutions |= {f"{block}.net.0": f"{block}.net.1", f"{block}.net.3": f"{block}.net.4"}
    for block in ("stage2.1", "stage3.1", "stage4.1", "up1.1.0", "up2.1.0", "up3.1.0", "up4.1.0"):
        convolutions[f"{block}.downsample.0"] = f"{block}.downsample.1"
    keys = {f"{conv}.kernel" for conv in convolutions} | {f"{bn}.{n}" for bn in convolutions.values() for n in norm}
    for number in (0, 1, 2):
        keys |= {f"point_transforms.{number}.0.{n}" for n in ("weight", "bias")}
        keys |= {f"point_transforms.{number}.1.{n}" for n in norm}
    return keys | {"classifier.0.weight"}


def test_state_dict_has_the_releases_names_and_sizes() -> None:
    net = SPVCNN("SPVCNNConcat", 1, 512)
    state = net.state_dict()
    assert set(state) == release_keys()
    assert state["stem.0.kernel"].shape == (27, 1, 32)
    assert state["stage1.0.net.0.kernel"].shape == (8, 32, 32)
    assert state["up1.0.net.0.kernel"].shape == (8, 256, 256)
    assert state["up1.1.0.net.0.kernel"].shape == (27, 256 + 128, 256)
    assert state["up4.1.0.downsample.0.kernel"].shape == (96 + 32, 96)
    assert state["point_transforms.0.0.weight"].shape == (256, 32)
    assert state["point_transforms.2.0.weight"].shape == (96, 128)
    assert state["classifier.0.weight"].shape == (512, 480)
    assert SPVCNN("SPVCNN", 4, 19).basis.shape == (96, 19)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@torch.no_grad()
def test_folding_changes_nothing_but_the_layers(arch: str) -> None:
    net = network(arch).float()
    folded = fold_batch_norm(net)
    x = sample()
    expected = net(x).feats
    torch.testing.assert_close(folded(x).feats, expected, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(m, torch.nn.BatchNorm1d) for m in folded.modules())
    assert torch.equal(net(x).feats, expected) and any(isinstance(m, torch.nn.BatchNorm1d) for m in net.modules())


@torch.no_grad()
def test_bfloat16_stays_close() -> None:
    net = network(width=0.5).float()
    x = sample()
    exact = net(x).feats
    low = fold_batch_norm(net).bfloat16()(x.replace(x.feats.bfloat16())).feats
    assert low.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(low.float(), exact).min() > 0.999


@pytest.mark.parametrize("voxels", [0, 1])
@torch.no_grad()
def test_almost_nothing(voxels: int) -> None:
    coords = torch.tensor([[0, -3, 2, 1]])[:voxels]
    out = network().float()(SparseTensor(torch.ones(voxels, 2), coords))
    assert out.feats.shape == (voxels, 6) and bool(out.feats.isfinite().all())


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    info = CheckpointInfo("SPVCNN", 0.25, ("ones", "intensity"), 0.1, EncoderIdentity("tiny", "street", 16))
    net = info.build()
    assert isinstance(net, SPVCNN)
    save_checkpoint(tmp_path / "x.safetensors", net, info)
    loaded, read = load_checkpoint(tmp_path / "x.safetensors")
    assert read == info and isinstance(loaded, SPVCNN) and not loaded.training
    x = sample()
    with torch.no_grad():
        assert torch.equal(loaded(x).feats, net.eval()(x).feats)
    torch.testing.assert_close(loaded.basis, net.basis)


def test_unusable_descriptions() -> None:
    with pytest.raises(ValueError, match="SPVCNNConcat"):
        SPVCNN("SPVCNN2", 1, 8)
    with pytest.raises(ValueError, match="without channels"):
        SPVCNN("SPVCNN", 1, 8, width=0.01)
