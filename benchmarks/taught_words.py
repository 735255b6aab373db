"""Words taught by pictures against the true words: ``python benchmarks/taught_words.py street`` or ``kitti``.

A class's words leave the text bank, synonyms with them. Five pictures of training scenes, each a whole camera image
with a mask (street) or a box (kitti), teach a new word, which takes their place in the label set. Both vocabularies
label scenes that gave no picture. IoU of the class at the points in view, by the teacher's pixels and by the network;
*ratio*: the taught word's IoU to the true one's; *absent*: share of the points of frames without the class that are
given to it. Mean and range over several draws of the pictures. The other classes' mIoU is over those present.

street: worlds 0-5 teach, those of --worlds are labelled (every fifth of 15 frames), with the models shipped.
kitti: SemanticKITTI with real CLIP; half of the sequences teach "vehicle", the others are labelled, and the other way
round. Teacher and words of config/train/ggsd_semantickitti.yaml, which says what it needs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import label as components

from ov3d_perception.datasets.semantickitti import SemanticKitti
from ov3d_perception.datasets.simulated import Simulated
from ov3d_perception.evaluation.metrics import Confusion
from ov3d_perception.evaluation.score import classify
from ov3d_perception.inference import Segmenter
from ov3d_perception.language.bank import TextBank
from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.pairs import fused_teacher, image_size, pair
from ov3d_perception.models import shipped_bank, shipped_checkpoint
from ov3d_perception.paths import cache_dir
from ov3d_perception.recipes.load import load_recipe
from ov3d_perception.recipes.specs import PairSpec, TeacherSpec
from ov3d_perception.street_clip.captions import street_words
from ov3d_perception.teach_tool import teach_from_pictures
from ov3d_perception.types import Frame

WORD = "taught thing"
STREET_CLASSES = ("car", "bus", "construction_vehicle", "traffic_cone", "barrier", "truck", "trailer", "pedestrian")
LIKE_VEHICLES = ("train", "minibike", "bicycle")
HALVES = (("00", "01", "02", "03"), ("05", "06", "09", "10"))


@dataclass
class Scene:
    """A frame's points in view, every n-th: truth, and features by teacher and network (None without one)."""

    sequence: str
    truth: np.ndarray
    by: dict[str, np.ndarray]


def scene(frame: Frame, pairs: PairSpec, teacher: ImageTeacher, segmenter: Segmenter | None, every: int) -> Scene:
    assert frame.labels is not None
    seen = pair(frame, pairs)
    rows = np.unique(seen.point)[::every]
    maps = [teacher.dense(view.image) for view in frame.views]
    fused = fused_teacher(maps, [image_size(view) for view in frame.views], seen, len(frame.labels)).numpy()
    by = {"teacher": fused[rows]}
    if segmenter is not None:
        scan = frame.sweeps[0].scan
        voxels = segmenter.features(scan.xyz, scan.intensity)
        by["3D network"] = voxels.features[voxels.point_to_voxel[rows]] @ segmenter.basis
    return Scene(frame.name.partition("/")[0], frame.labels[rows], by)


def score(scenes: Sequence[Scene], vocabulary: Vocabulary, name: str, by: str) -> tuple[float, float, float]:
    """IoU of the class, mIoU of the others, share of points given to it where it is not."""
    confusion, number = Confusion(vocabulary.names), vocabulary.names.index(name)
    absent = []
    for one in scenes:
        said = classify(torch.from_numpy(one.by[by]), vocabulary)[0]
        confusion.update(said, one.truth)
        if not (one.truth == number).any():
            absent.append(np.mean(said == number))
    iou = confusion.scores().iou
    others = [value for other, value in iou.items() if other != name and not np.isnan(value)]
    return iou[name], float(np.mean(others)), float(np.mean(absent)) if absent else float("nan")


