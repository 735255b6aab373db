"""A distillation run from a recipe: samples, training with resume, a self-describing checkpoint, its evaluation.

A run's folder holds ``recipe.yaml``, ``pairs/`` (samples), ``last.ckpt`` (the state to resume from), ``logs/`` (CSV and
TensorBoard), ``student.safetensors`` (renewed at each validation) and ``evaluation.{json,md}``.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from ov3d_perception.errors import CheckpointError, DatasetError
from ov3d_perception.inference import Segmenter
from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.networks.checkpoint import CheckpointInfo, save_checkpoint
from ov3d_perception.networks.registry import build_network
from ov3d_perception.paths import cache_dir
from ov3d_perception.training.batches import EpochSampler, PairDataset, collate
from ov3d_perception.training.evaluate import score
from ov3d_perception.training.module import Distillation
from ov3d_perception.training.prepare import prepare
from ov3d_perception.training.recipe import Recipe
from ov3d_perception.training.result import Result
from ov3d_perception.training.sources import open_source, open_vocabulary, words_of
from ov3d_perception.training.start import start_from
from ov3d_perception.training.teacher import Teacher
from ov3d_perception.types import Frame

log = logging.getLogger(__name__)


def distill(recipe: Recipe, out: Path, resume: bool = False, device: str = "auto") -> Result:
    """Run a recipe and leave everything under ``out``; returns the evaluation on the recipe's validation source.

    Without a validation source the result has no modes, only what it is about.

    Args:
        recipe: what to do.
        out: the run's folder.
        resume: go on from ``out/last.ckpt`` to the same end as an uninterrupted run; starts anew if there is none.
        device: of the student and the encoder: auto, cpu or cuda.

    Raises:
        CheckpointError: ``out`` holds a run already and ``resume`` is False, or holds one of another recipe.
        DatasetError: as the source, the pairs and the teacher's cache raise it.
    """
    last = _claim(recipe, out, resume)
    lightning.seed_everything(recipe.seed, workers=True, verbose=False)
    teacher = Teacher(
        load_encoder(recipe.teacher.model, recipe.teacher.pretrained, device, recipe.teacher.precision),
        recipe.teacher,
        cache_dir() / "teacher",
    )
    vocabulary = open_vocabulary(recipe.vocabulary, teacher.identity) if recipe.vocabulary else None
    validation = open_source(recipe.validation) if recipe.validation and vocabulary else None
    samples = _samples(recipe, out, teacher)
    dataset = PairDataset(samples, recipe)
    sampler = EpochSampler(len(samples), recipe.repeat, recipe.seed)
    module = _module(recipe, teacher, vocabulary, math.ceil(len(sampler) / recipe.optimiser.batch))
    keeper = Keeper(recipe, out, teacher, vocabulary, validation)
    trainer = lightning.Trainer(
        accelerator={"auto": "auto", "cuda": "gpu"}.get(device, device),
        devices=1,
        max_epochs=recipe.optimiser.epochs,
        precision="bf16-mixed" if recipe.optimiser.precision == "bf16" else "32-true",
        gradient_clip_val=recipe.optimiser.clip,
        callbacks=[keeper],
        logger=[CSVLogger(out / "logs", name="csv"), TensorBoardLogger(out / "logs", name="tensorboard")],
        enable_checkpointing=False,
        enable_model_summary=False,
        log_every_n_steps=10,
        num_sanity_val_steps=0,
    )
    loader = DataLoader(
        dataset,
        batch_size=recipe.optimiser.batch,
        sampler=sampler,
        collate_fn=collate,
        num_workers=recipe.optimiser.workers,
        persistent_workers=False,
    )
    trainer.fit(module, loader, ckpt_path=last, weights_only=False if last else None)
    return keeper.finish(module)


class Keeper(lightning.Callback):
    """Keeps the state to resume from after each epoch, and a checkpoint with its evaluation now and then."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        teacher: Teacher,
        vocabulary: Vocabulary | None,
        validation: Sequence[Frame] | None,
    ) -> None:
        self.recipe, self.out, self.teacher = recipe, out, teacher
        self.vocabulary, self.validation = vocabulary, validation

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write ``last.ckpt`` whole or not at all; validate every ``validate_every`` epochs, the last one excepted."""
        partial = self.out / "last.partial"
        trainer.save_checkpoint(partial, weights_only=False)
        partial.replace(self.out / "last.ckpt")
        epoch = trainer.current_epoch + 1
        if epoch % self.recipe.validate_every == 0 and epoch < self.recipe.optimiser.epochs:
            assert isinstance(pl_module, Distillation)
            result = self.evaluate(pl_module, with_teacher=False)
            scores = {f"miou: {name}": s.miou for name, s in result.modes.items()} if result else {}
            log.info("Epoch %d: %s", epoch, {name: round(value, 4) for name, value in scores.items()})
            for logger in trainer.loggers:
                logger.log_metrics(scores, step=trainer.global_step)

    def finish(self, module: Distillation) -> Result:
        """The final checkpoint and the full evaluation, the teacher beside the student."""
        counts = json.loads((self.out / "pairs" / "manifest.json").read_text())["counts"]
        result = self.evaluate(module, with_teacher=True) or Result({}, {})
        result.about["training frames"] = counts
        result.write(self.out)
        log.info("\n%s", result.to_markdown())
        return result

    def evaluate(self, module: Distillation, with_teacher: bool) -> Result | None:
        """Write ``student.safetensors`` in half precision and score that file; None without a validation source."""
        path = self.out / "student.safetensors"
        save_checkpoint(path, module.student, self.describe({}), torch.float16)
        if self.validation is None or self.vocabulary is None:
            return None
        about = {
            "source": asdict(self.recipe.validation or self.recipe.train),
            "trained on": asdict(self.recipe.train),
            "commit": commit(),
        }
        result = score(
            Segmenter.load(path, device=str(module.device)),
            self.validation,
            self.vocabulary,
            self.recipe.pairs,
            self.teacher if with_teacher else None,
            about,
        )
        metrics = {f"miou: {name}": round(s.miou, 4) for name, s in result.modes.items()}
        save_checkpoint(path, module.student, self.describe(metrics), torch.float16)
        return result

    def describe(self, metrics: dict[str, float]) -> CheckpointInfo:
        """What the checkpoint says of itself."""
        spec, vocabulary = self.recipe.network, self.vocabulary
        return CheckpointInfo(
            arch=spec.arch,
            width=spec.width,
            inputs=spec.inputs,
            voxel_size=spec.voxel_size,
            identity=self.teacher.identity,
            logit_scale=float(vocabulary.logit_scale) if vocabulary else 100.0,
            vocabulary=words_of(vocabulary) if vocabulary else {},
            sweeps=self.recipe.pairs.sweeps,
            recipe=self.recipe.to_dict(),
            commit=commit(),
            metrics=metrics,
        )


def commit() -> str:
    """The source tree's commit, with "+changes" when it has any; "" for an installed package."""
    folder = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        run = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
        return run.stdout.strip() if run.returncode == 0 else ""

    head = git("rev-parse", "HEAD") if (folder / ".git").exists() and shutil.which("git") else ""
    return head + ("+changes" if head and git("status", "--porcelain", "--untracked-files=no") else "")


