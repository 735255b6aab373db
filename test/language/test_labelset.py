"""The shipped label sets against the data sets' definitions, and files that are wrong."""

from __future__ import annotations

import numpy as np
import pytest
from real_data import data_dir

from ov3d_perception.datasets.nuscenes_files import CATEGORIES
from ov3d_perception.errors import DatasetError
from ov3d_perception.language.labelset import FOLDER, LabelSet
from ov3d_perception.types import UNLABELLED

SHIPPED = sorted(entry.name.removesuffix(".yaml") for entry in FOLDER.iterdir() if entry.name.endswith(".yaml"))


def test_all_label_sets_load_and_map():
    assert SHIPPED == [
        "cityscapes19_names",
        "cocostuff171_names",
        "nuscenes16",
        "nuscenes16_names",
        "outdoor",
        "pandaset",
        "pandaset_coarse8",
        "pandaset_coarse8_wide",
        "scannet20",
        "scannet_nyu40",
        "semantickitti19",
        "semantickitti19_names",
        "semantickitti_coarse9",
        "semantickitti_coarse9_wide",
        "street",
    ]
    for name in SHIPPED:
        labels = LabelSet.load(name)
        for index, cls in enumerate(labels.names):
            np.testing.assert_array_equal(labels.map(np.array(labels.ids[cls], int)), index)


def test_pandasets_coarse_classes_have_the_names_and_words_of_semantickittis():
    theirs = LabelSet.load("semantickitti_coarse9").prompts
    assert all(theirs[name] == words for name, words in LabelSet.load("pandaset_coarse8").prompts.items())


def test_openscenes_prompts_for_nuscenes():
    labels = LabelSet.load("nuscenes16")
    assert len(labels) == 16 and sum(len(words) for words in labels.prompts.values()) == 43
    assert labels.prompts["manmade"] == ["building", "wall", "pole", "awning"]
    assert labels.names.index("car") == 3 and labels.names[-1] == "vegetation"


def test_clip2scenes_prompts_are_the_names_of_the_classes():
    for name, count in (("nuscenes16", 16), ("semantickitti19", 19)):
        labels, asked = LabelSet.load(name), LabelSet.load(f"{name}_names")
        assert asked.names == labels.names and asked.ids == labels.ids and len(asked) == count
        assert all(words == [cls.replace("_", " ").replace("-", " ")] for cls, words in asked.prompts.items())
    cities = LabelSet.load("cityscapes19_names")
    assert len(cities) == 19 and cities.prompts["traffic_light"] == ["traffic light"]
    assert (cities.map(np.arange(300)) == UNLABELLED).all()


def test_nuscenes_ids_are_those_of_lidarsegs_challenge():
    """Its table of 32 categories, by name."""
    gathered = {
        "barrier": ["movable_object.barrier"],
        "bicycle": ["vehicle.bicycle"],
        "bus": ["vehicle.bus.bendy", "vehicle.bus.rigid"],
        "car": ["vehicle.car"],
        "construction_vehicle": ["vehicle.construction"],
        "motorcycle": ["vehicle.motorcycle"],
        "pedestrian": [
            f"human.pedestrian.{who}" for who in ("adult", "child", "construction_worker", "police_officer")
        ],
        "traffic_cone": ["movable_object.trafficcone"],
        "trailer": ["vehicle.trailer"],
        "truck": ["vehicle.truck"],
        "driveable_surface": ["flat.driveable_surface"],
        "other_flat": ["flat.other"],
        "sidewalk": ["flat.sidewalk"],
        "terrain": ["flat.terrain"],
        "manmade": ["static.manmade"],
        "vegetation": ["static.vegetation"],
    }
    labels = LabelSet.load("nuscenes16")
    assert {name: [CATEGORIES[i] for i in labels.ids[name]] for name in labels.names} == gathered


def test_street_is_nuscenes16_with_its_index_as_id():
    street = LabelSet.load("street")
    assert street.names == LabelSet.load("nuscenes16").names
    np.testing.assert_array_equal(street.map(np.arange(17)), [*range(16), UNLABELLED])


def test_semantickittis_ids():
    """The learning map of semantic-kitti.yaml, at the ids where it is easy to go wrong."""
    labels = LabelSet.load("semantickitti19")
    expected = {
        10: "car",
        252: "car",
        13: "other-vehicle",
        256: "other-vehicle",
        18: "truck",
        258: "truck",
        31: "bicyclist",
        253: "bicyclist",
        254: "person",
        255: "motorcyclist",
        40: "road",
        60: "road",
        44: "parking",
        71: "trunk",
        80: "pole",
        81: "traffic-sign",
    }
    for raw, cls in expected.items():
        assert labels.names[labels.map(np.array([raw]))[0]] == cls
    assert (labels.map(np.array([0, 1, 52, 99])) == UNLABELLED).all()
    assert labels.map(np.array([70], np.uint32)).dtype == np.int32


def test_coarse_words_are_in_the_stored_bank():
    folder = data_dir()
    if folder is None:
        pytest.skip("needs the text bank of $OV3D_TEST_DATA/clip_vitb16")
    known = set(np.load(folder / "clip_vitb16" / "text_embeddings.npz")["cocostuff171_names"].tolist())
    coarse = LabelSet.load("semantickitti_coarse9")
    assert len(coarse) == 9
    assert {word for words in coarse.prompts.values() for word in words} <= known


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("classes:\n  a: {prompts: [one, two], ids: [7]}\n  b: {prompts: [three]}\n")
    labels = LabelSet.load(path)
    assert labels.names == ("a", "b") and labels.prompts["a"] == ["one", "two"]
    np.testing.assert_array_equal(labels.map(np.array([7, 8])), [0, UNLABELLED])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: {a: {prompts: []}}", "'a' has no prompts"),
        ("classes: {a: {prompts: [x], ids: [1]}, b: {prompts: [y], ids: [1]}}", "raw id 1 is listed 2 times"),
        ("classes: {a: {prompts: [x], ids: [70000]}}", "70000 is not in"),
        ("classes: [a, b]", "cannot be read"),
        ("classes: {a: {}}", "cannot be read"),
        ("{", "cannot be read"),
        ("a: b: c", "mapping values are not allowed here"),
        ("classes: {a: {prompts: car}}", r"write `prompts: \[car\]`"),
        ("", "cannot be read"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(DatasetError, match=message):
        LabelSet.load(path)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(DatasetError, match="semantickitti_coarse9"):
        LabelSet.load("cityscapes")


@pytest.mark.parametrize("name", ["semantickitti_coarse9", "pandaset_coarse8"])
def test_wide_label_sets_have_other_words_for_the_same_classes(name):
    plain, wide = LabelSet.load(name), LabelSet.load(f"{name}_wide")
    assert wide.names == plain.names and wide.ids == plain.ids
    assert wide.prompts != plain.prompts
