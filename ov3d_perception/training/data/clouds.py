"""Whole clouds in batches: read, augmented and voxelised, with the columns that a method learns from.

A reader (:mod:`.readers`) gives a frame as a :class:`Cloud`; :class:`CloudDataset` makes a :class:`CloudBatch` of it,
:func:`collate` one batch of several.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from ov3d_perception.errors import DatasetError, Ov3dError
from ov3d_perception.geometry.voxels import voxel_keys
from ov3d_perception.lifting.compact import Compact
from ov3d_perception.lifting.image_teacher import read_map
from ov3d_perception.networks.inputs import point_inputs
from ov3d_perception.recipes.specs import Recipe
from ov3d_perception.sparse import quantize
from ov3d_perception.training.data.augment import augment, in_sector, in_wedge, near


@dataclass(frozen=True, eq=False)
class Said:
    """Consolidated features of points (:mod:`ov3d_perception.lifting.consolidate`).

    row: of each supervised point, in the others. feature: v of them, in the coordinates of the basis, whose rows are
    directions in the teacher's space; without a basis in those of the teacher. confidence: in [0, 1].
    """

    row: Int64[np.ndarray, " m"]
    feature: Compact
    confidence: Float32[np.ndarray, " v"]
    basis: Float[Tensor, "k d"] | None


@dataclass(frozen=True)
class Cloud:
    """A frame before augmentation, in the frame of its key sweep. Rows of ``point``, ``view``, ``uv``, ``segment``: one
    pair of a point and a pixel that sees it.

    xyz: metres. intensity: in [0, 1].
    part: which cloud of the network a point belongs to; several sweeps are several clouds, or all 0 when merged.
    sweep: of each point, 0 is the key sweep.
    supervised: rows of the points that something is known of; the wedge and the context lie around them.
    point: row of the pair's point. view: its image. uv: its pixel. segment: the pixel's superpixel.
    sizes: (height, width) of each image, in which ``uv`` is measured.
    maps: files of the images' teacher features, or else images: the images themselves, for an encoder in the step.
    label: class of each point, UNLABELLED where it has none. superpoint: of each point, -1 where it has none.
    said: what images say of the supervised points, in the place of pairs.
    """

    xyz: Float32[np.ndarray, "n 3"]
    intensity: Float32[np.ndarray, " n"]
    part: Int64[np.ndarray, " n"]
    sweep: Int64[np.ndarray, " n"]
    supervised: Int64[np.ndarray, " m"]
    point: Int64[np.ndarray, " p"] = field(default_factory=lambda: np.zeros(0, np.int64))
    view: Int64[np.ndarray, " p"] = field(default_factory=lambda: np.zeros(0, np.int64))
    uv: Float32[np.ndarray, "p 2"] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    segment: Int64[np.ndarray, " p"] = field(default_factory=lambda: np.zeros(0, np.int64))
    sizes: tuple[tuple[int, int], ...] = ()
    maps: tuple[Path, ...] = ()
    images: tuple[UInt8[Tensor, "3 h w"], ...] = ()
    label: Int64[np.ndarray, " n"] | None = None
    superpoint: Int64[np.ndarray, " n"] | None = None
    said: Said | None = None


class Reader(Protocol):
    """Frames of a run as clouds."""

    def __len__(self) -> int: ...

    def read(self, index: int, rng: np.random.Generator) -> Cloud:
        """The frame of number ``index``. Raises Ov3dError where it cannot be used."""

    def missing(self) -> Counter[str]:
        """What the frames read so far in this process lacked, by kind."""


@dataclass(frozen=True)
class Columns:
    """What a batch carries beside its voxels and labels.

    targets: join what is said of each voxel's points to one target, for at most ``recipe.pairs.targets`` voxels.
    grid: edge in metres of the grid cells that pairs are numbered by, 0 without; grid_points: most pairs of a cell.
    """

    targets: bool = False
    grid: float = 0.0
    grid_points: int = 0


@dataclass(frozen=True)
class Targets:
    """Fused pixel features. voxel: row of each voxel that has one, ascending; feature: of unit norm, (0, 0) of none.

    confidence: in [0, 1], the mean over the voxel's points.
    """

    voxel: Int64[Tensor, " m"]
    feature: Float[Tensor, "m d"]
    confidence: Float[Tensor, " m"]


@dataclass(frozen=True)
class Pairs:
    """Pairs of a pixel and the point that it sees.

    voxel: row of the point's voxel. sweep: of the point, 0 is the key sweep. grid: cell of the point's place in the key
    sweep's frame, numbered without gaps in each frame. frame: number of the frame in the batch.
    view: number of the image in the batch. uv: the pixel. segment: superpixel of the pixel, distinct in each frame.
    maps: teacher features of each image, or else images: the images. sizes: (height, width) that ``uv`` is measured in.
    """

    voxel: Int64[Tensor, " m"]
    sweep: Int64[Tensor, " m"]
    grid: Int64[Tensor, " m"]
    frame: Int64[Tensor, " m"]
    view: Int64[Tensor, " m"]
    uv: Float[Tensor, "m 2"]
    segment: Int64[Tensor, " m"]
    maps: tuple[Float[Tensor, "d gh gw"], ...]
    images: tuple[UInt8[Tensor, "3 h w"], ...]
    sizes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class CloudBatch:
    """Clouds of one step.

    coords: [cloud, x, y, z] of each voxel. feats: its inputs, means over its points.
    voxel: row of the voxel of each point that the augmentations kept, frame after frame.
    clouds, frames: how many; a frame of several sweeps may be several clouds.
    label: class of each point, UNLABELLED where it has none. superpoint: of each point, -1 where it has none, numbered
    through the batch. targets, pairs: what images say of the voxels. None: the method does not ask for them.
    skipped: errors of the frames that were to be here and that others replace.
    missing: what the frames that were read lacked, by kind.
    """

    coords: Int64[Tensor, "v 4"]
    feats: Float[Tensor, "v c"]
    voxel: Int64[Tensor, " n"]
    clouds: int = 1
    frames: int = 1
    label: Int64[Tensor, " n"] | None = None
    superpoint: Int64[Tensor, " n"] | None = None
    targets: Targets | None = None
    pairs: Pairs | None = None
    skipped: tuple[str, ...] = ()
    missing: Counter[str] = field(default_factory=Counter)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> CloudBatch:
        """The same on another device."""
        moved: CloudBatch = _moved(self, device, non_blocking)
        return moved


_READING = threading.Lock()
"""Frames are read one at a time: files of a data set have one place that is read, and the next batch has a thread."""


class CloudDataset(Dataset[CloudBatch]):
    """``[(turn, index)]`` gives one frame, drawn and augmented by (seed, turn, index) alone.

    A frame that cannot be used is replaced by the next one that can, and its error is told in the batch.

    Args:
        reader: the frames.
        recipe: seed, network inputs, augmentations, limits.
        columns: what the method needs.
    """

    def __init__(self, reader: Reader, recipe: Recipe, columns: Columns) -> None:
        self.reader, self.recipe, self.columns = reader, recipe, columns

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, key: tuple[int, int]) -> CloudBatch:
        """Raises DatasetError where no frame can be used."""
        with _READING:
            return self._drawn(*key)

    def _drawn(self, turn: int, index: int) -> CloudBatch:
        rng = np.random.default_rng((self.recipe.seed, turn, index))
        skipped: list[str] = []
        before = self.reader.missing()
        for number in ((index + step) % len(self) for step in range(len(self))):
            try:
                batch = self._frame(number, rng)
            except Ov3dError as error:
                skipped.append(f"frame {number}: {error}")
                continue
            return replace(batch, skipped=tuple(skipped), missing=self.reader.missing() - before)
        raise DatasetError(f"None of {len(self)} frames can be used; {skipped[0]}", "Check the data set")

    def _frame(self, index: int, rng: np.random.Generator) -> CloudBatch:
        """One frame, or two of them laid over each other (Mix3D), or side by side (PolarMix)."""
        recipe = self.recipe
        clouds = [self.reader.read(index, rng)]
        parts = _augmented(clouds[0], 0, recipe, rng)
        if self.columns.targets and (chance := rng.random()) < recipe.augment.mix + recipe.augment.swap:
            clouds.append(self.reader.read(int(rng.integers(len(self))), rng))
            parts += _augmented(clouds[1], 1, recipe, rng)
            if chance >= recipe.augment.mix:
                start = rng.random()
                parts = [_in_half(part, start + 0.5 * part.cloud) for part in parts]
        coords, feats, row = quantize(
            torch.cat([part.points for part in parts]),
            recipe.network.voxel_size,
            torch.cat([part.inputs for part in parts]),
            torch.cat([torch.full((len(part.rows),), part.number, dtype=torch.int64) for part in parts]),
        )
        voxels = [np.full(len(cloud.xyz), -1, np.int64) for cloud in clouds]
        for part, rows in zip(parts, row.split([len(part.rows) for part in parts]), strict=True):
            voxels[part.cloud][part.rows] = rows.numpy()
        kept = [voxel >= 0 for voxel in voxels]

        def column(values: Sequence[Int64[np.ndarray, " _"] | None]) -> Int64[Tensor, " n"] | None:
            found = [value[mask] for value, mask in zip(values, kept, strict=True) if value is not None]
            return torch.from_numpy(np.concatenate(found)) if found else None

        where = column(voxels)
        assert where is not None
        return CloudBatch(
            coords=coords,
            feats=feats,
            voxel=where,
            clouds=1 + max(part.number for part in parts),
            label=column([cloud.label for cloud in clouds]),
            superpoint=column(_numbered([cloud.superpoint for cloud in clouds])),
            targets=_targets(clouds, voxels, len(coords), recipe, rng) if self.columns.targets else None,
            pairs=_pairs(clouds[0], voxels[0], self.columns, rng) if self.columns.grid else None,
        )


@dataclass(frozen=True)
class _Part:
    """The kept points of part ``number`` of cloud ``cloud``: their rows there, their moved places, their inputs."""

    cloud: int
    number: int
    rows: Int64[np.ndarray, " k"]
    points: Float[Tensor, "k 3"]
    inputs: Float[Tensor, "k c"]


def _augmented(cloud: Cloud, number: int, recipe: Recipe, rng: np.random.Generator) -> list[_Part]:
    """The parts of a cloud, each moved by itself; one point with a label or a pair stays at least."""
    spec, network = recipe.augment, recipe.network
    keep = np.ones(len(cloud.xyz), bool) if spec.wedge >= 1 else in_wedge(cloud.xyz, cloud.supervised, spec.wedge, rng)
    if recipe.augment.context is not None and len(cloud.supervised):
        keep &= near(cloud.xyz, cloud.supervised, recipe.augment.context)
    supervised = np.zeros(len(cloud.xyz), bool)
    supervised[cloud.supervised] = True
    parts: list[_Part] = []
    for part in range(int(cloud.part.max(initial=0)) + 1):
        rows = np.flatnonzero(keep & (cloud.part == part))
        xyz, intensity, kept = augment(cloud.xyz[rows], cloud.intensity[rows], spec, rng)
        known = np.flatnonzero(supervised[rows])
        if part == 0 and len(known) and not kept[known].any():
            kept[known[0]] = True
        points = torch.from_numpy(xyz[kept])
        inputs = point_inputs(network.inputs, points, torch.from_numpy(intensity[kept]), network.voxel_size)
        parts.append(_Part(number, part, rows[kept], points, inputs))
    return parts


def _in_half(part: _Part, start: float) -> _Part:
    """What of a part lies in the half circle from ``start`` turns on around the sensor."""
    kept = np.flatnonzero(in_sector(part.points.numpy(), start, 0.5))
    return replace(part, rows=part.rows[kept], points=part.points[kept], inputs=part.inputs[kept])


def _targets(
    clouds: Sequence[Cloud],
    voxels: Sequence[Int64[np.ndarray, " _"]],
    count: int,
    recipe: Recipe,
    rng: np.random.Generator,
) -> Targets:
    """What is said of each voxel: the mean over its points, each weighing the same, of both clouds if two are mixed."""
    rows = [voxel[cloud.supervised] for cloud, voxel in zip(clouds, voxels, strict=True)]
    seen = np.zeros(count + 1, bool)  # the last one is that of dropped points, row -1
    for row in rows:
        seen[row] = True
    chosen = np.flatnonzero(seen[:-1])
    if len(chosen) > (limit := recipe.pairs.targets):
        chosen = chosen[np.sort(rng.choice(len(chosen), limit, replace=False))]
    place = np.full(count + 1, -1)
    place[chosen] = np.arange(len(chosen))
    total, sure, points = torch.zeros(0, 0), np.zeros(len(chosen), np.float32), np.zeros(len(chosen), np.float32)
    basis: Float[Tensor, "k d"] | None = None
    for cloud, row in zip(clouds, rows, strict=True):
        said, target = cloud.said, place[row]
        if said is None or len(said.feature) == 0:
            continue
        kept = target >= 0
        target, source = target[kept], said.row[kept]
        sums = said.feature.sums(source, target, len(chosen))
        total, basis = sums if len(total) == 0 else total + sums, said.basis
        sure += np.bincount(target, said.confidence[source], len(chosen)).astype(np.float32)
        points += np.bincount(target, minlength=len(chosen)).astype(np.float32)
    feature = F.normalize(total if basis is None else total @ basis, dim=1) if len(total) else total
    return Targets(torch.from_numpy(chosen), feature, torch.from_numpy(sure / points.clip(1)))


def _pairs(cloud: Cloud, voxel: Int64[np.ndarray, " n"], columns: Columns, rng: np.random.Generator) -> Pairs:
    """The pairs whose points were kept, at most ``columns.grid_points`` of each grid cell."""
    rows = np.flatnonzero(voxel[cloud.point] >= 0)
    rows = rows[at_most(voxel_keys(cloud.xyz[cloud.point[rows]], columns.grid), columns.grid_points, rng)]
    if len(rows) == 0:
        raise DatasetError("No pixel sees a point that was kept", "Check the calibration and the poses")
    point = cloud.point[rows]
    cells = np.unique(voxel_keys(cloud.xyz[point], columns.grid), return_inverse=True)[1].reshape(-1)
    return Pairs(
        voxel=torch.from_numpy(voxel[point]),
        sweep=torch.from_numpy(cloud.sweep[point]),
        grid=torch.from_numpy(cells),
        frame=torch.zeros(len(rows), dtype=torch.int64),
        view=torch.from_numpy(cloud.view[rows]),
        uv=torch.from_numpy(cloud.uv[rows]),
        segment=torch.from_numpy(cloud.segment[rows]),
        maps=tuple(read_map(path) for path in cloud.maps),
        images=cloud.images,
        sizes=cloud.sizes,
    )


def at_most(keys: Int64[np.ndarray, " m"], limit: int, rng: np.random.Generator) -> Int64[np.ndarray, " k"]:
    """Sorted rows such that no key has more than ``limit`` of them; which ones is drawn."""
    order = rng.permutation(len(keys))
    order = order[np.argsort(keys[order], kind="stable")]
    ranked = keys[order]
    start = np.searchsorted(ranked, ranked)
    return np.sort(order[np.arange(len(keys)) - start < limit])


def collate(items: Sequence[CloudBatch]) -> CloudBatch:
    """Several frames in one batch; clouds, voxels, frames, images and superpoints are numbered through."""
    clouds = [torch.tensor([first, 0, 0, 0]) for first in _starts([item.clouds for item in items])]
    voxels = _starts([len(item.coords) for item in items])
    labels = [item.label for item in items if item.label is not None]
    superpoints = [one for one in _numbered([_array(item.superpoint) for item in items]) if one is not None]
    return CloudBatch(
        coords=torch.cat([item.coords + first for item, first in zip(items, clouds, strict=True)]),
        feats=torch.cat([item.feats for item in items]),
        voxel=torch.cat([item.voxel + first for item, first in zip(items, voxels, strict=True)]),
        clouds=sum(item.clouds for item in items),
        frames=sum(item.frames for item in items),
        label=torch.cat(labels) if labels else None,
        superpoint=torch.from_numpy(np.concatenate(superpoints)) if superpoints else None,
        targets=_joined_targets([item.targets for item in items if item.targets is not None], voxels),
        pairs=_joined_pairs([item.pairs for item in items if item.pairs is not None], voxels, items),
        skipped=tuple(error for item in items for error in item.skipped),
        missing=sum((item.missing for item in items), Counter()),
    )


def _joined_targets(items: Sequence[Targets], voxels: Sequence[int]) -> Targets | None:
    if not items:
        return None
    rows = torch.cat([item.voxel + first for item, first in zip(items, voxels, strict=True)])
    features = [item.feature for item in items if len(item.voxel)]
    confidence = torch.cat([item.confidence for item in items])
    return Targets(rows, torch.cat(features) if features else items[0].feature, confidence)


def _joined_pairs(items: Sequence[Pairs], voxels: Sequence[int], batches: Sequence[CloudBatch]) -> Pairs | None:
    if not items:
        return None
    frames, views = _starts([batch.frames for batch in batches]), _starts([len(item.sizes) for item in items])
    offsets = {"voxel": voxels, "frame": frames, "view": views}

    def joined(name: str) -> Any:
        values = [getattr(item, name) for item in items]
        if isinstance(values[0], tuple):
            return tuple(one for value in values for one in value)
        return torch.cat([v + first for v, first in zip(values, offsets.get(name, [0] * len(items)), strict=True)])

    return Pairs(**{f.name: joined(f.name) for f in fields(Pairs)})


def _starts(counts: Sequence[int]) -> list[int]:
    return [sum(counts[:number]) for number in range(len(counts))]


def _numbered(columns: Sequence[Int64[np.ndarray, " _"] | None]) -> list[Int64[np.ndarray, " _"] | None]:
    """Superpoints of several clouds, numbered through; -1 stays."""
    first, found = 0, []
    for column in columns:
        found.append(None if column is None else np.where(column >= 0, column + first, -1))
        first += 0 if column is None else int(column.max(initial=-1)) + 1
    return found


def _array(column: Int64[Tensor, " n"] | None) -> Int64[np.ndarray, " n"] | None:
    return None if column is None else column.numpy()


def _moved(value: Any, device: torch.device | str, non_blocking: bool) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=non_blocking)
    if isinstance(value, tuple):
        return tuple(_moved(item, device, non_blocking) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _moved(getattr(value, f.name), device, non_blocking) for f in fields(value)})
    return value
