"""The recipe from end to end: render, train, score on unseen worlds, store the text bank.

``python -m ov3d_perception.street_clip.run --recipe config/train/street_clip.yaml --out models/street_clip``
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.language.text import TextTower, store
from ov3d_perception.language.vocabulary import TextBank
from ov3d_perception.street_clip.captions import street_words
from ov3d_perception.street_clip.images import load_images, open_worlds
from ov3d_perception.street_clip.score import TeacherScore, score_teacher
from ov3d_perception.street_clip.trainer import StreetClipRecipe, StreetClipTrainer, load_recipe


def train(recipe: StreetClipRecipe, out: Path, cache: Path = Path()) -> None:
    """Train to the end, or go on from where a run of the same recipe in ``out`` stopped."""
    trainer = StreetClipTrainer(load_images(recipe.worlds, cache), recipe, out)
    trainer.run()
    trainer.state_file.unlink()  # the folder is shipped as it is


def score(recipe: StreetClipRecipe, folder: Path, cache: Path = Path(), every: int = 5) -> TeacherScore:
    """Score on every ``every``-th frame of the validation worlds."""
    encoder = load_encoder(str(folder), device="cpu")
    source = open_worlds(recipe.worlds, recipe.worlds.validation_seeds, cache)
    frames = (source.frame(number) for number in range(0, len(source), every))
    return score_teacher(encoder, TextTower(encoder), frames)


def bank_words() -> list[str]:
    """The street's prompts, all words of the captions, and the held-out words, which must find nothing."""
    prompts = [word for group in LabelSet.load("street").prompts.values() for word in group]
    caption_words = [word for group in street_words().classes.values() for word in group]
    return list(dict.fromkeys([*prompts, *caption_words, *street_words().held_out]))


def store_bank(folder: Path, path: Path) -> TextBank:
    """Embed :func:`bank_words` by the folder's text tower."""
    bank = store(TextTower(load_encoder(str(folder), device="cpu")), bank_words())
    bank.save(path)
    return bank


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, default=Path("config/train/street_clip.yaml"))
    parser.add_argument("--out", type=Path, default=Path("models/street_clip"))
    parser.add_argument("--bank", type=Path, default=Path("models/street_bank.npz"))
    parser.add_argument("--cache", type=Path, default=Path(), help="folder of the rendered worlds")
    parser.add_argument("--score-only", action="store_true")
    options = parser.parse_args(arguments)
    recipe = load_recipe(options.recipe)
    if not options.score_only:
        train(recipe, options.out, options.cache)
        store_bank(options.out, options.bank)
    print(json.dumps(asdict(score(recipe, options.out, options.cache)), indent=1))


if __name__ == "__main__":
    main()
