"""Pairs on the fly: a frame becomes K sweeps in one or K clouds, and the pixels that speak of their points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from ov3d_perception.errors import DatasetError, Ov3dError
from ov3d_perception.geometry.sweeps import merge
from ov3d_perception.geometry.voxels import voxel_keys
from ov3d_perception.lifting.pairs import image_size, pair
from ov3d_perception.lifting.sources import left_out
from ov3d_perception.lifting.sweeps import draw_sweeps
from ov3d_perception.networks.inputs import point_inputs
from ov3d_perception.recipes.specs import Recipe
from ov3d_perception.sparse import quantize
from ov3d_perception.training.data.augment import augment, in_wedge
from ov3d_perception.training.data.batches import near
from ov3d_perception.training.data.crops import draw_crop
from ov3d_perception.training.data.superpixels import superpixels
from ov3d_perception.types import Frame, PixelPointPairs, View

T = TypeVar("T")


@dataclass(frozen=True)
class Scenes:
    """A batch of frames. Rows of ``voxel`` to ``segment``: one pair of a pixel and a point.

    coords: [cloud, x, y, z]; feats: inputs of each voxel. voxel: row of the point's voxel; grid: cell of the point's
    place among all sweeps, without gaps; sweep: 0 is the key sweep; frame; view: row of ``maps`` or ``images``; uv: the
    pixel; segment: superpixel (SLidR).
    maps: (d, gh, gw) teacher features, or else images: (3, h, w), of each view; sizes: (height, width) that uv is in.
    clouds, frames: how many. faults: what was wrong with frames that were to be here, and others took their place;
    lost: what their source left out of the frames that were read, by kind.
    """

    coords: Int64[Tensor, "v 4"]
    feats: Float[Tensor, "v c"]
    voxel: Int64[Tensor, " m"]
    grid: Int64[Tensor, " m"]
    sweep: Int64[Tensor, " m"]
    frame: Int64[Tensor, " m"]
    view: Int64[Tensor, " m"]
    uv: Float[Tensor, "m 2"]
    segment: Int64[Tensor, " m"]
    maps: tuple[Tensor, ...]
    images: tuple[UInt8[Tensor, "3 h w"], ...]
    sizes: tuple[tuple[int, int], ...]
    clouds: int
    frames: int
    faults: tuple[str, ...] = ()
    lost: Counter[str] = field(default_factory=Counter)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Scenes:
        """The same on another device."""

        def moved(value: object) -> object:
            if isinstance(value, Tensor):
                return value.to(device, non_blocking=non_blocking)
            return tuple(moved(item) for item in value) if isinstance(value, tuple) else value

        return Scenes(**{name: moved(value) for name, value in vars(self).items()})  # type: ignore[arg-type]


def first_usable(
    source: Sequence[Frame], index: int, make: Callable[[Frame], T]
) -> tuple[T, tuple[str, ...], Counter[str]]:
    """What ``make`` makes of frame ``index`` or of the first one after it that can be used, and why others cannot.

    Last comes what the source left out of the frames that were read for it, by kind. Raises DatasetError where no
    frame can be used.
    """
    faults: list[str] = []
    before = left_out(source)
    for step in range(len(source)):
        number = (index + step) % len(source)
        try:
            return make(source[number]), tuple(faults), left_out(source) - before
        except Ov3dError as error:
            faults.append(f"frame {number}: {error}")
    raise DatasetError(f"None of {len(source)} frames can be used; {''.join(faults[:1])}", "Check the data set")


class SceneDataset(Dataset[Scenes]):
    """Frames of a source; ``[(turn, index)]`` gives one, drawn and augmented by (seed, turn, index) alone.

    A frame that cannot be read, or whose points no pixel sees, is replaced by the next one, and the fault is told.

    Args:
        source: the frames.
        recipe: sweeps, association, augmentations, network inputs.
        stored: where an image's teacher features lie; None where the training step encodes images (teacher.online).
    """

    def __init__(
        self,
        source: Sequence[Frame],
        recipe: Recipe,
        stored: Callable[[UInt8[np.ndarray, "h w 3"]], Path] | None = None,
    ) -> None:
        self.source, self.recipe, self.stored = source, recipe, stored

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> Scenes:
        turn, index = key
        rng = np.random.default_rng((self.recipe.seed, turn, index))
        scene, faults, lost = first_usable(self.source, index, lambda frame: self._scene(frame, rng))
        return replace(scene, faults=faults, lost=lost)

    def _scene(self, frame: Frame, rng: np.random.Generator) -> Scenes:
        recipe, method = self.recipe, self.recipe.method
        sweeps = draw_sweeps(frame.sweeps, method.sweeps, method.seconds, rng)
        drawn = replace(frame, sweeps=sweeps)
        pairs = pair(drawn, replace(recipe.pairs, sweeps=len(sweeps)))
        pairs, seen = self._look(frame.views, pairs, rng)
        merged = merge(sweeps)
        xyz, intensity = merged.xyz, merged.intensity
        rows = np.sort(rng.permutation(len(pairs))[: recipe.optimiser.targets])
        sweep = np.repeat(np.arange(len(sweeps)), [len(s.scan) for s in sweeps])
        cloud = np.zeros_like(sweep) if method.merged else sweep
        keep = in_wedge(xyz, pairs.point, recipe.augment.wedge, rng) if recipe.augment.wedge < 1 else sweep >= 0
        if recipe.optimiser.context is not None:
            keep &= near(xyz, pairs.point, recipe.optimiser.context)
        coords, feats, voxel = self._clouds(xyz, intensity, cloud, keep, rng)
        rows = rows[voxel[pairs.point[rows]] >= 0]
        rows = rows[_at_most(voxel_keys(xyz[pairs.point[rows]], method.grid), method.grid_points, rng)]
        if len(rows) == 0:
            raise DatasetError(f"No pixel sees a point of {frame.name}", "Check the calibration and the poses")
        point = pairs.point[rows]
        cells = np.unique(voxel_keys(xyz[point], method.grid), return_inverse=True)[1].reshape(-1)
        return Scenes(
            coords=coords,
            feats=feats,
            voxel=torch.from_numpy(voxel[point]),
            grid=torch.from_numpy(cells),
            sweep=torch.from_numpy(sweep[point]),
            frame=torch.zeros(len(rows), dtype=torch.int64),
            view=torch.from_numpy(pairs.camera[rows].astype(np.int64)),
            uv=torch.from_numpy(pairs.uv[rows]),
            segment=torch.from_numpy(seen.segment[rows]),
            maps=seen.maps,
            images=seen.images,
            sizes=seen.sizes,
            clouds=int(cloud.max(initial=0)) + 1,
            frames=1,
        )

    def _look(
        self, views: Sequence[View], pairs: PixelPointPairs, rng: np.random.Generator
    ) -> tuple[PixelPointPairs, _Seen]:
        """The pairs whose pixels the augmented images still show, in these images' pixels, and the images."""
        method, uv = self.recipe.method, pairs.uv.copy()
        keep, segment = np.ones(len(pairs), bool), np.zeros(len(pairs), np.int64)
        maps, images, sizes = [], [], []
        for number, view in enumerate(views):
            mine, size = pairs.camera == number, image_size(view)
            image, crop = _resized(view.image, size), draw_crop(size, self.recipe.augment, rng)
            stored = self.stored(view.image) if self.stored else None
            if stored:
                keep[mine] = crop.pixels(uv[mine], size)[1]
                maps.append(torch.from_numpy(np.load(stored)))
            else:
                size = self.recipe.teacher.size or size
                uv[mine], keep[mine] = crop.pixels(uv[mine], size)
                image = crop.image(image, size)
                images.append(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))))
            if method.name == "slidr":
                segment[mine] = superpixels(image, uv[mine], method, stored) + number * 2 * method.segments
            sizes.append(size)
        columns = {name: getattr(pairs, name)[keep] for name in ("point", "sweep", "camera", "depth")}
        seen = _Seen(segment[keep], tuple(maps), tuple(images), tuple(sizes))
        return PixelPointPairs(uv=uv[keep], **columns), seen

    def _clouds(
        self,
        xyz: Float32[np.ndarray, "n 3"],
        intensity: Float32[np.ndarray, " n"],
        cloud: Int64[np.ndarray, " n"],
        keep: Bool[np.ndarray, " n"],
        rng: np.random.Generator,
    ) -> tuple[Int64[Tensor, "v 4"], Float[Tensor, "v c"], Int64[np.ndarray, " n"]]:
        """Each cloud augmented by itself and voxelised; the voxel of each point, -1 where it was dropped."""
        spec = self.recipe.network
        voxel, coords, feats, first = np.full(len(xyz), -1, np.int64), [], [], 0
        for number in range(int(cloud.max(initial=0)) + 1):
            mine = np.flatnonzero((cloud == number) & keep)
            moved, strength, kept = augment(xyz[mine], intensity[mine], replace(self.recipe.augment, wedge=1.0), rng)
            points, shine = torch.from_numpy(moved[kept]), torch.from_numpy(strength[kept])
            inputs = point_inputs(spec.inputs, points, shine, spec.voxel_size)
            places, means, inverse = quantize(
                points, spec.voxel_size, inputs, torch.full((len(points),), number, dtype=torch.int64)
            )
            voxel[mine[kept]] = inverse.numpy() + first
            first += len(places)
            coords.append(places)
            feats.append(means)
        return torch.cat(coords), torch.cat(feats), voxel


