"""A training run from a recipe: pairs, training with resume, a self-describing checkpoint, its evaluation.

A run's folder holds ``recipe.yaml``, ``pairs/`` (what the frames are good for), ``last.ckpt`` (the state to resume
from), ``logs/`` (CSV and TensorBoard), ``times.json``, ``student.safetensors`` (renewed at each validation) and
``evaluation.{json,md}``.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import lightning
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from ov3d_perception.errors import CheckpointError
from ov3d_perception.evaluation.result import Result
from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.sources import (
    FrameSubset,
    as_prepared,
    bank_of,
    open_source,
    open_vocabulary,
    preparation_of,
    require_classes,
    skipped_in,
)
from ov3d_perception.paths import cache_dir
from ov3d_perception.recipes.specs import PRECISIONS, Recipe, changed
from ov3d_perception.training.callbacks import CheckpointCallback
from ov3d_perception.training.data.clouds import collate
from ov3d_perception.training.data.sampler import EpochSampler
from ov3d_perception.training.plans import Experiment, plan
from ov3d_perception.training.processes import Processes, synchronise
from ov3d_perception.training.student import Student
from ov3d_perception.training.times import StepTimes


def distill(recipe: Recipe, out: Path, resume: bool = False, device: str = "auto", fast: bool = False) -> Result:
    """Run a recipe and leave everything under ``out``; returns the evaluation on the recipe's validation source.

    Without a validation source the result has no modes, only what it is about.

    Args:
        recipe: what to do; ``recipe.method`` says by which paper.
        out: the run's folder.
        resume: go on from ``out/last.ckpt`` to the same end as an uninterrupted run; starts anew if there is none.
        device: of the student and the encoder: auto, cpu or cuda.
        fast: two steps and one validated frame, to see that everything is there.

    Raises:
        CheckpointError: ``out`` holds a run already and ``resume`` is False, or holds one of another recipe.
        DatasetError: as the source, the pairs and the teacher's cache raise it.
    """
    recipe = changed(recipe, {"optimiser.epochs": 1, "repeat": 1}) if fast else recipe
    last = claim(recipe, out, resume)
    lightning.seed_everything(recipe.seed, workers=True, verbose=False)
    teacher = ImageTeacher(
        load_encoder(recipe.teacher.model, recipe.teacher.pretrained, device, recipe.teacher.precision),
        recipe.teacher,
        cache_dir() / "teacher",
    )
    vocabulary = open_vocabulary(recipe.vocabulary, teacher.identity) if recipe.vocabulary else None
    source = open_source(recipe.train)
    preparation = preparation_of(source, trained_sweeps(recipe))
    validation = open_source(as_prepared(recipe.validation, preparation)) if recipe.validation and vocabulary else None
    if validation is not None and vocabulary is not None:
        require_classes(validation, vocabulary.names)
    if fast:
        source = FrameSubset(source, range(min(len(source), 2 * recipe.optimiser.batch * recipe.optimiser.accumulate)))
        validation = FrameSubset(validation, range(1)) if validation is not None else None
    planned = plan(recipe, out, source, teacher, vocabulary)
    bank = bank_of(recipe.vocabulary) if recipe.vocabulary else None
    keeper = CheckpointCallback(recipe, out, teacher.identity, vocabulary, validation, teacher, preparation, bank)
    keeper.lost = skipped_in(source)
    return keeper.finish(fit(recipe, out, planned, keeper, device, last), planned.counts)


def trained_sweeps(recipe: Recipe) -> int:
    """How many sweeps make one cloud in the recipe's training."""
    method = recipe.method
    if method.name == "openscene":
        return recipe.pairs.sweeps
    return method.sweeps if method.merged and method.name != "labels" else 1


def fit(
    recipe: Recipe, out: Path, planned: Experiment, keeper: CheckpointCallback, device: str, last: Path | None
) -> Student:
    """Train what is planned, from ``last`` on if given; returns the trained module."""
    spec = recipe.optimiser
    processes = Processes.of_torchrun()
    sampler = EpochSampler(
        len(planned.dataset), recipe.repeat, recipe.seed, processes.rank, processes.world, spec.batch
    )
    steps = math.ceil(math.ceil(len(sampler) / spec.batch) / spec.accumulate)
    torch.set_float32_matmul_precision("high")
    module = planned.module(steps * spec.epochs)
    if processes.world > 1:
        synchronise(module.network)
    trainer = lightning.Trainer(
        accelerator={"auto": "auto", "cuda": "gpu"}.get(device, device),
        devices=processes.local,
        num_nodes=processes.world // processes.local,
        strategy="ddp" if processes.world > 1 else "auto",
        use_distributed_sampler=False,
        max_epochs=spec.epochs,
        precision=PRECISIONS[spec.precision],  # type: ignore[arg-type]  # one of Lightning's literals
        gradient_clip_val=spec.clip,
        accumulate_grad_batches=spec.accumulate,
        callbacks=[keeper, StepTimes(out)],
        logger=[CSVLogger(out / "logs", name="csv"), TensorBoardLogger(out / "logs", name="tensorboard")],
        enable_checkpointing=False,
        enable_model_summary=False,
        log_every_n_steps=10,
        num_sanity_val_steps=0,
    )
    loader = DataLoader(
        planned.dataset,
        batch_size=spec.batch,
        sampler=sampler,
        collate_fn=collate,
        num_workers=spec.workers,
        persistent_workers=False,
    )
    trainer.fit(module, loader, ckpt_path=last, weights_only=False if last else None)
    return module


def claim(recipe: Recipe, out: Path, resume: bool) -> Path | None:
    """The state to resume from, if any; the folder is this recipe's from here on."""
    out.mkdir(parents=True, exist_ok=True)
    last, path = out / "last.ckpt", out / "recipe.yaml"
    text = yaml.safe_dump(json.loads(json.dumps(recipe.to_dict())), sort_keys=False)
    if last.exists() and not resume:
        raise CheckpointError(f"{out} holds a run already", "Resume it, or name another folder")
    if last.exists() and path.exists() and path.read_text() != text:
        raise CheckpointError(f"{out} holds a run of another recipe ({path})", "Name another folder")
    if Processes.of_torchrun().rank == 0:
        if not last.exists():
            shutil.rmtree(out / "pairs", ignore_errors=True)
            (out / "times.json").unlink(missing_ok=True)
        path.write_text(text)
    return last if last.exists() else None
