"""Calibrate a network for int8 by unlabelled scans: what ``ov3d checkpoint calibrate`` does, and a training at its
end."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ov3d_perception.errors import DatasetError, Ov3dError
from ov3d_perception.geometry.sweeps import Merged
from ov3d_perception.inference import LiveModel, Segmenter
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.networks.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint, stored_type
from ov3d_perception.networks.checkpoint_info import words_of_checkpoint
from ov3d_perception.networks.live import LiveNetwork
from ov3d_perception.networks.registry import Network
from ov3d_perception.sparse.kernels import multiplies_bytes
from ov3d_perception.training.clouds import clouds_among, clouds_of, voxels_of
from ov3d_perception.types import Frame

LEAST_AGREEMENT = 0.99
"""Share of the points that int8 is to label as float32 does."""
_SCANS = 20
_log = logging.getLogger(__name__)


class Calibration(NamedTuple):
    """scans: on which outputs were measured; agreement: share of equal labels on as many others."""

    scans: int
    agreement: float


def calibrate(
    checkpoint: Path, dataset: str, root: Path, out: Path, options: Mapping[str, Any] | None = None, scans: int = 20
) -> Calibration:
    """Write ``checkpoint`` to ``out`` with the largest outputs of its layers, by which int8 scales them.

    Args:
        dataset, root, options: as for evaluation; "bag" for a bag.
        scans: how many, spread over the source; all where it has fewer.

    Raises CheckpointError, DatasetError, BagError as reading does, and as :func:`calibrate_by` does.
    """
    preparation = load_checkpoint(checkpoint)[1].preparation
    return calibrate_by(list(clouds_of(preparation, dataset, root, options or {}, scans)), checkpoint, out)


def calibrate_by(clouds: Sequence[Merged], checkpoint: Path, out: Path) -> Calibration:
    """The same by these scans: every second one is measured; on the others, labels in int8 are compared with
    float32's, in the checkpoint's words.

    Raises DatasetError where there are fewer than two scans, Ov3dError where the network, the processor or the
    agreement is such that int8 is of no use.
    """
    network, info = load_checkpoint(checkpoint)
    vocabulary = Vocabulary.from_words(info.vocabulary, words_of_checkpoint(info, checkpoint))
    measured, others = clouds[::2], clouds[1::2]
    if not others:
        raise DatasetError("There are fewer than two scans that can be used", "Name a source with more scans")
    known = replace(info, largest_outputs=_largest_outputs(network, info, measured))
    models = [LiveModel.of(Segmenter(network, known, "cpu", precision), vocabulary) for precision in ("fp32", "int8")]
    agreement = _agreement(models[0], models[1], others)
    if agreement < LEAST_AGREEMENT:
        raise Ov3dError(
            f"In int8, {1 - agreement:.1%} of the points are labelled otherwise than in float32",
            "Take scans of more places, or stay with bf16 or fp32",
        )
    save_checkpoint(out, network, known, stored_type(network))
    return Calibration(len(measured), agreement)


def calibrate_if_possible(checkpoint: Path, source: Sequence[Frame]) -> None:
    """What a training ends with, by scans of its source: the checkpoint is calibrated, or stays as it is and the log
    says why. On a processor that could not run the result, and so could not compare its labels, nothing is tried."""
    if not multiplies_bytes():
        _log.info("Not calibrated for int8: this processor has no instructions for it")
        return
    try:
        preparation = load_checkpoint(checkpoint)[1].preparation
        found = calibrate_by(list(clouds_among(source, preparation, _SCANS)), checkpoint, checkpoint)
    except Ov3dError as error:
        _log.warning("Not calibrated for int8: %s", error)
        return
    stay = 100 * found.agreement
    _log.info("Calibrated for int8 by %d scans: %.2f %% of the labels of others stay", found.scans, stay)


def _largest_outputs(network: Network, info: CheckpointInfo, clouds: Sequence[Merged]) -> tuple[float, ...]:
    plan = LiveNetwork(network, torch.device("cpu"), torch.float32).plan
    if plan is None:
        raise Ov3dError(
            f"There is no int8 for {info.arch}: it does more than convolve and join", "Stay with bf16 or fp32"
        )
    with torch.inference_mode():
        found = np.array([plan.largest_outputs(voxels_of(info, cloud)) for cloud in clouds])
    return tuple(float(f"{most:.5g}") for most in found.max(0))


def _agreement(one: LiveModel, other: LiveModel, clouds: Sequence[Merged]) -> float:
    equal = []
    for cloud in clouds:
        labels = [model.label(model.features(cloud, len(cloud.xyz))).label for model in (one, other)]
        equal.append(float((labels[0] == labels[1]).mean()))
    return float(np.mean(equal))
