"""The network that a training starts with: random weights, or those of another checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ov3d_perception.errors import CheckpointError
from ov3d_perception.networks.checkpoint import load_checkpoint
from ov3d_perception.networks.registry import Network, build_network
from ov3d_perception.paths import shipped
from ov3d_perception.recipes.specs import NetworkSpec, Recipe
from ov3d_perception.types import EncoderIdentity

log = logging.getLogger(__name__)

HEAD = ("final.", "classifier.")  # of MinkUNet, of SPVCNN
STEM = {"conv0p1s1.kernel", "stem.0.kernel"}


def network_of(recipe: Recipe, identity: EncoderIdentity) -> Network:
    """The recipe's network with a head into the space of ``identity``, new or from ``network.init``.

    Raises CheckpointError as :func:`start_from`.
    """
    spec = recipe.network
    network = build_network(spec.arch, len(spec.inputs), identity.dim, spec.width)
    if spec.init is not None:
        start_from(network, Path(shipped(spec.init)), spec, identity)
    return network


def start_from(network: nn.Module, path: Path, spec: NetworkSpec, identity: EncoderIdentity) -> None:
    """Give ``network`` the weights of the checkpoint ``path``.

    The head comes along only if it has no bias and speaks of the same encoder. Of the first convolution comes what
    concerns the inputs that both have, by name; a new input starts at zero.
    Raises CheckpointError as loading does, where the checkpoint's network is not the one that ``spec`` describes, and
    where its weights are to be kept (``spec.keep``) and its head cannot be.
    """
    source, info = load_checkpoint(path)
    theirs, ours = (info.arch, info.width, info.voxel_size), (spec.arch, spec.width, spec.voxel_size)
    if theirs != ours:
        raise CheckpointError(
            f"{path} holds a network of (arch, width, voxel size) {theirs}, the recipe asks for {ours}",
            "Make the recipe's network section agree with the checkpoint, or leave out network.init",
        )
    weights = source.state_dict()
    if info.head_bias or not info.identity.compatible(identity):
        if spec.keep:
            raise CheckpointError(
                f"The head of {path} ({info.identity}) is of no use to {identity}, so nothing of it can be kept",
                "Leave out network.keep, or start from a network of that teacher",
            )
        weights = {name: value for name, value in weights.items() if not name.startswith(HEAD)}
        log.info(
            "%s speaks of %s%s, the teacher is %s: the head starts anew",
            path,
            info.identity,
            " with a bias" * info.head_bias,
            identity,
        )
    for name in STEM & weights.keys():
        weights[name] = _by_input(weights[name], info.inputs, spec.inputs)
    network.load_state_dict(weights, strict=False)


def keep(network: nn.Module, recipe: Recipe, identity: EncoderIdentity) -> None:
    """Draw the trained ``network`` towards ``network.init``: ``network.keep`` times its weights and statistics, and the
    rest of its own. A network that was trained on from another is linked to it by a way on which all do well, and
    between the two is often surer of places that neither was trained on (Wortsman et al., CVPR 2022).

    Raises CheckpointError as :func:`start_from`.
    """
    share, start = recipe.network.keep, network_of(recipe, identity).state_dict()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():  # in place; the others count steps
                value.lerp_(start[name].to(value), share)


def _by_input(kernel: Float[Tensor, "k i o"], theirs: Sequence[str], ours: Sequence[str]) -> Float[Tensor, "k j o"]:
    taken = kernel.new_zeros(kernel.shape[0], len(ours), kernel.shape[2])
    for column, name in enumerate(ours):
        if name in theirs:
            taken[:, column] = kernel[:, list(theirs).index(name)]
    return taken
