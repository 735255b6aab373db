"""The small CLIP's training: captions, crops, losses by hand, and a run on toy pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from open_clip.loss import ClipLoss
from torch.nn import functional

from ov3d_perception.errors import DatasetError
from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.language.text import TextTower
from ov3d_perception.paths import share_dir
from ov3d_perception.street_clip.captions import (
    CaptionWriter,
    absent_words,
    agreement,
    shares_of,
    street_words,
)
from ov3d_perception.street_clip.crops import Cropper, CropSettings, LabelledImage, augment
from ov3d_perception.street_clip.losses import CaptionPool, caption_loss, clip_loss
from ov3d_perception.street_clip.model import ModelSettings
from ov3d_perception.street_clip.trainer import StreetClipRecipe, StreetClipTrainer, _schedule, load_recipe

CLASSES = len(street_words().names)
CAR, ROAD, SKY = 3, 10, CLASSES - 1


def toy_images(count: int = 6) -> list[LabelledImage]:
    """Sky above, road below, a few flat patches; each class has one colour."""
    rng = np.random.default_rng(0)
    colours = np.random.default_rng(1).integers(0, 256, (CLASSES, 3), dtype=np.uint8)
    images = []
    for _ in range(count):
        labels = np.full((64, 96), -1, np.int8)
        labels[30:] = ROAD
        for _ in range(5):
            top, left = rng.integers(0, 48), rng.integers(0, 72)
            labels[top : top + 16, left : left + 24] = rng.integers(0, CLASSES - 1)
        images.append(LabelledImage(colours[labels], labels))
    return images


def toy_recipe(**options) -> StreetClipRecipe:
    towers = {"width": 32, "layers": 2, "head_width": 16, "text_width": 32, "text_heads": 2}
    recipe = StreetClipRecipe(
        text_steps=3,
        steps=6,
        batch=2,
        text_batch=6,
        pool=20,
        captions=8,
        window_every=2,
        warmup=2,
        checkpoint_every=100,
        crops=CropSettings(window=32, boxes=4, box_sizes=(1, 2)),
        model=ModelSettings(dim=16, image_size=32, merges=60, **towers),
    )
    return replace(recipe, **options)


# captions


def test_the_words_are_the_street_label_sets_classes_and_the_sky():
    assert street_words().names == (*LabelSet.load("street").names, "sky")
    for name, prompts in LabelSet.load("street").prompts.items():
        assert set(prompts) <= set(street_words().classes[name]), f"a prompt of {name} is in no caption"


def test_absent_words_are_neither_used_nor_held_out():
    words = street_words()
    used = {part for group in words.classes.values() for word in group for part in word.split()}
    absent = set(absent_words())
    assert len(absent) > 10_000
    assert not absent & (used | {word + "s" for word in used} | set(words.held_out))
    assert not used & {part for word in words.held_out for part in word.split()}
    assert "giraffe" in words.held_out


def test_no_sentence_about_nothing_holds_a_word_of_the_street_or_a_held_out_one():
    rng = np.random.default_rng(0)
    forbidden = {w for group in street_words().classes.values() for w in group} | set(street_words().held_out)
    templates = {"toy", "plastic", "scene"}  # words of the sentences around the word
    for sentence in CaptionWriter().absent(300, rng):
        assert not (set(sentence.strip(".").split()) & forbidden) - templates


def test_shares_by_hand():
    labels = np.array([[0, 0, 2, 2], [0, 1, 2, -1]], np.int32)
    shares = shares_of(labels, 2, 4)
    assert shares.shape == (1, 2, 4)
    np.testing.assert_allclose(shares[0, 0], [0.75, 0.25, 0, 0])
    np.testing.assert_allclose(shares[0, 1], [0, 0, 0.75, 0.25])


def test_salience_forgets_what_is_too_small_and_favours_what_fills_the_crop():
    shares = np.array([[0.64, 0.32, 0.04], [1, 0, 0], [0.05, 0.05, 0.05]], np.float32)
    expected = np.array([2 * 0.8, 0.32**0.5, 0])
    salience = CaptionWriter(least=0.08).salience(shares)
    np.testing.assert_allclose(salience[0], expected / np.linalg.norm(expected), rtol=1e-5)
    np.testing.assert_allclose(salience[1:], [[1, 0, 0], [0, 0, 0]])


@given(st.integers(0, 2**31), st.sets(st.integers(0, CLASSES - 1), min_size=1, max_size=4))
def test_a_caption_mentions_what_it_says(seed: int, classes: set[int]):
    salience = np.zeros(CLASSES, np.float32)
    salience[list(classes)] = np.linspace(1, 0.3, len(classes))
    caption = CaptionWriter().write(salience, np.random.default_rng(seed))
    mentioned = np.flatnonzero(caption.mentions)
    assert set(mentioned) <= classes and int(salience.argmax()) in mentioned
    assert np.linalg.norm(caption.mentions) == pytest.approx(1, abs=1e-5)
    synonyms = list(street_words().classes.values())
    for row in mentioned:
        assert any(word in caption.text for word in synonyms[row])


def test_agreement_by_hand():
    salience = np.array([[1, 0], [0.8, 0.6]], np.float32)
    mentions = np.array([[1, 0], [0, 1]], np.float32)
    np.testing.assert_allclose(agreement(salience, mentions, 2.0), [[1, 0], [0.64, 0.36]], rtol=1e-5)
    assert agreement(np.array([[0.98, 0.2]], np.float32), mentions)[0, 1] == 0


# crops


def test_crops_are_what_their_labels_say():
    settings = CropSettings(window=32, boxes=5, box_sizes=(1, 2, 3))
    cropper = Cropper(toy_images(), CLASSES, settings)
    crops = cropper.batch(4, np.random.default_rng(2))
    assert crops.images.shape == (4, 32, 32, 3) and crops.images.dtype == np.uint8
    assert crops.boxes.shape == (4, 5, 16) and crops.box_shares.shape == (4, 5, CLASSES)
    for values in (crops.boxes, crops.box_shares, crops.window_shares):
        np.testing.assert_allclose(values.sum(-1), 1, rtol=1e-5)


def test_the_same_stream_gives_the_same_crops():
    cropper = Cropper(toy_images(), CLASSES, CropSettings(window=32))
    first, again = (cropper.batch(2, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first.images, again.images) and np.array_equal(first.boxes, again.boxes)


def test_a_full_size_window_of_one_class_has_that_share():
    image = LabelledImage(np.zeros((32, 32, 3), np.uint8), np.full((32, 32), CAR, np.int8))
    crops = Cropper([image], CLASSES, CropSettings(window=32, zoom=(1.0, 1.0))).batch(1, np.random.default_rng(0))
    assert crops.window_shares[0, CAR] == 1
    assert np.all(crops.box_shares[0, :, CAR] == 1)


@pytest.mark.parametrize(("power", "low", "high"), [(0.0, 10, 32), (1.0, 39, 40)])
def test_rare_classes_are_looked_for(power: float, low: int, high: int):
    """One image of six has a car of 96 pixels: drawn as often as the road, or 384 times as often."""
    images = [LabelledImage(np.zeros((64, 96, 3), np.uint8), np.full((64, 96), ROAD, np.int8)) for _ in range(6)]
    images[2].labels[20:28, 40:52] = CAR
    crops = Cropper(images, CLASSES, CropSettings(window=32, rare_power=power)).batch(40, np.random.default_rng(0))
    assert low <= (crops.window_shares[:, CAR] > 0).sum() <= high


def test_augmentation_keeps_shape_and_type():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    out = [augment(image, np.random.default_rng(seed)) for seed in range(20)]
    assert all(one.shape == image.shape and one.dtype == np.uint8 for one in out)
    assert np.std([one.mean() for one in out]) > 5


# losses


def test_with_one_caption_each_the_loss_is_clips():
    image, text = (functional.normalize(torch.randn(5, 8), dim=1) for _ in range(2))
    expected = ClipLoss()(image, text, torch.tensor(10.0))
    torch.testing.assert_close(clip_loss(image, text, np.eye(5, dtype=np.float32), torch.tensor(10.0)), expected)


def test_absent_texts_only_push():
    """An absent text near the image raises the loss by what it adds to that row's denominator."""
    image, text = torch.eye(2), torch.cat([torch.eye(2), torch.tensor([[1.0, 0.0]])])
    to_text = (torch.log(torch.tensor(2 + torch.e**-1)) + torch.log(1 + 2 * torch.e ** torch.tensor(-1.0))) / 2
    to_image = torch.log(1 + torch.e ** torch.tensor(-1.0))
    loss = clip_loss(image, text, np.eye(2, dtype=np.float32), torch.tensor(1.0))
    torch.testing.assert_close(loss, (to_text + to_image) / 2)


