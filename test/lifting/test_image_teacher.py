"""The teacher's cache: one encoding an image, half precision, a budget that holds."""

import dataclasses

import numpy as np
import pytest
import torch
from colour_scene import ColourEncoder, split_image

from ov3d_perception.errors import DatasetError
from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.lifting.image_teacher import ImageTeacher, load_map
from ov3d_perception.paths import share_dir
from ov3d_perception.recipes.specs import TeacherSpec

MODELS = share_dir() / "models"


def test_an_image_is_encoded_once_even_by_another_teacher_of_the_same_settings(tmp_path):
    encoder, image = ColourEncoder(), split_image()
    first = ImageTeacher(encoder, TeacherSpec("c"), tmp_path).dense(image)
    again = ImageTeacher(encoder, TeacherSpec("c"), tmp_path).dense(image.copy())
    assert encoder.calls == 1
    assert first.dtype == torch.float32
    torch.testing.assert_close(first, again)
    torch.testing.assert_close(first, encoder.dense([image])[0], atol=1e-3, rtol=0)


@pytest.mark.parametrize("change", [{"flip": True}, {"size": (24, 32)}, {"scales": (1.0, 2.0)}])
def test_other_settings_never_share_a_file(tmp_path, change):
    spec = TeacherSpec("c")
    other = ImageTeacher(ColourEncoder(), dataclasses.replace(spec, **change), tmp_path)
    assert other.folder != ImageTeacher(ColourEncoder(), spec, tmp_path).folder


def test_other_dense_settings_of_the_encoder_never_share_a_file(tmp_path):
    """Windows, scales and precision are the encoder's; "auto" is another precision on another machine."""
    model = MODELS / "street_clip"
    folders = set()
    for precision, changes in (("float32", {}), ("bfloat16", {}), ("float32", {"stride": 8}), ("auto", {})):
        encoder = load_encoder(str(model), None, "cpu", precision)
        encoder.settings = dataclasses.replace(encoder.settings, **changes)
        folders.add(ImageTeacher(encoder, TeacherSpec("c"), tmp_path).folder)
    assert len(folders) == 3  # on a CPU auto is float32


def test_features_that_are_gone_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"none.npy are gone.*Resume"):
        load_map(tmp_path / "none.npy")


def test_mirroring_is_undone(tmp_path):
    image = split_image("red", "blue")
    plain = ImageTeacher(ColourEncoder(), TeacherSpec("c"), tmp_path).encode(image)
    both = ImageTeacher(ColourEncoder(), TeacherSpec("c", flip=True), tmp_path).encode(image)
    torch.testing.assert_close(both, plain)


def test_scales_are_averaged_on_the_grid_of_scale_one(tmp_path):
    spec = TeacherSpec("c", scales=(0.5, 1.0, 2.0))
    dense = ImageTeacher(ColourEncoder(), spec, tmp_path).encode(split_image())
    assert dense.shape == (3, 12, 16)
    torch.testing.assert_close(dense.norm(dim=0), torch.ones(12, 16))
    assert (dense[0, :, :6] > 0.99).all()
    assert (dense[1, :, 10:] > 0.99).all()


def test_budget_stops_before_the_disk_is_full(tmp_path):
    image = split_image()
    size = 3 * 12 * 16 * 2 + 128
    teacher = ImageTeacher(ColourEncoder(), TeacherSpec("c", cache_gb=3.5 * size / 1e9), tmp_path)
    with pytest.raises(DatasetError, match="cache_gb"):
        teacher.check_budget(4, image)
    teacher.check_budget(3, image)
    with pytest.raises(DatasetError, match="cache_gb"):
        for value in range(5):
            teacher.store(np.full((48, 64, 3), value, np.uint8))
