from __future__ import annotations

import pytest
import torch

from ov3d_perception.networks.folding import fold_batch_norm
from ov3d_perception.networks.inputs import point_inputs
from ov3d_perception.networks.minkunet import ARCHITECTURES, MinkUNet, scaled
from ov3d_perception.sparse import SparseTensor


def sample(channels: int = 2, batch: int = 1, seed: int = 0) -> SparseTensor:
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randint(-20, 20, (400, 4), generator=generator)
    coords[:, 0] = coords[:, 0].remainder(batch)
    coords = coords.unique(dim=0)
    return SparseTensor(torch.randn(len(coords), channels, generator=generator), coords)


def with_statistics(network: MinkUNet) -> MinkUNet:
    """Running statistics as after some training, so that folding has something to fold."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            for tensor, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.3, 0.3),
            ):
                tensor.copy_(torch.empty_like(tensor).uniform_(low, high, generator=generator))
    return network.eval()


def minkowski_keys(layers: tuple[int, ...], inplanes: tuple[int, ...], planes: tuple[int, ...]) -> set[str]:
    """The names that MinkowskiEngine's MinkUNetBase gives, written out from its constructor."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    stems = {
        "conv0p1s1": "bn0", "conv1p1s2": "bn1", "conv2p2s2": "bn2", "conv3p4s2": "bn3", "conv4p8s2": "bn4",
        "convtr4p16s2": "bntr4", "convtr5p8s2": "bntr5", "convtr6p4s2": "bntr6", "convtr7p2s2": "bntr7",
    }  # fmt: skip
    keys = {f"{conv}.kernel" for conv in stems} | {f"{bn}.bn.{n}" for bn in stems.values() for n in norm}
    for stage, (count, before, channels) in enumerate(zip(layers, inplanes, planes, strict=True), start=1):
        for block in range(count):
            for part in (1, 2):
                keys.add(f"block{stage}.{block}.conv{part}.kernel")
                keys |= {f"block{stage}.{block}.norm{part}.bn.{n}" for n in norm}
        if before != channels:
            keys.add(f"block{stage}.0.downsample.0.kernel")
            keys |= {f"block{stage}.0.downsample.1.bn.{n}" for n in norm}
    return keys | {"final.kernel"}


def test_state_dict_has_minkowski_engines_names_and_openscenes_size() -> None:
    network = MinkUNet("MinkUNet18A", 3, 768)
    inplanes = (32, 32, 64, 128, 128 + 128, 128 + 64, 96 + 32, 96 + 32)
    planes = (32, 64, 128, 256, 128, 128, 96, 96)
    assert set(network.state_dict()) == minkowski_keys((2,) * 8, inplanes, planes)
    assert sum(p.numel() for p in network.parameters()) == 15_564_960
    assert network.conv0p1s1.kernel.shape == (125, 3, 32)
    assert network.block5[0].conv1.kernel.shape == (27, 256, 128)
    assert network.block5[0].downsample[0].kernel.shape == (256, 128)
    assert network.convtr7p2s2.kernel.shape == (8, 96, 96)
    assert network.final.kernel.shape == (96, 768)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_forward_and_backward(arch: str) -> None:
    network = MinkUNet(arch, 2, 32, width=0.25)
    x = sample(batch=2)
    out = network(x)
    narrow = {"MinkUNet18B": 32, "MinkUNet34A": 16}.get(arch, 24)
    assert out.feats.shape == (len(x), narrow) and torch.equal(out.coords, x.coords)
    assert network.head(out.feats).shape == (len(x), 32)
    network.head(out.feats).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())
    assert network.feature_dim == narrow and network.basis.shape == (narrow, 32)


@pytest.mark.parametrize(
    ("arch", "layers", "planes"),
    [
        ("MinkUNet14A", (1,) * 8, (32, 64, 128, 256, 128, 128, 96, 96)),
        ("MinkUNet18B", (2,) * 8, (32, 64, 128, 256, 128, 128, 128, 128)),
        ("MinkUNet34A", (2, 3, 4, 6, 2, 2, 2, 2), (32, 64, 128, 256, 256, 128, 64, 64)),
        ("MinkUNet34C", (2, 3, 4, 6, 2, 2, 2, 2), (32, 64, 128, 256, 256, 128, 96, 96)),
    ],
)
def test_other_architectures_have_minkowski_engines_names(
    arch: str, layers: tuple[int, ...], planes: tuple[int, ...]
) -> None:
    skips = (0, 0, 0, 0, planes[2], planes[1], planes[0], 32)
    inplanes = (32, *planes[:3], *(p + s for p, s in zip(planes[4:], skips[4:], strict=True)))
    with torch.device("meta"):
        network = MinkUNet(arch, 1, 512)
    assert set(network.state_dict()) == minkowski_keys(layers, inplanes, planes)
    assert [network.get_submodule(f"block{i + 1}.0.conv1").kernel.shape[2] for i in range(8)] == list(planes)


