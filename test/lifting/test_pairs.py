"""Samples and their targets on a scene whose answer is known."""

import numpy as np
import pytest
import torch
from colour_scene import ColourEncoder, Walls, split_image, view, wall

from ov3d_perception.errors import DatasetError
from ov3d_perception.lifting.frames import prepare_maps, prepare_samples, restore_maps, sample_path
from ov3d_perception.lifting.image_teacher import ImageTeacher, load_map
from ov3d_perception.lifting.pairs import fused_teacher, image_size, load_sample, pair
from ov3d_perception.recipes.specs import PairSpec, TeacherSpec
from ov3d_perception.types import Frame, Sweep

SPEC = PairSpec(occlusion=False)


@pytest.fixture
def teacher(tmp_path):
    return ImageTeacher(ColourEncoder(), TeacherSpec("c"), tmp_path / "cache")


def test_projected_teacher_says_what_stands_there(teacher):
    frame = Walls("")[0]
    pairs = pair(frame, SPEC)
    features = fused_teacher(
        [teacher.dense(v.image) for v in frame.views], [image_size(v) for v in frame.views], pairs, 600
    )
    clear = np.intersect1d(pairs.point, np.flatnonzero(np.abs(frame.sweeps[0].scan.xyz[:, 1]) > 1.0))
    assert 400 < len(pairs) < 550
    np.testing.assert_array_equal(features.argmax(1).numpy()[clear], frame.labels[clear])
    unseen = np.setdiff1d(np.arange(600), pairs.point)
    assert (features[unseen] == 0).all()


def test_two_views_are_averaged():
    scan, _ = wall(0)
    red, blue = (view(split_image(colour, colour)) for colour in ("red", "blue"))
    frame = Frame("a/0", (Sweep(scan, np.eye(4)),), (red, blue))
    pairs = pair(frame, SPEC)
    encoder = ColourEncoder()
    features = fused_teacher([encoder.dense([v.image])[0] for v in frame.views], [(48, 64)] * 2, pairs, len(scan))
    seen = np.unique(pairs.point)
    torch.testing.assert_close(
        features[seen], torch.tensor([[0.5**0.5, 0, 0.5**0.5]]).expand(len(seen), 3), atol=1e-4, rtol=0
    )


def test_only_the_sweeps_asked_for_are_paired():
    scan, _ = wall(0)
    frame = Frame("a/0", (Sweep(scan, np.eye(4)),) * 3, (view(split_image()),))
    assert set(pair(frame, PairSpec(sweeps=2, occlusion=False)).sweep) == {0, 1}


def test_a_damaged_sample_is_named(teacher, tmp_path):
    prepare_samples(Walls("", 1), teacher, SPEC, tmp_path)
    path = sample_path(tmp_path, 0)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DatasetError, match=r"000000.*cannot be read"):
        load_sample(path)


def test_blind_and_corrupt_frames_are_counted(teacher, tmp_path):
    found, counts = prepare_samples(Walls("", 5, blind=(1,), corrupt=(0, 3)), teacher, SPEC, tmp_path / "pairs")
    assert [one.frame for one in found] == [2, 4]
    assert sorted(path.stem for path in (tmp_path / "pairs").iterdir()) == ["000002", "000004", "basis"]
    assert (counts.used, counts.unseen, counts.corrupt) == (2, 1, 2)
    assert counts.pairs == sum(len(load_sample(sample_path(tmp_path / "pairs", one.frame)).point) for one in found)
    assert "image 0 is broken" in counts.errors[0]


def test_nothing_in_view_at_all_is_an_error(teacher, tmp_path):
    with pytest.raises(DatasetError, match="calibration"):
        prepare_samples(Walls("", 2, blind=(0, 1)), teacher, SPEC, tmp_path / "pairs")


def test_maps_that_are_gone_are_made_anew_from_the_same_images(teacher):
    source = Walls("", 3)
    found, _ = prepare_maps(source, teacher, SPEC)
    (name,) = {name for one in found for name in one.maps}  # every wall is seen in the same picture
    before = teacher.dense(source[0].views[0].image)
    (teacher.folder / name).unlink()
    assert restore_maps(source, teacher, found) == 1
    torch.testing.assert_close(load_map(teacher.folder / name), before, rtol=0, atol=0)
    calls = teacher.encoder.calls
    assert restore_maps(source, teacher, found) == 0
    assert teacher.encoder.calls == calls


def test_images_that_a_run_no_longer_finds_are_told(teacher):
    found, _ = prepare_maps(Walls("", 2), teacher, SPEC)
    (teacher.folder / found[0].maps[0]).unlink()
    with pytest.raises(DatasetError, match="1 images that the run was started with"):
        restore_maps(Walls("", 2, corrupt=(0, 1)), teacher, found)
