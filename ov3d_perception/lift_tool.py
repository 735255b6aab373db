"""A map from images and a LiDAR, without training and without ROS. What ``ov3d map from-images`` does."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ov3d_perception.errors import DatasetError, IdentityError, Ov3dError, RecipeError
from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.language.vocabulary import load_text_source
from ov3d_perception.lifting.consolidate import basis_of, consolidate, placed
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.sources import FrameSubset, bank_of, open_source
from ov3d_perception.mapping.basis import Basis
from ov3d_perception.mapping.map_words import MapWords
from ov3d_perception.mapping.save_load import MapInfo
from ov3d_perception.mapping.session import MapSession, MapSettings
from ov3d_perception.paths import cache_dir
from ov3d_perception.recipes.specs import Recipe, SourceSpec
from ov3d_perception.types import Frame

_log = logging.getLogger(__name__)


def map_from_images(recipe: Recipe, source: SourceSpec, out: Path, voxel_size: float = 0.2, frames: int = 0) -> MapInfo:
    """Lift what the recipe's teacher sees in the images into the voxels that the LiDAR hits, and save the map.

    recipe: teacher, association (``pairs``) and words; nothing else of it is used. source: of the frames. out: the map
    file. voxel_size: metres. frames: so many of them at most, evenly spread over the drive; 0: all.
    One that cannot be read is told and left out.

    Raises RecipeError without words, DatasetError where no image sees a point, IdentityError for words of another
    encoder, and what opening the source raises.
    """
    if recipe.vocabulary is None:
        raise RecipeError("The recipe names no words to ask the map in", "Add a vocabulary: section, or use --set")
    opened = open_source(source)
    encoder = load_encoder(recipe.teacher.model, recipe.teacher.pretrained, "auto", recipe.teacher.precision)
    text = bank_of(recipe.vocabulary) or load_text_source(recipe.vocabulary.text)
    if not encoder.identity.compatible(text.identity):
        raise IdentityError(
            f"The words of {recipe.vocabulary.text} belong to {text.identity}, the teacher is {encoder.identity}",
            "Name a bank of the encoder: --set vocabulary.text=",
        )
    chosen = opened
    if 0 < frames < len(opened):
        numbers = np.unique(np.linspace(0, len(opened) - 1, frames).round().astype(int))
        chosen = FrameSubset(opened, numbers.tolist())
    teacher = ImageTeacher(encoder, recipe.teacher, cache_dir() / "teacher")
    directions = basis_of(chosen, teacher, recipe.pairs)
    session = MapSession(
        MapSettings(getattr(opened, "fixed_frame", "map"), voxel_size),
        MapWords.of(text, LabelSet.load(recipe.vocabulary.labelset).prompts),
    )
    session.basis = Basis(directions.numpy().astype(np.float32), encoder.identity, encoder.logit_scale)
    for _, frame, found in consolidate(_readable(chosen), teacher, recipe.pairs, directions):
        if len(found.point):
            xyz, features = placed(frame, found, recipe.pairs)
            sweep = frame.sweeps[0]
            session.integrate(
                session.basis.basis_id, voxel_size, xyz, features, sweep.scan.stamp, sweep.T_world_lidar[:3, 3]
            )
    if session.map is None:
        raise DatasetError(
            f"No image of {source.root or source.dataset} sees a point of the LiDAR",
            "Look at the calibration: ov3d doctor, and at pairs.min_depth and max_depth",
        )
    return session.save(out)[0]


def _readable(frames: Sequence[Frame]) -> Iterator[tuple[int, Frame]]:
    """The frames by number; one that cannot be read is told and left out."""
    for number in tqdm(range(len(frames)), unit="frame"):
        try:
            frame = frames[number]
        except Ov3dError as error:
            _log.warning("Left out: %s", error)
            continue
        yield number, frame
