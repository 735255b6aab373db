"""What decides how a field is made, read from YAML: sections whose defaults are the paper's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as section
from pathlib import Path
from typing import Any

from ov3d_perception.fields.field import FieldSettings
from ov3d_perception.fields.reconstruct import ReconstructionSettings
from ov3d_perception.fields.segment import SegmentationSettings
from ov3d_perception.fields.teachers import TeacherSettings
from ov3d_perception.methods.ovs3d import Ovs3dOptions
from ov3d_perception.paths import shipped
from ov3d_perception.recipes.load import read_plain, with_values
from ov3d_perception.recipes.parse import structure


@dataclass(frozen=True)
class ImagesSpec:
    """downsample: of the images that rays go through (teachers see the images as they are). space: "auto", "box" or
    "ndc". box: x0, y0, z0, x1, y1, z1 of what to fill, metres in the frame of the poses; empty: as the scene says.
    views: share of the training views that is used. psnr: least mean over test views (dB) below which words are
    not learnt, since poses or geometry are wrong; 0 asks for none."""

    downsample: float = 8.0
    space: str = "auto"
    box: tuple[float, ...] = ()
    views: float = 1.0
    psnr: float = 18.0


@dataclass(frozen=True)
class WordsSpec:
    """encoder: "<model>,<pretrained>" as ``load_encoder``. text: bank or model for the words; the encoder where empty.
    dino: "<timm model>:<file>" with DINO's weights; where empty the encoder's dense features take their place.
    branch_hidden, selection: of the language branch. precision: of the encoder, as ``load_encoder``."""

    encoder: str = "ViT-B-16-quickgelu,openai"
    text: str = ""
    dino: str = ""
    branch_hidden: int = 128
    selection: tuple[int, int, int] = (16, 4, 4)
    precision: str = "auto"


@dataclass(frozen=True)
class FieldRecipe:
    """All sections; seed: of everything."""

    images: ImagesSpec = section(default_factory=ImagesSpec)
    field: FieldSettings = section(default_factory=FieldSettings)
    reconstruction: ReconstructionSettings = section(default_factory=ReconstructionSettings)
    teacher: TeacherSettings = section(default_factory=TeacherSettings)
    words: WordsSpec = section(default_factory=WordsSpec)
    segmentation: SegmentationSettings = section(default_factory=SegmentationSettings)
    losses: Ovs3dOptions = section(default_factory=Ovs3dOptions)
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self)


def load_recipe(path: str | Path, overrides: Sequence[str]) -> FieldRecipe:
    """A recipe of ``config/field``; overrides: "section.field=value", in YAML. Raises RecipeError."""
    return from_plain(read_plain(Path(shipped(str(path))), overrides, "config/field"))


def changed(recipe: FieldRecipe, overrides: Mapping[str, Any]) -> FieldRecipe:
    """The recipe with ``section.field`` set to other values. Raises RecipeError naming a field that is wrong."""
    return from_plain(with_values(recipe.as_dict(), overrides))


def from_plain(data: Mapping[str, Any]) -> FieldRecipe:
    """A recipe from plain data, such as that of a field file. Raises RecipeError."""
    return structure(data, FieldRecipe, "See the recipes in config/field")
