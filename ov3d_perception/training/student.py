"""What every training has: optimiser, schedule, the average of the weights, a state that resumes exactly."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any, cast

import lightning
import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ov3d_perception.networks.registry import Network
from ov3d_perception.recipes.specs import OptimiserSpec
from ov3d_perception.sparse import BatchNorm
from ov3d_perception.training.balance import Balance

_FUSED_ON_CPU = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 4)
"""Whether AdamW has one compiled step for all weights on a CPU, too."""


class Student(lightning.LightningModule):
    """A network in training: its optimiser, the average of its weights, and a state that resumes exactly.

    Args:
        network: what is trained, evaluated and kept.
        spec: optimiser and schedule.
        steps: optimiser steps of the whole run, for the schedule.
    """

    def __init__(self, network: Network, spec: OptimiserSpec, steps: int) -> None:
        super().__init__()
        self.network, self.spec, self.steps = network, spec, steps
        self.balance: Balance | None = None
        self.frozen_norm = False
        self.average: AveragedModel | None = None
        if spec.ema_decay > 0:
            self.average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(spec.ema_decay), use_buffers=True)
            self.average.requires_grad_(False)

    def train(self, mode: bool = True) -> Student:
        """Training or evaluation mode; normalisations that are frozen stay in the latter."""
        super().train(mode)
        if self.frozen_norm:
            for layer in self.modules():
                if isinstance(layer, BatchNorm | nn.BatchNorm1d):
                    layer.eval()
        return self

    def log_loss(self, loss: Float[Tensor, ""], **parts: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Log a step's loss, and what it is made of; returns it."""
        for name, part in parts.items():
            self.log(name, part, on_step=True, on_epoch=False, batch_size=1)
        self.log("loss", loss, prog_bar=True, on_step=True, on_epoch=False, batch_size=1)
        self.log("epoch_loss", loss, on_step=False, on_epoch=True, batch_size=1)
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """To the recipe's norm. Gradients that are shorter, as most are, are not gone through a second time."""
        if gradient_clip_val:
            clip(self.parameters(), gradient_clip_val)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Step, and let the average follow: once an optimiser step, however many batches its gradients come from."""
        super().optimizer_step(*arguments, **options)
        self.follow()

    def follow(self) -> None:
        """Move the average towards the weights."""
        if self.average is not None:
            self.average.update_parameters(self.network)

    @property
    def student(self) -> Network:
        """What is evaluated and kept: the average of the weights where the recipe asks for it, else the weights."""
        return self.network if self.average is None else cast(Network, self.average.module)

    def groups(self) -> list[tuple[list[torch.nn.Parameter], float]]:
        """What is trained, and at which rate."""
        return [([p for p in self.parameters() if p.requires_grad], self.spec.learning_rate)]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser and its schedule, stepped every batch."""
        spec = self.spec
        groups = [{"params": parameters, "lr": rate} for parameters, rate in self.groups()]
        optimiser: torch.optim.Optimizer
        if spec.algorithm == "sgd":
            optimiser = torch.optim.SGD(groups, momentum=0.9, dampening=0.1, weight_decay=spec.weight_decay)
        else:
            fused = spec.precision != "fp16" and _FUSED_ON_CPU
            optimiser = torch.optim.AdamW(groups, weight_decay=spec.weight_decay, fused=fused or None)
        schedule: torch.optim.lr_scheduler.LRScheduler
        if spec.schedule == "onecycle":
            peaks = [float(group["lr"]) for group in optimiser.param_groups]
            steps = self.steps + 1
            warmup = max(spec.warmup, 2 / steps) if spec.warmup else 0.0  # at least a step: PyTorch divides by it
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=peaks, total_steps=steps, pct_start=warmup)
        elif spec.schedule == "cosine":
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=self.steps)
        else:
            schedule = torch.optim.lr_scheduler.PolynomialLR(optimiser, total_iters=self.steps, power=0.9)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the generators' states, the class shares, whether normalisation is frozen.

        Lightning keeps weights, optimiser, schedule and loops.
        """
        numpy_state: Any = np.random.get_state(legacy=True)
        checkpoint["generators"] = {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "python": random.getstate(),
            "numpy": (numpy_state[0], numpy_state[1].tolist(), *numpy_state[2:]),
        }
        checkpoint["frozen_norm"] = self.frozen_norm
        if self.balance is not None:
            checkpoint["balance"] = self.balance.total

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put back what :meth:`on_save_checkpoint` has added."""
        self.frozen_norm = checkpoint.get("frozen_norm", False)
        self.train(self.training)
        states = checkpoint["generators"]
        torch.set_rng_state(states["torch"])
        if torch.cuda.is_available() and states["cuda"]:
            torch.cuda.set_rng_state_all(states["cuda"])
        version, internal, gauss = states["python"]
        random.setstate((version, tuple(internal), gauss))
        np.random.set_state(tuple(states["numpy"]))
        if self.balance is not None:
            self.balance.total = checkpoint["balance"]


@torch.no_grad()
def clip(parameters: Iterable[nn.Parameter], most: float) -> None:
    """Gradients that are together longer than ``most`` are made as long, by
    :func:`torch.nn.utils.clip_grad_norm_`'s factor."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    length = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if not length <= most:
        torch._foreach_mul_(gradients, most / (length + 1e-6))
