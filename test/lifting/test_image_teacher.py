"""The teacher's cache: one encoding an image, half precision, a budget that holds."""

import dataclasses

import numpy as np
import pytest
import torch
from colour_scene import ColourEncoder, split_image

from ov3d_perception.errors import DatasetError
from ov3d_perception.language import encoder as encoders
from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.lifting.image_teacher import ImageTeacher, load_map
from ov3d_perception.paths import share_dir
from ov3d_perception.recipes.specs import PassSpec, TeacherSpec

MODELS = share_dir() / "models"


def test_an_image_is_encoded_once_even_by_another_teacher_of_the_same_settings(tmp_path):
    encoder, image = ColourEncoder(), split_image()
    first = ImageTeacher(encoder, TeacherSpec("c"), tmp_path).dense(image)
    again = ImageTeacher(encoder, TeacherSpec("c"), tmp_path).dense(image.copy())
    assert encoder.calls == 1
    assert first.dtype == torch.float32
    torch.testing.assert_close(first, again)
    torch.testing.assert_close(first, encoder.dense([image])[0], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "change",
    [
        {"flip": True},
        {"size": (24, 32)},
        {"scales": (1.0, 2.0)},
        {"passes": (PassSpec(),)},
        {"passes": (PassSpec(24),)},
        {"passes": (PassSpec(way="naclip"),)},
        {"passes": (PassSpec(window=16, stride=8),)},
        {"key_smoothing": 20.0},
    ],
)
def test_other_settings_never_share_a_file(tmp_path, change):
    spec = TeacherSpec("c")
    other = ImageTeacher(ColourEncoder(), dataclasses.replace(spec, **change), tmp_path)
    assert other.folder != ImageTeacher(ColourEncoder(), spec, tmp_path).folder


def test_other_dense_settings_of_the_encoder_never_share_a_file(tmp_path, monkeypatch):
    """Windows, scales and precision are the encoder's; "auto" is another precision on another machine."""
    monkeypatch.setattr(encoders, "halves_in_vectors", lambda device: True)
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


def test_passes_are_averaged_on_the_finest_grid_with_the_images_proportions(tmp_path):
    image, encoder = split_image(), ColourEncoder()
    spec = TeacherSpec("c", passes=(PassSpec(24), PassSpec(96, way="naclip")), flip=True)
    found = ImageTeacher(encoder, spec, tmp_path).encode(image)
    assert found.shape == (3, 24, 32)  # of 96 x 128 pixels, patches of 4
    small, large = encoder.dense([image], (24, 32)), encoder.dense([image], (96, 128))
    small = torch.nn.functional.interpolate(small, (24, 32), mode="bilinear", antialias=True)
    expected = torch.nn.functional.normalize(torch.nn.functional.normalize(small, dim=1) + large, dim=1)[0]
    torch.testing.assert_close(found, expected)
    both = ImageTeacher(encoder, spec, tmp_path).encode_now([torch.from_numpy(image).permute(2, 0, 1)] * 2)
    torch.testing.assert_close(both, torch.stack([expected, expected]))


def test_a_pass_sees_the_real_tower_in_its_own_way(tmp_path):
    """Attention of another kind, and windows, are other features of the same image."""
    encoder = load_encoder(str(MODELS / "street_clip"), None, "cpu", "float32")
    image = np.random.default_rng(0).integers(0, 255, (96, 160, 3), np.uint8)
    found = [
        ImageTeacher(encoder, TeacherSpec("c", passes=(one,)), tmp_path).encode(image)
        for one in (PassSpec(), PassSpec(way="naclip"), PassSpec(way="scclip"), PassSpec(window=64, stride=32))
    ]
    expected = encoder.see(window=0, stride=0, scales=(1.0,)).dense([image], (96, 160))[0]
    torch.testing.assert_close(found[0], expected)
    for other in found[1:]:
        assert other.shape == found[0].shape and (other - found[0]).abs().max() > 0.01
    assert encoder.settings == load_encoder(str(MODELS / "street_clip"), None, "cpu").settings  # nothing was changed
