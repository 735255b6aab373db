"""Agreement over time on scenes whose answer can be counted, and against the means as slow loops."""

import dataclasses

import numpy as np
import pytest
import torch
from colour_scene import OPTICAL, ColourEncoder, Walls, split_image, view, wall
from colour_scene import bank as colours

from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.consolidate import basis_of, consolidate
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.pairs import fused_teacher, image_size, pair
from ov3d_perception.recipes.specs import PairSpec, TeacherSpec
from ov3d_perception.types import Frame, Scan, Sweep

PLAIN = PairSpec(occlusion=False, basis=0)
EYE = torch.eye(3)


@pytest.fixture
def teacher(tmp_path):
    return ImageTeacher(ColourEncoder(), TeacherSpec("c"), tmp_path / "cache")


def run(frames, teacher, spec=PLAIN, basis=EYE, vocabulary=None):
    return [said for _, _, said in consolidate(enumerate(frames), teacher, spec, basis, vocabulary)]


def post(x=8.0, count=20):
    """Points of a thin post straight ahead, at the middle of the image."""
    z = np.linspace(-1, 1, count)
    return np.column_stack([np.full(count, x), np.full(count, 0.05), z]).astype(np.float32)


def frame(name, xyz, colour, moved=0.0):
    """A scan and an image of one colour, both moved along x in the frame of the poses."""
    T = np.eye(4)
    T[0, 3] = moved
    T_camera = OPTICAL.copy()
    T_camera[0, 3] = moved
    scan = Scan(np.asarray(xyz, np.float32), np.zeros(len(xyz), np.float32))
    return Frame(name, (Sweep(scan, T),), (view(split_image(colour, colour), T_camera),))


def test_without_window_and_voxels_it_is_openscenes_mean(teacher):
    (own,) = Walls("", 1)
    said = run([own], teacher)[0]
    pairs = pair(own, PLAIN)
    plain = fused_teacher([teacher.dense(v.image) for v in own.views], [image_size(v) for v in own.views], pairs, 600)
    np.testing.assert_array_equal(said.point, np.unique(pairs.point))
    torch.testing.assert_close(said.feature[said.row], plain[said.point])
    assert said.pairs == len(pairs)


def test_images_of_other_frames_speak_of_what_stands_still(teacher):
    frames = [frame("a/0", post(), "red"), frame("a/1", post(7.5), "green", moved=0.5)]
    spec = dataclasses.replace(PLAIN, view_window=1)
    for said in run(frames, teacher, spec):
        torch.testing.assert_close(
            said.feature, torch.tensor([[0.5**0.5, 0.5**0.5, 0.0]]).expand(20, 3), atol=2e-3, rtol=0
        )
    assert run(frames, teacher)[1].feature[:, 1].min() > 0.99


def test_what_has_moved_on_is_not_taught_by_later_images(teacher):
    """The post stands elsewhere in the second scan: its image shows what is behind."""
    frames = [frame("a/0", post(8.0), "red"), frame("a/1", post(12.0), "green")]
    said = run(frames, teacher, dataclasses.replace(PLAIN, view_window=1, voxel=0.2))
    assert said[0].feature[:, 0].min() > 0.99 and said[1].feature[:, 1].min() > 0.99


def test_drives_do_not_teach_each_other(teacher):
    frames = [frame("a/0", post(), "red"), frame("b/1", post(), "green")]
    said = run(frames, teacher, dataclasses.replace(PLAIN, view_window=2, voxel=0.2))
    assert said[0].feature[:, 0].min() > 0.99 and said[1].feature[:, 1].min() > 0.99


