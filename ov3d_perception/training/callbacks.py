"""What a run leaves behind: the state to resume from, the checkpoint, its figures."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from jaxtyping import Float32

from ov3d_perception.evaluation.result import Result
from ov3d_perception.evaluation.score import score
from ov3d_perception.inference import Segmenter
from ov3d_perception.language.vocabulary import TextBank, Vocabulary
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.sources import words_of
from ov3d_perception.networks.checkpoint import CheckpointInfo, save_checkpoint
from ov3d_perception.recipes.specs import Recipe
from ov3d_perception.training.calibrate import calibrate_if_possible
from ov3d_perception.training.processes import Processes
from ov3d_perception.training.student import Student
from ov3d_perception.types import EncoderIdentity, Frame, Preparation, WordEmbeddings

log = logging.getLogger(__name__)


class CheckpointCallback(lightning.Callback):
    """Keeps the state to resume from after each epoch, and a checkpoint with its evaluation now and then.

    Args:
        recipe: of the run. out: its folder.
        identity: of the encoder whose words the student understands.
        vocabulary, validation: what it is scored by; without both there are no figures.
        teacher: scored beside the student at the end.
        preparation: of the clouds that it is trained on.
        bank: more words for the checkpoint than the vocabulary's.
        source: its scans calibrate the checkpoint for int8 at the end; without it there is no int8.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        identity: EncoderIdentity,
        vocabulary: Vocabulary | None,
        validation: Sequence[Frame] | None,
        teacher: ImageTeacher | None = None,
        preparation: Preparation | None = None,
        bank: TextBank | None = None,
        source: Sequence[Frame] | None = None,
    ) -> None:
        self.recipe, self.out, self.identity, self.teacher = recipe, out, identity, teacher
        self.vocabulary, self.validation = vocabulary, validation
        self.preparation, self.bank, self.source = preparation or Preparation(), bank, source
        self.skipped: dict[str, None] = {}
        self.missing: Counter[str] = Counter()

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *what: Any
    ) -> None:
        """Tell of frames that could not be used, each once, and count what was left out of others."""
        self.missing.update(getattr(what[0], "missing", {}))
        for error in getattr(what[0], "skipped", ()):
            if error not in self.skipped:
                log.warning("Left out %s", error)
            self.skipped[error] = None

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write ``last.ckpt`` whole or not at all; validate every ``validate_every`` epochs, the last one excepted."""
        folder = Path(trainer.default_root_dir)
        partial = folder / "last.partial"
        trainer.save_checkpoint(partial, weights_only=False)
        if not trainer.is_global_zero:
            return
        partial.replace(folder / "last.ckpt")
        epoch = trainer.current_epoch + 1
        if epoch % self.recipe.validate_every == 0 and epoch < (trainer.max_epochs or 0):
            assert isinstance(pl_module, Student)
            result = self.evaluate(pl_module, with_teacher=False)
            scores = {f"miou: {name}": s.miou for name, s in result.modes.items()} if result else {}
            log.info("Epoch %d: %s", epoch, {name: round(value, 4) for name, value in scores.items()})
            for logger in trainer.loggers:
                logger.log_metrics(scores, step=trainer.global_step)

    def finish(self, module: Student, counts: dict[str, Any]) -> Result:
        """The final checkpoint and the full evaluation, the teacher beside the student; counts: training frames'. The
        figures are those of floats; then the checkpoint is calibrated for int8, if that keeps its labels.

        Of several processes the first does it; the others return an empty result.
        """
        if Processes.of_torchrun().rank > 0:
            return Result({}, {})
        result = self.evaluate(module, with_teacher=True) or Result({}, {})
        if self.source is not None and self.vocabulary is not None:
            calibrate_if_possible(self.out / "student.safetensors", self.source)
        skipped = {"left out": list(self.skipped), "left out of frames, times": dict(self.missing)}
        result.about["training frames"] = counts | {name: what for name, what in skipped.items() if what}
        result.write(self.out)
        return result

    def evaluate(self, module: Student, with_teacher: bool) -> Result | None:
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
            identity=self.identity,
            logit_scale=float(vocabulary.logit_scale) if vocabulary else 100.0,
            vocabulary=words_of(vocabulary) if vocabulary else {},
            bank=stored_words(vocabulary, self.bank),
            preparation=self.preparation,
            recipe=self.recipe.to_dict(),
            commit=commit(),
            metrics=metrics,
        )


def stored_words(vocabulary: Vocabulary | None, bank: TextBank | None = None) -> WordEmbeddings | None:
    """The vocabulary's prompts and the bank's words, each once, with their embeddings; None without either."""
    found: dict[str, Float32[np.ndarray, " d"]] = {}
    if vocabulary is not None:
        found = dict(zip(vocabulary.prompts, vocabulary.embeddings, strict=True))
    if bank is not None:
        found = {**dict(zip(bank.words, bank.embeddings, strict=True)), **found}
    return WordEmbeddings(tuple(found), np.stack(list(found.values()))) if found else None


def commit() -> str:
    """The source tree's commit, with "+changes" when it has any; "" for an installed package."""
    folder = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        run = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
        return run.stdout.strip() if run.returncode == 0 else ""

    head = git("rev-parse", "HEAD") if (folder / ".git").exists() and shutil.which("git") else ""
    return head + ("+changes" if head and git("status", "--porcelain", "--untracked-files=no") else "")
