"""A trained network that labels clouds in words: the segmenter, and the live model that has words and preparation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from ov3d_perception import stopwatch
from ov3d_perception.errors import Ov3dError
from ov3d_perception.geometry.sweeps import Merged, merge, recent
from ov3d_perception.language.text_classifier import TextClassifier
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.networks.checkpoint import load_checkpoint
from ov3d_perception.networks.checkpoint_info import CheckpointInfo
from ov3d_perception.networks.inputs import point_inputs
from ov3d_perception.networks.live import LiveNetwork
from ov3d_perception.networks.precision import choose
from ov3d_perception.networks.registry import Network
from ov3d_perception.sparse import SparseTensor, backends, quantize
from ov3d_perception.types import (
    UNLABELLED,
    EncoderIdentity,
    Preparation,
    Scan,
    Segmentation,
    Sweep,
    VoxelFeatures,
)


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """:class:`VoxelFeatures` on the network's device."""

    coords: Int64[Tensor, "v 3"]
    voxel_size: float
    features: Float32[Tensor, "v c"]
    point_to_voxel: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.coords)

    def of_points(self, count: int) -> NetworkOutput:
        """Only the first ``count`` points, and the voxels that hold one of them."""
        own = self.point_to_voxel[:count]
        hit = torch.zeros(len(self), dtype=torch.bool, device=own.device)
        hit[own] = True
        if bool(hit.all()):
            return replace(self, point_to_voxel=own)
        return NetworkOutput(self.coords[hit], self.voxel_size, self.features[hit], (hit.cumsum(0) - 1)[own])

    def cpu(self) -> VoxelFeatures:
        """In main memory."""
        coords, features, rows = (part.cpu().numpy() for part in (self.coords, self.features, self.point_to_voxel))
        return VoxelFeatures(coords.astype(np.int32), self.voxel_size, features, rows)


class Segmenter:
    """A network ready for live use: normalisation folded, on its device, in its precision.

    :meth:`load` makes one from a checkpoint.
    """

    def __init__(
        self,
        network: Network,
        info: CheckpointInfo,
        device: str = "auto",
        precision: str = "auto",
        backend: str = "auto",
    ) -> None:
        self.info = info
        self.device = _device(device)
        backends.check(backend, self.device)
        self.backend = backend
        self.precision = choose(precision, self.device, backend, info.largest_outputs)
        self.basis: Float32[np.ndarray, "c d"] = network.basis.detach().float().cpu().numpy().copy()
        self._network = LiveNetwork(network, self.device, *self.precision)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto", precision: str = "auto", backend: str = "auto") -> Segmenter:
        """From a checkpoint file. device: auto, cpu, cuda, cuda:1, ...; precision: auto, int8, bf16, fp32; backend:
        what convolves: auto, torch, minkowski, spconv.

        Raises CheckpointError for a file that cannot be used, Ov3dError for a device that is not there and for int8
        that cannot be had, BackendError for a backend that is not installed or cannot serve the device.
        """
        return cls(*load_checkpoint(path), device=device, precision=precision, backend=backend)

    @property
    def identity(self) -> EncoderIdentity:
        """The encoder whose words this network understands."""
        return self.info.identity

    def warm_up(self, points: int = 20000) -> None:
        """Runs once on a made-up cloud, so that the first real scan is as fast as the next."""
        generator = np.random.default_rng(0)
        xyz = generator.normal(size=(points, 3), scale=(20.0, 20.0, 1.0)).astype(np.float32)
        self.features(xyz, np.zeros(points, np.float32))

    def features(self, xyz: Float32[np.ndarray, "n 3"], intensity: Float32[np.ndarray, " n"]) -> VoxelFeatures:
        """:meth:`run`, with the features in main memory."""
        return self.run(xyz, intensity).cpu()

    @torch.inference_mode()
    def run(self, xyz: Float32[np.ndarray, "n 3"], intensity: Float32[np.ndarray, " n"]) -> NetworkOutput:
        """Features of each occupied voxel, finite for any finite points; an empty cloud gives no voxels.

        xyz: metres, in a frame with z up and the ground near the sensor's usual height; intensity in [0, 1].
        Raises PointCloudError for non-finite points.
        """
        with stopwatch.spent_on(stopwatch.NETWORK):
            return self._run(xyz, intensity)

    def _run(self, xyz: Float32[np.ndarray, "n 3"], intensity: Float32[np.ndarray, " n"]) -> NetworkOutput:
        size = self.info.voxel_size
        points = torch.from_numpy(np.ascontiguousarray(xyz, dtype=np.float32)).to(self.device)
        intensities = torch.from_numpy(np.ascontiguousarray(intensity, dtype=np.float32)).to(self.device)
        if len(points) == 0:
            none = torch.zeros(0, dtype=torch.int64, device=self.device)
            return NetworkOutput(none.new_zeros(0, 3), size, points.new_zeros(0, len(self.basis)), none)
        inputs = point_inputs(self.info.inputs, points, intensities, size)
        coords, mean, inverse = quantize(points, size, inputs)
        output = self._network(SparseTensor(mean.to(self.precision.dtype), coords, backend=self.backend)).feats
        return NetworkOutput(coords[:, 1:], size, torch.nan_to_num(output.float()), inverse)

    def __call__(self, scan: Scan, vocabulary: Vocabulary) -> Segmentation:
        """A label for each point of the scan. Raises IdentityError for a vocabulary of another encoder."""
        return LiveModel.of(self, vocabulary)([Sweep(scan, np.eye(4))])


