"""Means over clouds, by hand."""

import pytest
import torch
from torch import nn

from ov3d_perception.networks.statistics import estimate_statistics
from ov3d_perception.sparse import SparseTensor


class OneNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def forward(self, x):
        return self.norm(x.feats)


def cloud(number):
    """Features number and number + 2: mean number + 1, variance 2 (unbiased)."""
    return SparseTensor(torch.tensor([[number], [number + 2.0]]), torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0]]))


@pytest.fixture
def network():
    network = OneNorm()
    network.norm.running_mean += 100
    network.norm.weight.data += 3
    return network


def test_statistics_are_the_mean_over_all_clouds_and_weights_stay(network):
    assert estimate_statistics(network, (cloud(float(number)) for number in range(3))) == 3
    assert network.norm.running_mean.item() == 2.0
    assert network.norm.running_var.item() == 2.0
    assert (network.norm.momentum, network.norm.weight.item()) == (0.1, 4.0)


def test_without_a_cloud_nothing_changes(network):
    assert estimate_statistics(network, ()) == 0
    assert network.norm.running_mean.item() == 100


def test_a_cloud_that_cannot_be_read_leaves_the_momentum_as_it_was(network):
    def broken():
        yield cloud(0.0)
        raise OSError

    with pytest.raises(OSError):
        estimate_statistics(network, broken())
    assert network.norm.momentum == 0.1
