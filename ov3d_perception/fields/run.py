"""From posed images to a field that knows words: reconstruction, its check, teachers, segmentation; resumable."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ov3d_perception.errors import CheckpointError, DatasetError, VocabularyError
from ov3d_perception.fields.field_file import FieldFile, load_field, save_field
from ov3d_perception.fields.language_branch import BranchSettings
from ov3d_perception.fields.recipe import FieldRecipe
from ov3d_perception.fields.reconstruct import Reconstruction, draw, psnr
from ov3d_perception.fields.scene import FEWEST, Scene, Space, space_of
from ov3d_perception.fields.segment import Segmentation
from ov3d_perception.fields.teachers import Edges, Teachers, encoder_edges, teach
from ov3d_perception.files import replacing
from ov3d_perception.language.dino import load_dino
from ov3d_perception.language.encoder import Encoder, load_encoder
from ov3d_perception.language.text import TextSource, TextTower, load_text_source

_log = logging.getLogger(__name__)
FIELD, GEOMETRY, STATE = "field.safetensors", "geometry.safetensors", "state.pt"
_SAVE_EVERY = 120.0  # seconds


@dataclass(frozen=True)
class Models:
    """The encoder, what embeds words, and what says where things end, called ``edges_name`` (None: see ``teach``)."""

    encoder: Encoder
    text: TextSource
    edges: Edges | None
    edges_name: str


def open_models(recipe: FieldRecipe, device: str = "auto") -> Models:
    """The recipe's models. device: theirs, and of the field that is trained. Raises EncoderError, IdentityError."""
    model, _, pretrained = recipe.words.encoder.partition(",")
    encoder = load_encoder(model, pretrained or None, device, recipe.words.precision)
    text = load_text_source(recipe.words.text) if recipe.words.text else TextTower(encoder)
    if recipe.words.dino:
        return Models(encoder, text, load_dino(recipe.words.dino, encoder.device), recipe.words.dino)
    if recipe.teacher.pyramid == "dense":
        return Models(encoder, text, None, "finest scale")
    return Models(encoder, text, encoder_edges(encoder, recipe.teacher.cell), "encoder")


def train(
    scene: Scene,
    recipe: FieldRecipe,
    out: Path,
    words: Sequence[str] = (),
    models: Models | None = None,
    resume: bool = False,
    shared: Path | None = None,
) -> FieldFile:
    """Train a field and write it to ``out``; each stage that is done already is read from there with ``resume``.

    words: classes, instead of the scene's own. models: the recipe's where None; the field is trained on the device of
    their encoder. shared: where the reconstruction and the teachers' features lie, which
    several runs use; ``out`` where it is None. Raises DatasetError where the reconstruction fails its check,
    UnknownWordError for words that the text source lacks, VocabularyError where there are none.
    """
    classes = tuple(words) or scene.classes
    if not classes:
        raise VocabularyError(f"{scene.name} says no classes", "Name what is in it: --word, once for each")
    models = models or open_models(recipe)
    text = torch.from_numpy(models.text.embed(list(classes)))  # unknown words are told before anything is trained
    if not resume and any((out / name).exists() for name in (FIELD, GEOMETRY, STATE)):
        raise CheckpointError(f"{out} holds a training already", "Go on with --resume, or name another folder")
    if len(scene.training) < FEWEST:
        raise DatasetError(
            f"{scene.name} has {len(scene.training)} images to train on, the other {len(scene.test)} are test views",
            f"Add {FEWEST} at least that have no masks and are not among test_filenames",
        )
    scene = scene.thinned(recipe.images.views).boxed(recipe.images.box)
    small = scene.downsampled(recipe.images.downsample)
    space = space_of(scene, recipe.images.space)
    base = shared or out
    geometry = reconstruct(small, space, recipe, base, models.encoder.device)
    teachers = teach(
        scene, models.encoder, models.edges, recipe.teacher, base / "teacher", models.edges_name, recipe.seed
    )
    return segment(small, geometry, teachers, text, classes, models, recipe, out)


