"""Layers and networks in bytes against integers and doubles, multiplied one pair after the other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ov3d_perception.llvm_code import Host
from ov3d_perception.networks.folding import fold_batch_norm
from ov3d_perception.networks.live import LiveNetwork
from ov3d_perception.networks.registry import Network, build_network
from ov3d_perception.sparse import Conv3d, SparseTensor, convolve_normalised, kernels
from ov3d_perception.sparse.buffers import Buffer
from ov3d_perception.sparse.coordinates import CoordinateManager
from ov3d_perception.sparse.fused import affine
from ov3d_perception.sparse.kernel_map import KernelMap
from ov3d_perception.sparse.layer_code import layer, step_of
from ov3d_perception.sparse.modules import BatchNorm, ReLU
from ov3d_perception.sparse.packing import packed
from ov3d_perception.sparse.plan import Plan, maps_of
from ov3d_perception.sparse.plan_layers import rounded
from ov3d_perception.sparse.recording import UntraceableError, record
from ov3d_perception.sparse.steps import run_steps

pytestmark = pytest.mark.skipif(not kernels.multiplies_bytes(), reason="no instructions for products of bytes")


def voxels(count: int = 600, reach: int = 8) -> Tensor:
    coords = torch.randint(0, reach, (count, 4), generator=torch.Generator().manual_seed(0))
    coords[:, 0] = 0
    return coords.unique(dim=0)


def summed(feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """Sums of products as integers."""
    sums = torch.zeros(kernel_map.n_out, kernel.shape[2], dtype=torch.int64)
    for slot, (ins, outs) in zip(kernel_map.slots, kernel_map.pairs(), strict=True):
        products = feats[ins.long()].long() @ kernel[slot].long()
        sums.index_add_(0, outs.long(), products)
    return sums


def drawn(low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high, shape)


@pytest.mark.parametrize("machine", [None, Host(8, 16, False, True)], ids=["here", "AVX-VNNI"])
@pytest.mark.parametrize("out", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shortcut", ["none", "same", "projected"])
@pytest.mark.parametrize(("channels", "columns"), [(8, 96), (36, 20), (64, 32), (4, 8)])
def test_a_layer_is_its_integers_scaled(
    channels: int,
    columns: int,
    shortcut: str,
    out: torch.dtype,
    machine: Host | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the bit: all factors are powers of two."""
    if machine is not None:
        monkeypatch.setattr(kernels, "host", lambda: machine)
        kernels.tile_for.cache_clear()
    torch.manual_seed(0)
    coords = voxels()
    kernel_map = CoordinateManager(coords).kernel_map(1, 1, 3)
    count = len(coords)
    feats, beside = drawn(0, 256, count, channels).byte(), drawn(0, 256, count, columns).byte()
    kernel, matrix = drawn(-128, 128, 27, channels, columns).char(), drawn(-128, 128, columns, columns).char()
    scale, beside_scale = (2.0 ** drawn(-12, -8, columns) for _ in range(2))
    bias = drawn(-400, 400, columns) / 8
    expected = summed(feats, kernel, kernel_map) * scale.double() + bias
    if shortcut != "none":
        own = beside.long() if shortcut == "same" else beside.long() @ matrix.long()
        expected = expected + own * beside_scale.double()
    expected = expected.clamp_min(0)
    found, panels = torch.zeros(count, columns, dtype=out), (packed(kernel), packed(matrix[None]))
    cut = kernel_map.cut(500, 1)
    try:
        step = step_of(
            layer(columns, torch.uint8, shortcut, relu=True, out=out),
            kernel_map,
            cut,
            (feats.data_ptr(), channels, channels),
            panels[0].data_ptr(),
            bias,
            out=found.data_ptr(),
            out_wide=columns,
            columns=columns,
            shortcut=beside.data_ptr(),
            shortcut_wide=columns,
            shortcut_channels=columns,
            matrix=panels[1].data_ptr(),
            scale=scale.data_ptr(),
            shortcut_scale=beside_scale.data_ptr(),
        )
        run_steps([step], cut.most * columns)
    finally:
        kernels.tile_for.cache_clear()
    if out == torch.uint8:
        expected = (expected + 0.5).floor().clamp_max(255)
        assert (expected == 255).any() and ((expected > 0) & (expected < 255)).any()
    assert torch.equal(found.double(), expected)


def network(arch: str = "MinkUNet14A") -> Network:
    torch.manual_seed(0)
    made = build_network(arch, 3, 16, 0.25).eval()
    for norm in made.modules():
        if isinstance(norm, nn.BatchNorm1d):
            assert norm.running_mean is not None and norm.running_var is not None
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return made


def cloud() -> SparseTensor:
    coords = voxels(3000, 30)
    return SparseTensor(torch.randn(len(coords), 3, generator=torch.Generator().manual_seed(1)), coords)


def largest_of(made: Network) -> list[float]:
    plan = LiveNetwork(made, torch.device("cpu"), torch.float32).plan
    assert plan is not None
    with torch.inference_mode():
        return plan.largest_outputs(cloud())


