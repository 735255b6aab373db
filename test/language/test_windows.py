"""Windows cover everything and change nothing where the features do not depend on the window."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from ov3d_perception.language.windows import dense_in_windows, starts


@dataclass(frozen=True)
class Settings:
    window: int
    stride: int
    batch: int = 3


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 20))
def test_starts_cover_every_cell_and_stay_inside(length, window, stride):
    stride = min(stride, window)
    found = starts(length, window, stride)
    covered = {cell for start in found for cell in range(start, min(length, start + window))}
    assert covered == set(range(length))
    assert len(found) == len(set(found))
    assert all(start == 0 or start + window <= length for start in found)


def local_features(pixels: torch.Tensor) -> torch.Tensor:
    """A feature that depends on its own patch of 4 x 4 pixels alone."""
    return functional.normalize(functional.avg_pool2d(pixels, 4), dim=1)


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([8, 12, 40]), st.sampled_from([0, 4, 8]))
def test_local_features_do_not_notice_the_windows(rows, columns, window, stride):
    pixels = torch.rand(2, 3, rows * 4, columns * 4) + 0.1
    tiled = dense_in_windows(local_features, pixels, (4, 4), Settings(window, stride))
    torch.testing.assert_close(tiled, local_features(pixels), atol=1e-5, rtol=1e-5)


def test_overlaps_favour_the_window_whose_centre_is_near():
    """Two windows of 4 cells over 6: each answers with its own vector; cells 0, 1 and 4, 5 are seen by one only."""
    answers = iter([torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])])

    def run(batch):
        return torch.stack([next(answers).view(2, 1, 1).expand(2, 1, 4) for _ in batch])

    out = dense_in_windows(run, torch.zeros(1, 3, 4, 24), (4, 4), Settings(16, 8))[0, :, 0]
    assert out[:, 0].tolist() == [1, 0]
    assert out[:, 5].tolist() == [0, 1]
    # cell 2: third of the first window (tent 0.8), first of the second (0.4)
    torch.testing.assert_close(out[:, 2], functional.normalize(torch.tensor([0.8, 0.4]), dim=0))
    assert out[0, 2] > out[1, 2] and out[0, 3] < out[1, 3]
