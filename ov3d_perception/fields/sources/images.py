"""What all readers of posed images share."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Int32, UInt8

from ov3d_perception.datasets.images import read_image
from ov3d_perception.errors import DatasetError
from ov3d_perception.types import UNLABELLED, Camera, View

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def image_files(folder: Path) -> list[Path]:
    """The images of a folder by name. Raises DatasetError where there is none."""
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in _SUFFIXES) if folder.is_dir() else []
    if not found:
        raise DatasetError(f"{folder} holds no images", f"Put the images there, as {', '.join(_SUFFIXES)}")
    return found


def undistorted(view: View) -> View:
    """The view as a pinhole camera without distortion saw it, of the same size and intrinsics."""
    camera = view.camera
    if camera.model == "fisheye":
        coefficients = camera.distortion if len(camera.distortion) else np.zeros(4)
        image = cv2.fisheye.undistortImage(view.image, camera.K, coefficients, Knew=camera.K)
    elif not np.any(camera.distortion):
        return view
    else:
        image = cv2.undistort(view.image, camera.K, camera.distortion)
    plain = Camera(camera.name, camera.width, camera.height, camera.K)
    return View(plain, view.T_world_camera, np.ascontiguousarray(image), view.stamp)


def read_masks(
    folder: Path, names: list[str], shape: tuple[int, int]
) -> tuple[tuple[str, ...], dict[int, Int32[np.ndarray, "h w"]]]:
    """Classes and masks of ``segmentations/``: ``classes.txt``, and for each test view a folder, called by its number
    or its image's name, with ``<class>.png`` for each class. Nothing where there is no such folder.

    A pixel in several masks, or in none, has no class. Raises DatasetError that names all missing files.
    """
    root = folder / "segmentations"
    listed = root / "classes.txt"
    if not listed.is_file():
        return (), {}
    classes = tuple(sorted(line.strip() for line in listed.read_text("utf-8").splitlines() if line.strip()))
    found, missing = {}, []
    for entry in sorted(p for p in root.iterdir() if p.is_dir()):
        number = names.index(entry.name) if entry.name in names else int(entry.name) if entry.name.isdigit() else -1
        if not 0 <= number < len(names):
            missing.append(f"an image for the masks in {entry.name}/")
            continue
        files = [entry / f"{name}.png" for name in classes]
        absent = [str(file.relative_to(root)) for file in files if not file.is_file()]
        missing += absent
        if not absent:
            stack = np.stack([_mask(file, shape) for file in files])
            found[number] = np.where(stack.sum(0) == 1, stack.argmax(0), UNLABELLED).astype(np.int32)
    if missing:
        raise DatasetError(
            f"{root} lacks {', '.join(missing[:8])}" + (f" and {len(missing) - 8} more" if len(missing) > 8 else ""),
            "Add a mask, black where the class is not seen, or take the class out of classes.txt",
        )
    return classes, found


def read_json(path: Path) -> dict[str, object]:
    """A JSON object. Raises DatasetError."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read ({error})", "Write it again") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path} is no JSON object", "Write it again")
    return content


def _mask(path: Path, shape: tuple[int, int]) -> UInt8[np.ndarray, "h w"]:
    image = read_image(path).max(2) > 127
    if image.shape != shape:
        return cv2.resize(image.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST)
    return image.astype(np.uint8)
