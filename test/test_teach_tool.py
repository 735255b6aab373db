"""``ov3d bank teach``: from pictures and maps to a word that answers; what goes wrong is one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import typer.testing
from PIL import Image
from scipy.ndimage import label as components

from ov3d_perception.cli import app
from ov3d_perception.datasets.simulated import Simulated
from ov3d_perception.errors import IdentityError, Ov3dError, TeachingError
from ov3d_perception.evaluation.score import classify
from ov3d_perception.language.bank import TextBank
from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.map_tool import query_file
from ov3d_perception.mapping.map_words import MapWords
from ov3d_perception.mapping.query import TextQuery
from ov3d_perception.mapping.save_load import save_map
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.models import shipped_bank, shipped_checkpoint
from ov3d_perception.networks.checkpoint_info import load_info
from ov3d_perception.street_clip.captions import street_words
from ov3d_perception.teach_tool import default_loudness, teach_from_pictures, teacher_spec
from ov3d_perception.types import EncoderIdentity


def run(*arguments: object) -> str:
    """What the command prints; raises what it raises."""
    words = [str(argument) for argument in arguments]
    result = typer.testing.CliRunner().invoke(app, ["bank", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OV3D_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """A red thing at another place of each of five grey pictures, in a box."""
    found = []
    for seed in range(5):
        random = np.random.default_rng(seed)
        image = random.integers(90, 130, (64, 96, 3), np.uint8)
        left = 8 + 8 * seed
        image[16:48, left : left + 32] = random.integers(0, 40, (32, 32, 3)) + np.array([200, 0, 0])
        Image.fromarray(image).save(tmp_path / f"cart_{seed}.png")
        found.append(f"{tmp_path / f'cart_{seed}.png'}@{left},16,{left + 32},48")
    return found


def test_from_the_shell_and_what_the_bank_says_of_it(tmp_path: Path, pictures: list[str]) -> None:
    Image.fromarray(np.full((64, 64, 3), 30, np.uint8)).save(tmp_path / "other.png")
    Image.fromarray(np.full((64, 64, 3), 220, np.uint8)).save(tmp_path / "third.png")
    out = tmp_path / "site.npz"
    negatives = ["--not", tmp_path / "other.png", tmp_path / "third.png"]  # as the shell writes other/*.png
    said = run("teach", "our cart", *pictures, *negatives, "--out", out)
    assert "best of the bank's words on" in said and "few" not in said
    bank = TextBank.load(out)
    origin = bank.origins["our cart"]
    assert list(origin["files"]) == [f"cart_{seed}.png" for seed in range(5)]
    assert list(origin["not"]) == ["other.png", "third.png"] and all(len(h) == 64 for h in origin["files"].values())
    assert origin["encoder"] == str(bank.identity) and origin["examples"] == 5 and len(origin["found"]) == 5
    shown = run("info", out)
    assert "our cart: taught 2" in shown and "5 pictures (cart_0.png, cart_1.png, cart_2.png and 2 more)" in shown
    live = Vocabulary.from_words(["our cart", "road"], bank, background={"car": ["car"]})
    live.require(load_info(shipped_checkpoint()).identity)
    run("teach", "our cart", *pictures, "--bank", out, "--replace", "--like", shipped_checkpoint())
    assert len(TextBank.load(out)) == len(bank)


def test_one_line_for_what_is_wrong(tmp_path: Path, pictures: list[str]) -> None:
    out = ["--out", tmp_path / "x.npz"]
    Image.fromarray(np.full((64, 64, 4), [9, 9, 9, 0], np.uint8)).save(tmp_path / "nothing.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "mask_of_none.png")
    cases = {
        "car": ["cars", *pictures],
        "mask of": ["our cart", tmp_path / "nothing.png"],
        "decode": ["our cart", tmp_path / "broken.png"],
        "of a patch": ["our cart", f"{tmp_path / 'cart_0.png'}@0,0,2,2"],
        "empty": ["  ", *pictures],
        "neither a folder": ["our cart", *pictures, "--model", "no-such-model"],
    }
    for why, arguments in cases.items():
        with pytest.raises(Ov3dError) as error:
            run("teach", *arguments, *out)
        assert why in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "x.npz").exists()


def test_without_a_place_for_the_bank_or_with_two_teachers(pictures: list[str]) -> None:
    runner = typer.testing.CliRunner()
    for arguments in (["our cart", *pictures], ["our cart", "--out", "x"], ["a", "b.png", "--from-map", "c", "0 0 0"]):
        assert runner.invoke(app, ["bank", "teach", *arguments]).exit_code == 2


def test_another_encoders_bank(pictures: list[str]) -> None:
    shipped = TextBank.load(shipped_bank())
    other = TextBank(shipped.words, shipped.embeddings, EncoderIdentity("x", "y", 128))
    with pytest.raises(IdentityError, match="x/y/128"):
        teach_from_pictures(other, "our cart", pictures, teacher_spec(shipped))


def test_few_and_alike_examples_are_said(tmp_path: Path, pictures: list[str]) -> None:
    bank = TextBank.load(shipped_bank())
    spec = teacher_spec(bank)
    one = teach_from_pictures(bank, "our cart", pictures[:1], spec)
    assert any("1 examples are few" in note for note in one.notes)
    name = pictures[0].partition("@")[0]
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(name).read_bytes())
    twice = teach_from_pictures(bank, "our cart", [pictures[0], pictures[0].replace(name, str(copy))], spec)
    assert any("copies of others" in note and "copy.png" in note for note in twice.notes)
    assert len(twice.taught.found) == 1
    nearly = np.asarray(Image.open(name)).copy()
    nearly[0, 0] += 1
    Image.fromarray(nearly).save(copy)
    alike = teach_from_pictures(bank, "our cart", [pictures[0], pictures[0].replace(name, str(copy))], spec)
    assert any("all alike" in note for note in alike.notes)


def test_erased_surroundings_need_other_pictures(tmp_path: Path, pictures: list[str]) -> None:
    alpha = np.zeros((64, 64), np.uint8)
    alpha[16:48, 16:48] = 255
    cut = np.dstack([np.where(alpha[..., None] > 0, 200, 0).repeat(3, axis=2).astype(np.uint8), alpha])
    Image.fromarray(cut).save(tmp_path / "cut.png")
    bank = TextBank.load(shipped_bank())
    with pytest.raises(TeachingError, match="no surroundings"):
        teach_from_pictures(bank, "our cart", [str(tmp_path / "cut.png")], teacher_spec(bank))
    plain = [picture.partition("@")[0] for picture in pictures]
    teach_from_pictures(bank, "our cart", [str(tmp_path / "cut.png")], teacher_spec(bank), plain)


def test_a_place_of_a_map_teaches_a_word_that_finds_such_places(tmp_path: Path) -> None:
    """Three things of a look that no word has, among roads and trees; one of them is shown, all three are found."""
    bank = TextBank.load(shipped_bank())
    random = np.random.default_rng(0)
    look = np.linalg.qr(np.concatenate([bank.embeddings[:40], random.normal(size=(1, 128))]).T)[0][:, -1]
    kinds = np.stack([look, *(bank.embed(["road"]) * 0.6), *(bank.embed(["tree"]) * 0.6)]).astype(np.float32)
    blocks, features = [], []
    for number, (kind, centre) in enumerate([(0, 0), (0, 10), (0, 20), (1, 5), (1, 15), (2, 25), (2, 30)]):
        block = random.uniform(-0.6, 0.6, (300, 3)) + np.array([centre, 0, 0])
        blocks.append(block)
        noise = np.random.default_rng(number).normal(scale=0.03, size=(300, 128))
        features.append(kinds[kind] + noise + 0.02)
    semantic_map = SemanticMap(0.2, np.eye(128, dtype=np.float32), bank.identity, bank.logit_scale)
    for stamp in (1, 2, 3):
        semantic_map.integrate(
            np.concatenate(blocks).astype(np.float32), np.concatenate(features).astype(np.float32), stamp
        )
    save_map(semantic_map, tmp_path / "site.ov3dmap", MapWords.of(bank, LabelSet.load("street").prompts))
    out = tmp_path / "site.npz"
    place = ["--from-map", tmp_path / "site.ov3dmap", 0, 0, 0, "--box", 1.4, 1.4, 1.4]
    assert "suits this network" in run("teach", "our cart", *place, "--out", out)
    found = query_file(tmp_path / "site.ov3dmap", TextQuery(["our cart"]), str(out)).matches
    assert sorted(round(match.centroid[0], -1) for match in found) == [0, 10, 20]
    assert "at (0, 0, 0), 1.4x1.4x1.4 m of site.ov3dmap (frame 'map')" in run("info", out)


@pytest.mark.slow
def test_five_pictures_find_a_class_that_the_bank_does_not_know(tmp_path: Path) -> None:
    """Cars of training worlds on unseen worlds, at the teacher's pixels: at least 0.7 of the true word's IoU."""
    number, (training, unseen) = 3, (Simulated(tmp_path, seeds=seeds, frames=1) for seeds in ("0-2", "1005-1006"))
    (tmp_path / "masks").mkdir()
    files = []
    for row in range(len(training)):
        shot = training.rendered(row)
        for camera, (view, truth) in enumerate(zip(shot.frame.views, shot.class_images, strict=True)):
            parts, _ = components(truth == number)
            sizes = np.bincount(parts.ravel())[1:]
            if len(sizes) and sizes.max() > 300:
                name = f"{row}_{camera}.png"
                Image.fromarray(view.image).save(tmp_path / name)
                Image.fromarray((parts == sizes.argmax() + 1).astype(np.uint8)).save(tmp_path / "masks" / name)
                files.append(str(tmp_path / name))
    shipped, labels = TextBank.load(shipped_bank()), LabelSet.load("street")
    kept = [row for row, word in enumerate(shipped.words) if word not in street_words().classes["car"]]
    bank = TextBank(
        [shipped.words[row] for row in kept], shipped.embeddings[kept], shipped.identity, shipped.logit_scale
    )
    assert "car" not in bank and len(files) >= 5
    spec = teacher_spec(bank)
    taught = teach_from_pictures(bank, "our machine", files[:5], spec, masks=tmp_path / "masks").bank
    words = {
        "true": Vocabulary.from_words(labels.prompts, shipped),
        "taught": Vocabulary.from_words({**labels.prompts, "car": ["our machine"]}, taught),
    }
    encoder = load_encoder(spec.model, device="cpu")
    shots = [unseen.rendered(row) for row in range(len(unseen))]
    pictures = [pair for shot in shots for pair in zip(shot.frame.views, shot.class_images, strict=True)]
    hits, union = dict.fromkeys(words, 0), dict.fromkeys(words, 0)
    elsewhere = {"true": 0.0, "taught": 0.0}
    for view, truth in pictures:
        dense = encoder.dense([view.image])[0].numpy()
        there = truth[:: truth.shape[0] // 54, :: truth.shape[1] // 96][:54, :96]
        rows = (np.arange(54) * dense.shape[1] // 54)[:, None] * dense.shape[2] + np.arange(96) * dense.shape[2] // 96
        features = dense.reshape(len(dense), -1).T[rows.ravel()]
        for name, vocabulary in words.items():
            said = classify(torch.from_numpy(features), vocabulary)[0] == number
            hits[name] += int(np.sum(said & (there.ravel() == number)))
            union[name] += int(np.sum(said | (there.ravel() == number)))
            if not (there == number).any():
                elsewhere[name] = max(elsewhere[name], float(said.mean()))
    assert hits["taught"] / union["taught"] >= 0.7 * hits["true"] / union["true"] > 0.1
    assert elsewhere["taught"] <= elsewhere["true"] + 0.02, "images without a car, but with a bus"


def test_words_of_a_published_clip_are_louder_than_those_of_a_small_one():
    """docs/taught_words.md has what both are worth."""
    small = TextBank.load(shipped_bank()).identity
    assert small.pretrained == "local" and default_loudness(small) == 0.6
    assert default_loudness(EncoderIdentity("ViT-B-16-quickgelu", "openai", 512)) == 1.5