def test_head_bias_is_a_constant_feature() -> None:
    network = MinkUNet("MinkUNet14A", 2, 8, width=0.25, head_bias=True).eval()
    z = network(sample()).feats
    assert network.basis.shape == (25, 8) and z.shape[1] == network.feature_dim == 25 and bool((z[:, -1] == 1).all())
    expected = z[:, :-1] @ network.basis[:-1] + network.basis[-1]
    torch.testing.assert_close(network.head(z), expected)


def test_unknown_architecture_names_the_known() -> None:
    with pytest.raises(ValueError, match="MinkUNet14A"):
        MinkUNet("MinkUNet99", 1, 8)


def test_width_keeps_multiples_of_eight() -> None:
    assert [scaled(c, 0.5) for c in (32, 96, 256)] == [16, 48, 128]
    assert scaled(32, 0.1) == 8 and scaled(96, 0.3) == 32


def test_folding_changes_nothing_but_the_layers() -> None:
    network = with_statistics(MinkUNet("MinkUNet14A", 2, 16, width=0.25))
    folded = fold_batch_norm(network)
    x = sample()
    with torch.no_grad():
        expected = network(x).feats
        torch.testing.assert_close(folded(x).feats, expected, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(m, torch.nn.BatchNorm1d) for m in folded.modules())
    assert any(isinstance(m, torch.nn.BatchNorm1d) for m in network.modules())
    torch.testing.assert_close(network(x).feats, expected)


def test_shape_within_a_voxel() -> None:
    """offset: place within the voxel, whatever the height; roughness: spread within a column of one metre."""
    xyz = torch.tensor([[0.1, 0.1, -1.75], [0.9, 0.9, -1.65], [1.5, 0.1, 3.3]])
    inputs = point_inputs(("offset", "roughness"), xyz, torch.zeros(3), 0.2)
    torch.testing.assert_close(inputs[:, 0], torch.tensor([-0.25, 0.25, 0.0]), atol=1e-5, rtol=0)
    rough, smooth = torch.log(torch.tensor(0.05 + 0.01)) + 3, torch.log(torch.tensor(0.01)) + 3
    torch.testing.assert_close(inputs[:, 1], torch.stack([rough, rough, smooth]), atol=1e-3, rtol=0)


def test_the_rank_of_an_intensity_is_the_same_however_a_lidar_reports_strength() -> None:
    def rank(intensity: torch.Tensor) -> torch.Tensor:
        return point_inputs(("intensity_rank",), torch.zeros(len(intensity), 3), intensity, 0.1)[:, 0]

    assert rank(torch.tensor([0.25, 0.5, float("nan"), 0.5])).tolist() == [-0.5, 1.0, -1.5, 1.0]
    strength = torch.rand(500, generator=torch.Generator().manual_seed(1))
    for reported in (strength * 0.3, strength**0.5, strength.square()):
        torch.testing.assert_close(rank(reported), rank(strength), atol=0.01, rtol=0)
    assert rank(torch.zeros(7)).tolist() == [0.0] * 7
    assert rank(torch.zeros(0)).tolist() == []


def test_elevation_is_above_the_ground_around_the_sensor_however_high_that_is() -> None:
    def elevation(xyz: torch.Tensor) -> torch.Tensor:
        return point_inputs(("elevation",), xyz, torch.zeros(len(xyz)), 0.2)[:, 0]

    cell = torch.arange(-8.0, 8.0) + 0.5
    ground = torch.cartesian_prod(cell, cell, torch.tensor([-0.8]))
    wall = torch.cartesian_prod(torch.tensor([3.5]), cell, torch.tensor([-0.2, 1.2]))
    far = torch.tensor([[40.0, 0.0, 2.2], [60.0, 0.0, -9.0]])
    found = elevation(torch.cat([ground, wall, far]))
    torch.testing.assert_close(found[: len(ground)], torch.zeros(len(ground)))
    torch.testing.assert_close(found[-2:], torch.tensor([3.0, -8.2]))
    torch.testing.assert_close(elevation(torch.cat([ground, wall, far]) + torch.tensor([0.0, 0.0, 1.1])), found)
    alone = torch.tensor([[30.0, 0.0, float(z)] for z in range(21)])  # nothing near: the twentieth that is lowest
    torch.testing.assert_close(elevation(alone), torch.arange(21.0) - 1)
    assert elevation(torch.zeros(0, 3)).tolist() == []


def test_point_inputs_by_name() -> None:
    xyz = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [0.0, 0.0, 0.0]])
    intensity = torch.tensor([0.5, float("nan"), 7.0])
    inputs = point_inputs(("height", "ones", "intensity"), xyz, intensity, 0.1)
    assert inputs.tolist() == [[3.0, 1.0, 0.5], [6.0, 1.0, 0.0], [0.0, 1.0, 1.0]]
    logarithms = point_inputs(("log_intensity",), xyz, torch.tensor([0.09, float("nan"), 7.0]), 0.1)
    torch.testing.assert_close(logarithms[:, 0], torch.tensor([0.1, 0.01, 1.01]).log() + 2.3)
    with pytest.raises(ValueError, match="colour"):
        point_inputs(("colour",), xyz, intensity, 0.1)
    with pytest.raises(ValueError, match="known are"):
        point_inputs((), xyz, intensity, 0.1)
