"""Clouds that are too large are refused with a cause and a remedy."""

from __future__ import annotations

import pytest
import torch

from ov3d_perception.errors import PointCloudError, ResourceError
from ov3d_perception.sparse import Conv3d, ConvTranspose3d, SparseTensor, quantize
from ov3d_perception.sparse.keys import LIMIT
from ov3d_perception.sparse.runtime import memory


def tensor(voxels: int, channels: int = 8) -> SparseTensor:
    coords = torch.nn.functional.pad(torch.arange(voxels)[:, None], (1, 2))
    return SparseTensor(torch.ones(voxels, channels), coords)


@pytest.mark.parametrize("layer", [Conv3d(8, 16, 3), Conv3d(8, 16, 2, stride=2), Conv3d(8, 16, 1)])
def test_a_layer_beyond_the_free_memory_is_refused_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, layer: Conv3d
) -> None:
    x = tensor(100)
    rows = len(layer(x))
    needed = rows * 16 * 4
    monkeypatch.setattr(memory, "LARGE", needed)
    monkeypatch.setattr(memory, "available", lambda: needed - 1)
    with pytest.raises(ResourceError, match=r"100 voxels needs .* GB.* larger voxel, crop .* fewer clouds"):
        layer(x)
    monkeypatch.setattr(memory, "available", lambda: needed)
    assert len(layer(x)) == rows


def test_the_way_up_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = Conv3d(8, 8, 2, stride=2)(tensor(100))
    monkeypatch.setattr(memory, "LARGE", 0)
    monkeypatch.setattr(memory, "available", lambda: 100 * 4 * 4 - 1)
    with pytest.raises(ResourceError, match="100 voxels"):
        ConvTranspose3d(8, 4, 2)(coarse)


def test_small_layers_do_not_look_at_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise AssertionError

    monkeypatch.setattr(memory, "available", fail)
    assert len(Conv3d(8, 16, 3)(tensor(100))) == 100


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:128] DefaultCPUAllocator: can't allocate memory: 1 bytes"),
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
    ],
)
def test_a_failed_allocation_names_the_voxels(error: Exception) -> None:
    with pytest.raises(ResourceError, match="123 voxels") as caught, memory.as_resource_error(123):
        raise error
    assert caught.value.__cause__ is error


def test_a_real_failed_allocation_is_recognised() -> None:
    with pytest.raises(ResourceError, match="5 voxels"), memory.as_resource_error(5):
        torch.empty(1 << 60, dtype=torch.uint8)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory.as_resource_error(1):
        raise RuntimeError("shapes do not match")


def test_memory_of_a_group_counts(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       1000 kB\nMemAvailable:    600 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert memory.available() == 600 * 1024
    (tmp_path / "memory.current").write_text("300\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available() == 600 * 1024
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory.available() == 700
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    assert memory.available() is None


@pytest.mark.parametrize("place", [(LIMIT + 1) * 0.1, float("inf"), float("nan")])
def test_points_past_the_key_range_are_refused(place: float) -> None:
    with pytest.raises(PointCloudError, match="larger voxel"):
        quantize(torch.tensor([[0.0, 0.0, 0.0], [place, 0.0, 0.0]]), 0.1, torch.ones(2, 1))


def test_voxels_past_the_key_range_are_refused() -> None:
    with pytest.raises(PointCloudError, match="larger voxel"):
        SparseTensor(torch.ones(1, 1), torch.tensor([[0, LIMIT + 1, 0, 0]]))
