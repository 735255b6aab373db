"""Label a file or a bag offline: what ``ov3d label`` does."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ov3d_perception.api import UNNAMED, Labels, Perception
from ov3d_perception.bags import messages
from ov3d_perception.bags.pointcloud2 import labelled_columns
from ov3d_perception.bags.reader import open_bag
from ov3d_perception.bags.typestore import typestore
from ov3d_perception.bags.writer import whole_bag
from ov3d_perception.clouds.read import CloudFile, read_cloud
from ov3d_perception.clouds.write import FORMATS, write_cloud
from ov3d_perception.datasets.bag_scans import scans_of_bag
from ov3d_perception.errors import BagError, Ov3dError, PointCloudError
from ov3d_perception.files import replacing, require_other
from ov3d_perception.inference import LiveModel
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.sources import as_prepared
from ov3d_perception.recipes.specs import SourceSpec
from ov3d_perception.viz.palette import colourise

LABELLED, LABEL_INFO = "/lidar_node/output/points", "/lidar_node/output/label_info"
"""Topics of a labelled bag: those of lidar_node."""
_TF = "tf2_msgs/msg/TFMessage"
_LABEL_INFO = "vision_msgs/msg/LabelInfo"
_log = logging.getLogger(__name__)


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
    Raises as :func:`read_cloud` and :meth:`Perception.label`, PointCloudError for another ending of ``out``, and
    WriteError where that is the cloud itself.
    """
    if not _names_a_cloud(out):
        raise PointCloudError(
            f"{out} has no ending that says what to write", f"End it with {', '.join(FORMATS)} or .npy"
        )
    require_other(out, path, "the cloud")
    cloud = read_cloud(path)
    if cloud.intensity is None or not cloud.intensity.any():
        _log.warning("%s has no intensity, zeros are used: labels are worse than with the LiDAR's", path)
    labels = perception.label(cloud.points, words, intensity_scale)
    _write(out, cloud, labels)
    return labels


def label_bag(
    perception: Perception,
    path: Path,
    out: Path,
    words: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Counter[str]:
    """Label every scan of the bag ``path`` as lidar_node does, and write a bag ``out`` of labelled clouds and TF.

    options: of :class:`~ov3d_perception.datasets.bag.Bag`. A bag that does not tell how the LiDAR moved is labelled
    scan by scan, without de-skewing. A scan that cannot be read is left out, with a warning.
    Returns how many points have each class. Raises BagError, also where ``out`` is named as a file of one cloud;
    DatasetError, UnknownWordError.
    """
    if _names_a_cloud(out):
        raise BagError(f"{path} is a bag of many clouds, and {out} the name of one cloud's file", "Name a folder")
    asked = perception.default_words if words is None else words
    vocabulary = Vocabulary.from_words(asked, perception.text, perception.default_words)
    named = SourceSpec("bag", str(path), dict(options or {}))
    prepared = as_prepared(named, perception.segmenter.info.preparation)
    source = scans_of_bag(path, prepared.options, "fixed_frame" in named.options)
    model = LiveModel.of(perception.segmenter, vocabulary)
    counts: Counter[str] = Counter()
    with whole_bag(out) as bag:
        first = True
        with open_bag(path) as recorded:
            for message in recorded.messages(topics) if (topics := recorded.topics_of(_TF)) else ():
                bag.write_raw(message.topic, message.msgtype, message.data, message.stamp)
        for number in tqdm(range(len(source)), desc="scans", unit="scan"):
            try:
                frame = source[number]
            except Ov3dError as error:
                _log.warning("Scan %d left out: %s", number, error)
                continue
            scan, found = frame.sweeps[0].scan, model(frame.sweeps)
            if first and _LABEL_INFO in typestore().fielddefs:
                bag.write(LABEL_INFO, messages.label_info(vocabulary.names, scan.stamp), scan.stamp)
            columns = labelled_columns(scan, found, colourise(found.label, vocabulary.names), vocabulary.names)
            bag.write(LABELLED, messages.point_cloud(columns, scan.stamp, scan.frame_id), scan.stamp)
            counts.update(Labels(vocabulary.names, found.label, found.probability).counts())
            first = False
    return counts


def describe(counts: Mapping[str, int]) -> str:
    """A line for each class that points have, most points first; the unlabelled last."""
    total = max(sum(counts.values()), 1)
    ranked = sorted(counts.items(), key=lambda item: (item[0] == UNNAMED, -item[1]))
    return "\n".join(f"{100 * count / total:5.1f} %  {name}" for name, count in ranked if count)


def _names_a_cloud(out: Path) -> bool:
    return out.suffix.lower() in (*FORMATS, ".npy")


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
    write_cloud(out, xyz, colourise(labels.label, labels.names), columns, names, cloud.viewpoint)
