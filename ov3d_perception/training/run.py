"""A training run from a recipe: pairs, training with resume, a self-describing checkpoint, its evaluation.

A run's folder holds ``recipe.yaml``, ``pairs/`` (what the frames are good for), ``last.ckpt`` (the state to resume
from), ``logs/`` (CSV and TensorBoard), ``times.json``, ``student.safetensors`` (renewed at each validation) and
``evaluation.{json,md}``. A recipe of several phases has pairs, state, logs and times in ``phase1/`` and so on.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from ov3d_perception.errors import CheckpointError
from ov3d_perception.evaluation.result import Result
from ov3d_perception.files import write_text
from ov3d_perception.language.encoder import load_encoder, pick_device
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
from ov3d_perception.llvm_code import halves_in_vectors
from ov3d_perception.paths import cache_dir
from ov3d_perception.recipes.load import changed, phases_of
from ov3d_perception.recipes.specs import Recipe
from ov3d_perception.training import methods as _registered  # noqa: F401  # the papers' methods
from ov3d_perception.training.callbacks import CheckpointCallback
from ov3d_perception.training.data.clouds import collate
from ov3d_perception.training.data.loader import Loader
from ov3d_perception.training.data.sampler import EpochSampler
from ov3d_perception.training.experiment import Experiment, Run, experiment_of
from ov3d_perception.training.frozen_norm import FrozenNorm
from ov3d_perception.training.initialise import keep, network_of
from ov3d_perception.training.kept_memory import keep_freed_memory
from ov3d_perception.training.processes import Processes, synchronise
from ov3d_perception.training.student import Student
from ov3d_perception.training.times import StepTimes

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # no word on GPUs and its other products
warnings.filterwarnings("ignore", "`isinstance\\(treespec")  # Lightning's own use of PyTorch

_log = logging.getLogger(__name__)
PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""Lightning's names."""


def train(recipe: Recipe, out: Path, resume: bool = False, device: str = "auto", fast: bool = False) -> Result:
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
    recipe = shortened(recipe) if fast else recipe
    claim(recipe, out, resume)
    lightning.seed_everything(recipe.seed, workers=True, verbose=False)
    teacher = ImageTeacher(
        load_encoder(recipe.teacher.model, recipe.teacher.pretrained, device, recipe.teacher.precision),
        recipe.teacher,
        cache_dir() / "teacher",
    )
    vocabulary = open_vocabulary(recipe.vocabulary, teacher.identity) if recipe.vocabulary else None
    source, phases = open_source(recipe.train), phases_of(recipe)
    preparation = preparation_of(source, phases[-1].method.cloud_sweeps(phases[-1].pairs.sweeps))
    validation = open_source(as_prepared(recipe.validation, preparation)) if recipe.validation and vocabulary else None
    if validation is not None and vocabulary is not None:
        require_classes(validation, vocabulary.names)
    if fast:
        source = FrameSubset(source, range(min(len(source), 2 * recipe.optimiser.batch * recipe.optimiser.accumulate)))
        validation = FrameSubset(validation, range(1)) if validation is not None else None
    bank = bank_of(recipe.vocabulary) if recipe.vocabulary else None
    callback = CheckpointCallback(
        recipe, out, teacher.identity, vocabulary, validation, teacher, preparation, bank, source
    )
    network, counts = network_of(recipe, teacher.identity), {}
    for number, phase in enumerate(phases, 1):
        folder = out if len(phases) == 1 else out / f"phase{number}"
        if number > 1:
            lightning.seed_everything(recipe.seed + number - 1, workers=True, verbose=False)
        experiment = experiment_of(Run(phase, network, source, teacher, vocabulary, folder / "pairs"))
        if number == 1:
            callback.missing = skipped_in(source)
        module = fit(phase, folder, experiment, callback, device)
        network, counts = module.student.requires_grad_(True), experiment.counts
    if recipe.network.keep:
        keep(module.student, recipe, teacher.identity)
    return callback.finish(module, counts)


