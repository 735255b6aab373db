"""Vocabularies from banks and towers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_data import data_dir

from ov3d_perception.errors import EncoderError, IdentityError, UnknownWordError, VocabularyError, WriteError
from ov3d_perception.language.encoder import Encoder
from ov3d_perception.language.text import store
from ov3d_perception.language.vocabulary import TextBank, TextTower, Vocabulary, load_text_source
from ov3d_perception.language.words import normalise_word
from ov3d_perception.types import EncoderIdentity

IDENTITY = EncoderIdentity("m", "p", 4, "ab")


@pytest.fixture
def bank() -> TextBank:
    return TextBank(["car", "traffic cone", "tree"], np.eye(4, dtype=np.float32)[:3] * 5, IDENTITY, 50.0)


def test_words_are_found_whatever_their_case_spaces_and_underscores(bank: TextBank):
    assert np.array_equal(bank.embed(["Traffic_Cone", " tree ", "CAR"]), np.eye(4)[[1, 2, 0]])
    assert "traffic-cone" in bank and "cone" not in bank and len(bank) == 3


@given(st.text("aB _-", max_size=12))
def test_normalising_twice_changes_nothing(word: str):
    once = normalise_word(word)
    assert normalise_word(once) == once
    assert normalise_word(word.upper()) == once


def test_unknown_word_names_what_is_close_and_what_is_known(bank: TextBank):
    with pytest.raises(UnknownWordError, match=r"does not hold 'caar'.*Close to it: car.*car, traffic cone, tree"):
        bank.embed(["tree", "caar"])


def test_bank_survives_its_file(bank: TextBank, tmp_path: Path):
    bank.save(tmp_path / "deep" / "bank.npz")
    read = TextBank.load(tmp_path / "deep" / "bank.npz")
    assert (read.words, read.identity, read.logit_scale) == (bank.words, IDENTITY, 50.0)
    np.testing.assert_allclose(read.embeddings, bank.embeddings, atol=1e-3)
    assert isinstance(load_text_source(tmp_path / "deep" / "bank.npz"), TextBank)


def test_broken_banks(tmp_path: Path):
    with pytest.raises(EncoderError, match="cannot be read"):
        TextBank.load(tmp_path / "none.npz")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(EncoderError, match="cannot be read"):
        TextBank.load(tmp_path / "cut.npz")
    np.savez(tmp_path / "foreign.npz", a_multi=np.eye(3), a_names=np.array(["x", "y", "z"]))
    with pytest.raises(EncoderError, match=r"lacks.*a_multi"):
        TextBank.load(tmp_path / "foreign.npz")
    with pytest.raises(EncoderError, match="no arrays 'b'"):
        TextBank.load(tmp_path / "foreign.npz", key="b")
    good = {"words": np.array(["x"]), "embeddings": np.ones((1, 4)), "logit_scale": np.float32(50)}
    for identity, origins in (("no JSON", "{}"), ('{"model": "m"}', "{}"), ("[1]", "{}"), (str(IDENTITY), "no JSON")):
        np.savez(tmp_path / "own.npz", **good, identity=np.array(identity), origins=np.array(origins))
        with pytest.raises(EncoderError, match="does not say whose embeddings"):
            TextBank.load(tmp_path / "own.npz")
    with pytest.raises(EncoderError, match="shape"):
        TextBank(["one"], np.ones((2, 4), np.float32), IDENTITY)
    for bad in (0.0, np.nan, np.inf):
        with pytest.raises(EncoderError, match="of two are zero or not finite"):
            TextBank(["one", "two"], np.float32([[1, 0, 0, 0], [bad] * 4]), IDENTITY)


def test_foreign_bank_by_key(tmp_path: Path):
    np.savez(tmp_path / "foreign.npz", set_multi=2 * np.eye(3), set_names=np.array(["x", "y", "z"]))
    read = TextBank.load(tmp_path / "foreign.npz", "set_multi", identity=EncoderIdentity("m", "p", 3))
    assert np.array_equal(read.embed(["y"]), [[0, 1, 0]])
    np.savez(tmp_path / "other.npz", set_multi=np.eye(3), set_multi_names=np.array(["u", "v", "w"]))
    read = TextBank.load(tmp_path / "other.npz", "set_multi", identity=EncoderIdentity("m", "p", 3))
    assert read.words == ("u", "v", "w")


def test_a_word_in_the_place_of_the_bank_to_write_is_no_file(bank: TextBank, tmp_path: Path):
    with pytest.raises(WriteError, match=r"does not end in \.npz"):
        bank.save(tmp_path / "car")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(data_dir() is None, reason="no real data: set OV3D_TEST_DATA")
def test_the_real_coco_stuff_bank():
    path = data_dir() / "clip_vitb16" / "text_embeddings.npz"
    bank = TextBank.load(path, key="cocostuff171_multi")
    assert len(bank) == 171
    assert bank.identity == EncoderIdentity("ViT-B-16-quickgelu", "openai", 512)
    car, truck, broccoli = bank.embed(["car", "truck", "broccoli"])
    assert car @ truck > car @ broccoli


def test_vocabulary_of_plain_words(bank: TextBank):
    vocabulary = Vocabulary.from_words(["tree", "car"], bank)
    assert vocabulary.names == vocabulary.prompts == ("tree", "car")
    assert vocabulary.prompt_class.tolist() == [0, 1] and vocabulary.prompt_class.dtype == np.int32
    assert np.array_equal(vocabulary.embeddings, np.eye(4)[[2, 0]])
    assert (vocabulary.identity, vocabulary.logit_scale, len(vocabulary)) == (IDENTITY, 50.0, 2)


def test_vocabulary_of_classes_with_several_prompts(bank: TextBank):
    vocabulary = Vocabulary.from_words({"thing": ["car", "traffic cone"], "plant": ["tree"]}, bank)
    assert vocabulary.names == ("thing", "plant")
    assert vocabulary.prompts == ("car", "traffic cone", "tree")
    assert vocabulary.prompt_class.tolist() == [0, 0, 1]


@pytest.mark.parametrize("words", [[], {"a": []}, {"a": ["car", " "]}])
def test_empty_vocabularies(bank: TextBank, words):
    with pytest.raises(VocabularyError, match="empty"):
        Vocabulary.from_words(words, bank)


@pytest.mark.parametrize("words", [["car", "tree", "car"], ["car", "Car"], {"a_b": ["car"], "a b": ["tree"]}])
def test_a_class_twice_would_shift_the_ids_of_those_after_it(bank: TextBank, words):
    with pytest.raises(VocabularyError, match=r"more than once\..*Name each class once"):
        Vocabulary.from_words(words, bank)


def test_a_string_is_no_list_of_words(bank: TextBank):
    with pytest.raises(VocabularyError, match=r"the string 'tree'\. Give a list: \['tree'\]"):
        Vocabulary.from_words("tree", bank)


def test_identity_is_required(bank: TextBank):
    vocabulary = Vocabulary.from_words(["car"], bank)
    vocabulary.require(EncoderIdentity("m", "p", 4))
    with pytest.raises(IdentityError, match="belong to other/p/4"):
        vocabulary.require(EncoderIdentity("other", "p", 4))
    with pytest.raises(IdentityError):
        vocabulary.require(EncoderIdentity("m", "p", 4, "cd"))


def test_tower_and_the_bank_it_stores_agree(tiny: Encoder, tmp_path: Path):
    tower = TextTower(tiny, "openscene")
    stored = store(tower, ["red_car", "tree"])
    stored.save(tmp_path / "bank.npz")
    read = TextBank.load(tmp_path / "bank.npz")
    assert read.identity == tiny.identity
    assert read.logit_scale == pytest.approx(tiny.logit_scale)
    np.testing.assert_allclose(read.embed(["red car"]), tower.embed(["red car"]), atol=1e-3)
    np.testing.assert_allclose(tower.embed(["red_car"])[0], tiny.encode_text(["a red car in a scene"])[0], atol=1e-6)


def test_text_source_by_folder(tiny_folder: Path):
    source = load_text_source(str(tiny_folder), templates="plain")
    assert source.embed(["anything at all"]).shape == (1, 16)


def test_merged_banks_hold_every_word_and_the_mean_of_what_several_hold():
    axes = np.eye(4, dtype=np.float32)
    first = TextBank(["car", "tree"], axes[:2], IDENTITY, 50.0)
    second = TextBank(["road", "Car"], axes[[2, 2]], IDENTITY)
    merged = TextBank.merged([first, second])
    assert merged.words == ("car", "tree", "road") and merged.logit_scale == 50.0
    np.testing.assert_allclose(merged.embed(["car"]), [[0.5**0.5, 0, 0.5**0.5, 0]], atol=1e-6)
    np.testing.assert_array_equal(merged.embed(["tree", "road"]), axes[1:3])
    with pytest.raises(EncoderError, match="cannot be compared"):
        TextBank.merged([first, TextBank(["car"], axes[:1], EncoderIdentity("other", "p", 4))])
    with pytest.raises(EncoderError, match="no bank"):
        TextBank.merged([])


def test_a_word_more_with_its_origin(bank: TextBank, tmp_path: Path):
    direction = np.ones(bank.identity.dim)
    taught = bank.with_word("our cart", direction, {"from": "pictures"})
    taught.save(tmp_path / "site.npz")
    again = TextBank.load(tmp_path / "site.npz")
    assert again.words == (*bank.words, "our cart") and again.origins == {"our cart": {"from": "pictures"}}
    np.testing.assert_allclose(again.embed(["Our Carts"])[0], direction / np.linalg.norm(direction), atol=1e-3)
    assert Vocabulary.from_words(["our cart", bank.words[0]], again).names == ("our cart", bank.words[0])
    assert "our cart" not in bank and bank.origins == {}


def test_a_word_that_is_there_stays_unless_it_is_to_be_replaced(bank: TextBank):
    word = bank.words[0]
    for other in (word, f"{word}s", "  "):
        with pytest.raises(VocabularyError):
            bank.with_word(other, np.ones(bank.identity.dim), {})
    new = bank.with_word(f"the {word}", np.ones(bank.identity.dim), {"n": 1}, replace=True)
    assert len(new) == len(bank) and new.words[-1] == f"the {word}"
    assert (new.embed([word]) == new.embeddings[-1:]).all()
    assert new.with_word(word, np.ones(bank.identity.dim), {"n": 2}, replace=True).origins == {word: {"n": 2}}


def test_merging_keeps_the_origin_of_a_word_that_one_bank_taught(bank: TextBank):
    taught = bank.with_word("our cart", np.ones(bank.identity.dim), {"n": 1})
    assert TextBank.merged([bank, taught]).origins == {"our cart": {"n": 1}}
    assert TextBank.merged([taught, taught]).origins == {}, "a mean of two"


def test_a_bank_is_written_whole_or_not_at_all(bank: TextBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "bank.npz"
    bank.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(np, "savez_compressed", lambda stream, **_: (stream.write(b"half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        bank.with_word("our cart", np.ones(bank.identity.dim), {}).save(path)
    assert path.read_bytes() == before and [entry.name for entry in tmp_path.iterdir()] == ["bank.npz"]
