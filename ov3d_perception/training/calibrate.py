"""Calibrate a network for int8 by unlabelled scans: what ``ov3d checkpoint calibrate`` does."""

from __future__ import annotations

from collections.abc import Mapping
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
from ov3d_perception.training.clouds import clouds_of, voxels_of

LEAST_AGREEMENT = 0.99
"""Share of the points that int8 is to label as float32 does."""


class Calibration(NamedTuple):
    """scans: on which outputs were measured; agreement: share of equal labels on as many others."""

    scans: int
    agreement: float


def calibrate(
    checkpoint: Path, dataset: str, root: Path, out: Path, options: Mapping[str, Any] | None = None, scans: int = 20
) -> Calibration:
    """Write ``checkpoint`` to ``out`` with the largest outputs of its layers, by which int8 scales them.

    Every second scan is measured; on the others, labels in int8 are compared with float32's, in the checkpoint's words.

    Args:
        dataset, root, options: as for evaluation; "bag" for a bag.
        scans: how many, spread over the source; all where it has fewer.

    Raises CheckpointError, DatasetError, BagError as reading does, DatasetError where there are fewer than two scans,
    Ov3dError where the network, the processor or the agreement is such that int8 is of no use.
    """
    network, info = load_checkpoint(checkpoint)
    vocabulary = Vocabulary.from_words(info.vocabulary, words_of_checkpoint(info, checkpoint))
    clouds = list(clouds_of(info.preparation, dataset, root, options or {}, scans))
    measured, others = clouds[::2], clouds[1::2]
    if not others:
        raise DatasetError(f"{root} has fewer than two scans that can be used", "Name a source with more scans")
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


def _largest_outputs(network: Network, info: CheckpointInfo, clouds: list[Merged]) -> tuple[float, ...]:
    plan = LiveNetwork(network, torch.device("cpu"), torch.float32).plan
    if plan is None:
        raise Ov3dError(
            f"There is no int8 for {info.arch}: it does more than convolve and join", "Stay with bf16 or fp32"
        )
    with torch.inference_mode():
        found = np.array([plan.largest_outputs(voxels_of(info, cloud)) for cloud in clouds])
    return tuple(float(f"{most:.5g}") for most in found.max(0))


def _agreement(one: LiveModel, other: LiveModel, clouds: list[Merged]) -> float:
    equal = []
    for cloud in clouds:
        labels = [model.label(model.features(cloud, len(cloud.xyz))).label for model in (one, other)]
        equal.append(float((labels[0] == labels[1]).mean()))
    return float(np.mean(equal))
