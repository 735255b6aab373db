"""The replay memory: a bounded, diverse set of a site's older frames, so that learning a new place forgets no old one.

Diverse means: by the k-center greedy rule (Gonzalez, 1985; coresets for active learning, Sener and Savarese, 2018,
algorithm 1), each frame that is kept is the one farthest from all kept before it, in the space of a descriptor.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ov3d_perception.datasets.kept import EXAM, Kept, describe, read_about, save_frame
from ov3d_perception.errors import Ov3dError
from ov3d_perception.inference import LiveModel
from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.lifting.sources import labelled_as
from ov3d_perception.types import UNLABELLED, Frame, Preparation

FOLDER = "replay"
_DESCRIPTOR = "descriptor"
_log = logging.getLogger(__name__)


def descriptor(model: LiveModel, frame: Frame) -> Float32[np.ndarray, " d"]:
    """What a frame is like: square roots of its classes' shares (Hellinger's distance), and its mean feature."""
    voxels = model.features(model.merge(frame.sweeps), len(frame.sweeps[0].scan))
    label = model.label(voxels).label
    shares = np.bincount(label[label != UNLABELLED], minlength=len(model.vocabulary.names)) / max(len(label), 1)
    mean = voxels.features.mean(0).cpu().numpy()
    return np.concatenate([np.sqrt(shares), mean / max(float(np.linalg.norm(mean)), 1e-12)]).astype(np.float32)


def k_center(points: Float32[np.ndarray, "n d"], count: int) -> list[int]:
    """Indices of ``count`` points, the first nearest to the mean, each other one farthest from those before it."""
    if count == 0 or len(points) <= count:
        return list(range(min(len(points), count)))
    chosen = [int(np.argmin(np.linalg.norm(points - points.mean(0), axis=1)))]
    nearest = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < count:
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return chosen


def remember(
    folder: Path,
    frames: Sequence[Frame],
    source: str,
    model: LiveModel,
    most: int,
    labelset: str | None,
    preparation: Preparation,
    exam: bool = False,
) -> int:
    """Add diverse frames of a source to the memory and forget what is most alike beyond ``most``; how many it holds.

    exam: frames that nothing was trained on, and for the gate alone. ``most`` is of these alone, or of the others.
    A frame's file is named by source and frame, so that the same source is not remembered twice. labelset: of the
    network's words; labels of other classes are not kept.
    Raises WriteError where the disk is full; the memory is whole then, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    describe(folder, labelset, preparation)
    known = labelset is None or labelled_as(frames, LabelSet.load(labelset).names)
    found: list[tuple[Float32[np.ndarray, " d"], Frame]] = []
    for index in np.linspace(0, len(frames) - 1, min(len(frames), 2 * most)).astype(int).tolist():
        try:
            frame = frames[index]
            if frame.views:
                frame = frame if known else replace(frame, labels=None)
                found.append((descriptor(model, frame), frame))
        except Ov3dError as error:
            _log.warning("Frame %d of %s is not remembered: %s", index, source, error)
    for number in k_center(np.array([one for one, _ in found]), max(1, most // 2)) if found else ():
        about, frame = found[number]
        name = hashlib.blake2b(f"{source}/{frame.name}".encode(), digest_size=8).hexdigest()
        save_frame(folder / f"{EXAM if exam else ''}{name}.npz", frame, {_DESCRIPTOR: about})
    return _forget(Kept(folder, "exam" if exam else "train").paths, most)


def _forget(files: Sequence[Path], most: int) -> int:
    """Remove what is most alike."""
    paths, known = [], []
    for path in files:
        try:
            known.append(read_about(path, _DESCRIPTOR))
            paths.append(path)
        except Ov3dError:
            path.unlink()
    width = max((len(one) for one in known), default=0)
    same = [number for number, one in enumerate(known) if len(one) == width]
    kept = (
        {paths[same[number]] for number in k_center(np.array([known[number] for number in same]), most)}
        if same
        else set()
    )
    for path in paths:
        if path not in kept:
            path.unlink()
    return len(kept)
