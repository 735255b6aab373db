"""Samples into batches: augmented, voxelised, with the teacher's feature of every voxel that a pixel sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ov3d_perception.lifting.pairs import Sample, load_sample, voxel_targets
from ov3d_perception.networks.inputs import point_inputs
from ov3d_perception.recipes.specs import Recipe
from ov3d_perception.sparse import quantize
from ov3d_perception.training.data.augment import augment


@dataclass(frozen=True)
class Batch:
    """coords: [batch, x, y, z]; feats: inputs of each voxel; rows: the voxels with a target; target: unit norm."""

    coords: Int64[Tensor, "v 4"]
    feats: Float[Tensor, "v c"]
    rows: Int64[Tensor, " m"]
    target: Float[Tensor, "m d"]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same on another device."""
        return Batch(**{name: value.to(device, non_blocking=non_blocking) for name, value in vars(self).items()})


class EpochSampler(Sampler[tuple[int, int]]):
    """(epoch, index), shuffled by (seed, epoch) alone: a resumed run sees the order that it would have seen.

    rank, world, batch: of several processes each takes its ``batch`` out of every ``world`` * ``batch``, so that a step
    of all of them sees what one process with the larger batch would; an epoch's last step is filled up from its start.
    """

    def __init__(self, size: int, repeat: int, seed: int, rank: int = 0, world: int = 1, batch: int = 1) -> None:
        self.size, self.repeat, self.seed, self.epoch = size, repeat, seed, 0
        self.rank, self.world, self.batch = rank, world, batch

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        turns = range(self.epoch * self.repeat, (self.epoch + 1) * self.repeat)
        keys = [(t, int(i)) for t in turns for i in np.random.default_rng((self.seed, t)).permutation(self.size)]
        if self.world == 1:
            return iter(keys)
        step, first = self.world * self.batch, self.rank * self.batch
        return (
            keys[(start + first + offset) % len(keys)]
            for start in range(0, len(keys), step)
            for offset in range(self.batch)
        )

    def __len__(self) -> int:
        total = self.size * self.repeat
        return total if self.world == 1 else -(-total // (self.world * self.batch)) * self.batch


class PairDataset(Dataset[Batch]):
    """Samples on disk; ``[(turn, index)]`` gives one cloud, augmented by (seed, turn, index) alone."""

    def __init__(self, paths: Sequence[Path], recipe: Recipe) -> None:
        self.paths, self.recipe = list(paths), recipe

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        turn, index = key
        rng = np.random.default_rng((self.recipe.seed, turn, index))
        clouds = [self._cloud(index, rng)]
        if rng.random() < self.recipe.augment.mix:
            clouds.append(self._cloud(int(rng.integers(len(self.paths))), rng))
        points = torch.cat([cloud.points for cloud in clouds])
        feats = torch.cat([cloud.feats for cloud in clouds])
        coords, voxel_feats, inverse = quantize(points, self.recipe.network.voxel_size, feats)
        pair_voxels = [
            torch.where(cloud.pair_point >= 0, voxels[cloud.pair_point], -1)
            for cloud, voxels in zip(clouds, inverse.split([len(cloud.points) for cloud in clouds]), strict=True)
        ]
        taught = torch.unique(torch.cat(pair_voxels))
        rows = _choose(taught[taught >= 0], self.recipe.optimiser.targets, rng)
        place = torch.full((len(coords) + 1,), -1, dtype=torch.int64)
        place[rows] = torch.arange(len(rows))
        targets = torch.stack(
            [
                voxel_targets(cloud.sample, (row := place[voxel]), row >= 0, len(rows))
                for cloud, voxel in zip(clouds, pair_voxels, strict=True)
            ]
        )
        return Batch(coords, voxel_feats, rows, F.normalize(targets.sum(0), dim=1))

    def _cloud(self, index: int, rng: np.random.Generator) -> _Cloud:
        """A sample, augmented."""
        recipe, sample = self.recipe, load_sample(self.paths[index])
        xyz, intensity, keep = augment(sample.xyz, sample.intensity, recipe.augment, rng, sample.point)
        if recipe.optimiser.context is not None:
            keep &= near(sample.xyz, sample.point, recipe.optimiser.context)
        kept = torch.from_numpy(np.flatnonzero(keep))
        points, strength = torch.from_numpy(xyz)[kept], torch.from_numpy(intensity)[kept]
        feats = point_inputs(recipe.network.inputs, points, strength, recipe.network.voxel_size)
        place = torch.full((len(xyz),), -1, dtype=torch.int64)
        place[kept] = torch.arange(len(kept))
        return _Cloud(sample, points, feats, place[torch.from_numpy(sample.point)])


@dataclass(frozen=True)
class _Cloud:
    """Kept points, moved; their inputs; and the row of each pair's point among them, -1 where it was dropped."""

    sample: Sample
    points: Float[Tensor, "n 3"]
    feats: Float[Tensor, "n c"]
    pair_point: Int64[Tensor, " m"]


def near(xyz: np.ndarray, point: np.ndarray, size: float) -> Bool[np.ndarray, " n"]:
    """Which points lie in a column of edge ``size`` that holds one of the rows ``point``, or beside such a column."""
    cells = np.floor(xyz[:, :2] / size).astype(np.int64)
    cells -= cells.min(0) - 1
    taught = np.zeros(cells.max(0) + 2, bool)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            taught[cells[point, 0] + dx, cells[point, 1] + dy] = True
    return taught[cells[:, 0], cells[:, 1]]


def collate(items: Sequence[Batch]) -> Batch:
    """Several clouds in one batch; the batch number goes into the first coordinate."""
    offsets = np.cumsum([0, *(len(item.coords) for item in items[:-1])])
    coords = [item.coords.clone() for item in items]
    for number, rows in enumerate(coords):
        rows[:, 0] = number
    return Batch(
        torch.cat(coords),
        torch.cat([item.feats for item in items]),
        torch.cat([item.rows + int(offset) for item, offset in zip(items, offsets, strict=True)]),
        torch.cat([item.target for item in items]),
    )


def _choose(rows: Int64[Tensor, " m"], limit: int, rng: np.random.Generator) -> Int64[Tensor, " k"]:
    if len(rows) <= limit:
        return rows
    return rows[torch.from_numpy(np.sort(rng.choice(len(rows), limit, replace=False)))]
