"""DINO's features in windows, against the network itself (random weights: what is tested is what it is shown)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from ov3d_perception.errors import EncoderError
from ov3d_perception.language.dino import Dino, load_dino

MODEL = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("dino") / "tiny.pth"
    torch.save(timm.create_model(MODEL, num_classes=0).state_dict(), file)
    return file


def tokens(weights: Path, image: np.ndarray) -> torch.Tensor:
    network = timm.create_model(MODEL, num_classes=0, dynamic_img_size=True, checkpoint_path=str(weights)).eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((torch.from_numpy(image) / 255 - mean) / std).permute(2, 0, 1)[None]
    with torch.no_grad():
        return torch.nn.functional.normalize(network.forward_features(pixels)[0, 1:], dim=1)


def test_a_small_image_is_one_window(weights: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (70, 96, 3), dtype=np.uint8)
    found = load_dino(f"{MODEL}:{weights}")(image)
    assert found.shape == (4, 6, 192)  # 70 pixels hold four patches
    torch.testing.assert_close(found.flatten(0, 1), tokens(weights, image[:64]), atol=1e-5, rtol=0)


def test_a_large_image_is_seen_in_windows(weights: Path) -> None:
    image = np.random.default_rng(1).integers(0, 255, (64, 384, 3), dtype=np.uint8)
    found = Dino(MODEL, weights)(image)
    left, right = (tokens(weights, image[:, at : at + 256]).unflatten(0, (4, 16)) for at in (0, 128))
    torch.testing.assert_close(found[:, :8], left[:, :8], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:, 16:], right[:, 8:], atol=1e-5, rtol=0)
    nearer = (found[:, 15] * right[:, 7]).sum(-1) - (found[:, 15] * left[:, 15]).sum(-1)
    assert (nearer > 0).all()  # the middle of the right window, the border of the left


def test_weights_that_are_not_there_are_told(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(EncoderError, match="names no weights"):
        load_dino(f"{MODEL}:{tmp_path / 'none.pth'}")
    with pytest.raises(EncoderError, match="does not make vit_base"):
        Dino("vit_base_patch16_224", weights)
