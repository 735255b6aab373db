"""Pictures, what in them shows the thing, and the patches of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ov3d_perception.errors import ImageError
from ov3d_perception.language.pictures import Picture, patches_of, read_picture

NOISE = np.random.default_rng(0).integers(0, 255, (40, 64, 3), np.uint8)


def written(path: Path, image: np.ndarray, **options: object) -> Path:
    Image.fromarray(image).save(path, **options)
    return path


def test_a_box_a_mask_and_an_alpha_channel_say_the_same(tmp_path: Path) -> None:
    inside = np.zeros((40, 64), bool)
    inside[8:24, 16:48] = True
    plain = written(tmp_path / "cart.png", NOISE)
    (tmp_path / "masks").mkdir()
    written(tmp_path / "masks" / "cart.png", inside.astype(np.uint8))
    cut = written(tmp_path / "cut.png", np.dstack([NOISE, inside.astype(np.uint8) * 255]))
    found = [read_picture(f"{plain}@16,8,48,24"), read_picture(plain, tmp_path / "masks"), read_picture(cut)]
    for picture in found:
        assert (picture.mask == inside).all() and (picture.image == NOISE).all() and picture.surroundings
    assert len({picture.sha256 for picture in [*found, read_picture(plain)]}) == 4
    assert read_picture(plain).mask is None
    assert read_picture(f"{plain}@0,0,64,40").mask is None, "all of it"


def test_what_an_editor_has_erased_is_no_surrounding(tmp_path: Path) -> None:
    alpha = np.zeros((40, 64), np.uint8)
    alpha[10:20, 10:20] = 255
    erased = np.where(alpha[..., None] > 0, NOISE, 0)
    picture = read_picture(written(tmp_path / "a.png", np.dstack([erased, alpha])))
    assert not picture.surroundings
    mean = NOISE[10:20, 10:20].reshape(-1, 3).mean(0).astype(np.uint8)
    assert (picture.image[alpha == 0] == mean).all(), "no black edge around the thing"
    assert len(patches_of(picture, np.ones((4, 5, 8), np.float32)).outside) == 0


def test_a_photo_is_turned_as_its_camera_was(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = read_picture(written(tmp_path / "a.jpg", NOISE, exif=exif))
    assert upright.image.shape == (64, 40, 3)


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    png = written(tmp_path / "a.png", NOISE)
    (tmp_path / "cut.png").write_bytes(png.read_bytes()[:900])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture")
    for name, why in (("cut", "decode"), ("empty", "is empty"), ("text", "decode"), ("none", "cannot be read")):
        with pytest.raises(ImageError, match=why) as error:
            read_picture(tmp_path / f"{name}.png")
        assert "\n" not in str(error.value) and name in str(error.value)
    for box in ("0,0,65,40", "5,5,5,9"):
        with pytest.raises(ImageError, match=r"64 x 40 pixels"):
            read_picture(f"{png}@{box}")
    (tmp_path / "masks").mkdir()
    written(tmp_path / "masks" / "a.png", np.ones((40, 63), np.uint8))
    with pytest.raises(ImageError, match="63 x 40"):
        read_picture(png, tmp_path / "masks")
    written(tmp_path / "masks" / "a.png", np.zeros((40, 64), np.uint8))
    with pytest.raises(ImageError, match="empty"):
        read_picture(png, tmp_path / "masks")


def dense(rows: int, columns: int) -> np.ndarray:
    """The feature of a patch is its number."""
    return np.arange(rows * columns, dtype=np.float32).reshape(1, rows, columns)


def masked(mask: np.ndarray) -> Picture:
    return Picture("a", "", np.zeros((*mask.shape, 3), np.uint8), mask)


def test_patches_by_how_much_of_them_the_thing_covers() -> None:
    mask = np.zeros((32, 48), bool)  # 4 x 6 patches of 8
    mask[8:16, 8:21] = True  # patch (1, 1) whole, (1, 2) to five eighths
    found = patches_of(masked(mask), dense(4, 6))
    assert found.inside.ravel().tolist() == [7, 8]
    assert found.outside.ravel().tolist() == [4, 5, 10, 11, 16, 17, *range(18, 24)]  # none touches the thing
    mask[8:16, 19:21] = False  # three eighths
    assert patches_of(masked(mask), dense(4, 6)).inside.ravel().tolist() == [7]


def test_a_small_thing_has_the_patches_that_it_covers_best() -> None:
    mask = np.zeros((32, 48), bool)
    mask[4:12, 4:12] = True  # a quarter of four patches
    assert patches_of(masked(mask), dense(4, 6)).inside.ravel().tolist() == [0, 1, 6, 7]
    mask[:] = False
    mask[0:5, 0:5] = True
    with pytest.raises(ImageError, match=r"covers 0\.39 of a patch"):
        patches_of(masked(mask), dense(4, 6))


def test_without_a_mask_the_rim_may_be_the_surroundings() -> None:
    whole = Picture("a", "", np.zeros((32, 32, 3), np.uint8))
    assert len(patches_of(whole, dense(4, 4)).inside) == 16
    framed = patches_of(whole, dense(4, 4), framed=True)
    assert framed.inside.ravel().tolist() == [5, 6, 9, 10] and len(framed.outside) == 12
    assert len(patches_of(whole, dense(2, 2), framed=True).inside) == 4
