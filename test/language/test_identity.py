from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ov3d_perception.errors import EncoderError, IdentityError
from ov3d_perception.language.bank import TextBank
from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.language.identity import find_identity, identity_of
from ov3d_perception.types import EncoderIdentity

STREET_CLIP = Path(__file__).parents[2] / "models/street_clip"


@pytest.mark.parametrize(("model", "dim"), [("ViT-L-14-336-quickgelu", 768), ("ViT-B-16-quickgelu", 512)])
def test_names_of_openais_models(model: str, dim: int) -> None:
    assert find_identity(f"{model},openai") == (EncoderIdentity(model, "openai", dim), 100.0)


def test_a_folders_identity_is_the_loaded_encoders() -> None:
    assert identity_of(str(STREET_CLIP)) == load_encoder(str(STREET_CLIP), device="cpu").identity


def test_none_and_unknown() -> None:
    assert identity_of("none").dim == 0
    with pytest.raises(EncoderError, match="neither a folder nor a model"):
        identity_of("OpenSeg,openai")
    with pytest.raises(EncoderError, match="openai"):
        identity_of("ViT-L-14-336-quickgelu,laion")
    with pytest.raises(EncoderError, match="--text hf-hub:owner/name"):
        identity_of("hf-hub:owner/name")
    with pytest.raises(IdentityError, match="Name the encoder"):
        find_identity()


def test_a_bank_says_whose_it_is(tmp_path: Path) -> None:
    identity = EncoderIdentity("ViT-B-16-quickgelu", "openai", 512, "ab" * 32)
    TextBank(["car"], np.ones((1, 512), np.float32), identity, 42.0).save(tmp_path / "b.npz")
    assert find_identity(text=str(tmp_path / "b.npz")) == (identity, 42.0)
    assert find_identity("ViT-B-16-quickgelu,openai", str(tmp_path / "b.npz")) == (identity, 42.0)
    with pytest.raises(IdentityError, match=r"belongs to ViT-B-16.*not to ViT-B-32"):
        find_identity("ViT-B-32-quickgelu,openai", str(tmp_path / "b.npz"))
