"""Where a step's time goes: waiting for data, the teacher, the network."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import lightning
import torch

from ov3d_perception import stopwatch
from ov3d_perception.files import write_text


class StepTimes(lightning.Callback):
    """Keeps the mean seconds of a step of each epoch in ``times.json``.

    data: the loop waited for a batch; teacher: the module's own ``clock``, where it has one; network: the rest. The
    first two steps of an epoch, in which workers start, are left out where there are others.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / "times.json"
        self.steps: list[dict[str, float]] = []
        self._began = self._ended = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start counting."""
        self.steps, self._ended = [], time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        """A batch has come."""
        self._began = time.perf_counter()

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        """A step is done."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        now = time.perf_counter()
        clock = getattr(pl_module, "clock", None)
        teacher = clock.spent.pop("teacher", 0.0) if clock is not None else 0.0
        step = {"data": self._began - self._ended, "teacher": teacher, "network": now - self._began - teacher}
        self.steps.append(step)
        for name, seconds in ((stopwatch.NETWORK, step["network"]), (stopwatch.TEACHER, teacher)):
            stopwatch.add(name, seconds)
        self._ended = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Add a line to the file."""
        steps = self.steps[2:] or self.steps
        if not steps or not trainer.is_global_zero:
            return
        means = {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]}
        epochs = json.loads(self.path.read_text()) if self.path.exists() else []
        write_text(self.path, json.dumps([*epochs, {"epoch": trainer.current_epoch, **means}], indent=1))
