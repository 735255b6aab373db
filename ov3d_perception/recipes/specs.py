"""A recipe: everything that decides what a distillation run computes, as one YAML file in ``config/train/``."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from ov3d_perception.errors import RecipeError
from ov3d_perception.networks.registry import ARCHITECTURES
from ov3d_perception.recipes.applies import METHOD_FIELDS, check_options

METHODS = tuple(METHOD_FIELDS)
FORMS = ("equation", "release", "soft")
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}  # by Lightning's names


@dataclass(frozen=True)
class SourceSpec:
    """A source of frames: ``dataset`` is a name of the datasets registry ("bag" included), ``root`` its folder or file.

    options: keyword arguments of that data set (``sequences``, ``seeds``, ...). every: takes every n-th frame.
    """

    dataset: str
    root: str
    options: dict[str, Any] = field(default_factory=dict)
    every: int = 1


@dataclass(frozen=True)
class TeacherSpec:
    """The image encoder and how its dense features are made.

    model, pretrained: as for open_clip; pretrained may be a file, model a folder of ours.
    size: (height, width) in pixels that an image is resized to before encoding; None keeps its own size.
    scales: factors on ``size`` whose features are averaged. flip: average with the mirrored image's features too.
    precision: of the encoder, as for ``load_encoder``.
    cache_gb: stated budget of the fp16 dense features on disk; a run that needs more stops before it starts.
    online: encode images in each step, which their augmentations need, instead of once (CLIP2Scene and its like).
    key_smoothing: a sharpness (20 is good for CLIP ViT-B/16, 0 is off), after MaskCLIP: a patch takes the mean of all
    patches' features, weighted by the softmax of the sharpness times the cosine of their keys.
    denoise: MaskCLIP's prompt denoising: words whose probability is below this all over an image are not in it; 0: off.
    """

    model: str
    pretrained: str | None = None
    size: tuple[int, int] | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    precision: str = "auto"
    cache_gb: float = 20.0
    online: bool = False
    key_smoothing: float = 0.0
    denoise: float = 0.0


@dataclass(frozen=True)
class PairSpec:
    """Which pixels teach which points.

    sweeps: how many sweeps of a frame are merged into the input cloud. min_depth, max_depth: metres along the optical
    axis. border: pixels. occlusion: the depth-buffer test (the papers have none), in which a point covers
    ``occlusion_radius`` pixels (horizontal, vertical) around it. view_window: images of that many
    frames before and after, of the same sequence, see the frame's points too (through the ego poses).
    """

    sweeps: int = 1
    min_depth: float = 1.0
    max_depth: float = 80.0
    border: int = 0
    occlusion: bool = True
    occlusion_radius: tuple[float, float] = (6.0, 6.0)
    view_window: int = 0


@dataclass(frozen=True)
class NetworkSpec:
    """The student: ``arch`` at ``width``, point ``inputs`` and ``voxel_size`` in metres.

    init: a checkpoint of the same network to start from, of another site or another encoder; then its head is not used.
    """

    arch: str = "MinkUNet14A"
    width: float = 0.5
    inputs: tuple[str, ...] = ("ones", "intensity")
    voxel_size: float = 0.1
    init: str | None = None


@dataclass(frozen=True)
class AugmentSpec:
    """Augmentations of the cloud; pairs stay true because targets belong to points, not to places.

    rotate: about z by any angle. flip: x and y, each with probability 1/2. scale: factor in [1 - s, 1 + s].
    jitter: sigma of a per-point shift in metres. translate: whole-cloud shift in metres, each axis in [0, t).
    dropout: greatest fraction of points removed. intensity: gain in [1 - i, 1 + i]. wedge: fraction of the circle
    around the sensor that is kept, towards a random taught point; a third makes a step three times as cheap.
    mix: probability that a second cloud, augmented by itself, is laid over the first (Mix3D, Nekrasov et al. 2021).
    image_flip, image_crop: of the images, with ``teacher.online``: mirrored with probability 1/2; cropped to a random
    part of at least this share of the area. A crop without ``online`` only leaves out what lies outside it.
    """

    rotate: bool = True
    flip: bool = True
    scale: float = 0.1
    jitter: float = 0.01
    translate: float = 0.2
    dropout: float = 0.2
    intensity: float = 0.1
    wedge: float = 1.0
    mix: float = 0.0
    image_flip: bool = False
    image_crop: float = 1.0


@dataclass(frozen=True)
class OptimiserSpec:
    """AdamW ("adamw"), or SGD with momentum 0.9 and dampening 0.1 ("sgd", SLidR's and CLIP2Scene's).

    schedule: OneCycle ("onecycle"), polynomial decay of power 0.9 ("poly", OpenScene's), half a cosine ("cosine").
    batch: frames a step and process; accumulate: steps whose gradients are added up.
    balance: power of the inverse frequency of the words that teach, by class, used as a weight of each pair (0 = off;
    annotation-free); for openscene, kl and CLIP2Scene but for equation (1) as printed, which itself gives each class
    the same say. words: weight of the agreement over the vocabulary, added to openscene's equation (1) (0 = off;
    see :func:`~ov3d_perception.methods.kl.agreement_loss`). targets: at most so many voxels (openscene) or pairs
    of a frame enter the loss.
    context: metres; voxels in no coarse cell of that size at or beside a target are left out (None keeps all).
    precision: "fp32", "bf16" or, on a GPU, "fp16" (autocast).
    average: decay a step of the moving average of the weights that is evaluated and kept instead of the last weights
    (0 = off; 0.99 looks back about 100 steps).
    """

    epochs: int = 100
    batch: int = 2
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    schedule: str = "onecycle"
    warmup: float = 0.1
    clip: float = 5.0
    balance: float = 0.0
    words: float = 0.0
    targets: int = 20000
    context: float | None = None
    precision: str = "fp32"
    average: float = 0.0
    workers: int = 0
    algorithm: str = "adamw"
    accumulate: int = 1


@dataclass(frozen=True)
class VocabularySpec:
    """The words a checkpoint is born with and is validated by: a label set's prompts, embedded by ``text``.

    text: a bank (``.npz``) or a model with a text tower; key: which bank of a file that holds several.
    """

    labelset: str
    text: str
    key: str | None = None


@dataclass(frozen=True)
class MethodSpec:
    """Whose loss trains the student; the defaults are CLIP2Scene's: its paper's, else its release's.

    name: openscene (equation (1) of GGSD; the fields below are the others'), clip2scene, kl (Table 1's distillation of
    logits), ppkt, slidr; labels is fine-tuning's own.
    sweeps: K, drawn anew in each epoch from the key sweep and those within ``seconds`` of it.
    merged: the network sees the K sweeps as one cloud, not one after the other.
    semantic, spatial: weights of equations (1) and (2). tau, attention: the temperatures tau and lambda. form: of
    equation (1): "equation" as printed, "release" for the release's cross-entropy over the nearest words, "soft" for
    the divergence from the pixels' own softmax over the words.
    grid: edge of the grids in metres; grid_points: most pairs of a grid.
    switch_after, switch: epochs before switchable self-training, and its probability after them.
    prompts: another label set whose words teach ("" takes the vocabulary's).
    temperature: of InfoNCE; samples: PPKT's pairs a frame; segments, compactness, sigma: SLidR's superpixels an image.
    """

    name: str = "openscene"
    sweeps: int = 3
    seconds: float = 0.5
    merged: bool = False
    semantic: float = 1.0
    spatial: float = 1.0
    tau: float = 0.5
    attention: float = 1.0
    form: str = "equation"
    grid: float = 0.1
    grid_points: int = 8
    switch_after: int = 10
    switch: float = 0.5
    prompts: str = ""
    temperature: float = 0.07
    samples: int = 4096
    segments: int = 150
    compactness: float = 6.0
    sigma: float = 3.0


@dataclass(frozen=True)
class FinetuneSpec:
    """Training on labels that starts from a pre-trained network or from random weights; cross-entropy.

    splits: labelled sources by name, such as "1%"; each is validated by the recipe's validation source.
    learning_rate: of the pre-trained part; head_rate: of the new head; SGD and a cosine, as SLidR. The rest is the
    recipe's own (batch, augmentations of the cloud, precision).
    """

    splits: dict[str, Any] = field(default_factory=dict)
    epochs: int = 100
    learning_rate: float = 0.02
    head_rate: float = 2.0
    weight_decay: float = 1e-4


@dataclass(frozen=True)
class Recipe:
    """One run. validation may be None; validate_every counts epochs, each of ``repeat`` passes over the data.

    folds: of a cross-validation by ``ov3d ablate``: for each its name and what it changes, as ``section.field: value``.
    """

    name: str
    train: SourceSpec
    teacher: TeacherSpec
    validation: SourceSpec | None = None
    vocabulary: VocabularySpec | None = None
    pairs: PairSpec = field(default_factory=PairSpec)
    network: NetworkSpec = field(default_factory=NetworkSpec)
    augment: AugmentSpec = field(default_factory=AugmentSpec)
    optimiser: OptimiserSpec = field(default_factory=OptimiserSpec)
    method: MethodSpec = field(default_factory=MethodSpec)
    finetune: FinetuneSpec = field(default_factory=FinetuneSpec)
    seed: int = 1
    repeat: int = 1
    validate_every: int = 10
    folds: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint's metadata; :func:`from_dict` takes it back."""
        return asdict(self)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe; ``overrides`` are ``section.field=value`` with the value in YAML.

    ``${NAME}`` in a value is replaced by that environment variable.

    Raises:
        RecipeError: no such file, a field that does not exist, a wrong type, an unset variable, an option that has no
            effect with the recipe's method (see :func:`~ov3d_perception.recipes.applies.unused_options`).
    """
    if not path.is_file():
        raise RecipeError(f"There is no recipe {path}", "Give the path of a YAML file such as config/train/*.yaml")
    try:
        data = yaml.safe_load(path.read_text())
        if not isinstance(data, dict):
            raise RecipeError(f"The file holds {data!r}, not sections", "See the recipes in config/train")
        for override in overrides:
            key, separator, value = override.partition("=")
            if not separator:
                raise RecipeError(f"The override {override!r} has no '='", "Write section.field=value")
            _set(data, key.split("."), yaml.safe_load(value))
        recipe = from_dict(_expand(data))
        check_options(recipe)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {' '.join(str(error).split())}", "Correct the line it names") from error
    except RecipeError as error:
        raise RecipeError(f"{path}: {error.cause}", error.remedy) from error
    return recipe


def from_dict(data: dict[str, Any]) -> Recipe:
    """A recipe from plain data, checked field by field. Raises RecipeError naming the field."""
    recipe: Recipe = _build(Recipe, data, "recipe")
    choices: dict[str, tuple[str, Sequence[str]]] = {
        "schedule": (recipe.optimiser.schedule, ("onecycle", "poly", "cosine")),
        "algorithm": (recipe.optimiser.algorithm, ("adamw", "sgd")),
        "precision": (recipe.optimiser.precision, tuple(PRECISIONS)),
        "method": (recipe.method.name, METHODS),
        "form of equation (1)": (recipe.method.form, FORMS),
        "architecture": (recipe.network.arch, tuple(ARCHITECTURES)),
    }
    for what, (value, known) in choices.items():
        if value not in known:
            raise RecipeError(f"Unknown {what} {value!r}", f"{_nearest([value], known)}Use one of {', '.join(known)}")
    return recipe


def split_of(recipe: Recipe, name: str) -> SourceSpec:
    """The labelled source of one of the recipe's ``finetune.splits``. Raises RecipeError where there is none."""
    if name not in recipe.finetune.splits:
        raise RecipeError(
            f"The recipe has no split {name!r}",
            f"Its finetune.splits are {', '.join(recipe.finetune.splits) or 'none'}",
        )
    source: SourceSpec = _build(SourceSpec, recipe.finetune.splits[name], f"recipe.finetune.splits.{name}")
    return source


def folds_of(recipe: Recipe, names: Sequence[str] = ()) -> dict[str, Recipe]:
    """The recipe of each fold by name, of ``names`` only if given; itself, as "", where it has none.

    Raises RecipeError for an unknown fold or a field that is wrong.
    """
    if unknown := set(names) - set(recipe.folds):
        raise RecipeError(f"The recipe has no fold {sorted(unknown)}", f"It has {', '.join(recipe.folds) or 'none'}")
    alone = changed(recipe, {"folds": {}})
    chosen = {name: changed(alone, change) for name, change in recipe.folds.items() if not names or name in names}
    return chosen or {"": alone}


def changed(recipe: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    """The recipe with ``section.field`` set to other values. Raises RecipeError naming a field that is wrong."""
    data = json.loads(json.dumps(recipe.to_dict()))
    for key, value in overrides.items():
        _set(data, key.split("."), value)
    return from_dict(data)


def _set(data: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        data = data.setdefault(key, {})
    data[keys[-1]] = value


def _expand(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _expand(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item) for item in value]
    if not isinstance(value, str):
        return value
    expanded = os.path.expandvars(value)
    if "${" in expanded:
        raise RecipeError(f"The recipe's value {value!r} names an unset environment variable", "Set it, or override")
    return expanded


def _build(cls: type, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise RecipeError(f"{where} must be a mapping, not {data!r}", "See the recipes in config/train")
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}
    if unknown := sorted(set(data) - known):
        near = _nearest(unknown, sorted(known))
        raise RecipeError(f"{where} has no field {unknown}", f"{near}Its fields are {sorted(known)}")
    values = {name: _convert(hints[name], value, f"{where}.{name}") for name, value in data.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise RecipeError(f"{where} is incomplete: {error}", "See the recipes in config/train") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    options = getattr(hint, "__args__", ()) if "None" in str(hint) else (hint,)
    if value is None and type(None) in options:
        return None
    hint = next(option for option in options if option is not type(None))
    if isinstance(hint, type) and is_dataclass(hint):
        return _build(hint, value, where)
    origin = getattr(hint, "__origin__", hint)
    if origin is tuple and isinstance(value, list | tuple):
        return _elements(hint.__args__, value, where)
    if origin is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, origin) or (isinstance(value, bool) and origin is not bool):
        raise RecipeError(f"{where} is {value!r}, not a {origin.__name__}", "See the recipes in config/train")
    return value


def _elements(hints: tuple[Any, ...], values: Sequence[Any], where: str) -> tuple[Any, ...]:
    """The elements of a tuple, each of its own type; of one type where ``hints`` ends in an ellipsis."""
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(values)
    if len(hints) != len(values):
        raise RecipeError(f"{where} is {list(values)!r}, not {len(hints)} values", "See the recipes in config/train")
    return tuple(_convert(hint, v, f"{where}[{i}]") for i, (hint, v) in enumerate(zip(hints, values, strict=True)))


def _nearest(given: Sequence[Any], known: Sequence[str]) -> str:
    """A question to put before a remedy: the known names that are close to what was given; empty if none is."""
    close = [name for one in given for name in difflib.get_close_matches(str(one), known, 1)]
    return f"Did you mean {', '.join(close)}? " if close else ""
