"""Pictures of a field."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from ov3d_perception.errors import CheckpointError
from ov3d_perception.fields.field_file import FieldFile
from ov3d_perception.fields.language_branch import render
from ov3d_perception.fields.reconstruct import draw
from ov3d_perception.fields.scene import Scene
from ov3d_perception.files import replacing
from ov3d_perception.language.text import load_text_source
from ov3d_perception.methods import ovs3d
from ov3d_perception.types import View
from ov3d_perception.viz.canvas import legend, present
from ov3d_perception.viz.palette import colourise, colours


def draw_views(
    content: FieldFile, scene: Scene, folder: Path, words: Sequence[str] = (), text: str = "", every: int = 4
) -> int:
    """A picture for each ``every``-th view: photograph, rendering, depth, then classes and words where it knows them.

    Raises CheckpointError for words that are asked of a field without any; UnknownWordError.
    """
    if words and content.branch is None:
        raise CheckpointError("This field knows no words yet", "Train it to the end: ov3d field train --resume")
    asked = torch.from_numpy(_embedded(content, list(words), text)) if words else None
    small = scene.downsampled(content.recipe["images"]["downsample"])
    numbers = range(0, len(small.views), every)
    for number in numbers:
        picture = picture_of(content, small.views[number], asked)
        image = Image.fromarray(picture)
        if content.branch is not None:
            every_class = np.arange(len(content.words))
            legend(image, present(every_class, content.words, colours(content.words)), 9, corner="left")
        with replacing(folder / f"{small.names[number]}.png") as file:
            image.save(file, "png")
    return len(numbers)


@torch.no_grad()
def picture_of(content: FieldFile, view: View, asked: torch.Tensor | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Panels side by side. asked: embeddings of words, one more panel each."""
    shape = view.image.shape
    rays = content.space.rays(view.camera, view.T_world_camera)
    if content.branch is None or content.text is None:
        shades, depth = draw(content.field, rays, content.background)
        return np.concatenate([view.image, _bytes(shades.numpy()).reshape(shape), _grey(depth.numpy(), shape)], 1)
    seen = render(content.field, content.branch, rays, content.background)
    embedded = seen.narrow @ content.branch.basis
    panels = [view.image, _bytes(seen.colour.numpy()).reshape(shape), _grey(seen.depth.numpy(), shape)]
    label = ovs3d.logits(embedded, content.text).argmax(1).int().numpy()
    panels.append(_over(view.image, colourise(label, content.words).reshape(shape)))
    for value in () if asked is None else ovs3d.logits(embedded, asked).T.numpy():
        panels.append(_over(view.image, _grey(value, shape)))
    return np.concatenate(panels, 1)


def _embedded(content: FieldFile, words: list[str], text: str) -> np.ndarray:
    if text:
        return load_text_source(text).embed(words)
    assert content.text is not None and content.identity is not None
    from ov3d_perception.language.bank import TextBank

    return TextBank(list(content.words), content.text.numpy(), content.identity, content.logit_scale).embed(words)


def _bytes(values: np.ndarray) -> np.ndarray:
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def _grey(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    low, high = np.percentile(values, [1, 99])
    return np.repeat(_bytes((values - low) / max(high - low, 1e-6)).reshape(*shape[:2], 1), 3, 2)


def _over(image: np.ndarray, painted: np.ndarray) -> np.ndarray:
    return (0.35 * image + 0.65 * painted).astype(np.uint8)
