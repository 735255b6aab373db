"""Pictures of one thing, and which patches of their dense features show it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image, ImageOps

from ov3d_perception.errors import ImageError

_BOX = re.compile(r"(?P<path>.+)@(?P<box>\d+,\d+,\d+,\d+)")
_INSIDE = 0.5  # share of a patch's area from which on it shows the thing
_FRAMED = 3  # patches a side, from which on a picture has a middle
_OPAQUE = 128
_ERASED = 2.0  # grey levels: transparent pixels that vary less hold no picture


@dataclass(frozen=True, eq=False)
class Picture:
    """An image and the pixels of it that show the thing.

    mask: None where all of them do. surroundings: whether what lies outside the mask is a picture of other things, and
    not erased by an editor. sha256: of the file, with the box or the mask's file where there is one.
    """

    name: str
    sha256: str
    image: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"] | None = None
    surroundings: bool = True


@dataclass(frozen=True, eq=False)
class Patches:
    """Unit-norm features of the patches inside a thing, and of those clear of it."""

    inside: Float32[np.ndarray, "n d"]
    outside: Float32[np.ndarray, "m d"]


def read_picture(source: str | Path, masks: Path | None = None) -> Picture:
    """An image file; the thing is inside its box, its mask or its alpha channel, the first of them that there is.

    source: a path, or ``path@left,top,right,bottom`` in pixels, right and bottom excluded. masks: a folder that holds a
    mask of the same name with the ending ``.png``, zero outside the thing. The image is turned as its EXIF data say.

    Raises ImageError for a file that is missing, empty, cut short or no image, for a mask of another size, and where
    nothing is left inside.
    """
    path, box = Path(source), None
    if not path.is_file() and (found := _BOX.fullmatch(str(source))):
        path, box = Path(found["path"]), tuple(int(edge) for edge in found["box"].split(","))
    data = _bytes(path)
    image, mask = _decode(path, data)
    surroundings, height, width = True, *image.shape[:2]
    digest = hashlib.sha256(data)
    if box is not None:
        left, top, right, bottom = box
        if not (left < right <= width and top < bottom <= height):
            raise ImageError(
                f"The box {left},{top},{right},{bottom} is not inside {path}, of {width} x {height} pixels",
                "Write left,top,right,bottom in pixels",
            )
        mask = np.zeros((height, width), bool)
        mask[top:bottom, left:right] = True
        digest.update(str(box).encode())
    elif masks is not None:
        mask, content = _read_mask(masks / f"{path.stem}.png", (height, width))
        digest.update(content)
    elif mask is not None and not mask.all():
        erased = image[~mask]
        surroundings = bool((erased.std(axis=0) > _ERASED).any())
        if not surroundings and mask.any():
            image = np.where(mask[..., None], image, image[mask].mean(axis=0).astype(np.uint8))
    if mask is not None and not mask.any():
        raise ImageError(f"The mask of {path} is empty", "Mark the thing in it, or leave the picture out")
    whole = mask is None or bool(mask.all())
    return Picture(path.name, digest.hexdigest(), np.ascontiguousarray(image), None if whole else mask, surroundings)


def patches_of(picture: Picture, dense: Float32[np.ndarray, "d gh gw"], framed: bool = False) -> Patches:
    """The patches at least half of which shows the thing, and those that neither show it nor touch one that does.

    A thing smaller than that has the patches that it covers best. framed: where nothing says which part of a picture
    shows the thing, its outermost patches (an eighth of a side, at least one) are its surroundings; else all of it is
    the thing. Raises ImageError where the thing is smaller than half a patch altogether.
    """
    features = np.ascontiguousarray(dense.reshape(len(dense), -1).T, np.float32)
    size = dense.shape[1:]
    if picture.mask is None:
        middle = np.ones(size, bool)
        if framed and min(size) >= _FRAMED:
            top, left = (max(1, round(side / 8)) for side in size)
            middle[:top] = middle[-top:] = middle[:, :left] = middle[:, -left:] = False
        return Patches(features[middle.ravel()], features[~middle.ravel()])
    cover = cv2.resize(picture.mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    if cover.sum() < _INSIDE:
        raise ImageError(
            f"What is marked in {picture.name} covers {cover.sum():.2f} of a patch of the encoder",
            "Give a picture in which it is larger, or a crop of this one",
        )
    inside = cover >= min(_INSIDE, 0.99 * float(cover.max()))
    clear = cv2.dilate(cover, np.ones((3, 3), np.uint8)) == 0
    outside = clear.ravel() if picture.surroundings else np.zeros(clear.size, bool)
    return Patches(features[inside.ravel()], features[outside])


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror})", "Check the path") from error
    if not data:
        raise ImageError(f"{path} is empty (0 bytes)", "Copy it again")
    return data


def _decode(path: Path, data: bytes) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"] | None]:
    """RGB pixels, and where they are opaque; None for an image without transparency."""
    try:
        image = ImageOps.exif_transpose(Image.open(BytesIO(data)))
        assert image is not None
        if "A" not in image.getbands() and "transparency" not in image.info:
            return np.array(image.convert("RGB")), None
        pixels = np.array(image.convert("RGBA"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path} does not decode ({error})", "Give a whole PNG or JPEG file") from error
    return pixels[..., :3], pixels[..., 3] >= _OPAQUE


def _read_mask(path: Path, size: tuple[int, int]) -> tuple[Bool[np.ndarray, "h w"], bytes]:
    data = _bytes(path)
    image, opaque = _decode(path, data)
    mask = image.any(axis=2)
    if mask.shape != size:
        raise ImageError(
            f"The mask {path} has {mask.shape[1]} x {mask.shape[0]} pixels, its image {size[1]} x {size[0]}",
            "Draw the mask over the image",
        )
    return mask if opaque is None else mask & opaque, data
