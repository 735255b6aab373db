"""Label a file offline: what ``ov3d label`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ov3d_perception.api import Labels, Perception
from ov3d_perception.clouds.read import CloudFile, read_cloud
from ov3d_perception.clouds.write import FORMATS, write_cloud
from ov3d_perception.errors import PointCloudError
from ov3d_perception.files import replacing
from ov3d_perception.viz.palette import colourise


def label_file(
    perception: Perception,
    path: Path,
    out: Path,
    words: Sequence[str] | None = None,
    intensity_scale: float | None = None,
) -> Labels:
    """Label the cloud in ``path`` and write it to ``out``, every point in its order.

    out: ``.pcd`` or ``.ply`` (x y z, colour, label, probability; the names of the labels stand in the header) or
    ``.npy`` (one record a point: x y z label probability). An unlabelled point has label 65535.
    Raises as :func:`read_cloud` and :meth:`Perception.label`, and PointCloudError for another ending of ``out``.
    """
    if out.suffix.lower() not in (*FORMATS, ".npy"):
        raise PointCloudError(
            f"{out} has no ending that says what to write", f"End it with {', '.join(FORMATS)} or .npy"
        )
    cloud = read_cloud(path)
    labels = perception.label(cloud.points, words, intensity_scale)
    _write(out, cloud, labels)
    return labels


def describe(labels: Labels) -> str:
    """A line for each class that points have, most points first."""
    counts = {name: int(labels.of(name).sum()) for name in labels.names}
    lines = [f"{100 * n / max(len(labels), 1):5.1f} %  {name}" for name, n in counts.items() if n]
    unlabelled = len(labels) - sum(counts.values())
    lines.sort(reverse=True, key=lambda line: float(line.split()[0]))
    return "\n".join([*lines, *([f"{100 * unlabelled / len(labels):5.1f} %  unlabelled"] if unlabelled else [])])


def _write(out: Path, cloud: CloudFile, labels: Labels) -> None:
    columns = {"label": labels.label.astype(np.uint16), "probability": labels.probability}
    xyz = cloud.xyz + cloud.offset if cloud.offset.any() else cloud.xyz
    if out.suffix.lower() == ".npy":
        table = np.empty(len(xyz), [(n, xyz.dtype) for n in "xyz"] + [(n, c.dtype) for n, c in columns.items()])
        for name, values in {**dict(zip("xyz", xyz.T, strict=True)), **columns}.items():
            table[name] = values
        with replacing(out) as file:
            np.save(file, table)
        return
    names = tuple(f"label {number} {name}" for number, name in enumerate(labels.names))
    write_cloud(out, xyz, colourise(labels.label, labels.names), columns, names)
