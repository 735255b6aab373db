"""The teacher's cache: one encoding an image, half precision, a budget that holds."""

import dataclasses

import numpy as np
import pytest
import torch
from colour_scene import ColourEncoder, split_image

from ov3d_perception.errors import DatasetError
from ov3d_perception.lifting.image_teacher import Teacher
from ov3d_perception.recipes.specs import TeacherSpec


def test_an_image_is_encoded_once_even_by_another_teacher_of_the_same_settings(tmp_path):
    encoder, image = ColourEncoder(), split_image()
    first = Teacher(encoder, TeacherSpec("c"), tmp_path).dense(image)
    again = Teacher(encoder, TeacherSpec("c"), tmp_path).dense(image.copy())
    assert encoder.calls == 1
    assert first.dtype == torch.float32
    torch.testing.assert_close(first, again)
    torch.testing.assert_close(first, encoder.dense([image])[0], atol=1e-3, rtol=0)


@pytest.mark.parametrize("change", [{"flip": True}, {"size": (24, 32)}, {"scales": (1.0, 2.0)}])
def test_other_settings_never_share_a_file(tmp_path, change):
    image, spec = split_image(), TeacherSpec("c")
    other = Teacher(ColourEncoder(), dataclasses.replace(spec, **change), tmp_path)
    assert other.path(image) != Teacher(ColourEncoder(), spec, tmp_path).path(image)


def test_mirroring_is_undone():
    image = split_image("red", "blue")
    plain = Teacher.encode(_bare(TeacherSpec("c")), image)
    both = Teacher.encode(_bare(TeacherSpec("c", flip=True)), image)
    torch.testing.assert_close(both, plain)


def test_scales_are_averaged_on_the_grid_of_scale_one():
    dense = Teacher.encode(_bare(TeacherSpec("c", scales=(0.5, 1.0, 2.0))), split_image())
    assert dense.shape == (3, 12, 16)
    torch.testing.assert_close(dense.norm(dim=0), torch.ones(12, 16))
    assert (dense[0, :, :6] > 0.99).all()
    assert (dense[1, :, 10:] > 0.99).all()


def test_budget_stops_before_the_disk_is_full(tmp_path):
    image = split_image()
    size = 3 * 12 * 16 * 2 + 128
    teacher = Teacher(ColourEncoder(), TeacherSpec("c", cache_gb=3.5 * size / 1e9), tmp_path)
    with pytest.raises(DatasetError, match="cache_gb"):
        teacher.check_budget(4, image)
    teacher.check_budget(3, image)
    with pytest.raises(DatasetError, match="cache_gb"):
        for value in range(5):
            teacher.path(np.full((48, 64, 3), value, np.uint8))


def _bare(spec):
    teacher = Teacher.__new__(Teacher)
    teacher.encoder, teacher.spec = ColourEncoder(), spec
    return teacher
