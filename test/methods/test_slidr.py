"""SLidR's loss against a slow loop and hand-computed values."""

import torch
from info_nce import loop, pairs, same

from ov3d_perception.methods.slidr import SlidrStep, losses, segment_means, superpixel_info_nce


def test_superpixels_are_means_of_their_pairs():
    points, pixels = pairs()
    segment = torch.tensor([7, 2, 7, 7, 2, 9])
    rows = [[1, 4], [0, 2, 3], [5]]

    def oracle(p):
        superpoints = torch.stack([p[row].mean(0) for row in rows])
        superpixels = torch.stack([pixels[row].mean(0) for row in rows])
        return loop(superpoints, superpixels, 0.1)

    same(lambda p: superpixel_info_nce(p, pixels, segment, 0.1), oracle, points)
    means = segment_means(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([1, 0, 1]))
    torch.testing.assert_close(means, torch.tensor([[3.0], [3.0]]))


def test_a_step_is_the_loss_of_its_segments():
    points, pixels = pairs()
    segment = torch.tensor([1, 0, 1, 1, 0, 2])
    found = losses(SlidrStep(points, pixels, segment, 0.1))
    assert list(found) == ["slidr"]
    torch.testing.assert_close(found["slidr"], superpixel_info_nce(points, pixels, segment, 0.1))
    assert not torch.isclose(found["slidr"], loop(points, pixels, 0.1))


def test_without_a_pair_the_loss_is_zero_and_has_a_gradient():
    nothing = torch.zeros(0, 4, requires_grad=True)
    loss = superpixel_info_nce(nothing, nothing, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0.0