def reconstruct(
    scene: Scene, space: Space, recipe: FieldRecipe, out: Path, device: str | torch.device = "cpu"
) -> FieldFile:
    """The first training, or its result where ``out`` has it; scene: at the size of the rays' images."""
    if (out / GEOMETRY).is_file():
        found = load_field(out / GEOMETRY, device)
        _require_recipe(found, recipe, out / GEOMETRY)
        return found
    run = Reconstruction(scene, space, recipe.field, recipe.reconstruction, recipe.seed, device)
    state = _read_state(out, "reconstruction")
    if state is not None:
        run.restore(state, load_field(out / "unfinished.safetensors").field)
    last, values, begun = time.monotonic(), [], time.monotonic()
    for step, value in run.run():
        values.append(value)
        if step % 100 == 0:
            _log.info(
                "reconstruction: step %d of %d, %.1f dB", step, recipe.reconstruction.steps, np.mean(values[-50:])
            )
        if time.monotonic() - last > _SAVE_EVERY:
            save_field(out / "unfinished.safetensors", FieldFile(run.field, space, recipe=recipe.as_dict()))
            _write_state(out, "reconstruction", run.state())
            last = time.monotonic()
    figures = {"reconstruction_s": time.monotonic() - begun} | check(scene, run, space, recipe)
    result = FieldFile(
        run.field, space, background=recipe.reconstruction.background, recipe=recipe.as_dict(), figures=figures
    )
    save_field(out / GEOMETRY, result)
    return result


def check(scene: Scene, run: Reconstruction, space: Space, recipe: FieldRecipe) -> dict[str, float]:
    """PSNR over the test views (the training views where there are none). Raises DatasetError below the recipe's."""
    numbers = list(scene.test) or scene.training[:: max(1, len(scene.training) // 4)]
    found = []
    for number in numbers:
        view = scene.views[number]
        rays = space.rays(view.camera, view.T_world_camera).to(run.device)
        found.append(psnr(draw(run.field, rays, recipe.reconstruction.background)[0], view.image))
    mean = float(np.mean(found))
    _log.info("views %s: %.1f dB in the mean", "not trained on" if scene.test else "trained on", mean)
    if mean < recipe.images.psnr:
        worst = scene.names[numbers[int(np.argmin(found))]]
        raise DatasetError(
            f"The reconstruction of {scene.name} reaches {mean:.1f} dB, not {recipe.images.psnr:g} (worst: {worst})",
            "The poses may be wrong (axes? scale? stamps?), or the box (--set images.space), or things moved; look at "
            "what ov3d field render draws, or ask for less: --set images.psnr=0",
        )
    return {"psnr": mean}


def segment(
    scene: Scene,
    geometry: FieldFile,
    teachers: Teachers,
    text: torch.Tensor,
    classes: tuple[str, ...],
    models: Models,
    recipe: FieldRecipe,
    out: Path,
) -> FieldFile:
    """The second training; writes the field."""
    branch = BranchSettings(
        models.encoder.identity.dim, len(recipe.teacher.scales), recipe.words.selection, recipe.words.branch_hidden
    )
    run = Segmentation(
        scene, geometry.space, geometry.field, teachers, text, branch, recipe.segmentation, recipe.losses,
        geometry.background, recipe.seed,
    )  # fmt: skip

    def content(figures: dict[str, float]) -> FieldFile:
        return dataclasses.replace(
            geometry, field=run.field, branch=run.branch, identity=models.encoder.identity,
            logit_scale=models.encoder.logit_scale, words=classes, text=text, recipe=recipe.as_dict(), figures=figures,
        )  # fmt: skip

    state = _read_state(out, "segmentation")
    if state is not None:
        known = load_field(out / "unfinished.safetensors")
        assert known.branch is not None
        run.restore(state, known.field, known.branch)
    last, begun = time.monotonic(), time.monotonic()
    for step, found in run.run():
        if step % 100 == 0:
            parts = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
            _log.info("segmentation: step %d of %d, %s", step, recipe.segmentation.steps, parts)
        if time.monotonic() - last > _SAVE_EVERY:
            save_field(out / "unfinished.safetensors", content({}))
            _write_state(out, "segmentation", run.state())
            last = time.monotonic()
    figures = geometry.figures | {"segmentation_s": time.monotonic() - begun}
    result = content(figures)
    save_field(out / FIELD, result)
    for name in ("unfinished.safetensors", STATE):
        (out / name).unlink(missing_ok=True)
    return result


def _require_recipe(known: FieldFile, recipe: FieldRecipe, path: Path) -> None:
    wanted = recipe.as_dict()
    for section in ("images", "field", "reconstruction", "seed"):
        if _plain(known.recipe.get(section)) != _plain(wanted[section]):
            raise CheckpointError(f"{path} was made by another recipe ({section})", "Name another folder, or remove it")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _write_state(out: Path, stage: str, state: dict[str, Any]) -> None:
    with replacing(out / STATE) as file:
        torch.save({"stage": stage, **state}, file)


def _read_state(out: Path, stage: str) -> dict[str, Any] | None:
    path = out / STATE
    if not path.is_file() or not (out / "unfinished.safetensors").is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path} is damaged ({error})", "Remove it; the stage begins anew") from error
    return state if state["stage"] == stage else None
