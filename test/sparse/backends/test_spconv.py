"""The adapter for spconv: against a model of its interface, and against spconv itself where that is installed.

spconv's wheel for the CPU knows only its "native" multiplication, forwards, with one thread; the model knows it all.
"""

from __future__ import annotations

import os
import sys
from enum import Enum
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ov3d_perception.errors import BackendError
from ov3d_perception.sparse import Conv3d, ConvTranspose3d, SparseTensor
from ov3d_perception.sparse.backends import make_manager
from ov3d_perception.sparse.backends.spconv import LIBRARIES, SpconvManager, load_library, spconv_weight
from ov3d_perception.sparse.coordinates import CoordinateManager


class Kind(Enum):
    Native = 0
    MaskImplicitGemm = 1


class Model:
    """spconv's functions as its sources describe them, slowly. ``fused``: as built with CUDA.

    Offsets run with z fastest. ``pair_fwd[k, output row]`` is an input row, ``pair_bwd[k, input row]`` an output row,
    -1 without a partner; the native pairs are lists of input and output rows for each offset.
    """

    ConvAlgo = Kind
    __name__ = "spconv.pytorch"

    def __init__(self, fused: bool) -> None:
        self.ops = self.functional = self
        self.CPU_ONLY_BUILD = not fused
        self.calls: list[str] = []

    def _pairs(self, indices: Tensor, shape: list[int], size: list[int], stride: list[int], dilation: list[int],
               same: bool) -> tuple[Tensor, list[list[tuple[int, int]]]]:  # fmt: skip
        assert indices.dtype == torch.int32 and int(indices.min()) >= 0
        assert all(int(indices[:, 1 + a].max()) < shape[a] for a in range(3))
        rows = {tuple(c): i for i, c in enumerate(indices.tolist())}
        found: dict[tuple[int, ...], int] = dict(rows) if same else {}
        pairs: list[list[tuple[int, int]]] = []
        for offset in product(*map(range, size)):
            pairs.append([])
            for (b, *xyz), row in rows.items():
                if same:
                    out = [c + (s // 2 - o) * d for c, o, s, d in zip(xyz, offset, size, dilation, strict=True)]
                elif any((c - o) % s for c, o, s in zip(xyz, offset, stride, strict=True)):
                    continue
                else:
                    out = [(c - o) // s for c, o, s in zip(xyz, offset, stride, strict=True)]
                    # Whatever the order of a hash table, it is not the sorted one.
                    found.setdefault((b, *out), len(found))
                if (b, *out) in found:
                    pairs[-1].append((row, found[(b, *out)]))
        outputs = indices if same else torch.tensor(list(found), dtype=torch.int32)
        return outputs, pairs

    def get_indice_pairs(self, indices: Tensor, batch_size: int, shape: list[int], algo: Kind, ksize: list[int],
                         stride: list[int], padding: list[int], dilation: list[int], out_padding: list[int],
                         subm: bool = False) -> tuple[Any, ...]:  # fmt: skip
        assert algo == Kind.Native and padding == out_padding == [0] * 3 and int(indices[:, 0].max()) < batch_size
        self.calls.append(f"native {ksize[0]}")
        outputs, pairs = self._pairs(indices, shape, ksize, stride, dilation, subm)
        return outputs, pairs, torch.tensor([len(p) for p in pairs])

    def get_indice_pairs_implicit_gemm(self, indices: Tensor, batch_size: int, shape: list[int], algo: Kind,
                                       ksize: list[int], stride: list[int], padding: list[int], dilation: list[int],
                                       out_padding: list[int], subm: bool = False, *,
                                       is_train: bool) -> tuple[Any, ...]:  # fmt: skip
        assert algo == Kind.MaskImplicitGemm and padding == out_padding == [0] * 3
        self.calls.append(f"fused {ksize[0]}")
        outputs, pairs = self._pairs(indices, shape, ksize, stride, dilation, subm)
        forward = torch.full((len(pairs), len(outputs)), -1)
        backward = torch.full((len(pairs), len(indices)), -1)
        for k, found in enumerate(pairs):
            for i, o in found:
                forward[k, o], backward[k, i] = i, o
        backward = backward if is_train else torch.empty(0)
        both = (["mask", forward], ["mask", backward], ["sorted", forward], ["sorted", backward])
        return outputs, None, forward, backward, *both, "masks"

    def implicit_gemm(self, feats: Tensor, weight: Tensor, forward: Tensor, backward: Tensor, mask: Any, back_mask: Any,
                      order: Any, back_order: Any, rows: int, masks: str, is_train: bool,
                      subm: bool) -> Tensor:  # fmt: skip
        assert masks == "masks" and is_train == torch.is_grad_enabled() and (not is_train or backward.numel())
        for tagged, tag, table in (
            (mask, "mask", forward), (back_mask, "mask", backward), (order, "sorted", forward),
            (back_order, "sorted", backward),
        ):  # fmt: skip
            assert tagged[0] == tag and tagged[1] is table
        out = feats.new_zeros(rows, weight.shape[0])
        for k, matrix in enumerate(weight.flatten(1, 3).unbind(1)):
            hit = (forward[k] >= 0).nonzero()[:, 0]
            out = out.index_add(0, hit, feats[forward[k, hit]] @ matrix.T)
        return out

    def _native(self, feats: Tensor, weight: Tensor, pairs: Any, counts: Tensor, rows: int, algo: Kind,
                inverse: bool = False) -> Tensor:  # fmt: skip
        out = feats.new_zeros(rows, weight.shape[0])
        for found, matrix in zip(pairs, weight.flatten(1, 3).unbind(1), strict=True):
            source, target = torch.tensor(found, dtype=torch.int64).reshape(-1, 2).unbind(1)[:: -1 if inverse else 1]
            out = out.index_add(0, target, feats[source] @ matrix.T)
        return out

    indice_conv = indice_subm_conv = _native

    def indice_inverse_conv(self, *arguments: Any) -> Tensor:
        return self._native(*arguments, inverse=True)


def manager_of(library: Any) -> type[SpconvManager]:
    """The adapter on the CPU, past its refusal, with this library."""

    class Manager(SpconvManager):
        def _require(self, device: torch.device) -> Any:
            return library

    return Manager


@pytest.fixture(params=["fused", "native"])
def manager(request: pytest.FixtureRequest) -> type[SpconvManager]:
    return manager_of(Model(request.param == "fused"))


def cloud(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two samples around the origin, in random order."""
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randint(-8, 8, (700, 4), generator=generator)
    coords[:, 0] = coords[:, 0].remainder(2)
    coords = coords.unique(dim=0)
    coords = coords[torch.randperm(len(coords), generator=generator)]
    return coords, torch.randn(len(coords), 3, generator=generator)


def gradients(layers: nn.Module, feats: Tensor, manager: CoordinateManager) -> list[Tensor]:
    """Of a sum that weights each output voxel by its place."""
    x = feats.clone().requires_grad_()
    out = layers(SparseTensor(x, manager=manager))
    weights = (out.coords * out.coords.new_tensor([10, 7, 5, 3])).sum(1, keepdim=True).sin().to(out.feats)
    return list(torch.autograd.grad((out.feats * weights).sum(), [x, *layers.parameters()]))


def assert_equal(layers: nn.Module, feats: Tensor, ours: CoordinateManager, theirs: CoordinateManager) -> None:
    """Same voxels in some order, the same features on them, the same gradients."""
    with torch.no_grad():
        expected = layers(SparseTensor(feats, manager=ours))
        actual = layers(SparseTensor(feats, manager=theirs))
    rows = {tuple(c): i for i, c in enumerate(actual.coords.tolist())}
    assert len(rows) == len(expected) == len(actual) and actual.stride == expected.stride
    order = torch.tensor([rows[tuple(c)] for c in expected.coords.tolist()])
    torch.testing.assert_close(actual.feats[order], expected.feats, rtol=1e-4, atol=1e-5)
    if isinstance(getattr(theirs, "_library", None), Model) or feats.is_cuda:  # spconv on a CPU knows no way back
        there, here = gradients(layers, feats, theirs), gradients(layers, feats, ours)
        torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-4)


def test_weight_by_hand() -> None:
    """Offset (x, y, z) of a kernel of size 2 is our row x + 2 y + 4 z; spconv's weight is [out, x, y, z, in]."""
    kernel = torch.arange(8 * 2 * 3.0).reshape(8, 2, 3)
    weight = spconv_weight(kernel, 2)
    assert weight.shape == (3, 2, 2, 2, 2) and weight.is_contiguous()
    for x, y, z in product(range(2), repeat=3):
        assert torch.equal(weight[:, x, y, z], kernel[x + 2 * y + 4 * z].T)
    assert weight[2, 1, 0, 0].tolist() == [6 + 2, 6 + 3 + 2]


@pytest.mark.parametrize(("kernel_size", "dilation"), [(3, 1), (5, 1), (3, 2)])
def test_same_voxels(manager: type[SpconvManager], kernel_size: int, dilation: int) -> None:
    coords, feats = cloud()
    layer = Conv3d(3, 5, kernel_size, dilation=dilation, bias=True)
    assert_equal(layer, feats, CoordinateManager(coords), manager(coords))


def down_and_up() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        Conv3d(3, 4, 5), Conv3d(4, 6, 2, stride=2), Conv3d(6, 6, 3, dilation=2), Conv3d(6, 8, 2, stride=2),
        Conv3d(8, 8, 3), ConvTranspose3d(8, 6, 2), Conv3d(6, 6, 3), ConvTranspose3d(6, 4, 2), Conv3d(4, 4, 3),
    )  # fmt: skip


def test_down_and_up(manager: type[SpconvManager]) -> None:
    coords, feats = cloud()
    assert_equal(down_and_up(), feats, CoordinateManager(coords), manager(coords))


def test_spconv_itself_on_a_cpu() -> None:
    library = pytest.importorskip("spconv.pytorch", reason="spconv is not installed (its wheel for the CPU would do)")
    if not library.ops.CPU_ONLY_BUILD or os.environ.get("OMP_NUM_THREADS") != "1":
        pytest.skip("spconv is right on a CPU only in its wheel for it, with OMP_NUM_THREADS=1")
    coords, feats = cloud()
    assert_equal(down_and_up(), feats, CoordinateManager(coords), manager_of(library)(coords))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_spconv_itself_on_a_gpu() -> None:
    coords, feats = (tensor.cuda() for tensor in cloud())
    try:
        theirs = make_manager("spconv", coords)
    except BackendError as error:
        pytest.skip(str(error))
    assert_equal(down_and_up().cuda(), feats, CoordinateManager(coords), theirs)


def test_what_spconv_has_not_runs_on_its_voxels(manager: type[SpconvManager]) -> None:
    """Even kernels on the same voxels, odd ones with a stride, their transposes, strides that do not divide 48."""
    torch.manual_seed(0)
    coords, feats = cloud()
    for layers in (
        [Conv3d(3, 4, 2), Conv3d(4, 6, 3, stride=2), Conv3d(6, 6, 3), ConvTranspose3d(6, 4, 3)],
        [Conv3d(3, 4, 2, stride=2), Conv3d(4, 5, 3, stride=2), ConvTranspose3d(5, 4, 2), ConvTranspose3d(4, 4, 3)],
        [Conv3d(3, 4, 3, stride=3), ConvTranspose3d(4, 4, 3, stride=3)],
        [Conv3d(3, 4, 5, stride=5), Conv3d(4, 4, 3), ConvTranspose3d(4, 4, 5, stride=5)],
        [ConvTranspose3d(3, 4, 3, stride=1)],
    ):
        assert_equal(nn.Sequential(*layers), feats, CoordinateManager(coords), manager(coords))


def test_voxels_that_a_kernel_map_made_first_keep_their_rows(manager: type[SpconvManager]) -> None:
    coords, feats = cloud()
    ours, theirs = CoordinateManager(coords), manager(coords)
    theirs.kernel_map(1, 2, 2)
    before = theirs.voxels(2).coords.clone()
    assert_equal(nn.Sequential(Conv3d(3, 4, 2, stride=2), ConvTranspose3d(4, 4, 2)), feats, ours, theirs)
    assert torch.equal(theirs.voxels(2).coords, before)


def test_a_kernel_map_after_spconv_has_its_rows(manager: type[SpconvManager]) -> None:
    coords, feats = cloud()
    theirs = manager(coords)
    with torch.no_grad():
        coarse = Conv3d(3, 4, 2, stride=2)(SparseTensor(feats, manager=theirs))
    for i, o in theirs.kernel_map(1, 2, 2).pairs():
        assert torch.equal(coarse.coords[o.long(), 1:], coords[i.long(), 1:].div(2, rounding_mode="floor") * 2)


def test_coordinates_far_from_the_origin(manager: type[SpconvManager]) -> None:
    coords, feats = cloud()
    layers = nn.Sequential(Conv3d(3, 4, 2, stride=2), Conv3d(4, 4, 3), ConvTranspose3d(4, 4, 2))
    moved = coords + torch.tensor([0, -20_000, 10_000, 34])
    with torch.no_grad():
        out = layers(SparseTensor(feats, manager=manager(moved)))
    assert torch.equal(out.coords, moved)
    torch.testing.assert_close(out.feats, layers(SparseTensor(feats, coords)).feats.detach())


def test_no_voxels(manager: type[SpconvManager]) -> None:
    layers = nn.Sequential(Conv3d(3, 4, 3), Conv3d(4, 5, 2, stride=2), ConvTranspose3d(5, 6, 2))
    out = layers(SparseTensor(torch.ones(0, 3), manager=manager(torch.zeros(0, 4, dtype=torch.int64))))
    assert out.feats.shape == (0, 6) and out.stride == 1


def test_pairs_are_found_once_and_large_kernels_are_not_fused() -> None:
    coords, feats = cloud()
    library = Model(fused=True)
    layers = nn.Sequential(
        Conv3d(3, 4, 5), Conv3d(4, 4, 3), Conv3d(4, 4, 3), Conv3d(4, 4, 2, stride=2), ConvTranspose3d(4, 4, 2),
        Conv3d(4, 4, 3),
    )  # fmt: skip
    with torch.no_grad():
        layers(SparseTensor(feats, manager=manager_of(library)(coords)))
    assert library.calls == ["native 5", "fused 3", "fused 2"]


@pytest.mark.parametrize("name", ["spconv.pytorch", "spconv_triton.pytorch"])
def test_types(name: str) -> None:
    """bfloat16 reaches spconv-triton as it is, and spconv, which does not know it, as float32."""
    coords, feats = cloud()
    library = Model(fused=True)
    library.__name__ = name
    seen: list[torch.dtype] = []
    multiply = library.implicit_gemm
    library.implicit_gemm = lambda *a: seen.append(a[0].dtype) or multiply(*a)
    layer = Conv3d(3, 4, 3)
    manager = manager_of(library)(coords)
    with torch.no_grad():
        assert layer(SparseTensor(feats, manager=manager)).feats.dtype == torch.float32
        low = layer.bfloat16()(SparseTensor(feats.bfloat16(), manager=manager)).feats
        with torch.autocast("cpu", torch.bfloat16):
            mixed = layer.float()(SparseTensor(feats, manager=manager)).feats
        assert low.dtype == mixed.dtype == torch.bfloat16
        assert layer.double()(SparseTensor(feats.double(), manager=manager)).feats.dtype == torch.float64
    wanted = torch.bfloat16 if "triton" in name else torch.float32
    assert seen == [torch.float32, wanted, wanted]


def test_cpu_is_refused_with_the_reason() -> None:
    with pytest.raises(BackendError, match=r"CUDA devices only.*threads.*wrong.*backend torch"):
        SparseTensor(torch.ones(1, 1), torch.zeros(1, 4, dtype=torch.int64), backend="spconv")


@pytest.mark.parametrize("name", LIBRARIES)
def test_each_library_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = SimpleNamespace(ops=SimpleNamespace(CPU_ONLY_BUILD=False))
    for other in LIBRARIES:
        monkeypatch.setitem(sys.modules, other, SimpleNamespace(__path__=[]) if other == name else None)
        monkeypatch.setitem(sys.modules, f"{other}.pytorch", library if other == name else None)
    assert load_library() is library


def test_no_library_and_one_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIBRARIES:
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, f"{name}.pytorch", None)
    with pytest.raises(BackendError, match=r"spconv_triton: .*spconv: .*pip install spconv-triton"):
        load_library()
    built_for_cpu = SimpleNamespace(ops=SimpleNamespace(CPU_ONLY_BUILD=True))
    monkeypatch.setitem(sys.modules, "spconv", SimpleNamespace(__path__=[]))
    monkeypatch.setitem(sys.modules, "spconv.pytorch", built_for_cpu)
    with pytest.raises(BackendError, match="spconv: built without CUDA"):
        load_library()
