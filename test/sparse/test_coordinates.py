from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ov3d_perception.errors import PointCloudError
from ov3d_perception.sparse import SparseTensor, cat, coordinates, quantize
from ov3d_perception.sparse.coordinates import CoordinateManager
from ov3d_perception.sparse.keys import LIMIT, MAX_BATCH, pack, shift, unpack

axis = st.integers(-LIMIT, LIMIT)


@given(st.lists(st.tuples(st.integers(0, MAX_BATCH - 1), axis, axis, axis), min_size=1, max_size=20))
def test_unpack_inverts_pack_and_keys_sort_like_rows(rows: list[tuple[int, int, int, int]]) -> None:
    coords = torch.tensor(rows)
    keys = pack(coords)
    assert torch.equal(unpack(keys), coords)
    assert [rows[i] for i in torch.argsort(keys, stable=True)] == sorted(rows)


@given(st.tuples(axis, axis, axis), st.tuples(*[st.integers(-9, 9)] * 3))
def test_shift_moves_a_key(place: tuple[int, int, int], by: tuple[int, int, int]) -> None:
    moved = [[3, *(min(max(p + d, -LIMIT), LIMIT) for p, d in zip(place, by, strict=True))]]
    start = [[3, *(m - d for m, d in zip(moved[0][1:], by, strict=True))]]
    if all(abs(c) <= LIMIT for c in start[0][1:]):
        assert pack(torch.tensor(start)) + shift(*by) == pack(torch.tensor(moved))


@pytest.mark.parametrize("row", [[0, LIMIT + 1, 0, 0], [0, 0, 0, -LIMIT - 1], [MAX_BATCH, 0, 0, 0], [-1, 0, 0, 0]])
def test_out_of_range_is_an_error(row: list[int]) -> None:
    with pytest.raises(PointCloudError):
        pack(torch.tensor([[0, 0, 0, 0], row]))


def test_duplicate_voxels_are_an_error() -> None:
    with pytest.raises(PointCloudError, match="twice"):
        CoordinateManager(torch.tensor([[0, 1, 2, 3], [0, 4, 4, 4], [0, 1, 2, 3]]))


def test_strided_voxels_floor_towards_minus_infinity() -> None:
    manager = CoordinateManager(torch.tensor([[0, -1, 0, 1], [0, -2, 1, 0], [0, -3, 2, 5], [1, -1, 0, 1]]))
    kernel_map = manager.kernel_map(1, 2, 2)
    assert manager.voxels(2).coords.tolist() == [[0, -4, 2, 4], [0, -2, 0, 0], [1, -2, 0, 0]]
    pairs = {(int(i), int(o), s) for s, (a, b) in enumerate(kernel_map.pairs()) for i, o in zip(a, b, strict=True)}
    assert pairs == {(0, 1, 1 + 4), (1, 1, 2), (2, 0, 1 + 4), (3, 2, 1 + 4)}


def test_submanifold_pairs_of_three_voxels_by_hand() -> None:
    """a=(0,0,0), b=(1,0,0), c=(0,0,1): b is a's neighbour at +x (offset 14), c at +z (offset 22)."""
    manager = CoordinateManager(torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]))
    pairs = manager.kernel_map(1, 1, 3).pairs()
    found = {s: list(zip(i.tolist(), o.tolist(), strict=True)) for s, (i, o) in enumerate(pairs) if len(i)}
    # b to c is (-1, 0, +1): offset 0 + 3 * 1 + 9 * 2 = 21; c to b the opposite, 26 - 21 = 5.
    assert found == {
        13: [(0, 0), (1, 1), (2, 2)], 14: [(1, 0)], 12: [(0, 1)], 22: [(2, 0)], 4: [(0, 2)], 21: [(2, 1)], 5: [(1, 2)]
    }  # fmt: skip


