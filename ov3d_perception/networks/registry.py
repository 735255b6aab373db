"""Every 3D network by the name of its architecture."""

from __future__ import annotations

from ov3d_perception.errors import Ov3dError
from ov3d_perception.networks import minkunet, spvcnn
from ov3d_perception.networks.minkunet import MinkUNet
from ov3d_perception.networks.spvcnn import SPVCNN

Network = MinkUNet | SPVCNN
"""``network(x)`` gives point features on the voxels of ``x``, ``network.head`` takes them to the image-text space."""

ARCHITECTURES: dict[str, type[MinkUNet] | type[SPVCNN]] = {
    **dict.fromkeys(minkunet.ARCHITECTURES, MinkUNet),
    **dict.fromkeys(spvcnn.ARCHITECTURES, SPVCNN),
}


def build_network(
    arch: str, in_channels: int, out_channels: int, width: float = 1.0, head_bias: bool = False
) -> Network:
    """An untrained network. arch: a key of :data:`ARCHITECTURES`; the rest as for :class:`MinkUNet`.

    Raises Ov3dError for an unknown architecture and for a width that it cannot have.
    """
    if arch not in ARCHITECTURES:
        raise Ov3dError(f"There is no network '{arch}'", f"Choose one of {', '.join(ARCHITECTURES)}")
    try:
        return ARCHITECTURES[arch](arch, in_channels, out_channels, width, head_bias)
    except ValueError as error:
        raise Ov3dError(f"{arch} cannot be built: {error}", "Choose another width") from error
