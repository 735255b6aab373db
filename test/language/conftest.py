"""A tiny untrained CLIP in a folder, as the encoder's loader meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ov3d_perception.language.encoder import DenseSettings, Encoder, load_encoder
from ov3d_perception.street_clip.model import ModelSettings, create_folder, create_untrained, save_weights

TINY = ModelSettings(
    dim=16,
    image_size=32,
    patch=8,
    width=32,
    layers=2,
    head_width=16,
    text_width=32,
    text_layers=1,
    text_heads=2,
    merges=40,
)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny_clip"
    torch.manual_seed(3)
    create_folder(folder, TINY, DenseSettings())
    model, _ = create_untrained(folder)
    save_weights(model, folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Encoder:
    return load_encoder(str(tiny_folder), device="cpu")
