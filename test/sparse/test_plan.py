"""A network run as a plan gives what it gives layer by layer."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from ov3d_perception.networks.folding import fold_batch_norm
from ov3d_perception.networks.live import LiveNetwork
from ov3d_perception.networks.registry import Network, build_network
from ov3d_perception.sparse import SparseTensor
from ov3d_perception.sparse.plan import Plan
from ov3d_perception.sparse.recording import UntraceableError


def network(arch: str = "MinkUNet14A", channels: int = 3, head_bias: bool = False) -> Network:
    torch.manual_seed(0)
    made = build_network(arch, channels, 16, 0.25, head_bias).eval()
    for norm in made.modules():
        if isinstance(norm, nn.BatchNorm1d):
            assert norm.running_mean is not None and norm.running_var is not None
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return made


def cloud(channels: int = 3, count: int = 3000, reach: int = 20, shuffled: bool = False) -> SparseTensor:
    generator = torch.Generator().manual_seed(0)
    coords = torch.randint(-reach, reach, (count, 4), generator=generator)
    coords[:, 0] = coords[:, 0].remainder(2)
    coords[:, 3] = coords[:, 3].div(8, rounding_mode="floor")
    coords = coords.unique(dim=0)
    if shuffled:
        coords = coords[torch.randperm(len(coords), generator=generator)]
    return SparseTensor(torch.randn(len(coords), channels, generator=generator), coords)


def fresh(x: SparseTensor, dtype: torch.dtype) -> SparseTensor:
    """On a manager without kernel maps."""
    return SparseTensor(x.feats.to(dtype), x.coords)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("arch", ["MinkUNet14A", "MinkUNet18A", "MinkUNet34C"])
def test_equals_layer_by_layer(arch: str, dtype: torch.dtype, threads: int) -> None:
    made, x = network(arch), cloud(shuffled=arch == "MinkUNet34C")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        live = LiveNetwork(made, torch.device("cpu"), dtype)
        assert live.plan is not None
        found = live(fresh(x, dtype))
        with torch.inference_mode():
            expected = made(x).feats
            near = fold_batch_norm(made).to(dtype)(fresh(x, dtype)).feats.float()
    finally:
        torch.set_num_threads(before)
    assert found.feats.dtype == dtype and torch.equal(found.coords, x.coords)
    if dtype == torch.float32:
        torch.testing.assert_close(found.feats, expected, rtol=1e-4, atol=1e-4)
    else:
        ours, theirs = ((feats - expected).norm() for feats in (found.feats.float(), near))
        assert ours <= 1.2 * theirs and ours / expected.norm() < 0.02


def test_what_it_gave_is_not_overwritten_by_the_next_cloud() -> None:
    live = LiveNetwork(network(), torch.device("cpu"), torch.float32)
    first = live(cloud()).feats
    kept = first.clone()
    for count in (3000, 2000, 3000):
        live(SparseTensor(torch.ones(len(cloud(count=count)), 3), cloud(count=count).coords))
    assert torch.equal(first, kept)


def test_the_same_to_the_bit_with_any_number_of_threads() -> None:
    live, before, found = LiveNetwork(network(), torch.device("cpu"), torch.float32), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(live(cloud(count=20000, reach=40)).feats)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(other, found[0]) for other in found[1:])


@pytest.mark.parametrize("count", [1, 2, 9])
def test_clouds_of_almost_nothing(count: int) -> None:
    made, x = network(), cloud(count=count)
    with torch.inference_mode():
        expected = made(x).feats
    torch.testing.assert_close(
        LiveNetwork(made, torch.device("cpu"), torch.float32)(x).feats, expected, rtol=1e-4, atol=1e-4
    )


def test_buffers_of_one_memory_are_not_needed_at_once() -> None:
    plan = Plan.of(fold_batch_norm(network("MinkUNet18A")), 3, torch.float32)
    assert len(set(plan.slots.values())) < len(plan.slots)
    for slot in set(plan.slots.values()):
        spans = []
        for buffer in (b for b, s in plan.slots.items() if s == slot):
            uses = [n for n, made in enumerate(plan.layers) if buffer in made.recorded.buffers]
            spans.append((min(uses), max(uses), buffer.stride))
        spans.sort()
        assert len({stride for _, _, stride in spans}) == 1
        assert all(last < first for (_, last, _), (first, _, _) in pairwise(spans))


@pytest.mark.parametrize("made", [network("SPVCNN"), network(head_bias=True), nn.Identity()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])  # there, three channels become four
def test_other_networks_are_refused(made: nn.Module, dtype: torch.dtype) -> None:
    with pytest.raises(UntraceableError):
        Plan.of(made.eval().to(dtype), 3, dtype)


def test_other_networks_run_layer_by_layer() -> None:
    made, x = network(head_bias=True), cloud()
    live = LiveNetwork(made, torch.device("cpu"), torch.float32)
    with torch.inference_mode():
        expected = made(x).feats
    assert live.plan is None
    torch.testing.assert_close(live(x).feats, expected, rtol=1e-4, atol=1e-4)
