"""How good a field is: its pictures against photographs, its words against masks of views that it has not seen."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32
from PIL import Image
from sklearn.metrics import average_precision_score
from torch import Tensor

from ov3d_perception.errors import CheckpointError, DatasetError
from ov3d_perception.evaluation.metrics import Confusion
from ov3d_perception.fields.field_file import FieldFile, settings_from
from ov3d_perception.fields.language_branch import render
from ov3d_perception.fields.reconstruct import psnr
from ov3d_perception.fields.scene import Scene
from ov3d_perception.fields.teachers import TeacherSettings, pyramid_of
from ov3d_perception.files import replacing, write_text
from ov3d_perception.language.encoder import Encoder
from ov3d_perception.methods import ovs3d
from ov3d_perception.types import UNLABELLED, View
from ov3d_perception.viz.palette import colourise


@dataclass(frozen=True)
class FieldResult:
    """Over the test views. miou, accuracy, iou: of all their pixels; mean_ap: mean over classes of the average
    precision of a class's probability; teacher_miou: of the teacher alone, view by view, nan where it was not asked."""

    scene: str
    views: int
    psnr: float
    miou: float
    accuracy: float
    mean_ap: float
    iou: dict[str, float]
    teacher_miou: float = float("nan")
    ap: dict[str, float] = field(default_factory=dict)

    def to_markdown(self) -> str:
        """A table of classes, and the means."""
        rows = [f"| {name} | {self.iou[name]:.3f} | {self.ap.get(name, float('nan')):.3f} |" for name in self.iou]
        means = (
            f"{self.scene}, {self.views} test views: PSNR {self.psnr:.1f} dB, mIoU {self.miou:.3f}, accuracy "
            f"{self.accuracy:.3f}, mAP {self.mean_ap:.3f}; the teacher's mIoU, view by view: {self.teacher_miou:.3f}"
        )
        return "\n".join(["| class | IoU | AP |", "|---|---|---|", *rows, "", means])

    def write(self, folder: Path) -> None:
        """``evaluation.json`` and ``evaluation.md``. Raises WriteError."""
        write_text(folder / "evaluation.json", json.dumps(self.__dict__, indent=1))
        write_text(folder / "evaluation.md", self.to_markdown())


def evaluate(
    content: FieldFile, scene: Scene, encoder: Encoder | None = None, pictures: Path | None = None
) -> FieldResult:
    """scene: at full size, with masks; drawn at the size that the field was trained at. encoder: scores the teacher
    too. pictures: a folder for photograph, rendering, truth, field and teacher side by side.

    Raises DatasetError without masks, or for masks of other classes; CheckpointError for a field without words.
    """
    words, text = content.words, content.text
    if content.branch is None or text is None:
        raise CheckpointError("This field knows no words yet", "Train it to the end: ov3d field train --resume")
    if not scene.masks:
        raise DatasetError(
            f"{scene.name} has no masks to compare with",
            "Add segmentations/<view>/<class>.png and segmentations/classes.txt, or look: ov3d field render",
        )
    if sorted(scene.classes) != sorted(words):
        raise DatasetError(f"The masks are of {sorted(scene.classes)}, the field of {sorted(words)}", "Train on those")
    order = np.array([words.index(name) for name in scene.classes])
    small = scene.downsampled(content.recipe["images"]["downsample"])
    ours, theirs = Confusion(words), Confusion(words)
    values, truths, shades = [], [], []
    for number in sorted(scene.masks):
        view, mask = small.views[number], small.masks[number]
        truth = np.where(mask == UNLABELLED, UNLABELLED, order[np.minimum(mask, len(order) - 1)]).astype(np.int32)
        label, probability, colours = look_at(content, view)
        ours.update(label.ravel(), truth.ravel())
        shades.append(psnr(colours, view.image))
        known = truth.ravel() != UNLABELLED
        values.append(probability[known])
        truths.append(truth.ravel()[known])
        taught = None
        if encoder is not None:
            taught = teacher_labels(content, scene.views[number], encoder, mask.shape)
            theirs.update(taught.ravel(), truth.ravel())
        if pictures is not None:
            _draw(pictures / f"{scene.names[number]}.png", view, colours, [truth, label, taught], words)
    scores = ours.scores()
    ap = _average_precision(np.concatenate(values), np.concatenate(truths), words)
    return FieldResult(
        scene.name,
        len(scene.masks),
        float(np.mean(shades)),
        scores.miou,
        scores.accuracy,
        float(np.mean(list(ap.values()))),
        scores.iou,
        theirs.scores().miou if encoder is not None else float("nan"),
        ap,
    )


@torch.no_grad()
def look_at(
    content: FieldFile, view: View
) -> tuple[Int32[np.ndarray, "h w"], Float32[np.ndarray, "n c"], Float[Tensor, "n 3"]]:
    """A view's classes (equation 4), the probability of each class (with the encoder's scale), and its colours."""
    assert content.branch is not None and content.text is not None
    rays = content.space.rays(view.camera, view.T_world_camera).to(content.field.box.device)
    seen = render(content.field, content.branch, rays, content.background)
    z = ovs3d.logits(seen.narrow @ content.branch.basis, content.text.to(seen.narrow.device)).cpu()
    label = z.argmax(1).int().numpy().reshape(view.camera.height, view.camera.width)
    return label, torch.softmax(content.logit_scale * z, 1).numpy(), seen.colour.cpu()


def teacher_labels(
    content: FieldFile, view: View, encoder: Encoder, shape: tuple[int, int]
) -> Int32[np.ndarray, "h w"]:
    """The classes that the teacher's features have in a view, the mean over the scales."""
    assert content.text is not None
    settings = settings_from(TeacherSettings, content.recipe["teacher"])
    mean = pyramid_of(view.image, encoder, settings, 0).mean(0)
    label = ovs3d.logits(mean, content.text).argmax(-1).int().numpy()
    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(shape, label.shape, strict=True))
    return np.ascontiguousarray(label[rows[:, None], columns])


def _average_precision(
    probability: Float32[np.ndarray, "n c"], truth: Int32[np.ndarray, " n"], words: tuple[str, ...]
) -> dict[str, float]:
    there = [number for number in range(len(words)) if (truth == number).any()]
    return {words[n]: float(average_precision_score(truth == n, probability[:, n])) for n in there}


def _draw(path: Path, view: View, colours: Tensor, labels: list[np.ndarray | None], words: tuple[str, ...]) -> None:
    shape = view.image.shape
    rendered = (colours.numpy().reshape(shape) * 255 + 0.5).astype(np.uint8)
    panels = [view.image, rendered]
    for label in labels:
        if label is not None:
            painted = colourise(label.ravel().astype(np.int32), words).reshape(shape)
            panels.append((0.35 * view.image + 0.65 * painted).astype(np.uint8))
    with replacing(path) as file:
        Image.fromarray(np.concatenate(panels, 1)).save(file, "png")