def test_the_three_means_are_those_of_slow_loops(teacher):
    frames = [dataclasses.replace(one, name=f"a/{i}") for i, one in enumerate(Walls("", 4))]
    frames = [
        dataclasses.replace(one, views=(view(split_image(*pair_of.split())),))
        for one, pair_of in zip(frames, ("red green", "blue green", "red blue", "red green"), strict=True)
    ]
    spec = dataclasses.replace(PLAIN, view_window=1, voxel=0.5, coarse_voxel=1.0)
    vocabulary = Vocabulary.from_words(["red", "green", "blue"], colours())
    vocabulary = dataclasses.replace(vocabulary, logit_scale=3.0)
    said = run(frames, teacher, spec, vocabulary=vocabulary)

    def cell(p, size):
        return tuple(np.floor(p.astype(np.float64) / size).astype(int))

    clouds = [one.sweeps[0].scan.xyz for one in frames]
    stands = [{cell(p, 1.0) for p in cloud} for cloud in clouds]
    maps = [teacher.dense(one.views[0].image) for one in frames]
    lifted = []
    for i, one in enumerate(frames):
        total = {}
        for j in range(max(i - 1, 0), min(i + 2, 4)):
            pairs = pair(one, spec, frames[j].views)
            each = fused_teacher([maps[j]], [(48, 64)], pairs, 600)
            for p in pairs.point:
                if j == i or cell(clouds[i][p], 1.0) in stands[j]:
                    total[p] = total.get(p, 0) + each[p]
        lifted.append({p: f / f.norm() for p, f in total.items()})
    for i in range(4):
        near = range(max(i - 1, 0), min(i + 2, 4))
        assert sorted(lifted[i]) == said[i].point.tolist()
        for n in range(0, len(said[i].point), 7):
            p = said[i].point[n]
            mean = sum(
                f for j in near for q, f in lifted[j].items() if cell(clouds[j][q], 0.5) == cell(clouds[i][p], 0.5)
            )
            mean = mean / mean.norm()
            torch.testing.assert_close(said[i].feature[said[i].row[n]], mean, atol=1e-4, rtol=0)
        rows = [(v, np.flatnonzero(said[i].row == v)) for v in range(0, len(said[i].feature), 5)]
        for v, mine in rows:
            keys = {cell(clouds[i][said[i].point[n]], 1.0) for n in mine}
            assert len(keys) == 1  # coarse voxels are made of whole fine ones here
            around = [f for j in near for q, f in lifted[j].items() if cell(clouds[j][q], 1.0) in keys]
            shares = torch.stack([torch.softmax(3.0 * f, 0) for f in around]).mean(0)
            expected = shares[(said[i].feature[v]).argmax()]
            torch.testing.assert_close(said[i].confidence[v], expected, atol=1e-4, rtol=0)


def test_where_looks_contradict_each_other_confidence_is_low(teacher):
    spec = dataclasses.replace(PLAIN, view_window=1, voxel=0.2)
    words = Vocabulary.from_words(["red", "green"], colours())
    agree = run([frame("a/0", post(), "red"), frame("a/1", post(), "red")], teacher, spec, vocabulary=words)
    differ = run([frame("a/0", post(), "red"), frame("a/1", post(), "green")], teacher, spec, vocabulary=words)
    assert agree[0].confidence.min() > 0.99
    assert differ[0].confidence.max() < 0.7


def test_where_neighbours_contradict_each_other_confidence_is_low(teacher):
    """The post stands on the border of an image that is red on one side and green on the other."""
    left, right = post() + np.float32([0, 2.35, 2]), post() + np.float32([0, 1.55, 2])
    scan, T_camera = Scan(np.concatenate([left, right]), np.zeros(40, np.float32)), OPTICAL.copy()
    T_camera[1, 3] = 2.0
    one = Frame("a/0", (Sweep(scan, np.eye(4)),), (view(split_image(), T_camera),))
    for vocabulary in (None, Vocabulary.from_words(["red", "green"], colours())):
        (alike,) = run([one], teacher, vocabulary=vocabulary)
        (mixed,) = run([one], teacher, dataclasses.replace(PLAIN, coarse_voxel=4.0), vocabulary=vocabulary)
        assert alike.confidence.min() > 0.95
        assert mixed.confidence.max() < 0.95


def test_fewer_directions_say_the_same(teacher):
    source = Walls("", 3)
    spec = dataclasses.replace(PLAIN, view_window=1, voxel=0.3, basis=2)
    basis = basis_of(source, teacher, spec)
    assert basis.shape == (2, 3)
    whole, small = run(source, teacher, spec), run(source, teacher, spec, basis)
    for a, b in zip(whole, small, strict=True):
        torch.testing.assert_close(b.feature @ basis, a.feature, atol=5e-3, rtol=0)


def test_far_from_the_origin_of_the_poses_and_with_nothing_in_view(teacher):
    scan, labels = wall(0)
    T = np.eye(4)
    T[:2, 3] = 5.4e5, 5.3e6  # UTM
    far = Frame("a/0", (Sweep(scan, T),), (view(split_image(), T @ OPTICAL),), labels)
    blind = dataclasses.replace(Walls("", 1, blind=(0,))[0], name="b/1")
    said = run([far, blind], teacher, dataclasses.replace(PLAIN, voxel=0.2, view_window=1))
    assert len(said[0].point) > 400 and len(said[1].point) == len(said[1].feature) == said[1].pairs == 0
    assert teacher.encoder.calls == 1  # an image that sees nothing is not encoded
