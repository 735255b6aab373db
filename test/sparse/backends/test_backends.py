"""What all backends have in common: chosen by name, the same modules, weights, voxels and results."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from ov3d_perception.errors import BackendError, PointCloudError
from ov3d_perception.sparse import BatchNorm, Conv3d, ConvTranspose3d, ReLU, SparseTensor
from ov3d_perception.sparse.backends import check, choose, make_manager
from ov3d_perception.sparse.backends.spconv import LIBRARIES
from ov3d_perception.sparse.coordinates import CoordinateManager

ORIGIN = torch.zeros(1, 4, dtype=torch.int64)


@pytest.fixture(params=["torch", "minkowski"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend for the CPU; test_spconv.py has the third."""
    try:
        check(request.param, torch.device("cpu"))
    except BackendError as error:
        pytest.skip(str(error))
    return request.param


def cloud(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randint(-9, 9, (800, 4), generator=generator)
    coords[:, 0] = coords[:, 0].remainder(3)
    coords = coords.unique(dim=0)
    coords = coords[torch.randperm(len(coords), generator=generator)]
    return coords, torch.randn(len(coords), 3, generator=generator)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        Conv3d(3, 4, 5), BatchNorm(4), ReLU(), Conv3d(4, 6, 2, stride=2), Conv3d(6, 6, 3, dilation=2), Conv3d(6, 6, 1),
        Conv3d(6, 8, 3, stride=2), ConvTranspose3d(8, 6, 3), ConvTranspose3d(6, 4, 2, bias=True), Conv3d(4, 4, 2),
    )  # fmt: skip


def test_unknown_name_names_the_known() -> None:
    with pytest.raises(BackendError, match=r"'tensorflow'.*Choose auto, torch, minkowski, spconv"):
        make_manager("tensorflow", ORIGIN)


def test_auto_is_ours_on_a_cpu_and_spconv_where_it_is_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(make_manager("auto", ORIGIN)) is CoordinateManager
    for name in LIBRARIES:
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, f"{name}.pytorch", None)
    choose.cache_clear()
    assert choose("cuda") == choose("cpu") == choose("mps") == "torch"
    monkeypatch.setitem(sys.modules, "spconv", SimpleNamespace(__path__=[]))
    monkeypatch.setitem(sys.modules, "spconv.pytorch", SimpleNamespace(ops=SimpleNamespace(CPU_ONLY_BUILD=False)))
    choose.cache_clear()
    assert choose("cuda") == "spconv" and choose("cpu") == "torch"
    choose.cache_clear()


def test_missing_minkowski_engine_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "MinkowskiEngine", None)
    with pytest.raises(BackendError, match=r"MinkowskiEngine.*`sh scripts/build_minkowski\.sh`"):
        make_manager("minkowski", ORIGIN)


def test_minkowski_engine_is_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "MinkowskiEngine", SimpleNamespace())
    with pytest.raises(BackendError, match="works on the CPU, and the voxels are on meta"):
        check("minkowski", torch.device("meta"))


def test_same_weights_same_results(backend: str) -> None:
    coords, feats = cloud()
    ours = network()
    theirs = network()
    theirs.load_state_dict(ours.state_dict())
    outputs = [ours(SparseTensor(feats, coords)), theirs(SparseTensor(feats, coords, backend=backend))]
    assert torch.equal(outputs[1].coords, coords)
    torch.testing.assert_close(outputs[1].feats, outputs[0].feats, rtol=1e-4, atol=1e-5)
    for out in outputs:
        out.feats.square().sum().backward()
    for one, other in zip(theirs.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-3)


def test_rows_of_coarser_voxels_are_the_backends_for_kernel_maps_too(backend: str) -> None:
    """Whatever works on kernel maps (pooling) meets the rows that the backend convolves, whoever made them."""
    coords, feats = cloud()
    layer = Conv3d(3, 3, 2, stride=2)
    with torch.no_grad():
        layer.kernel.copy_(torch.eye(3).expand(8, 3, 3))
        for first in ("convolution", "kernel map"):
            manager = make_manager(backend, coords)
            if first == "kernel map":
                manager.kernel_map(1, 2, 2)
            sums = layer(SparseTensor(feats, manager=manager)).feats
            expected = torch.zeros_like(sums)
            for i, o in manager.kernel_map(1, 2, 2).pairs():
                expected.index_add_(0, o.long(), feats[i.long()])
            torch.testing.assert_close(sums, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_type_of_the_features_is_kept(backend: str, dtype: torch.dtype) -> None:
    coords, feats = cloud()
    with torch.no_grad():
        expected = network().eval()(SparseTensor(feats, coords)).feats
        out = network().eval().to(dtype)(SparseTensor(feats.to(dtype), coords, backend=backend)).feats
    assert out.dtype == dtype
    tolerance = {torch.bfloat16: 0.1, torch.float16: 0.01}.get(dtype, 1e-5)
    assert float((out.float() - expected).abs().max()) <= tolerance * float(expected.abs().max())


def test_autocast(backend: str) -> None:
    coords, feats = cloud()
    layer = Conv3d(3, 16, 3)
    x = SparseTensor(feats, coords, backend=backend)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = layer(x).feats
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), layer(x).feats.detach(), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("voxels", [0, 1])
def test_almost_nothing(backend: str, voxels: int) -> None:
    coords = torch.tensor([[0, -3, 2, 1]])[:voxels]
    feats = torch.ones(voxels, 3, requires_grad=True)
    out = network().eval()(SparseTensor(feats, coords, backend=backend))
    assert out.feats.shape == (voxels, 4) and bool(out.feats.isfinite().all())
    out.feats.sum().backward()
    assert feats.grad is not None


def test_what_cannot_be(backend: str) -> None:
    with pytest.raises(PointCloudError, match="twice"):
        SparseTensor(torch.ones(2, 1), torch.zeros(2, 4, dtype=torch.int64), backend=backend)
    with pytest.raises(PointCloudError):
        SparseTensor(torch.ones(1, 1), torch.tensor([[0, 1 << 40, 0, 0]]), backend=backend)
    with pytest.raises(ValueError, match="No voxels at stride 1"):
        ConvTranspose3d(5, 6, 2)(SparseTensor(torch.ones(1, 5), 4 * ORIGIN, stride=2, backend=backend))
