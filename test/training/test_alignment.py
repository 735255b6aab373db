"""Shares that are kept, by hand."""

from __future__ import annotations

import pytest
import torch

from ov3d_perception.training.alignment import Alignment

BEGUN = torch.tensor([[0.6, 0.4], [0.8, 0.2]])  # mean .7, .3


def test_nothing_changes_while_the_shares_stay():
    alignment = Alignment()
    for _ in range(60):
        torch.testing.assert_close(alignment.offset(BEGUN), torch.zeros(2), atol=1e-5, rtol=0)


def test_a_class_that_grows_is_held_back():
    """30 scans at .7, then ten at .9: the decaying mean is .9 - .2 * .97^10."""
    alignment = Alignment()
    for _ in range(30):
        alignment.offset(BEGUN)
    for _ in range(10):
        offset = alignment.offset(torch.tensor([[0.9, 0.1]]))
    now = 0.9 - 0.2 * 0.97**10
    assert offset.tolist() == pytest.approx(torch.tensor([0.7 / now, 0.3 / (1 - now)]).log().tolist(), abs=1e-5)


def test_what_is_wanted_is_the_plain_mean_of_the_first_scans():
    alignment = Alignment()
    for row in range(30):
        alignment.offset(torch.tensor([[1.0, 0.0]] if row < 15 else [[0.0, 1.0]]))
    assert alignment.state()["wanted"].tolist() == pytest.approx([0.5, 0.5], abs=1e-6)


def test_a_state_goes_on_where_it_was():
    torch.manual_seed(0)
    scans = torch.rand(50, 7, 3).softmax(2)
    one, other = Alignment(), Alignment()
    for scan in scans[:40]:
        one.offset(scan)
    other.restore(one.state())
    for scan in scans[40:]:
        assert torch.equal(one.offset(scan), other.offset(scan))
