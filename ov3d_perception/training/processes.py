"""Training in several processes, on one machine or more: as ``torchrun`` starts them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from ov3d_perception.errors import DatasetError

PATIENCE = 24 * 3600.0  # seconds that a process waits for the first one's preparations


@dataclass(frozen=True)
class Processes:
    """rank: of this process among ``world``; local: how many of them run on this machine."""

    rank: int = 0
    world: int = 1
    local: int = 1

    @classmethod
    def of_torchrun(cls) -> Processes:
        """As torchrun's environment says; one process without it."""
        rank, world, local = (
            int(os.environ.get(name, default))
            for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_WORLD_SIZE", "1"))
        )
        return cls(rank, world, local)

    def wait_for(self, path: Path, patience: float = PATIENCE) -> None:
        """Return once the first process has made ``path``; at once in the first. Raises DatasetError if it does not."""
        until = time.monotonic() + patience
        while self.rank > 0 and not path.exists():
            if time.monotonic() > until:
                raise DatasetError(f"The first process has not made {path} within {patience:.0f} s", "See its output")
            time.sleep(0.2)


class _Sum(torch.autograd.Function):
    """The sum of all processes' tensors, and of their gradients."""

    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class SynchronisedNorm(nn.BatchNorm1d):
    """Batch normalisation by the statistics of all processes' rows; like nn.SyncBatchNorm, and on the CPU too."""

    def forward(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """Same rows, normalised."""
        if not (self.training and dist.is_initialized()):
            return super().forward(x)
        rows = x.float()
        count = torch.tensor(float(len(rows)), device=x.device)
        dist.all_reduce(count)
        mean = _Sum.apply(rows.sum(0)) / count
        variance = _Sum.apply(((rows - mean) ** 2).sum(0)) / count
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1).clamp_min(1), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        return ((rows - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias).to(x.dtype)


def synchronise(network: nn.Module) -> None:
    """Make every batch normalisation in ``network`` a :class:`SynchronisedNorm`, in place; parameters are the same."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d) and not isinstance(module, SynchronisedNorm):
            kind = type(module)
            bases = (SynchronisedNorm,) if kind is nn.BatchNorm1d else (kind, SynchronisedNorm)
            module.__class__ = type(f"Synchronised{kind.__name__}", bases, {})
