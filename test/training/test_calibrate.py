"""``ov3d checkpoint calibrate``: what layers give at most on scans, if labels in int8 are float32's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ov3d_perception.cli import main
from ov3d_perception.datasets.simulated import Simulated
from ov3d_perception.errors import DatasetError, Ov3dError
from ov3d_perception.inference import LiveModel, Segmenter
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.models import shipped_checkpoint
from ov3d_perception.networks.checkpoint import load_checkpoint
from ov3d_perception.networks.checkpoint_info import words_of_checkpoint
from ov3d_perception.sparse.kernels import multiplies_bytes
from ov3d_perception.training import calibrate as calibration
from ov3d_perception.training.adapt import adapt
from ov3d_perception.training.calibrate import calibrate

NETWORK = shipped_checkpoint()
pytestmark = pytest.mark.skipif(not multiplies_bytes(), reason="no instructions for products of bytes")


STREET = {"seeds": "2000", "frames": 4, "stride": 5, "cameras": False}


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("street")


def test_labels_of_a_calibrated_network_stay(street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "calibrated.safetensors"
    command = ["ov3d", "checkpoint", "calibrate", str(NETWORK), str(street), "-o", str(out), "--dataset", "simulated"]
    settings = [word for name, value in STREET.items() for word in ("--set", f"{name}={value}")]
    monkeypatch.setattr("sys.argv", [*command, *settings])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    (before, info), (after, about) = load_checkpoint(NETWORK), load_checkpoint(out)
    assert about.metrics == info.metrics and about.bank is not None
    assert len(about.largest_outputs) == 25 and min(about.largest_outputs) > 0
    assert all(
        bool((mine == theirs).all()) for mine, theirs in zip(before.parameters(), after.parameters(), strict=True)
    )

    words = Vocabulary.from_words(info.vocabulary, words_of_checkpoint(info, NETWORK))
    sweeps = Simulated(street, **STREET)[1].sweeps
    labels, features = [], []
    for precision in ("fp32", "int8", "auto"):
        model = LiveModel.of(Segmenter.load(out, device="cpu", precision=precision), words)
        labels.append(model(sweeps).label)
        features.append(model.features(model.merge(sweeps), 100).cpu().features)
    assert (labels[0] == labels[1]).mean() > 0.99
    assert not np.array_equal(features[0], features[1]) and np.array_equal(features[1], features[2])

    adapt(out, "simulated", street, tmp_path / "adapted.safetensors", STREET, scans=1)
    assert load_checkpoint(tmp_path / "adapted.safetensors")[1].largest_outputs == ()


def test_a_network_whose_labels_would_change_is_refused(
    street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = calibration._largest_outputs
    monkeypatch.setattr(calibration, "_largest_outputs", lambda *args: tuple(most / 8 for most in measured(*args)))
    with pytest.raises(Ov3dError, match="% of the points are labelled otherwise"):
        calibrate(NETWORK, "simulated", street, tmp_path / "out.safetensors", STREET, scans=2)
    assert not (tmp_path / "out.safetensors").exists()


def test_two_scans_are_needed(street: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="fewer than two scans"):
        calibrate(NETWORK, "simulated", street, tmp_path / "out.safetensors", STREET, scans=1)
