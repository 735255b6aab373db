"""The compiled loops against the sums written out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ov3d_perception.llvm_code import LONG, WORD, Code, Host, compiled, host
from ov3d_perception.sparse import kernel_gradient as kernel_gradient_
from ov3d_perception.sparse import kernels, layer_code
from ov3d_perception.sparse.convolution import convolve
from ov3d_perception.sparse.coordinates import CoordinateManager
from ov3d_perception.sparse.epilogue import Epilogue
from ov3d_perception.sparse.kernel_gradient import kernel_gradient
from ov3d_perception.sparse.kernel_map import KernelMap
from ov3d_perception.sparse.kernels import fits, tile_for

SIZES = st.integers(1, 40)
DTYPES = st.sampled_from([torch.float32, torch.bfloat16])


def pairs(sizes: list[int], n_in: int, n_out: int, made: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each segment so many, each output row once in it."""
    ins = [torch.randint(n_in, (size,), generator=made) for size in sizes]
    outs = [torch.randperm(n_out, generator=made)[:size].sort().values for size in sizes]
    return torch.cat(ins).int(), torch.cat(outs).int()


@given(
    st.integers(1, 60),
    SIZES,
    st.integers(1, 26),
    DTYPES,
    st.sampled_from(["none", "same", "projected"]),
    st.booleans(),
    st.integers(0, 99),
)
@settings(max_examples=60)
def test_a_layer_is_its_sums_written_out(
    count: int, channels: int, fours: int, dtype: torch.dtype, beside: str, relu: bool, seed: int
) -> None:
    made, columns = torch.Generator().manual_seed(seed), 4 * fours
    coords = torch.randint(0, 6, (count, 4), generator=made).unique(dim=0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=made).to(dtype)

    feats, kernel, scale, shift = (
        random(len(coords), channels),
        random(27, channels, columns),
        random(columns),
        random(columns),
    )
    shortcut = {"none": None, "same": random(len(coords), columns), "projected": random(len(coords), 5)}[beside]
    matrix = random(5, columns) if beside == "projected" else None
    kernel_map = CoordinateManager(coords).kernel_map(1, 1, 3)
    with torch.no_grad():
        found = convolve(feats, kernel, kernel_map, Epilogue(scale, shift, shortcut, matrix, relu))
    sums = torch.zeros(len(coords), columns, dtype=torch.float64)
    for slot, (ins, outs) in zip(kernel_map.slots, kernel_map.pairs(), strict=True):
        for p, q in zip(ins.tolist(), outs.tolist(), strict=True):
            sums[q] += feats[p].double() @ kernel[slot].double()
    expected = sums * scale.double() + shift.double()
    if shortcut is not None:
        expected += shortcut.double() if matrix is None else shortcut.double() @ matrix.double()
    expected = expected.clamp_min(0) if relu else expected
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(found.double(), expected, atol=tolerance * (1 + float(sums.abs().max())), rtol=tolerance)


@given(st.lists(st.integers(0, 200), min_size=1, max_size=3), SIZES, st.integers(1, 26), DTYPES, st.integers(0, 99))
@settings(max_examples=40)
def test_outer_products_are_summed(sizes: list[int], channels: int, fours: int, dtype: torch.dtype, seed: int) -> None:
    made, columns = torch.Generator().manual_seed(seed), 4 * fours
    feats = torch.randn(20, channels, generator=made).to(dtype)
    grads = torch.randn(250, columns, generator=made).to(dtype)
    ins, outs = pairs(sizes, 20, 250, made)
    slots = tuple(reversed(range(len(sizes))))
    kernel_map = KernelMap(ins, outs, tuple(sizes), slots, 20, 250)
    found = kernel_gradient(feats, grads, kernel_map)
    expected = torch.zeros(len(sizes), channels, columns)
    for slot, (p, q) in zip(slots, kernel_map.pairs(), strict=True):
        expected[slot] += feats[p.long()].float().T @ grads[q.long()].float()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("machine", [Host(16, 32, False), Host(8, 16, False), Host(4, 32, False), Host(4, 16, False)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_as_other_processors_would(monkeypatch: pytest.MonkeyPatch, machine: Host, dtype: torch.dtype) -> None:
    monkeypatch.setattr(kernels, "host", lambda: machine)
    for known in (kernels.tile_for, kernel_gradient_._function, layer_code._layer):
        known.cache_clear()
    try:
        for columns in (96, 32, 24, 4):
            tile = tile_for(columns)
            assert columns % tile.columns == 0 and tile.lanes <= machine.lanes
            assert tile.rows * tile.vectors < machine.registers
            for channels in (3, 10):
                test_a_layer_is_its_sums_written_out.hypothesis.inner_test(
                    40, channels, columns // 4, dtype, "projected", True, 1
                )
            test_outer_products_are_summed.hypothesis.inner_test([70, 0, 3], 10, columns // 4, dtype, 1)
    finally:
        for known in (kernels.tile_for, kernel_gradient_._function, layer_code._layer):
            known.cache_clear()


def test_what_there_are_kernels_for() -> None:
    feats = torch.zeros(1, 4)
    assert fits(feats, 96) and fits(feats.bfloat16(), 4)
    assert not fits(feats, 6) and not fits(feats.double(), 96) and not fits(feats.half(), 96)
    assert not fits(feats.to("meta"), 96)


def test_threads_may_ask_at_once() -> None:
    tile = tile_for(20)
    kernel_gradient_._function.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda _: test_outer_products_are_summed.hypothesis.inner_test([5], 3, 5, torch.float32, 2),
                range(4),
            )
        )
    assert tile_for(20) == tile


def test_a_function_of_pointers_and_integers() -> None:
    def write(code: Code) -> None:
        numbers, count = code.fn.args
        with code.loop(0, count, 2) as index:
            place = code.at(numbers, index)
            code.store(code.add(code.load(place), WORD(5)), place)

    numbers = torch.arange(5, dtype=torch.int32)
    compiled("add_five", [WORD, LONG], write)(numbers.data_ptr(), 5)
    assert numbers.tolist() == [5, 1, 7, 3, 9]
    assert host().lanes in (4, 8, 16)