@dataclass(frozen=True)
class _Seen:
    """Superpixel of each pair, and of each view its teacher's map or its image and the size that pixels are in."""

    segment: Int64[np.ndarray, " m"]
    maps: tuple[Tensor, ...]
    images: tuple[Tensor, ...]
    sizes: tuple[tuple[int, int], ...]


def collate_scenes(items: Sequence[Scenes]) -> Scenes:
    """Several frames in one batch; clouds, voxels, grids, views and frames are numbered through."""

    def joined(name: str, counts: Sequence[int]) -> Tensor:
        offsets = np.cumsum([0, *counts[:-1]]).tolist()
        return torch.cat([getattr(item, name) + offset for item, offset in zip(items, offsets, strict=True)])

    clouds = np.cumsum([0, *(item.clouds for item in items[:-1])]).tolist()
    shift = [torch.tensor([offset, 0, 0, 0]) for offset in clouds]
    return Scenes(
        coords=torch.cat([item.coords + s for item, s in zip(items, shift, strict=True)]),
        feats=torch.cat([item.feats for item in items]),
        voxel=joined("voxel", [len(item.coords) for item in items]),
        grid=torch.cat([item.grid for item in items]),
        sweep=torch.cat([item.sweep for item in items]),
        frame=joined("frame", [item.frames for item in items]),
        view=joined("view", [len(item.sizes) for item in items]),
        uv=torch.cat([item.uv for item in items]),
        segment=torch.cat([item.segment for item in items]),
        maps=tuple(one for item in items for one in item.maps),
        images=tuple(one for item in items for one in item.images),
        sizes=tuple(one for item in items for one in item.sizes),
        clouds=sum(item.clouds for item in items),
        frames=sum(item.frames for item in items),
        faults=tuple(fault for item in items for fault in item.faults),
        lost=sum((item.lost for item in items), Counter()),
    )


def _resized(image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    return image if image.shape[:2] == size else np.asarray(cv2.resize(image, size[::-1]))


def _at_most(keys: Int64[np.ndarray, " m"], limit: int, rng: np.random.Generator) -> Int64[np.ndarray, " k"]:
    """Sorted rows such that no key has more than ``limit`` of them; which ones is drawn."""
    order = rng.permutation(len(keys))
    order = order[np.argsort(keys[order], kind="stable")]
    ranked = keys[order]
    start = np.searchsorted(ranked, ranked)
    return np.sort(order[np.arange(len(keys)) - start < limit])