@dataclass(frozen=True, eq=False)
class LiveModel:
    """All that decides a point's label: network, words, preparation of clouds. Immutable: replaced as a whole.

    min_probability: points whose best class is less probable stay UNLABELLED.
    """

    segmenter: Segmenter
    vocabulary: Vocabulary
    preparation: Preparation
    min_probability: float = 0.0
    _text: TextClassifier = field(repr=False, kw_only=True)

    @classmethod
    def of(
        cls,
        segmenter: Segmenter,
        vocabulary: Vocabulary,
        preparation: Preparation | None = None,
        min_probability: float = 0.0,
    ) -> LiveModel:
        """A model in these words; preparation: None takes the checkpoint's.

        Raises IdentityError if the vocabulary's embeddings are another encoder's.
        """
        vocabulary.require(segmenter.identity, "network's features")
        prompts = [vocabulary.embeddings, *([vocabulary.negatives] if len(vocabulary.negatives) else [])]
        text = TextClassifier(segmenter.basis, np.concatenate(prompts), segmenter.device)
        preparation = preparation or segmenter.info.preparation
        return cls(segmenter, vocabulary, preparation, min_probability, _text=text)

    def with_words(self, vocabulary: Vocabulary) -> LiveModel:
        """The same model in other words. Raises IdentityError as :meth:`of`."""
        return LiveModel.of(self.segmenter, vocabulary, self.preparation, self.min_probability)

    def merge(self, sweeps: Sequence[Sweep]) -> Merged:
        """The key sweep ``sweeps[0]`` with as many of its predecessors as the preparation says."""
        return merge(recent(sweeps, self.preparation.sweeps, self.preparation.max_sweep_age))

    def features(self, merged: Merged, points: int) -> NetworkOutput:
        """Features of the voxels that hold one of the first ``points`` points, those of the key sweep.

        The other voxels were labelled, and sent to the map, with the sweeps that they came from.
        """
        return self.segmenter.run(merged.xyz, merged.intensity).of_points(points)

    def label(self, voxels: NetworkOutput) -> Segmentation:
        """The label of each point, that of its voxel: class index in the vocabulary or UNLABELLED.

        Where the vocabulary has negatives, points that one of them fits best are UNLABELLED, with the probability that
        they are of the class after all.
        """
        words, rows = self.vocabulary, voxels.point_to_voxel
        found = self._text.classify(voxels.features, words.prompt_class, words.logit_scale)
        label, probability = (part[rows].cpu().numpy() for part in found)
        if self.min_probability > 0:
            label = np.where(probability >= self.min_probability, label, UNLABELLED).astype(np.int32)
        return Segmentation(label, probability)

    def __call__(self, sweeps: Sequence[Sweep]) -> Segmentation:
        """A label for each point of the key sweep ``sweeps[0]``; the sweeps are de-skewed already."""
        return self.label(self.features(self.merge(sweeps), len(sweeps[0].scan)))


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # what PyTorch raises for a device that it does not have
        raise Ov3dError(
            f"The network cannot run on device '{name}' ({error})",
            "Choose auto or cpu, or make the GPU available to PyTorch",
        ) from error
