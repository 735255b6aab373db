"""Label clouds from Python, without ROS: ``ov3d_perception.load()`` and what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int32, Shaped

from ov3d_perception.bags import messages
from ov3d_perception.bags.pointcloud2 import decode
from ov3d_perception.errors import IdentityError, MapError, PointCloudError
from ov3d_perception.geometry.poses import transform
from ov3d_perception.inference import Segmenter
from ov3d_perception.language.text_classifier import TextClassifier
from ov3d_perception.language.vocabulary import TextSource, Vocabulary, load_text_source
from ov3d_perception.mapping.basis import Basis
from ov3d_perception.mapping.map_words import MapWords
from ov3d_perception.mapping.session import MapSession, MapSettings
from ov3d_perception.models import shipped_checkpoint
from ov3d_perception.networks.checkpoint_info import words_of_checkpoint
from ov3d_perception.types import UNLABELLED, Pose, Scan

UNNAMED = "unlabelled"
Words = Sequence[str] | Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Labels:
    """A class for each point of a cloud, in the cloud's order.

    label: row of ``names``; :data:`UNLABELLED` for a point that is not finite or lies at the origin. probability: of
    that class, 0 where unlabelled.
    """

    names: tuple[str, ...]
    label: Int32[np.ndarray, " n"]
    probability: Float32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.label)

    def of(self, name: str) -> np.ndarray:
        """Which points have the class ``name``: a mask. Raises ValueError for a name that was not asked for."""
        return self.label == self.names.index(name)

    def counts(self) -> dict[str, int]:
        """How many points have each class, and how many have none under :data:`UNNAMED`."""
        each = np.bincount(self.label[self.label != UNLABELLED], minlength=len(self.names))
        return {**dict(zip(self.names, each.tolist(), strict=True)), UNNAMED: len(self) - int(each.sum())}


class Perception:
    """A network and the words it can be asked in; made by :func:`load`. Calls are independent of each other."""

    def __init__(self, segmenter: Segmenter, text: TextSource) -> None:
        self.segmenter, self.text = segmenter, text

    @property
    def default_words(self) -> dict[str, tuple[str, ...]]:
        """The classes that the checkpoint was made for, each with its prompts."""
        return {name: tuple(prompts) for name, prompts in self.segmenter.info.vocabulary.items()}

    def label(
        self,
        points: Shaped[np.ndarray, "n c"],
        words: Words | None = None,
        intensity_scale: float | None = None,
    ) -> Labels:
        """A class for each point.

        points: (n, 3) or (n, 4) in the sensor's frame (z up, metres), the fourth column being the intensity.
        words: classes by name, or a mapping from class to prompts; None takes the checkpoint's. Up to four
        classes compete with the checkpoint's own, too; points that these fit better have no label.
        intensity_scale: factor that brings the intensity to [0, 1]; None estimates it from the values.
        Raises UnknownWordError for a word that the text bank lacks, PointCloudError for points of another shape or
        without a finite one.
        """
        classes = self.default_words if words is None else words
        vocabulary = Vocabulary.from_words(classes, self.text, self.default_words)
        scan = scan_of(points, intensity_scale or self.segmenter.info.preparation.intensity_scale or None)
        found = self.segmenter(scan, vocabulary)
        label = np.full(len(points), UNLABELLED, np.int32)
        probability = np.zeros(len(points), np.float32)
        rows = slice(None) if scan.source_index is None else scan.source_index
        label[rows], probability[rows] = found.label, found.probability
        return Labels(vocabulary.names, label, probability)

    def similarity(
        self,
        points: Shaped[np.ndarray, "n c"],
        words: str | Sequence[str],
        intensity_scale: float | None = None,
    ) -> Float32[np.ndarray, "*shape"]:
        """Cosine of each point's feature with the word's text embedding: (n,) for one word, (n, words) for several.

        NaN for a point that is not finite or lies at the origin. Arguments and errors as for :meth:`label`.
        """
        asked = [words] if isinstance(words, str) else list(words)
        scan = scan_of(points, intensity_scale or self.segmenter.info.preparation.intensity_scale or None)
        voxels = self.segmenter.run(scan.xyz, scan.intensity)
        text = TextClassifier(self.segmenter.basis, self.text.embed(asked), self.segmenter.device)
        cosines = text.cosines(voxels.features)[voxels.point_to_voxel]
        found = np.full((len(points), len(asked)), np.nan, np.float32)
        rows = slice(None) if scan.source_index is None else scan.source_index
        found[rows] = cosines.cpu().numpy()
        return found[:, 0] if isinstance(words, str) else found

    def start_map(self, settings: MapSettings | None = None) -> MapSession:
        """An empty map of this network's features, to be asked in this model's words; :meth:`integrate` fills it."""
        session = MapSession(settings, MapWords.of(self.text, self.default_words))
        session.basis = Basis(self.segmenter.basis, self.segmenter.identity, self.segmenter.info.logit_scale)
        return session

    def integrate(
        self,
        session: MapSession,
        points: Shaped[np.ndarray, "n c"],
        T_map_lidar: Pose,
        stamp: int,
        intensity_scale: float | None = None,
    ) -> None:
        """Add a scan to a map of :meth:`start_map`, and forget what the scan looks through.

        points, intensity_scale: as for :meth:`label`; T_map_lidar: (4, 4), from the sensor's frame to the map's; stamp:
        ns. Raises PointCloudError; MapError, also for a pose that is not finite.
        """
        assert session.basis is not None
        if not np.isfinite(T_map_lidar).all():
            raise MapError("The scan's pose is not finite", "Leave out scans without a pose")
        scan = scan_of(points, intensity_scale or self.segmenter.info.preparation.intensity_scale or None)
        voxels = self.segmenter.features(scan.xyz, scan.intensity)
        centres, sensor = transform(T_map_lidar, voxels.centres), np.asarray(T_map_lidar, np.float64)[:3, 3]
        session.integrate(session.basis.basis_id, voxels.voxel_size, centres, voxels.features, stamp, sensor)


def load(
    checkpoint: str | Path | None = None, text: str | None = None, device: str = "auto", precision: str = "auto"
) -> Perception:
    """Load a network and its words.

    checkpoint: a ``.safetensors`` file of ``ov3d train``; None takes the one shipped. text: a text bank (``.npz``), or
    an open_clip model with a text tower as "model,pretrained"; None takes the checkpoint's own words.
    device: auto, cpu, cuda, cuda:1, ...; precision: auto, int8, bf16, fp32.
    Raises CheckpointError, EncoderError, IdentityError where the words are another encoder's than the network's.
    """
    checkpoint = checkpoint or shipped_checkpoint()
    segmenter = Segmenter.load(checkpoint, device, precision)
    source = load_text_source(text) if text else words_of_checkpoint(segmenter.info, checkpoint)
    if not source.identity.compatible(segmenter.identity):
        raise IdentityError(
            f"The words of {text} belong to {source.identity}, the network to {segmenter.identity}",
            "Give a text bank or text tower of the network's encoder: text=",
        )
    return Perception(segmenter, source)


def scan_of(points: Float[np.ndarray, "n c"], intensity_scale: float | None = None) -> Scan:
    """An array as the node sees a cloud: invalid points dropped, intensity brought to [0, 1]."""
    values = np.asarray(points)
    if values.ndim != 2 or values.shape[1] not in (3, 4):
        raise PointCloudError(f"The points have the shape {values.shape}", "Give (n, 3) or (n, 4): x y z intensity")
    names = ("x", "y", "z", "intensity")[: values.shape[1]]
    columns = {name: values[:, axis].astype(np.float32) for axis, name in enumerate(names)}
    return decode(messages.point_cloud(columns, 0, "lidar"), intensity_scale=intensity_scale)
