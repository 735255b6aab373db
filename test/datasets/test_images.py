"""Image files as cameras and poses know them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ov3d_perception.datasets.images import read_image
from ov3d_perception.errors import ImageError

ORIENTATION = 0x0112  # of EXIF: 3 is half a turn, 6 a quarter


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_exif_does_not_turn_an_image_away_from_its_intrinsics(tmp_path: Path, suffix: str, orientation: int) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :16, 0] = 255  # red at the upper left
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif, quality=100, subsampling=0)
    np.testing.assert_allclose(read_image(path), pixels, atol=4)


def test_a_cut_or_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-60])
    for broken in (path, tmp_path / "none.jpg"):
        with pytest.raises(ImageError, match=f"{broken.name} does not decode"):
            read_image(broken)