def _claim(recipe: Recipe, out: Path, resume: bool) -> Path | None:
    """The state to resume from, if any; the folder is this recipe's from here on."""
    out.mkdir(parents=True, exist_ok=True)
    last, path = out / "last.ckpt", out / "recipe.yaml"
    text = yaml.safe_dump(json.loads(json.dumps(recipe.to_dict())), sort_keys=False)
    if last.exists() and not resume:
        raise CheckpointError(f"{out} holds a run already", "Resume it, or name another folder")
    if last.exists() and path.exists() and path.read_text() != text:
        raise CheckpointError(f"{out} holds a run of another recipe ({path})", "Name another folder")
    if not last.exists():
        shutil.rmtree(out / "pairs", ignore_errors=True)
    path.write_text(text)
    return last if last.exists() else None


def _samples(recipe: Recipe, out: Path, teacher: Teacher) -> list[Path]:
    """The run's samples, made now unless an earlier start of it has finished making them."""
    folder = out / "pairs"
    manifest = folder / "manifest.json"
    if not manifest.exists():
        paths, counts = prepare(open_source(recipe.train), teacher, recipe.pairs, folder)
        about: dict[str, Any] = {"samples": [path.name for path in paths], "counts": counts.to_dict()}
        manifest.write_text(json.dumps(about, indent=2))
    return [folder / name for name in json.loads(manifest.read_text())["samples"]]


def _module(recipe: Recipe, teacher: Teacher, vocabulary: Vocabulary | None, steps_per_epoch: int) -> Distillation:
    spec = recipe.network
    network = build_network(spec.arch, len(spec.inputs), teacher.identity.dim, spec.width)
    if vocabulary is None and (recipe.optimiser.balance > 0 or recipe.optimiser.words > 0):
        raise DatasetError("optimiser.balance and optimiser.words need words", "Give the recipe a vocabulary")
    if spec.init is not None:
        start_from(network, Path(spec.init), spec, teacher.identity)
    torch.set_float32_matmul_precision("high")
    return Distillation(network, recipe.optimiser, steps_per_epoch * recipe.optimiser.epochs, vocabulary)
