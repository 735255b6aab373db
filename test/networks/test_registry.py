from __future__ import annotations

import pytest
import torch

from ov3d_perception.errors import Ov3dError
from ov3d_perception.networks.registry import ARCHITECTURES, build_network
from ov3d_perception.sparse import SparseTensor


@pytest.mark.parametrize("head_bias", [False, True])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_has_the_same_interface(arch: str, head_bias: bool) -> None:
    network = build_network(arch, 2, 12, 0.1, head_bias).eval()
    assert (network.arch, network.in_channels, network.out_channels, network.width) == (arch, 2, 12, 0.1)
    coords = torch.randint(-9, 9, (200, 4), generator=torch.Generator().manual_seed(0))
    coords[:, 0] = 0
    coords = coords.unique(dim=0)
    with torch.no_grad():
        z = network(SparseTensor(torch.ones(len(coords), 2), coords))
    assert torch.equal(z.coords, coords) and z.feats.shape == (len(coords), network.feature_dim)
    assert network.basis.shape == (network.feature_dim, 12)
    torch.testing.assert_close(network.head(z.feats), z.feats @ network.basis)


def test_unknown_names_and_impossible_widths() -> None:
    with pytest.raises(Ov3dError, match=r"no network 'MinkUNet99'.*MinkUNet18A.*SPVCNN"):
        build_network("MinkUNet99", 1, 8)
    with pytest.raises(Ov3dError, match="another width"):
        build_network("SPVCNN", 1, 8, 0.001)