def compare(
    scenes: Sequence[Scene],
    candidates: Sequence[str],
    masks: Path | None,
    name: str,
    dropped: Sequence[str],
    bank: TextBank,
    labels: LabelSet,
    spec: TeacherSpec,
    options: argparse.Namespace,
) -> Iterator[str]:
    """A line a way of looking: true word, then taught words over the draws."""
    kept = [row for row, word in enumerate(bank.words) if word not in dropped]
    without = TextBank([bank.words[row] for row in kept], bank.embeddings[kept], bank.identity, bank.logit_scale)
    true = Vocabulary.from_words(labels.prompts, bank)
    results: dict[str, list[tuple[float, float, float]]] = {by: [] for by in scenes[0].by}
    for draw in range(options.draws):
        chosen = np.random.default_rng(draw).permutation(len(candidates))[: options.pictures]
        files = [candidates[row] for row in chosen]
        taught = teach_from_pictures(without, WORD, files, spec, masks=masks, loudness=options.loudness).bank
        vocabulary = Vocabulary.from_words({**labels.prompts, name: [WORD]}, taught)
        for by, found in results.items():
            found.append(score(scenes, vocabulary, name, by))
    for by, found in results.items():
        (reference, others, away), values = score(scenes, true, name, by), np.array(found)
        ratio = values[:, 0] / reference if reference else np.full(len(values), np.nan)
        yield (
            f"| {name} | {by} | {reference:.3f} | {values[:, 0].mean():.3f} | **{ratio.mean():.2f}** "
            f"({ratio.min():.2f}-{ratio.max():.2f}) | {others:.3f} | {values[:, 1].mean():.3f} "
            f"| {away:.2%} | {values[:, 2].mean():.2%} |"
        )


def street(options: argparse.Namespace) -> Iterator[str]:
    spec, pairs = (
        TeacherSpec("models/street_clip", precision="float32"),
        PairSpec(max_depth=70, occlusion_radius=(4, 6)),
    )
    teacher = ImageTeacher(load_encoder(spec.model, device="cpu", precision="float32"), spec, cache_dir() / "teacher")
    segmenter = Segmenter.load(shipped_checkpoint(), device="cpu")
    unseen, training = (Simulated(seeds=seeds, frames=15, stride=5) for seeds in (options.worlds, "0-5"))
    scenes = [scene(unseen[row], pairs, teacher, segmenter, options.every) for row in range(0, len(unseen), 5)]
    bank, labels, words = TextBank.load(shipped_bank()), LabelSet.load("street"), street_words().classes
    with tempfile.TemporaryDirectory() as folder:
        shown = {name: things(training, labels.names.index(name), Path(folder) / name) for name in options.classes}
        for name, files in shown.items():
            if len(files) < options.pictures:
                yield f"| {name} | only {len(files)} pictures in the training worlds |"
                continue
            masks = Path(folder) / name / "masks"
            yield from compare(scenes, files, masks, name, words[name], bank, labels, spec, options)


def things(source: Simulated, number: int, folder: Path, smallest: int = 300) -> list[str]:
    """Camera images that show the class, each with a mask of its largest thing, at least so many pixels."""
    (folder / "masks").mkdir(parents=True)
    files = []
    for row in range(0, len(source), 5):
        shot = source.rendered(row)
        for camera, (view, truth) in enumerate(zip(shot.frame.views, shot.class_images, strict=True)):
            parts, count = components(truth == number)
            sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
            if not count or sizes.max() < smallest:
                continue
            stem = f"{row:03d}_{camera}"
            Image.fromarray(view.image).save(folder / f"{stem}.png")
            Image.fromarray((parts == sizes.argmax() + 1).astype(np.uint8) * 255).save(folder / "masks" / f"{stem}.png")
            files.append(str(folder / f"{stem}.png"))
    return files


