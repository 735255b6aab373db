"""Training that starts from another checkpoint's weights instead of random ones."""

from __future__ import annotations

import logging
from pathlib import Path

from torch import nn

from ov3d_perception.errors import CheckpointError
from ov3d_perception.networks.checkpoint import load_checkpoint
from ov3d_perception.training.recipe import NetworkSpec
from ov3d_perception.types import EncoderIdentity

log = logging.getLogger(__name__)

HEAD = ("final.", "classifier.")  # of MinkUNet, of SPVCNN


def start_from(network: nn.Module, path: Path, spec: NetworkSpec, identity: EncoderIdentity) -> None:
    """Give ``network`` the weights of the checkpoint ``path``; the head only if it speaks of the same encoder.

    Raises CheckpointError as loading does, and where the checkpoint's network is not the one that ``spec`` describes.
    """
    source, info = load_checkpoint(path)
    theirs = (info.arch, info.width, tuple(info.inputs), info.voxel_size)
    ours = (spec.arch, spec.width, tuple(spec.inputs), spec.voxel_size)
    if theirs != ours:
        raise CheckpointError(
            f"{path} holds a network of (arch, width, inputs, voxel size) {theirs}, the recipe asks for {ours}",
            "Make the recipe's network section agree with the checkpoint, or leave out network.init",
        )
    weights = source.state_dict()
    if not info.identity.compatible(identity):
        weights = {name: value for name, value in weights.items() if not name.startswith(HEAD)}
        log.info("%s speaks of %s, the teacher is %s: the head starts anew", path, info.identity, identity)
    network.load_state_dict(weights, strict=False)