def shortened(recipe: Recipe) -> Recipe:
    """The recipe of one epoch, and of one in each phase."""
    short = {"optimiser.epochs": 1, "repeat": 1}
    return changed(recipe, {**short, "phases": [{**phase, **short} for phase in recipe.phases]})


def fit(recipe: Recipe, out: Path, experiment: Experiment, callback: CheckpointCallback, device: str) -> Student:
    """Train, from ``out/last.ckpt`` on if it is there; returns the trained module."""
    spec = recipe.optimiser
    processes = Processes.of_torchrun()
    sampler = EpochSampler(
        len(experiment.dataset), recipe.repeat, recipe.seed, processes.rank, processes.world, spec.batch
    )
    steps = math.ceil(math.ceil(len(sampler) / spec.batch) / spec.accumulate)
    torch.set_float32_matmul_precision("high")
    keep_freed_memory()
    module = experiment.module(steps * spec.epochs).train()  # the phase before may have left normalisation frozen
    if processes.world > 1:
        synchronise(module.network)
    callbacks = [callback, StepTimes(out)]
    if spec.frozen_norm > 0:
        callbacks.append(FrozenNorm(experiment.dataset, round((1 - spec.frozen_norm) * steps * spec.epochs)))
    trainer = lightning.Trainer(
        accelerator={"auto": "auto", "cuda": "gpu"}.get(device, device),
        devices=processes.local,
        num_nodes=processes.world // processes.local,
        strategy="ddp" if processes.world > 1 else "auto",
        use_distributed_sampler=False,
        max_epochs=spec.epochs,
        precision=PRECISIONS[precision_on(spec.precision, device)],
        gradient_clip_val=spec.clip,
        accumulate_grad_batches=spec.accumulate,
        callbacks=callbacks,
        logger=[CSVLogger(out / "logs", name="csv"), TensorBoardLogger(out / "logs", name="tensorboard")],
        default_root_dir=out,
        enable_checkpointing=False,
        enable_model_summary=False,
        log_every_n_steps=min(10, math.ceil(len(sampler) / spec.batch)),
        num_sanity_val_steps=0,
    )
    loader = Loader(
        experiment.dataset,
        batch_size=spec.batch,
        sampler=sampler,
        collate_fn=collate,
        num_workers=spec.workers,
        persistent_workers=False,
    )
    last = out / "last.ckpt"
    trainer.fit(module, loader, ckpt_path=last if last.exists() else None, weights_only=False)
    return module


def precision_on(asked: str, device: str) -> str:
    """The recipe's precision, or "fp32" on a processor that has no vectors of halves, which takes longer for them."""
    if asked == "fp32" or halves_in_vectors(pick_device(device).type):
        return asked
    _log.warning("This processor has no vectors of %s: the training computes in float32, which is faster", asked)
    return "fp32"


def claim(recipe: Recipe, out: Path, resume: bool) -> None:
    """Make the folder this recipe's: begun anew, or as an earlier start of the run has left it.

    Raises CheckpointError where it holds a run and ``resume`` is False, or a run of another recipe.
    """
    out.mkdir(parents=True, exist_ok=True)
    path, begun = out / "recipe.yaml", any(out.glob("**/last.ckpt"))
    text = yaml.safe_dump(json.loads(json.dumps(recipe.to_dict())), sort_keys=False)
    if begun and not resume:
        raise CheckpointError(f"{out} holds a run already", "Resume it, or name another folder")
    if begun and path.exists() and path.read_text() != text:
        raise CheckpointError(f"{out} holds a run of another recipe ({path})", "Name another folder")
    if Processes.of_torchrun().rank == 0:
        if not begun:
            for left in (out / "pairs", *out.glob("phase[0-9]*")):
                shutil.rmtree(left, ignore_errors=True)
            (out / "times.json").unlink(missing_ok=True)
        write_text(path, text)  # a part of it would be another recipe's at the next start