def test_spread_targets_cost_nothing_when_met():
    fit = np.array([[3.0, 1.0], [1.0, 3.0]], np.float32)
    logit = torch.log(torch.tensor([3.0, 1.0]))
    image = torch.eye(2)
    text = torch.stack([logit, logit.flip(0)])
    torch.testing.assert_close(clip_loss(image, text, fit, torch.tensor(1.0)), torch.tensor(0.0), atol=1e-6, rtol=0)


def test_what_nothing_fits_has_no_loss_of_its_own():
    image, text = torch.eye(3), torch.eye(3)
    fit = np.diag([1.0, 1.0, 0.0]).astype(np.float32)
    assert clip_loss(image[2:], text, fit[2:], torch.tensor(5.0)) == 0
    assert torch.isfinite(clip_loss(image, text, fit, torch.tensor(5.0)))


def test_a_caption_is_not_held_against_itself():
    text = functional.normalize(torch.randn(4, 6), dim=1)
    loss = caption_loss(text, np.eye(4, dtype=np.float32), torch.tensor(5.0))
    assert loss == 0  # each fits itself alone
    pairs = np.kron(np.eye(2), np.ones((2, 2))).astype(np.float32)
    same = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    expected = torch.log(1 + 2 * torch.e ** torch.tensor(-5.0))
    torch.testing.assert_close(caption_loss(same, pairs, torch.tensor(5.0)), expected)


