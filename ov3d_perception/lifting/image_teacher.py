"""The image teacher: an encoder's dense features, computed once an image and kept on disk in half precision.

Stored are the low-resolution maps (D x gh x gw), not a vector for each point: a 1241 x 376 image of CLIP ViT-B/16 at
480 x 1600 takes 3 MB, while 20,000 points with 512 features would take 20 MB for every scan that sees it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float16, UInt8
from torch import Tensor

from ov3d_perception import stopwatch
from ov3d_perception.errors import DatasetError
from ov3d_perception.files import replacing
from ov3d_perception.recipes.specs import TeacherSpec
from ov3d_perception.types import EncoderIdentity

log = logging.getLogger(__name__)


class DenseEncoder(Protocol):
    """What the teacher needs of ``language.encoder.Encoder``."""

    @property
    def identity(self) -> EncoderIdentity:
        """Which model it is."""

    def dense(self, images: list[Any], size: tuple[int, int] | None = None) -> Tensor:
        """RGB images, (h, w, 3) arrays or (3, h, w) tensors, to (B, D, gh, gw) float32 features of unit norm."""

    def dense_size(self, image_size: tuple[int, int], size: tuple[int, int] | None = None) -> tuple[int, int]:
        """(height, width) at which :meth:`dense` sees images of ``image_size``."""

    @property
    def dense_key(self) -> str:
        """Everything but the model that :meth:`dense` depends on: its settings and the precision it computes in."""

    def see(self, **changes: Any) -> DenseEncoder:
        """The same encoder with some of its dense settings changed."""


class ImageTeacher:
    """Dense features of images, from the cache where they are there.

    Args:
        encoder: the image encoder.
        spec: size, scales or passes, flip, budget.
        folder: of the cache; maps of different encoders or settings never share a file.
    """

    def __init__(self, encoder: DenseEncoder, spec: TeacherSpec, folder: Path) -> None:
        self.encoder = encoder
        self.identity = encoder.identity
        self.spec = spec
        if spec.key_smoothing > 0:
            self.encoder = encoder.see(key_smoothing=spec.key_smoothing)
        self._looks = [
            encoder.see(way=one.way, window=one.window, stride=one.stride, scales=(1.0,)) for one in spec.passes
        ]
        keys = "|".join(look.dense_key for look in self._looks or [self.encoder])
        heights = "|".join(str(one.height) for one in spec.passes)
        settings = f"{encoder.identity}|{keys}|{heights}|{spec.size}|{spec.scales}|{spec.flip}"
        self.folder = folder / hashlib.blake2b(settings.encode(), digest_size=8).hexdigest()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._bytes = sum(path.stat().st_size for path in self.folder.glob("*.npy"))

    def store(self, image: UInt8[np.ndarray, "h w 3"]) -> str:
        """Make sure that the image's map is in :attr:`folder`; returns its file name, a hash of the pixels.

        Raises DatasetError where the features exceed their budget.
        """
        name = map_name(image)
        if not (self.folder / name).exists():
            self._write(self.folder / name, self.encode(image).numpy().astype(np.float16))
        return name

    def dense(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "d gh gw"]:
        """The image's features, float32 of unit norm up to the half precision of the cache."""
        return load_map(self.folder / self.store(image))

    @torch.no_grad()
    def encode(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "d gh gw"]:
        """The features without the cache: the mean over passes or scales and mirroring, on the grid of the main one."""
        with stopwatch.spent_on(stopwatch.TEACHER):
            return self._encode(image)

    def _encode(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "d gh gw"]:
        versions = (image, np.ascontiguousarray(image[:, ::-1])) if self.spec.flip else (image,)
        total: Tensor | None = None
        for encoder, size in self._views(image.shape[:2]):
            for mirrored, pixels in enumerate(versions):
                dense = encoder.dense([pixels], size).float().cpu()
                total = _added(total, dense.flip(-1) if mirrored else dense)
        if total is None:
            raise DatasetError("The teacher has no scale to encode at", "Give teacher.scales at least one number")
        return F.normalize(total, dim=1)[0]

    def encode_now(self, images: Sequence[UInt8[Tensor, "3 _ _"]]) -> Float[Tensor, "b d gh gw"]:
        """Images of one size, as they are, without scales, mirror images and cache; on the encoder's device."""
        if not self._looks:
            return self.encoder.dense(list(images), self.spec.size)
        total: Tensor | None = None
        for encoder, size in self._views((images[0].shape[1], images[0].shape[2])):
            total = _added(total, encoder.dense(list(images), size))
        assert total is not None
        return F.normalize(total, dim=1)

    def _views(self, image_size: tuple[int, int]) -> list[tuple[DenseEncoder, tuple[int, int]]]:
        """Encoders and the sizes at which they see an image; the first has the grid that the others are brought to."""
        if not self._looks:
            height, width = self.encoder.dense_size(image_size, self.spec.size)
            scales = sorted(self.spec.scales, key=lambda s: abs(s - 1))
            return [(self.encoder, (round(height * scale), round(width * scale))) for scale in scales]
        found = []
        for look, one in zip(self._looks, self.spec.passes, strict=True):
            height = one.height or image_size[0]
            found.append((look, look.dense_size(image_size, (height, round(image_size[1] * height / image_size[0])))))
        return sorted(found, key=lambda view: -view[1][0])

    def check_budget(self, images: int, example: UInt8[np.ndarray, "h w 3"]) -> None:
        """Say how much disk ``images`` such images take; raise DatasetError if that is beyond the budget."""
        each = (self.folder / self.store(example)).stat().st_size
        need, budget = images * each / 1e9, self.spec.cache_gb
        log.info("Teacher features: %d images x %.1f MB = %.2f GB (budget %.1f GB)", images, each / 1e6, need, budget)
        if need > budget:
            raise self._over_budget(need)

    def _write(self, path: Path, dense: Float16[np.ndarray, "d gh gw"]) -> None:
        if self._bytes + dense.nbytes > self.spec.cache_gb * 1e9:
            raise self._over_budget((self._bytes + dense.nbytes) / 1e9)
        with replacing(path, durable=False) as file:
            np.save(file, dense)
        self._bytes += dense.nbytes

    def _over_budget(self, need: float) -> DatasetError:
        return DatasetError(
            f"The teacher's features need {need:.2f} GB in {self.folder}; teacher.cache_gb is {self.spec.cache_gb}",
            "Raise teacher.cache_gb, lower teacher.size, or empty the folder",
        )


def _added(total: Float[Tensor, "b d gh gw"] | None, dense: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d gh gw"]:
    """The sum of unit-norm features, on the grid of the first ones."""
    if total is None:
        total = torch.zeros_like(dense)
    if dense.shape != total.shape:
        dense = F.interpolate(dense, total.shape[2:], mode="bilinear", align_corners=False, antialias=True)
    return total.add_(F.normalize(dense, dim=1))


def map_name(image: UInt8[np.ndarray, "h w 3"]) -> str:
    """File name of an image's map: the hash of its pixels and shape."""
    key = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16)
    key.update(str(image.shape).encode())
    return f"{key.hexdigest()}.npy"


def load_map(path: Path) -> Float[Tensor, "d gh gw"]:
    """A stored map as float32. Raises DatasetError where the file is gone."""
    return read_map(path).float()


def read_map(path: Path) -> Float[Tensor, "d gh gw"]:
    """A stored map in half precision, as it lies on the disk. Raises DatasetError where the file is gone."""
    try:
        return torch.from_numpy(np.load(path))
    except FileNotFoundError as error:
        raise DatasetError(f"The teacher's features {path} are gone", "Resume the run: it makes them anew") from error
