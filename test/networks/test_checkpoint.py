from __future__ import annotations

import dataclasses
import json
import resource
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ov3d_perception.errors import CheckpointError, WriteError
from ov3d_perception.networks import checkpoint_info
from ov3d_perception.networks.checkpoint import CheckpointInfo, load_checkpoint, load_info, save_checkpoint
from ov3d_perception.networks.checkpoint_info import FORMAT, digest
from ov3d_perception.types import EncoderIdentity, Preparation, WordEmbeddings

INFO = CheckpointInfo(
    arch="MinkUNet14A",
    width=0.125,
    inputs=("ones", "intensity"),
    voxel_size=0.1,
    identity=EncoderIdentity("tiny", "street", 16, "ab" * 32),
    logit_scale=50.0,
    vocabulary={"car": ["car", "van"], "tree": ["tree"]},
    recipe={"epochs": 3, "optimiser": {"name": "adam"}},
    commit="0123abc",
    metrics={"miou": 0.5},
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "network.safetensors"
    save_checkpoint(path, INFO.build(), INFO)
    return path


def test_round_trip_is_exact(saved: Path) -> None:
    torch.manual_seed(0)
    network, info = load_checkpoint(saved)
    assert info == INFO and not network.training
    expected = INFO.build().state_dict()
    assert expected.keys() == network.state_dict().keys()
    torch.manual_seed(0)
    original = INFO.build().state_dict()
    assert all(torch.equal(value, original[name]) for name, value in network.state_dict().items())


def test_half_precision_storage(saved: Path) -> None:
    network, _ = load_checkpoint(saved)
    small = saved.with_name("small.safetensors")
    save_checkpoint(small, network, INFO, torch.float16)
    assert small.stat().st_size < 0.62 * saved.stat().st_size
    loaded, _ = load_checkpoint(small)
    for name, value in loaded.state_dict().items():
        assert value.dtype in (torch.float32, torch.int64)
        torch.testing.assert_close(value, network.state_dict()[name], rtol=1e-3, atol=1e-6)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        load_checkpoint(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 100, 5000, -1])
def test_truncated_file(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"damaged.*again"):
        load_checkpoint(saved)


def test_any_flipped_byte_is_noticed(saved: Path) -> None:
    """Bytes all over the file: lengths, JSON of the header, description, checksum, weights. None may pass or crash."""
    content = saved.read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    places = [*range(0, header, 97), *range(header, len(content), len(content) // 20), len(content) - 1]
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 0x04
        saved.write_bytes(flipped)
        with pytest.raises(CheckpointError):
            load_checkpoint(saved)
            pytest.fail(f"byte {place} of {len(content)} (header {header}) was flipped unnoticed")


def test_random_bytes_and_other_programs_files(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(bytes(range(256)) * 40)
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        load_checkpoint(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this project"):
        load_checkpoint(path)


def test_other_version(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_info, "READABLE", ("7", "8"))
    with pytest.raises(CheckpointError, match="has checkpoint format 2, this program reads 7 and 8"):
        load_checkpoint(saved)


def test_words_and_preparation_come_back(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    preparation = Preparation(deskew=True, sweeps=3, max_sweep_age=0.5, intensity_scale=0.25, upright="base")
    info = dataclasses.replace(INFO, bank=WordEmbeddings(("car", "tree"), rows), preparation=preparation)
    save_checkpoint(tmp_path / "x.safetensors", INFO.build(), info)
    for found in (load_checkpoint(tmp_path / "x.safetensors")[1], load_info(tmp_path / "x.safetensors")):
        assert found.preparation == preparation
        assert found.bank is not None and found.bank.words == ("car", "tree")
        np.testing.assert_array_equal(found.bank.embeddings, rows)


def test_version_1_is_read(tmp_path: Path) -> None:
    """Its description had ``sweeps`` and neither words nor preparation."""
    tensors = INFO.build().state_dict()
    fields = json.loads(INFO.to_json()) | {"sweeps": 3}
    text = json.dumps({name: value for name, value in fields.items() if name not in ("bank", "preparation")})
    columns = [(n, str(t.dtype), t.shape, t.numpy().tobytes()) for n, t in tensors.items()]
    about = {"format": FORMAT, "version": "1", "info": text, "sha256": digest(text, columns)}
    save_file(tensors, tmp_path / "old.safetensors", about)
    found = load_checkpoint(tmp_path / "old.safetensors")[1]
    assert found.preparation == Preparation(sweeps=3) and found.bank is None


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    network = INFO.build()
    network.final.kernel.data[0, 0] = float("nan")
    save_checkpoint(tmp_path / "nan.safetensors", network, INFO)
    with pytest.raises(CheckpointError, match=r"non-finite weights in final\.kernel"):
        load_checkpoint(tmp_path / "nan.safetensors")


def test_weights_of_another_network(tmp_path: Path) -> None:
    other = dataclasses.replace(INFO, width=0.25)
    save_checkpoint(tmp_path / "x.safetensors", INFO.build(), other)
    with pytest.raises(CheckpointError, match="do not fit MinkUNet14A"):
        load_checkpoint(tmp_path / "x.safetensors")


def test_unknown_architecture(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.safetensors", INFO.build(), dataclasses.replace(INFO, arch="VoxelNet"))
    with pytest.raises(CheckpointError, match="VoxelNet"):
        load_checkpoint(tmp_path / "x.safetensors")


def test_failed_write_leaves_the_old_file(saved: Path) -> None:
    before, limits = saved.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(WriteError, match=r"File too large.*Free some space"):
            save_checkpoint(saved, INFO.build(), INFO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_description_is_readable_without_this_project(saved: Path) -> None:
    content = saved.read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    info = json.loads(header["__metadata__"]["info"])
    assert info["voxel_size"] == 0.1 and info["identity"]["model"] == "tiny" and info["recipe"]["epochs"] == 3