@given(st.integers(0, 10_000), st.sampled_from([3, 5]))
@settings(max_examples=25)
def test_maps_equal_brute_force(seed: int, kernel_size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randint(-4, 4, (60, 4), generator=generator).unique(dim=0)
    coords[:, 0] = coords[:, 0].remainder(2)
    coords = coords.unique(dim=0)[torch.randperm(len(coords.unique(dim=0)), generator=generator)]
    half = kernel_size // 2
    expected = set()
    for o, target in enumerate(coords.tolist()):
        for i, source in enumerate(coords.tolist()):
            d = [s - t for s, t in zip(source, target, strict=True)]
            if d[0] == 0 and max(map(abs, d[1:])) <= half:
                slot = d[1] + half + kernel_size * (d[2] + half + kernel_size * (d[3] + half))
                expected.add((slot, i, o))
    manager = CoordinateManager(coords)
    pairs = manager.kernel_map(1, 1, kernel_size).pairs()
    found = [(s, int(i), int(o)) for s, (a, b) in enumerate(pairs) for i, o in zip(a, b, strict=True)]
    assert len(found) == len(set(found)) and set(found) == expected


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_map_within_a_larger_one_is_the_one_that_is_searched(shuffled: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    coords = torch.randint(0, 9, (400, 4), generator=generator).unique(dim=0)
    coords = coords[torch.randperm(len(coords), generator=generator)] if shuffled else coords
    searched, manager = CoordinateManager(coords).kernel_map(1, 1, 3), CoordinateManager(coords)
    manager.kernel_map(1, 1, 5)
    with patch.object(coordinates, "submanifold_pairs", side_effect=AssertionError("searched")):
        found = manager.kernel_map(1, 1, 3)
    assert (found.sizes, found.slots, found.symmetric) == (searched.sizes, searched.slots, True)
    assert found.ordered == searched.ordered == (not shuffled)
    assert torch.equal(found.in_rows, searched.in_rows) and torch.equal(found.out_rows, searched.out_rows)
    assert manager.kernel_map(1, 1, 3, 2).sizes != searched.sizes and manager.kernel_map(1, 2, 2).n_out < len(coords)


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("strides", [(1, 1, 3), (1, 2, 2), (1, 2, 3)])
def test_blocks_hold_every_pair_once(strides: tuple[int, int, int], shuffled: bool) -> None:
    coords = torch.nn.functional.pad(torch.randint(-3, 3, (60, 3)).unique(dim=0), (1, 0))
    if shuffled:
        coords = coords[torch.randperm(len(coords))]
    kernel_map = CoordinateManager(coords).kernel_map(*strides)
    for way in (kernel_map, kernel_map.transposed):
        blocks, found = way.blocks(20, 2), []
        assert len(blocks) > 1 and len(blocks) % 2 == 0
        for block in blocks:
            for begin, end in zip(block.begin.tolist(), block.end.tolist(), strict=True):
                rows = way.out_rows[begin:end]
                assert bool((rows >= block.rows.start).all()) and bool((rows < block.rows.stop).all())
                found += range(begin, end)
        assert sorted(found) == list(range(len(way.in_rows)))
        assert [block.rows.start for block in blocks[1:]] == [block.rows.stop for block in blocks[:-1]]
        assert blocks[0].rows.start == 0 and blocks[-1].rows.stop == way.n_out


class TestQuantize:
    def test_by_hand(self) -> None:
        xyz = torch.tensor([[0.05, 0.0, 0.0], [0.09, 0.0, 0.0], [-0.01, 0.0, 0.0], [0.0, 0.0, 0.31]])
        feats = torch.tensor([[1.0], [3.0], [5.0], [7.0]])
        coords, mean, inverse = quantize(xyz, 0.1, feats)
        assert coords.tolist() == [[0, -1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 3]]
        assert mean.flatten().tolist() == [5.0, 2.0, 7.0]
        assert inverse.tolist() == [1, 1, 0, 2]

    def test_batches_stay_apart(self) -> None:
        coords, mean, inverse = quantize(torch.zeros(2, 3), 0.1, torch.eye(2), torch.tensor([1, 0]))
        assert coords[:, 0].tolist() == [0, 1] and inverse.tolist() == [1, 0]
        assert mean.tolist() == [[0.0, 1.0], [1.0, 0.0]]

    @given(st.integers(0, 1000))
    @settings(max_examples=20)
    def test_every_point_lies_in_its_voxel(self, seed: int) -> None:
        xyz = torch.randn(50, 3, generator=torch.Generator().manual_seed(seed)) * 3
        coords, mean, inverse = quantize(xyz, 0.5, xyz)
        inside = xyz / 0.5 - coords[inverse, 1:]
        assert inside.min() >= 0 and inside.max() <= 1
        assert len(coords.unique(dim=0)) == len(coords) == len(mean)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9])
    def test_unusable_points_are_an_error(self, value: float) -> None:
        with pytest.raises(PointCloudError):
            quantize(torch.tensor([[0.0, value, 0.0]]), 0.1, torch.ones(1, 1))

    def test_no_points(self) -> None:
        coords, mean, inverse = quantize(torch.zeros(0, 3), 0.1, torch.zeros(0, 2))
        assert coords.shape == (0, 4) and mean.shape == (0, 2) and inverse.shape == (0,)


def test_cat_needs_the_same_voxels() -> None:
    coords = torch.tensor([[0, 0, 0, 0]])
    a, b = SparseTensor(torch.ones(1, 2), coords), SparseTensor(torch.ones(1, 3), coords)
    assert cat([a, a.replace(torch.zeros(1, 3))]).feats.shape == (1, 5)
    with pytest.raises(ValueError, match="same voxels"):
        cat([a, b])


@pytest.mark.usefixtures("shapes_unchecked")
def test_feature_count_must_match() -> None:
    with pytest.raises(ValueError, match="2 features for 1 voxels"):
        SparseTensor(torch.ones(2, 2), torch.tensor([[0, 0, 0, 0]]))