def kitti(options: argparse.Namespace) -> Iterator[str]:
    recipe = load_recipe(Path("config/train/ggsd_semantickitti.yaml"))
    assert recipe.vocabulary is not None
    spec, pairs = recipe.teacher, replace(recipe.pairs, view_window=0)
    encoder = load_encoder(spec.model, spec.pretrained, device="cpu", precision=spec.precision)
    teacher = ImageTeacher(encoder, spec, cache_dir() / "teacher")
    segmenter = Segmenter.load(options.checkpoint, device="cpu") if options.checkpoint else None
    labels = LabelSet.load(recipe.vocabulary.labelset)
    source = SemanticKitti(os.environ["SEMANTICKITTI"], labelset="semantickitti_coarse9")
    tested = set(options.sequences or [name for half in HALVES for name in half])
    rows = [row for row in range(len(source)) if source[row].name.partition("/")[0] in tested]
    scenes = [scene(source[row], pairs, teacher, segmenter, options.every) for row in rows]
    bank = TextBank.load(Path(recipe.vocabulary.text))
    dropped = [*labels.prompts["vehicle"], *LIKE_VEHICLES]
    with tempfile.TemporaryDirectory() as folder:
        for taught_by, labelled in (HALVES, HALVES[::-1]):
            mine = [one for one in scenes if one.sequence in labelled]
            if not mine:
                continue
            files = vehicles(source, labels.names.index("vehicle"), taught_by, Path(folder), options.crop)
            for line in compare(mine, files, None, "vehicle", dropped, bank, labels, spec, options):
                yield f"{line} {len(files)} boxes of {' '.join(taught_by)}"


def vehicles(source: SemanticKitti, number: int, sequences: Sequence[str], folder: Path, crop: bool) -> list[str]:
    """Camera images with boxes around labelled instances of at least 40 x 40 pixels; with ``crop``, cut out of them."""
    files = []
    for row in range(len(source)):
        drive, position = source._index[row]
        if drive.name not in sequences:
            continue
        frame = source[row]
        assert frame.labels is not None
        raw, own = drive.labels(drive.frames[position]), frame.sweeps[0].scan.source_index
        instance, pairs = (raw if own is None else raw[own]) >> 16, pair(frame, PairSpec(max_depth=60))
        mine = np.where(frame.labels[pairs.point] == number, instance[pairs.point], 0)
        image = frame.views[0].image
        for one in np.unique(mine[mine > 0]):
            pixels = pairs.uv[mine == one]
            (left, top), (right, bottom) = pixels.min(0).astype(int), pixels.max(0).astype(int) + 1
            if len(pixels) < 60 or min(right - left, bottom - top) < 40:
                continue
            path = folder / f"{drive.name}_{position}_{one}.png"
            if crop:  # with an eighth of its size around it
                by, bx = (bottom - top) // 8, (right - left) // 8
                Image.fromarray(image[max(0, top - by) : bottom + by, max(0, left - bx) : right + bx]).save(path)
                files.append(str(path))
            else:
                Image.fromarray(image).save(path)
                files.append(f"{path}@{max(left, 0)},{max(top, 0)},{right},{bottom}")
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=["street", "kitti"])
    parser.add_argument("--classes", nargs="+", default=STREET_CLASSES, help="of the street")
    parser.add_argument("--worlds", default="1005-1009", help="of the street; 1000-1004 chose the loudness")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=5)
    parser.add_argument("--every", type=int, default=4, help="score every so many points")
    parser.add_argument("--loudness", type=float, default=0.0)
    parser.add_argument("--crop", action="store_true", help="kitti: crops without boxes, not whole images")
    parser.add_argument("--checkpoint", type=Path, help="kitti: a distilled network, not trained on --sequences")
    parser.add_argument("--sequences", nargs="+", help="kitti: label these only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| class | by | true word | taught | ratio | others, true | others, taught | absent, true | absent, taught |")
    print("|---|---|---|---|---|---|---|---|---|")
    for line in (street if options.data == "street" else kitti)(options):
        print(line, flush=True)


if __name__ == "__main__":
    main()