def test_a_draw_holds_captions_first_and_absent_sentences_after():
    pool = CaptionPool(torch.arange(10.0)[:, None], np.arange(6, dtype=np.float32)[:, None])
    embeddings, mentions = pool.draw(np.random.default_rng(0), 4, 3)
    assert torch.equal(embeddings[:4, 0], torch.from_numpy(mentions[:, 0]))
    assert embeddings[4:].min() >= 6 and len(set(embeddings[4:, 0].tolist())) == 3


def test_each_class_is_drawn_equally_often():
    """90 captions chiefly of the first class, 10 of the second: half and half in a draw of 1000 (+- 5 sigma)."""
    mentions = np.where(np.arange(100)[:, None] < 90, [0.9, 0.1], [0.1, 0.9]).astype(np.float32)
    _, drawn = CaptionPool(torch.zeros(100, 1), mentions).draw(np.random.default_rng(0), 1000, 0)
    assert abs((drawn.argmax(1) == 1).sum() - 500) < 80


# the run


def test_schedule_has_a_warm_up_and_a_cosine_for_each_part():
    recipe = toy_recipe(text_steps=100, steps=300, warmup=10, learning_rate=1.0)
    assert [_schedule(step, recipe) for step in (0, 9, 10)] == pytest.approx([0.1, 1.0, 1.0])
    assert _schedule(55, recipe) == pytest.approx(0.01 + 0.99 / 2)
    assert _schedule(100, recipe) == pytest.approx(0.1)
    assert _schedule(299, recipe) == pytest.approx(0.01, abs=1e-3)


