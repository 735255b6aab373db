"""What decides how a field is made, read from YAML: sections whose defaults are the paper's."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from dataclasses import field as section
from pathlib import Path
from typing import Any

import yaml

from ov3d_perception.errors import RecipeError
from ov3d_perception.fields.field import FieldSettings
from ov3d_perception.fields.reconstruct import ReconstructionSettings
from ov3d_perception.fields.segment import SegmentationSettings
from ov3d_perception.fields.teachers import TeacherSettings
from ov3d_perception.methods.ovs3d import Ovs3dOptions
from ov3d_perception.paths import shipped
from ov3d_perception.recipes.parse import structure


@dataclass(frozen=True)
class ImagesSpec:
    """downsample: of the images that rays go through (teachers see the images as they are). space: "auto", "box" or
    "ndc". views: share of the training views that is used. psnr: least mean over test views (dB) below which words are
    not learnt, since poses or geometry are wrong; 0 asks for none."""

    downsample: float = 8.0
    space: str = "auto"
    views: float = 1.0
    psnr: float = 18.0


@dataclass(frozen=True)
class WordsSpec:
    """encoder: "<model>,<pretrained>" as ``load_encoder``. text: bank or model for the words; the encoder where empty.
    dino: "<timm model>:<file>" with DINO's weights; where empty the encoder's dense features take their place.
    branch_hidden, selection: of the language branch."""

    encoder: str = "ViT-B-16-quickgelu,openai"
    text: str = ""
    dino: str = ""
    branch_hidden: int = 128
    selection: tuple[int, int, int] = (16, 4, 4)


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


def load_recipe(path: str | Path, overrides: list[str]) -> FieldRecipe:
    """A recipe of ``config/field``; overrides: "section.field=value", in YAML. Raises RecipeError."""
    file = Path(shipped(str(path)))
    if not file.is_file():
        raise RecipeError(f"There is no recipe {path}", "Name one of config/field")
    try:
        content: dict[str, Any] = yaml.safe_load(file.read_text("utf-8")) or {}
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is no YAML ({error})", "Correct it") from error
    for override in overrides:
        place, equals, value = override.partition("=")
        *sections, name = place.split(".")
        if not equals or not name:
            raise RecipeError(f"{override!r} sets nothing", "Write section.field=value")
        target = content
        for part in sections:
            target = target.setdefault(part, {})
        target[name] = yaml.safe_load(value)
    return structure(content, FieldRecipe, "See the recipes in config/field")
