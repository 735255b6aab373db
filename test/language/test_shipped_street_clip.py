"""The small CLIP and the text bank that ship in models/."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from ov3d_perception.errors import EncoderError
from ov3d_perception.language.encoder import Encoder, load_encoder
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.language.vocabulary import TextBank, TextTower, Vocabulary
from ov3d_perception.language.weights import resolve
from ov3d_perception.paths import share_dir
from ov3d_perception.street_clip.captions import street_words

MODELS = share_dir() / "models"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(str(MODELS / "street_clip"), device="cpu")


@pytest.fixture(scope="module")
def bank() -> TextBank:
    return TextBank.load(MODELS / "street_bank.npz")


def test_it_loads_without_a_word_of_open_clip_on_the_root_logger(caplog: pytest.LogCaptureFixture) -> None:
    """Among its lines is one that the weights are random, which they are for a moment."""
    with caplog.at_level(logging.INFO):
        load_encoder(str(MODELS / "street_clip"), device="cpu")
        logging.getLogger().info("another's line")
    assert [record.message for record in caplog.records] == ["another's line"]


def test_its_name_in_a_recipe_means_it_wherever_a_program_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipped checkpoint names its teacher so: `ov3d evaluate` in a home directory must find it."""
    monkeypatch.chdir(tmp_path)
    assert resolve("models/street_clip", None).folder == MODELS / "street_clip"
    (tmp_path / "models" / "street_clip").mkdir(parents=True)
    with pytest.raises(EncoderError, match=r"models/street_clip has no"):
        resolve("models/street_clip", None)  # one's own goes before the shipped one


def test_it_fits_its_share_of_the_repository():
    files = [path for path in (MODELS / "street_clip").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 9e6
    assert {path.name for path in files} == {"open_clip_config.json", "open_clip_model.safetensors", "bpe_vocab.txt.gz"}


def test_the_bank_belongs_to_the_model(encoder: Encoder, bank: TextBank):
    assert bank.identity == encoder.identity
    words = ["car", "traffic cone", "giraffe"]
    np.testing.assert_allclose(bank.embed(words), TextTower(encoder).embed(words), atol=2e-3)


def test_the_bank_holds_every_word_of_the_street(bank: TextBank):
    vocabulary = Vocabulary.from_words(LabelSet.load("street").prompts, bank)
    assert len(vocabulary) == 16
    assert all(word in bank for group in street_words().classes.values() for word in group)
    assert all(word in bank for word in street_words().held_out)


def test_synonyms_are_nearer_to_each_other_than_to_any_other_class(bank: TextBank):
    names = list(street_words().classes)
    words = [(number, word) for number, name in enumerate(names) for word in street_words().classes[name]]
    own = np.array([number for number, _ in words])
    cosine = bank.embed([word for _, word in words])
    cosine = cosine @ cosine.T - 2 * np.eye(len(words))
    nearest = own[cosine.argmax(1)]
    alone = np.bincount(own)[own] == 1
    assert np.mean((nearest == own)[~alone]) > 0.97


def test_held_out_words_are_far_from_every_class(bank: TextBank):
    prompts = Vocabulary.from_words(LabelSet.load("street").prompts, bank).embeddings
    nearest = (bank.embed(street_words().held_out) @ prompts.T).max(1)
    assert np.mean(nearest < 0.3) > 0.95  # "waterfall" is taken for a pole
    assert (bank.embed(["giraffe"]) @ prompts.T).max() < 0


def test_the_card_names_the_weights_that_ship(encoder: Encoder):
    card = Path(MODELS / "street_clip.md").read_text(encoding="utf-8")
    assert encoder.identity.sha256 in card
    config = json.loads((MODELS / "street_clip" / "open_clip_config.json").read_text(encoding="utf-8"))
    assert {"model_cfg", "preprocess_cfg", "dense"} == set(config)
