"""Templates as data, and CLIP's prompt ensemble."""

from __future__ import annotations

import pytest
import torch
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES
from torch.nn import functional

from ov3d_perception.errors import EncoderError
from ov3d_perception.language.encoder import Encoder
from ov3d_perception.language.prompts import available_templates, ensemble, templates


def test_clips_eighty_and_clip2scenes_eighty_five():
    eighty = [form("{}") for form in OPENAI_IMAGENET_TEMPLATES]
    assert templates("clip80") == eighty
    assert templates()[:80] == eighty
    assert len(set(templates("clip2scene85"))) == 85
    assert all("in the scene" in form for form in templates("clip2scene85")[80:])


@pytest.mark.parametrize("name", available_templates())
def test_every_sentence_has_one_place_for_the_word(name: str):
    assert templates(name)
    assert all(form.count("{}") == 1 for form in templates(name))


def test_unknown_set_names_the_others():
    with pytest.raises(EncoderError, match="clip2scene85"):
        templates("nonsense")


def test_ensemble_is_the_normalised_mean_of_normalised_embeddings(tiny: Encoder):
    words = ["car", "tree"]
    out = ensemble(tiny, words, ["a {}.", "the {}", "{} {}"])
    for word, row in zip(words, out, strict=True):
        each = tiny.encode_text([f"a {word}.", f"the {word}", f"{word} {word}"])
        torch.testing.assert_close(row, functional.normalize(each.mean(0), dim=0), atol=1e-6, rtol=1e-5)


def test_no_words_no_rows(tiny: Encoder):
    assert ensemble(tiny, [], "plain").shape == (0, 16)
