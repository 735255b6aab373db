"""What must hold of any convolution, whatever its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ov3d_perception.sparse import BatchNorm, Conv3d, ConvTranspose3d, ReLU, SparseTensor, Stencil
from ov3d_perception.sparse.convolution import convolve
from ov3d_perception.sparse.coordinates import CoordinateManager
from ov3d_perception.sparse.runtime.workers import run_on_threads


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [
        Conv3d(2, 6, 5), BatchNorm(6), ReLU(), Conv3d(6, 8, 2, stride=2), Conv3d(8, 8, 3, dilation=2),
        Conv3d(8, 5, 3, stride=2), ConvTranspose3d(5, 6, 3), ConvTranspose3d(6, 4, 2),
    ]  # fmt: skip
    return nn.Sequential(*layers).double().eval()


def cloud(seed: int, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randint(-6, 6, (150, 4), generator=generator)
    coords[:, 0] = coords[:, 0].remainder(batch)
    coords = coords.unique(dim=0)
    return coords, torch.randn(len(coords), 2, generator=generator, dtype=torch.float64)


@given(st.integers(0, 1000))
@settings(max_examples=15)
def test_permutation_of_rows(seed: int) -> None:
    coords, feats = cloud(seed)
    order = torch.randperm(len(coords), generator=torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        plain = network()(SparseTensor(feats, coords)).feats
        permuted = network()(SparseTensor(feats[order], coords[order])).feats
    torch.testing.assert_close(permuted, plain[order])


@given(st.integers(0, 1000), st.tuples(*[st.integers(-20, 20)] * 3))
@settings(max_examples=15)
def test_translation_by_a_multiple_of_the_stride(seed: int, by: tuple[int, int, int]) -> None:
    coords, feats = cloud(seed)
    moved = coords + torch.tensor([0, *(4 * d for d in by)])
    with torch.no_grad():
        torch.testing.assert_close(
            network()(SparseTensor(feats, moved)).feats, network()(SparseTensor(feats, coords)).feats
        )


@given(st.integers(0, 1000))
@settings(max_examples=15)
def test_samples_of_a_batch_do_not_see_each_other(seed: int) -> None:
    coords, feats = cloud(seed)
    with torch.no_grad():
        both = network()(SparseTensor(feats, coords)).feats
        for sample in (0, 1):
            mine = coords[:, 0] == sample
            alone = network()(SparseTensor(feats[mine], coords[mine])).feats
            torch.testing.assert_close(alone, both[mine])


@pytest.mark.parametrize("voxels", [0, 1])
def test_almost_nothing(voxels: int) -> None:
    coords = torch.tensor([[0, -3, 2, 1]])[:voxels]
    out = network()(SparseTensor(torch.ones(voxels, 2, dtype=torch.float64), coords))
    assert out.feats.shape == (voxels, 4) and bool(out.feats.isfinite().all())


def cut_all(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    """Cuts all maps into blocks with so many pairs."""
    monkeypatch.setattr("ov3d_perception.sparse.convolution._PAIRS", {"cpu": pairs})


@pytest.mark.parametrize("seed", [3, 4])
def test_blocks_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    coords, feats = cloud(seed)
    results = []
    for pairs in (1 << 20, 40, 1):
        cut_all(monkeypatch, pairs)
        net = network()
        inputs = feats.clone().requires_grad_()
        out = net(SparseTensor(inputs, coords)).feats
        out.square().sum().backward()
        results.append([out, inputs.grad, *(p.grad for p in net.parameters())])
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads, and at the end puts it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("inference", [False, True])
def test_threads_give_the_same(
    monkeypatch: pytest.MonkeyPatch, threads: Callable[[int], None], inference: bool
) -> None:
    cut_all(monkeypatch, 40)
    coords, feats = cloud(5)
    results = []
    for number in (1, 3):
        threads(number)
        net = network()
        inputs = feats.clone().requires_grad_(not inference)
        with torch.inference_mode(inference):
            out = net(SparseTensor(inputs, coords)).feats
        if not inference:
            out.square().sum().backward()
        results.append([out.clone(), *(p.grad for p in (inputs, *net.parameters()) if p.grad is not None)])
        assert torch.get_num_threads() == number
        with ThreadPoolExecutor(1) as other:  # threads to come are as before
            assert other.submit(torch.get_num_threads).result() == number
    assert len(results[0]) == (1 if inference else 10)
    torch.testing.assert_close(results[1], results[0])


def small_network(dtype: torch.dtype) -> nn.Module:
    """Of types and channels for which there are kernels, of all strides."""
    torch.manual_seed(1)
    layers = [Conv3d(8, 16, 3), Conv3d(16, 48, 2, stride=2), Conv3d(48, 12, 3), ConvTranspose3d(12, 8, 2)]
    return nn.Sequential(*layers).to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("pairs", [1 << 20, 100])
def test_compiled_or_not_it_is_the_same(
    monkeypatch: pytest.MonkeyPatch, pairs: int, dtype: torch.dtype, tolerance: float
) -> None:
    cut_all(monkeypatch, pairs)
    coords, _ = cloud(6)
    feats = torch.randn(len(coords), 8, generator=torch.Generator().manual_seed(0))

    def results(dtype: torch.dtype) -> list[torch.Tensor | None]:
        net, inputs = small_network(dtype), feats.to(dtype).clone().requires_grad_()
        out = net(SparseTensor(inputs, coords)).feats
        out.square().sum().backward()
        return [out.detach(), inputs.grad, *(p.grad for p in net.parameters())]

    found = results(dtype)
    monkeypatch.setattr("ov3d_perception.sparse.kernels.fits", lambda *_: False)
    for a, b in zip(found, results(torch.float64), strict=True):
        assert a is not None and b is not None and a.dtype == dtype
        torch.testing.assert_close(a.double(), b, atol=tolerance * float(b.abs().max()), rtol=0)


@pytest.mark.usefixtures("shapes_unchecked")
def test_what_does_not_belong_together_is_refused() -> None:
    coords, _ = cloud(6)
    x = SparseTensor(torch.zeros(len(coords), 8), coords)
    with pytest.raises(ValueError, match=r"kernel \(27, 12, 8\) do not fit"):
        Conv3d(12, 8, 3)(x)
    with pytest.raises(ValueError, match="bfloat16 and the kernel is"):
        Conv3d(8, 8, 3)(x.replace(x.feats.bfloat16()))
    kernel_map = x.manager.kernel_map(1, 1, 3)
    for feats, kernel in ((x.feats[1:], torch.zeros(27, 8, 8)), (x.feats, torch.zeros(8, 8, 8))):
        with pytest.raises(ValueError, match="do not fit"):
            convolve(feats, kernel, kernel_map)


def test_gradients_are_the_same_to_the_bit(monkeypatch: pytest.MonkeyPatch, threads: Callable[[int], None]) -> None:
    """Whichever thread is faster: sums are made in a fixed order."""
    cut_all(monkeypatch, 100)
    threads(3)
    coords, _ = cloud(7)
    feats = torch.randn(len(coords), 8, generator=torch.Generator().manual_seed(0))
    seen = []
    for _ in range(5):
        net = small_network(torch.float32)
        net(SparseTensor(feats, coords)).feats.square().sum().backward()
        seen.append([p.grad for p in net.parameters() if p.grad is not None])
    assert len(seen[0]) == 4
    assert all(torch.equal(a, b) for other in seen[1:] for a, b in zip(seen[0], other, strict=True))


def test_expected_maps_are_made_aside_and_are_the_same(threads: Callable[[int], None]) -> None:
    threads(2)
    coords, feats = cloud(8)
    stencils = [Stencil(1, 2, 2), Stencil(2, 2, 3), Stencil(1, 1, 3)]
    plain, prepared = CoordinateManager(coords), CoordinateManager(coords)
    prepared.expect(stencils, feats)
    for stencil in stencils:
        expected, found = plain.kernel_map(*stencil), prepared.kernel_map(*stencil)
        assert found.sizes == expected.sizes and found.symmetric == expected.symmetric
        assert torch.equal(found.in_rows, expected.in_rows) and torch.equal(found.out_rows, expected.out_rows)
    assert torch.equal(plain.voxels(2).keys, prepared.voxels(2).keys)


def test_an_error_aside_is_raised_where_the_map_is_wanted(threads: Callable[[int], None]) -> None:
    threads(2)
    coords, feats = cloud(8)
    manager = CoordinateManager(coords)
    manager.expect([Stencil(4, 8, 2)], feats)
    with pytest.raises(ValueError, match="No voxels at stride 4"):
        manager.kernel_map(4, 8, 2)


def test_an_error_in_a_thread_is_raised(threads: Callable[[int], None]) -> None:
    def fail(blocks: Iterable[int]) -> None:
        for block in blocks:
            if block == 1:
                raise ZeroDivisionError

    threads(2)
    with pytest.raises(ZeroDivisionError):
        run_on_threads(fail, [0, 1], torch.device("cpu"))


def test_transposed_convolution_needs_voxels_to_return_to() -> None:
    coarse = SparseTensor(torch.ones(1, 5), torch.tensor([[0, 4, 0, 0]]), stride=2)
    with pytest.raises(ValueError, match="No voxels at stride 1"):
        ConvTranspose3d(5, 6, 2)(coarse)


@pytest.mark.parametrize("channels", [2, 16])
def test_bfloat16_autocast_stays_close(channels: int) -> None:
    coords, _ = cloud(0)
    feats = torch.randn(len(coords), channels)
    layer = Conv3d(channels, 16, 3)
    x = SparseTensor(feats, coords)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = layer(x).feats
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), layer(x).feats, rtol=0.05, atol=0.05)