def by_hand(made: Network, x: SparseTensor, largest: list[float]) -> Tensor:
    """The network in doubles, every output but the last rounded to a 255th of its largest, every weight to a 127th of
    its channel's."""
    recording = record(fold_batch_norm(made), 3, torch.float32)
    maps = maps_of(recording.layers, x.manager)
    held: dict[Buffer, Tensor] = {recording.source: x.feats.double()}
    units: dict[Buffer, Tensor] = {recording.source: torch.ones(3).double()}
    for recorded, kernel_map, most in zip(recording.layers, maps, largest, strict=True):

        def parts(buffer: Buffer, of: dict[Buffer, Tensor]) -> Tensor:
            inside = sorted((b for b in of if b.whole and b.whole[0] is buffer), key=lambda b: b.whole[1])  # type: ignore[index]
            return of[buffer] if buffer in of else torch.cat([of[b] for b in inside], dim=-1)

        scale, shift, matrix = affine(recorded.conv, recorded.norm, recorded.projection)
        assert scale is None and shift is not None
        feats, kernel = parts(recorded.source, held), recorded.conv.kernel.double()
        if recorded.source is not recording.source:
            kernel = rounded_weights(kernel * parts(recorded.source, units)[:, None])
            feats = feats / parts(recorded.source, units)
        sums = torch.zeros(kernel_map.n_out, kernel.shape[2]).double()
        for slot, (ins, outs) in zip(kernel_map.slots, kernel_map.pairs(), strict=True):
            sums.index_add_(0, outs.long(), feats[ins.long()] @ kernel[slot])
        sums += shift
        if recorded.shortcut is not None:
            own = parts(recorded.shortcut, held)
            if matrix is not None:
                unit = parts(recorded.shortcut, units)
                own = (own / unit) @ rounded_weights(matrix.double()[None] * unit[:, None])[0]
            sums += own
        unit = torch.full(sums.shape[1:], most / 255).double()
        sums = sums.clamp_min(0)
        if recorded.target is not recording.target:
            sums = (sums / unit).round().clamp_max(255) * unit
        held[recorded.target], units[recorded.target] = sums, unit
    return held[recording.target]


def rounded_weights(kernel: Tensor) -> Tensor:
    unit = kernel.abs().amax((0, 1)) / 127
    return (kernel / unit).round() * unit


@pytest.mark.parametrize("arch", ["MinkUNet14A", "MinkUNet18A"])
def test_a_network_is_its_numbers_rounded(arch: str) -> None:
    """One sum in many thousands rounds to another byte in floats than in doubles, and changes those after it."""
    made, x, largest = network(arch), cloud(), largest_of(network(arch))
    live = LiveNetwork(made, torch.device("cpu"), torch.float32, largest)
    assert live.plan is not None and live.plan.within == torch.uint8
    found = live(x).feats
    with torch.inference_mode():
        expected, exact = by_hand(made, x, largest), made(SparseTensor(x.feats, x.coords)).feats
    apart, rounding = (float((found - other).norm() / exact.norm()) for other in (expected, exact))
    assert apart < 0.4 * rounding and rounding < 0.03, (apart, rounding)


def test_the_same_to_the_bit_with_any_number_of_threads() -> None:
    live = LiveNetwork(network(), torch.device("cpu"), torch.bfloat16, largest_of(network()))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            x = cloud()
            found.append(live(SparseTensor(x.feats.bfloat16(), x.coords)).feats)
    finally:
        torch.set_num_threads(before)
    assert found[0].dtype == torch.bfloat16 and all(torch.equal(other, found[0]) for other in found[1:])


def test_outputs_beyond_the_largest_become_it_and_nothing_breaks() -> None:
    made, x = network(), cloud()
    live = LiveNetwork(made, torch.device("cpu"), torch.float32, [most / 50 for most in largest_of(made)])
    wild = x.feats.clone()
    wild[::7] = 1e30
    wild[3] = torch.nan
    assert torch.isfinite(live(SparseTensor(wild, x.coords)).feats).all()


def test_weights_are_rounded_by_their_channel() -> None:
    kernel = torch.tensor([[[1.0, -0.5, 0.0], [0.25, 0.125, 0.0]]])
    whole, unit = rounded(kernel)
    assert whole.dtype == torch.int8 and whole[0].tolist() == [[127, -127, 0], [32, 32, 0]]
    torch.testing.assert_close(whole * unit, kernel, atol=0.002, rtol=0)


class OneLayer(nn.Module):
    """Reads floats and gives floats: there is nothing between."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.relu = Conv3d(4, 8, kernel_size=3), BatchNorm(8), ReLU()

    def forward(self, x: SparseTensor) -> SparseTensor:
        return convolve_normalised(self.conv, self.bn, self.relu, x)


def test_what_there_is_no_layer_for() -> None:
    folded = fold_batch_norm(network())
    with pytest.raises(ValueError, match="3 largest outputs for 25 layers"):
        Plan.of(folded, 3, torch.float32, [1.0, 2.0, 3.0])
    with pytest.raises(UntraceableError, match="joins bytes and floats"):
        Plan.of(OneLayer().eval(), 4, torch.float32, [1.0])