def test_the_committed_recipe_loads():
    recipe = load_recipe(share_dir() / "config" / "train" / "street_clip.yaml")
    assert recipe.crops.window == recipe.model.image_size == recipe.dense.window
    assert recipe.crops.patch == recipe.model.patch
    assert max(int(seed) for seed in recipe.worlds.seeds.split("-")) < 1000


def test_a_recipe_with_a_wrong_field(tmp_path: Path):
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"crops": {"windov": 3}}))
    with pytest.raises(DatasetError, match="windov"):
        load_recipe(tmp_path / "r.yaml")
    with pytest.raises(DatasetError, match="cannot be used"):
        load_recipe(tmp_path / "none.yaml")


def test_each_part_trains_its_own_tower(tmp_path: Path):
    trainer = StreetClipTrainer(toy_images(), toy_recipe(), tmp_path)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.run(stop_at=3)
    middle = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.run()
    for name, value in trainer.model.named_parameters():
        first, second = (not torch.equal(a, b) for a, b in ((before[name], middle[name]), (middle[name], value)))
        if name == "logit_scale":
            assert first and second
        elif "text_projection" in name or "token_embedding" in name:
            assert (first, second) == (True, False), name
        elif name == "visual.conv1.weight":
            assert (first, second) == (False, True), name


def test_a_stopped_run_goes_on_exactly(tmp_path: Path):
    whole = StreetClipTrainer(toy_images(), toy_recipe(), tmp_path / "whole")
    whole.run()
    StreetClipTrainer(toy_images(), toy_recipe(), tmp_path / "parts").run(stop_at=4)
    resumed = StreetClipTrainer(toy_images(), toy_recipe(), tmp_path / "parts")
    assert resumed.step == 4
    resumed.run()
    for name, value in resumed.model.state_dict().items():
        torch.testing.assert_close(value, whole.model.state_dict()[name], msg=name)


def test_another_recipe_does_not_resume(tmp_path: Path):
    StreetClipTrainer(toy_images(), toy_recipe(), tmp_path).save_state()
    with pytest.raises(DatasetError, match="another recipe"):
        StreetClipTrainer(toy_images(), toy_recipe(seed=2), tmp_path)


def test_the_folder_is_an_encoder_with_the_trained_weights(tmp_path: Path):
    trainer = StreetClipTrainer(toy_images(), toy_recipe(), tmp_path)
    trainer.run()
    encoder = load_encoder(str(tmp_path), device="cpu")
    assert encoder.settings == toy_recipe().dense
    trainer.model.eval()
    with torch.no_grad():
        expected = trainer.model.encode_text(trainer._tokenizer(["a car"]), normalize=True)
    torch.testing.assert_close(encoder.encode_text(["a car"]), expected, atol=5e-3, rtol=0)


@pytest.mark.slow
def test_toy_words_are_learned(tmp_path: Path):
    """After a short run on flat colours, the boxes' loss is far below its start and words part from absent ones."""
    recipe = toy_recipe(
        steps=260, text_steps=180, batch=4, text_batch=32, pool=200, captions=64, warmup=10, learning_rate=2e-3
    )
    trainer = StreetClipTrainer(toy_images(), recipe, tmp_path)
    trainer.run(stop_at=180)
    begin = np.mean([trainer.train_step()["boxes"] for _ in range(5)])
    trainer.run(stop_at=255)
    end = np.mean([trainer.train_step()["boxes"] for _ in range(5)])
    assert end < 0.6 * begin
    trainer.save_state()
    text = TextTower(load_encoder(str(tmp_path), device="cpu"), "plain")
    car, sedan, road = text.embed(["car", "sedan", "road"])
    assert car @ sedan > car @ road
