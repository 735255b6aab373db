"""Pictures of an evaluation: which class stands out, which points are red, how many files there are."""

import numpy as np
from colour_scene import Walls
from PIL import Image

from ov3d_perception.evaluation.pictures import RED, Pictures, highlighted
from ov3d_perception.types import UNLABELLED


def test_the_best_found_of_the_rarer_classes_stands_out():
    """Class 0 is everywhere; 1 is found whole, 2 half, 3 not at all."""
    truth = np.array([0] * 60 + [1] * 4 + [2] * 4 + [3] * 4 + [UNLABELLED] * 9, np.int32)
    said = truth.copy()
    said[66:68] = 0
    said[68:72] = 0
    said[-1] = 2
    assert highlighted(truth, said, 4) == 1
    said[60:64] = 2
    assert highlighted(truth, said, 4) == 2
    assert highlighted(np.zeros(5, np.int32), np.zeros(5, np.int32), 4) is None
    assert highlighted(np.full(5, UNLABELLED, np.int32), np.zeros(5, np.int32), 4) is None


def test_the_first_frames_are_drawn_and_errors_are_red(tmp_path):
    pictures = Pictures(tmp_path, ("red", "green"), count=2, reach=12.0, size=160)
    for index, frame in enumerate(Walls("", 3)):
        said = frame.labels.copy()
        if index == 1:
            said[:300] = 1 - said[:300]
        pictures(frame, said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_000000.png", "a_000001.png"]
    red = []
    for name in ("a_000000.png", "a_000001.png"):
        picture = np.asarray(Image.open(tmp_path / name)).astype(int)
        assert picture.shape == (320, 320, 3)
        errors = picture[200:, 160:]  # below the title
        red.append(int(((errors[..., 0] > 120) & (errors[..., 1] < 90) & (errors[..., 2] < 90)).sum()))
    assert red[0] == 0 < red[1]
    assert RED[0] > 200
