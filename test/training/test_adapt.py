"""``ov3d checkpoint adapt``: statistics from a bag's scans, everything else as it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ov3d_perception.cli import main
from ov3d_perception.datasets.bag import Bag
from ov3d_perception.errors import DatasetError, WriteError
from ov3d_perception.geometry.sweeps import Merged
from ov3d_perception.inference import LiveModel, Segmenter
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.models import shipped_checkpoint
from ov3d_perception.networks.checkpoint import load_checkpoint, save_checkpoint
from ov3d_perception.networks.checkpoint_info import words_of_checkpoint
from ov3d_perception.networks.inputs import point_inputs
from ov3d_perception.networks.minkunet import MinkUNet
from ov3d_perception.sparse import SparseTensor, quantize
from ov3d_perception.training import clouds
from ov3d_perception.training.adapt import adapt
from ov3d_perception.types import Sweep

NETWORK = shipped_checkpoint()


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ov3d_perception.sim.bag import write_drive
    from ov3d_perception.sim.drive import simulate

    return write_drive(tmp_path_factory.mktemp("bag") / "drive", simulate(2000, 2.0, image_every=100))


def test_statistics_are_the_scans_and_the_rest_stays(
    drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "adapted.safetensors"
    monkeypatch.setattr(
        "sys.argv", ["ov3d", "checkpoint", "adapt", str(NETWORK), str(drive), "-o", str(out), "--scans", "2"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    (before, info), (after, about) = load_checkpoint(NETWORK), load_checkpoint(out)
    assert (about.vocabulary, about.preparation, about.recipe) == (info.vocabulary, info.preparation, info.recipe)
    assert about.bank is not None and info.bank is not None and about.bank.words == info.bank.words
    assert info.metrics and not about.metrics
    for (name, mine), theirs in zip(before.named_parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0, msg=name)

    means: list[torch.Tensor] = []
    assert isinstance(before, MinkUNet) and isinstance(after, MinkUNet)
    before.conv0p1s1.register_forward_hook(lambda _, __, out: means.append(out.feats.mean(0)))
    before.train()
    frames = Bag(drive, images=False, deskew=info.preparation.deskew)
    with torch.no_grad():
        for index in (0, 19):
            scan = frames[index].sweeps[0].scan
            xyz, intensity = torch.from_numpy(scan.xyz), torch.from_numpy(scan.intensity)
            coords, mean, _ = quantize(xyz, 0.2, point_inputs(info.inputs, xyz, intensity, info.voxel_size))
            before(SparseTensor(mean, coords))
    adapted = after.bn0.bn.running_mean
    assert adapted is not None
    torch.testing.assert_close(adapted, torch.stack(means).mean(0), rtol=1e-3, atol=1e-4)


def test_a_network_whose_statistics_are_of_elsewhere_is_understood_again(drive: Path, tmp_path: Path) -> None:
    """Of a network that was normalised otherwise, nearly the labels of the one that was not."""
    network, info = load_checkpoint(NETWORK)
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if name.endswith("running_var"):
                buffer.mul_(2.5)
    save_checkpoint(tmp_path / "elsewhere.safetensors", network, info)
    adapt(tmp_path / "elsewhere.safetensors", "bag", drive, tmp_path / "adapted.safetensors")
    words = Vocabulary.from_words(info.vocabulary, words_of_checkpoint(info, NETWORK))
    lost, found = (agreement(drive, words, tmp_path / f"{name}.safetensors", 1.0) for name in ("elsewhere", "adapted"))
    assert found > lost + 0.1, (lost, found)


@pytest.mark.parametrize("scale", [0.5, 0.1])
def test_the_shipped_network_hangs_not_on_how_strong_a_lidar_calls_its_echoes(drive: Path, scale: float) -> None:
    _, info = load_checkpoint(NETWORK)
    words = Vocabulary.from_words(info.vocabulary, words_of_checkpoint(info, NETWORK))
    assert agreement(drive, words, NETWORK, scale) > 0.995


def agreement(drive: Path, words: Vocabulary, checkpoint: Path, scale: float) -> float:
    """Share of a scan's points, its intensities times ``scale``, that have the labels of the shipped network's at 1."""
    found = []
    for path, factor in ((NETWORK, 1.0), (checkpoint, scale)):
        model = LiveModel.of(Segmenter.load(path, device="cpu", precision="fp32"), words)
        frames = Bag(drive, images=False, deskew=model.preparation.deskew, intensity_scale=factor)
        found.append(model(frames[2].sweeps).label)
    return float((found[0] == found[1]).mean())


def test_a_source_without_a_scan_is_an_error_and_writes_nothing(
    drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(self: Bag, index: int) -> None:
        raise DatasetError("broken", "Record it again")

    monkeypatch.setattr(Bag, "__getitem__", unreadable)
    with pytest.raises(DatasetError, match="No scan of"):
        adapt(NETWORK, "bag", drive, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_the_network_itself_is_not_written_over(drive: Path, tmp_path: Path) -> None:
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes(NETWORK.read_bytes())
    with pytest.raises(WriteError, match="is the network itself"):
        adapt(copy, "bag", drive, copy)
    assert copy.read_bytes() == NETWORK.read_bytes()


def test_scans_of_few_points_are_left_out_and_single_precision_stays(
    drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network, info = load_checkpoint(NETWORK)
    with torch.no_grad():
        next(network.parameters()).add_(1e-5)
    save_checkpoint(tmp_path / "single.safetensors", network, info)
    monkeypatch.setattr(clouds, "merge", few_in_the_first(clouds.merge))
    assert adapt(tmp_path / "single.safetensors", "bag", drive, tmp_path / "out.safetensors", scans=3) == 2
    assert "Scan 0 left out: it has 2 points" in caplog.text
    after, _ = load_checkpoint(tmp_path / "out.safetensors")
    for mine, theirs in zip(network.parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def few_in_the_first(merge: Callable[[Sequence[Sweep]], Merged]) -> Callable[[Sequence[Sweep]], Merged]:
    calls: list[int] = []

    def few(sweeps: Sequence[Sweep]) -> Merged:
        merged = merge(sweeps)
        calls.append(1)
        return replace(merged, xyz=merged.xyz[:2], intensity=merged.intensity[:2]) if len(calls) == 1 else merged

    return few
