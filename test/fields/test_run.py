"""From images to a map that answers: training, its file, its figures, resuming, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from still_scene import small_scene

from ov3d_perception.errors import (
    CheckpointError,
    DatasetError,
    IdentityError,
    RecipeError,
    UnknownWordError,
    VocabularyError,
)
from ov3d_perception.fields import reconstruct, to_map
from ov3d_perception.fields.draw import draw_views
from ov3d_perception.fields.evaluate import evaluate
from ov3d_perception.fields.export import export_map
from ov3d_perception.fields.field import FieldSettings
from ov3d_perception.fields.field_file import load_field
from ov3d_perception.fields.language_branch import BranchSettings
from ov3d_perception.fields.rays import Rays
from ov3d_perception.fields.recipe import FieldRecipe, ImagesSpec, WordsSpec, load_recipe
from ov3d_perception.fields.reconstruct import Reconstruction, ReconstructionSettings
from ov3d_perception.fields.run import FIELD, GEOMETRY, STATE, Models, train
from ov3d_perception.fields.scene import Scene, space_of
from ov3d_perception.fields.segment import Segmentation, SegmentationSettings
from ov3d_perception.fields.teachers import Teachers, TeacherSettings, finest_edges, teach
from ov3d_perception.fields.to_map import map_of, views_of
from ov3d_perception.language.vocabulary import TextBank
from ov3d_perception.mapping.basis import Basis
from ov3d_perception.mapping.query import TextQuery
from ov3d_perception.mapping.session import MapSession
from ov3d_perception.methods.ovs3d import Ovs3dOptions
from ov3d_perception.types import EncoderIdentity, View

IDENTITY = EncoderIdentity("colours", "test", 4)
RECIPE = FieldRecipe(
    ImagesSpec(downsample=1.0, psnr=12.0),
    FieldSettings((4, 4, 4), (8, 8, 8), 9, 16, 0, 0, shift=-5.0, alpha=6e-3),
    ReconstructionSettings(
        60, 256, 8000, 20**3, 30**3, (20,), (25,), False, background=0.5, closed=0.1, variation=(0.1, 0.01)
    ),
    TeacherSettings(scales=(3, 4), overlap=1, cell=6),
    WordsSpec(branch_hidden=8, selection=(4, 4, 4)),
    SegmentationSettings(120, 12, 96, 1, 4, network_rate=1e-2, field_network_rate=1e-3),
    Ovs3dOptions(positive=0.1),
)


class ColourEncoder:
    """Features are mean colours; of scenes whose classes have colours of their own they say enough."""

    identity, logit_scale, dense_key, device = IDENTITY, 20.0, "colours", torch.device("cpu")

    def encode_image(self, images: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack([feature(image.reshape(-1, 3).mean(0)) for image in images]))


def feature(rgb: np.ndarray) -> np.ndarray:
    centred = np.append((np.asarray(rgb) - 90) / 90, 0.3)
    return (centred / np.linalg.norm(centred)).astype(np.float32)


def edges(image: np.ndarray) -> torch.Tensor:
    small = image[3::6, 3::6].astype(np.float32) - 90
    return torch.nn.functional.normalize(torch.from_numpy(small), dim=-1)


def models(scene: Scene) -> Models:
    """Words are the mean colours of their masks."""
    image, mask = scene.views[2].image, scene.masks[2]
    words = np.stack([feature(image[mask == n].mean(0) if (mask == n).any() else (0, 0, 0)) for n in range(4)])
    bank = TextBank(list(scene.classes), words, IDENTITY, 20.0)
    return Models(ColourEncoder(), bank, edges, "colours")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scene() -> Scene:
    return small_scene()


@pytest.fixture(scope="module")
def out(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(scene, RECIPE, folder, models=models(scene))
    return folder


def test_a_field_is_trained_scored_and_drawn(scene: Scene, out: Path, tmp_path: Path) -> None:
    content = load_field(out / FIELD)
    assert content.words == scene.classes and content.identity == IDENTITY
    assert content.figures["psnr"] > 12 and not (out / STATE).exists()
    result = evaluate(content, scene, pictures=tmp_path / "eval")
    result.write(tmp_path)
    assert result.views == 1 and result.psnr > 12
    assert min(result.ap["wall"], result.ap["grass"]) > 0.8 and set(result.iou) <= set(scene.classes)
    assert result.accuracy > 0.5
    assert "| wall |" in (tmp_path / "evaluation.md").read_text()
    assert (tmp_path / "eval" / "02.png").stat().st_size > 1000
    assert draw_views(content, scene, tmp_path / "views", ["wall"], every=3) == 2


def test_a_field_of_fog_makes_no_map(scene: Scene, out: Path, tmp_path: Path) -> None:
    """After sixty steps a ray collects its opacity over half of the scene."""
    with pytest.raises(CheckpointError, match="is fog"):
        export_map(load_field(out / FIELD), scene, tmp_path / "site.ov3dmap", 0.4)
    assert not (tmp_path / "site.ov3dmap").exists()


def test_a_map_of_the_field_answers(scene: Scene, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_map, "_SHARP", 1000.0)  # see above: what is tested here is the way to an answer
    content = load_field(out / FIELD)
    info = export_map(content, scene, tmp_path / "site.ov3dmap", 0.4)
    assert info.voxels > 100
    answer = MapSession.open(tmp_path / "site.ov3dmap").ask(
        TextQuery(["wall"], threshold=0.3, min_sure=1, min_observations=1, min_voxels=1)
    )
    assert answer.words == ["wall"] and answer.matches
    other = Basis(np.eye(4, dtype=np.float32), IDENTITY, 20.0)
    assert map_of(content, scene, 0.4, like=other).map.basis_id == other.basis_id  # type: ignore[union-attr]
    with pytest.raises(IdentityError, match="field's features are of colours"):
        map_of(content, scene, like=Basis(np.eye(4, dtype=np.float32), EncoderIdentity("other", "test", 4)))


def test_a_map_shows_the_views_that_the_field_was_trained_on(scene: Scene, out: Path) -> None:
    content = load_field(out / FIELD)
    half = {**content.recipe, "images": {**content.recipe["images"], "views": 0.5}}
    numbers = [len(list(views_of(dataclasses.replace(content, recipe=r), scene, 0.2))) for r in (content.recipe, half)]
    assert numbers == [len(scene.training), max(3, round(len(scene.training) / 2))]


def test_a_cut_or_foreign_file_is_refused(out: Path, tmp_path: Path) -> None:
    content = (out / FIELD).read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="damaged or no field"):
        load_field(cut)
    middle = len(content) // 2
    cut.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    with pytest.raises(CheckpointError, match="checksum"):
        load_field(cut)
    with pytest.raises(CheckpointError, match="There is no field"):
        load_field(tmp_path / "none.safetensors")


def test_a_field_without_words_and_masks_of_others_are_refused(scene: Scene, out: Path) -> None:
    with pytest.raises(CheckpointError, match="knows no words yet"):
        evaluate(load_field(out / GEOMETRY), scene)
    with pytest.raises(DatasetError, match="has no masks"):
        evaluate(load_field(out / FIELD), dataclasses.replace(scene, masks={}))
    with pytest.raises(DatasetError, match="masks are of"):
        evaluate(load_field(out / FIELD), dataclasses.replace(scene, classes=("a", "b", "c", "d")))


def test_a_word_that_the_bank_lacks_is_told_before_training(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(UnknownWordError, match="giraffe"):
        train(scene, RECIPE, tmp_path / "x", ["giraffe"], models(scene))
    with pytest.raises(VocabularyError, match="says no classes"):
        train(dataclasses.replace(scene, classes=()), RECIPE, tmp_path / "x", models=models(scene))
    masked = dataclasses.replace(scene, test=tuple(range(len(scene.views) - 2)))
    with pytest.raises(DatasetError, match=r"has 2 images to train on, the other \d+ are test views"):
        train(masked, RECIPE, tmp_path / "x", models=models(scene))
    assert not (tmp_path / "x").exists()


def test_wrong_poses_fail_the_check(scene: Scene, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    order = rng.permutation(len(scene.views))
    views = tuple(
        View(view.camera, scene.views[n].T_world_camera, view.image) for view, n in zip(scene.views, order, strict=True)
    )
    strict = dataclasses.replace(RECIPE, images=ImagesSpec(downsample=1.0, psnr=22.0))
    with pytest.raises(DatasetError, match=r"reaches \d+.\d dB, not 22.*poses may be wrong"):
        train(dataclasses.replace(scene, views=views), strict, tmp_path, models=models(scene))


def test_a_folder_is_not_overwritten_and_not_gone_on_with_by_another_recipe(scene: Scene, out: Path) -> None:
    with pytest.raises(CheckpointError, match="holds a training already"):
        train(scene, RECIPE, out, models=models(scene))
    with pytest.raises(CheckpointError, match="made by another recipe"):
        train(scene, dataclasses.replace(RECIPE, seed=1), out, models=models(scene), resume=True)


@pytest.mark.parametrize("vectors", [True, False])
def test_networks_compute_in_bfloat16_only_where_it_pays(scene: Scene, monkeypatch, vectors: bool) -> None:
    """Without vectors of halves ``bf16`` changes nothing."""
    monkeypatch.setattr(reconstruct, "halves_in_vectors", lambda device: vectors)
    found = []
    for bf16 in (True, False):
        settings = dataclasses.replace(RECIPE.reconstruction, bf16=bf16)
        run = Reconstruction(scene, space_of(scene), RECIPE.field, settings)
        list(run.run(3))
        found.append(run.field.state_dict())
    equal = [torch.equal(value, found[1][name]) for name, value in found[0].items()]
    assert all(equal) != vectors


def test_a_reconstruction_goes_on_to_the_bit(scene: Scene) -> None:
    space = space_of(scene)
    whole = Reconstruction(scene, space, RECIPE.field, RECIPE.reconstruction)
    list(whole.run(30))
    first = Reconstruction(scene, space, RECIPE.field, RECIPE.reconstruction)
    list(first.run(22))
    second = Reconstruction(scene, space, RECIPE.field, RECIPE.reconstruction)
    second.restore(first.state(), first.field)
    list(second.run(30))
    for (name, a), b in zip(whole.field.state_dict().items(), second.field.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_segmentation_goes_on_to_the_bit(scene: Scene, out: Path, tmp_path: Path) -> None:
    known = models(scene)
    teachers = teach(scene, known.encoder, edges, RECIPE.teacher, out / "teacher", "colours")
    text = torch.from_numpy(known.text.embed(list(scene.classes)))

    def begin() -> Segmentation:
        content = load_field(out / GEOMETRY)
        branch = BranchSettings(4, 2, (4, 4, 4), 8)
        space = content.space
        return Segmentation(scene, space, content.field, teachers, text, branch, RECIPE.segmentation, RECIPE.losses)

    whole = begin()
    list(whole.run(18))
    first, second = begin(), begin()
    list(first.run(14))
    second.restore(first.state(), first.field, first.branch)
    list(second.run(18))
    for a, b in zip(whole.branch.state_dict().values(), second.branch.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(whole.field.state_dict().values(), second.field.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_first_steps_leave_the_field_alone(scene: Scene, out: Path, tmp_path: Path) -> None:
    known, content = models(scene), load_field(out / GEOMETRY)
    teachers = teach(scene, known.encoder, edges, RECIPE.teacher, out / "teacher", "colours")
    text = torch.from_numpy(known.text.embed(list(scene.classes)))
    run = Segmentation(
        scene, content.space, content.field, teachers, text, BranchSettings(4, 2, (4, 4, 4), 8), RECIPE.segmentation,
        RECIPE.losses,
    )  # fmt: skip
    before = {name: value.clone() for name, value in content.field.state_dict().items()}
    names = [set(found) for _, found in run.run(12)]
    assert names == [{"feature", "rda", "fda"}] * 12
    assert all(torch.equal(before[name], value) for name, value in run.field.state_dict().items())
    assert set(next(iter(run.run(13)))[1]) == {"colour", "feature", "rda", "fda"}
    changed = {
        name.split(".")[0] for name, value in run.field.state_dict().items() if not torch.equal(before[name], value)
    }
    assert changed == {"appearance", "basis", "colour"}  # never the density


def test_teachers_are_read_where_they_lie(scene: Scene, tmp_path: Path) -> None:
    known = models(scene)
    first = teach(scene, known.encoder, edges, RECIPE.teacher, tmp_path, "colours")
    files = sorted(tmp_path.iterdir())
    assert len(files) == len(scene.training)
    files[0].write_bytes(b"cut")
    again: Teachers = teach(scene, known.encoder, edges, RECIPE.teacher, tmp_path, "colours")
    assert sorted(tmp_path.iterdir()) == files and first.nbytes == again.nbytes
    for number in scene.training:
        np.testing.assert_array_equal(first.clip[number], again.clip[number])


def test_edges_without_dino_are_the_finest_scale_less_its_mean(scene: Scene, tmp_path: Path) -> None:
    clip = torch.tensor([[[[1.0, 0.0], [0.6, 0.8]]], [[[0.0, 1.0], [0.8, 0.6]]]])
    found = finest_edges(clip, (2, 1))  # the first is the finest: windows of half the shorter side
    torch.testing.assert_close(found[0, 0], -found[0, 1])
    torch.testing.assert_close(found[0, 0], torch.tensor([0.2, -0.4]) / 0.2**0.5)
    taught = teach(scene, models(scene).encoder, None, RECIPE.teacher, tmp_path, "finest")
    clip_1 = torch.from_numpy(taught.clip[1]).float()
    np.testing.assert_allclose(taught.edges[1], finest_edges(clip_1, RECIPE.teacher.scales), atol=2e-3)


def test_edges_see_a_smaller_image(scene: Scene, tmp_path: Path) -> None:
    seen: list[tuple[int, ...]] = []

    def watched(image: np.ndarray) -> torch.Tensor:
        seen.append(image.shape)
        return edges(image)

    settings = dataclasses.replace(RECIPE.teacher, edges_downsample=2.0)
    teach(scene, models(scene).encoder, watched, settings, tmp_path, "colours")
    height, width = scene.views[0].image.shape[:2]
    assert set(seen) == {(height // 2, width // 2, 3)}


def test_places_of_a_patch_are_apart_and_have_the_edges_of_their_rays(scene: Scene, out: Path) -> None:
    """Here the edges of a place are its row, its column and its view."""
    content, (height, width) = load_field(out / GEOMETRY), scene.views[0].image.shape[:2]
    rows, columns = np.meshgrid(np.arange(height // 6), np.arange(width // 6), indexing="ij")
    where = {n: np.stack([rows, columns, np.full_like(rows, n)], -1).astype(np.float16) for n in scene.training}
    teachers = Teachers({n: np.ones((2, 3, 3, 4), np.float16) for n in scene.training}, where)
    settings = dataclasses.replace(RECIPE.segmentation, patches=2, patch=3, every=2)
    run = Segmentation(
        scene, content.space, content.field, teachers, torch.eye(4), BranchSettings(4, 2, (4, 4, 4), 8), settings,
        RECIPE.losses,
    )  # fmt: skip
    seen: list[Rays] = []
    look = run._look
    run._look = lambda rays: (seen.append(rays), look(rays))[1]  # type: ignore[method-assign,func-returns-value]
    patches = run._patch_batch(np.random.default_rng(0))
    assert patches is not None and patches.feature.shape == (2, 9, 4)
    places = patches.dino.unflatten(1, (3, 3))
    torch.testing.assert_close(places.diff(dim=1), torch.tensor([2.0, 0, 0]).expand(2, 2, 3, 3))
    torch.testing.assert_close(places.diff(dim=2), torch.tensor([0.0, 2, 0]).expand(2, 3, 2, 3))
    for ray, (row, column, view) in enumerate(patches.dino.flatten(0, 1).int().tolist()):
        camera = content.space.rays(scene.views[view].camera, scene.views[view].T_world_camera)
        at = int((row + 0.5) * height / (height // 6)) * width + int((column + 0.5) * width / (width // 6))
        torch.testing.assert_close(seen[0].directions[ray], camera.directions[at])
        torch.testing.assert_close(seen[0].origins[ray], camera.origins[at])


@pytest.mark.parametrize("name", ["small", "quick", "room", "paper"])
def test_shipped_recipes_load(name: str) -> None:
    recipe = load_recipe(f"config/field/{name}.yaml", ["segmentation.steps=7", "field.shift=-1"])
    assert recipe.segmentation.steps == 7 and recipe.field.shift == -1.0
    with pytest.raises(RecipeError, match=r"no field.*stepz"):
        load_recipe(f"config/field/{name}.yaml", ["segmentation.stepz=7"])
    with pytest.raises(RecipeError, match="has no '='"):
        load_recipe(f"config/field/{name}.yaml", ["segmentation"])
    with pytest.raises(RecipeError, match=r"images.downsample is 0.0, not above 0"):
        load_recipe(f"config/field/{name}.yaml", ["images.downsample=0"])
