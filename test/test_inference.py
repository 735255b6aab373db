from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from real_data import data_dir

from ov3d_perception.errors import BackendError, IdentityError, Ov3dError, PointCloudError
from ov3d_perception.inference import LiveModel, NetworkOutput, Segmenter
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.networks.checkpoint import CheckpointInfo, save_checkpoint
from ov3d_perception.sparse import SparseTensor, quantize
from ov3d_perception.types import UNLABELLED, EncoderIdentity, Scan

INFO = CheckpointInfo("MinkUNet14A", 0.25, ("ones", "intensity"), 0.2, EncoderIdentity("tiny", "street", 16))


def vocabulary(names: tuple[str, ...] = ("car", "tree", "road"), **changes: object) -> Vocabulary:
    embeddings = np.random.default_rng(5).normal(size=(len(names) + 1, 16)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    owner = np.array([*range(len(names)), 0], np.int32)
    plain = Vocabulary(names, (*names, "another word for the first"), owner, embeddings, INFO.identity, 20.0)
    return dataclasses.replace(plain, **changes)


def cloud(count: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    xyz = generator.normal(size=(count, 3), scale=(8, 8, 1)).astype(np.float32)
    return xyz, generator.uniform(size=count).astype(np.float32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "network.safetensors"
    network = INFO.build()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    save_checkpoint(path, network, INFO)
    return path


@pytest.fixture(scope="module")
def segmenter(checkpoint: Path) -> Segmenter:
    return Segmenter.load(checkpoint, device="cpu", precision="fp32")


def output(features: np.ndarray) -> NetworkOutput:
    """A voxel, with one point, for each feature."""
    rows = torch.arange(len(features))
    return NetworkOutput(torch.zeros(len(features), 3).long(), 0.1, torch.from_numpy(features).float(), rows)


def test_of_some_points_only_their_voxels_stay() -> None:
    """Points 0 to 3 lie in the voxels 2, 0, 2, 1; of the first three, voxels 0 and 2 remain as rows 0 and 1."""
    coords, features = torch.arange(9).reshape(3, 3), torch.tensor([[0.0], [1.0], [2.0]])
    whole = NetworkOutput(coords, 0.5, features, torch.tensor([2, 0, 2, 1]))
    some, every = whole.of_points(3).cpu(), whole.of_points(4).cpu()
    assert some.features[:, 0].tolist() == [0, 2] and some.point_to_voxel.tolist() == [1, 0, 1]
    np.testing.assert_allclose(some.centres, [[0.25, 0.75, 1.25], [3.25, 3.75, 4.25]])
    assert len(every) == 3 and every.point_to_voxel.tolist() == [2, 0, 2, 1]


def test_features_name_each_points_voxel(segmenter: Segmenter) -> None:
    xyz, intensity = cloud()
    voxels = segmenter.features(xyz, intensity)
    assert voxels.features.dtype == np.float32 and voxels.features.shape == (len(voxels.centres), 24)
    assert np.abs(xyz - voxels.centres[voxels.point_to_voxel]).max() <= 0.1 + 1e-5
    assert np.array_equal(np.unique(voxels.point_to_voxel), np.arange(len(voxels.centres)))


def test_labels_are_those_of_the_wide_features(segmenter: Segmenter) -> None:
    """The long way: features through the basis, normalised, the softmax over prompts summed by class, in doubles."""
    xyz, intensity = cloud()
    words = vocabulary()
    z = segmenter.features(xyz, intensity).features.astype(np.float64)
    wide = z @ segmenter.basis
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    logits = 20.0 * wide @ words.embeddings.T
    likelihood = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    per_class = np.stack([likelihood[:, words.prompt_class == c].sum(1) for c in range(3)], 1)
    best = per_class.argmax(1)
    found = LiveModel.of(segmenter, words).label(output(z))
    label, probability = found.label, found.probability
    assert np.array_equal(label, best)
    np.testing.assert_allclose(probability, per_class[np.arange(len(z)), best], rtol=1e-4)
    segmentation = segmenter(Scan(xyz, intensity), words)
    rows = segmenter.features(xyz, intensity).point_to_voxel
    assert np.array_equal(segmentation.label, label[rows])
    assert segmentation.label.dtype == np.int32 and segmentation.probability.dtype == np.float32


def test_a_single_class_is_told_from_what_competes_with_it(segmenter: Segmenter) -> None:
    """Its probabilities are those that it has among the others; alone, every point had it with probability 1."""
    three = vocabulary()
    rest = three.prompt_class != 0
    scan = Scan(*cloud(), 0, "lidar")
    among = segmenter(scan, three)
    alone = segmenter(
        scan,
        dataclasses.replace(
            three,
            names=three.names[:1],
            prompts=tuple(np.array(three.prompts)[~rest]),
            prompt_class=three.prompt_class[~rest],
            embeddings=three.embeddings[~rest],
            negatives=three.embeddings[rest],
        ),
    )
    np.testing.assert_array_equal(alone.label, np.where(among.label == 0, 0, UNLABELLED))
    is_car = among.label == 0
    assert 0.05 < is_car.mean() < 0.95
    np.testing.assert_allclose(alone.probability[is_car], among.probability[is_car], atol=1e-5)
    assert (alone.probability[~is_car] < 0.5).mean() > 0.9 and alone.label.dtype == np.int32


def test_order_of_points_does_not_matter(segmenter: Segmenter) -> None:
    xyz, intensity = cloud()
    order = np.random.default_rng(1).permutation(len(xyz))
    plain = segmenter(Scan(xyz, intensity), vocabulary())
    shuffled = segmenter(Scan(xyz[order], intensity[order]), vocabulary())
    np.testing.assert_allclose(shuffled.probability, plain.probability[order], atol=1e-4)


def test_a_new_vocabulary_takes_effect_at_once(segmenter: Segmenter) -> None:
    z = np.random.default_rng(0).normal(size=(50, 24)).astype(np.float32)
    first, turned = vocabulary(), vocabulary(embeddings=-vocabulary().embeddings)
    model = LiveModel.of(segmenter, first)
    other = model.with_words(turned)
    before, changed = model.label(output(z)).label, other.label(output(z)).label
    assert np.array_equal(before, model.label(output(z)).label) and not np.array_equal(before, changed)
    assert other.preparation is model.preparation and other.segmenter is segmenter


def test_vocabulary_of_another_encoder_is_refused(segmenter: Segmenter) -> None:
    foreign = vocabulary(identity=EncoderIdentity("ViT-B-16", "openai", 16))
    with pytest.raises(IdentityError, match="ViT-B-16"):
        LiveModel.of(segmenter, foreign)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_clouds_of_almost_nothing(segmenter: Segmenter, count: int) -> None:
    xyz, intensity = cloud(count)
    voxels = segmenter.features(xyz, intensity)
    result = segmenter(Scan(xyz, intensity), vocabulary())
    assert voxels.centres.shape == (count, 3) and voxels.features.shape == (count, 24)
    assert result.label.shape == result.probability.shape == (count,)
    assert np.isfinite(result.probability).all()


def test_points_that_are_not_finite_are_refused(segmenter: Segmenter) -> None:
    xyz, intensity = cloud(5)
    xyz[3, 1] = np.nan
    with pytest.raises(PointCloudError, match="not finite"):
        segmenter.features(xyz, intensity)


def test_intensity_that_is_not_finite_does_no_harm(segmenter: Segmenter) -> None:
    xyz, intensity = cloud(500)
    intensity[::3], intensity[1::3] = np.nan, np.inf
    assert np.isfinite(segmenter.features(xyz, intensity).features).all()


def test_read_only_and_strided_arrays_are_accepted(segmenter: Segmenter) -> None:
    xyz, intensity = cloud(100)
    records = np.concatenate([xyz, intensity[:, None]], axis=1)
    records.setflags(write=False)
    strided = segmenter.features(records[:, :3], records[:, 3])
    np.testing.assert_array_equal(strided.features, segmenter.features(xyz, intensity).features)


def test_bfloat16_agrees_with_float32(segmenter: Segmenter, checkpoint: Path) -> None:
    low = Segmenter.load(checkpoint, device="cpu", precision="bf16")
    xyz, intensity = cloud()
    a, b = low.features(xyz, intensity).features, segmenter.features(xyz, intensity).features
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert np.quantile(cosine, 0.01) > 0.999


def test_warm_up_and_automatic_choices(checkpoint: Path) -> None:
    segmenter = Segmenter.load(checkpoint)
    segmenter.warm_up(500)
    assert segmenter.device.type in ("cpu", "cuda") and segmenter.identity == INFO.identity


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
def test_a_device_that_is_not_there(checkpoint: Path, device: str) -> None:
    with pytest.raises(Ov3dError, match=f"cannot run on device '{device}'"):
        Segmenter.load(checkpoint, device=device)


def test_real_scan(segmenter: Segmenter) -> None:
    data = data_dir()
    if data is None:
        pytest.skip("no real data: set OV3D_TEST_DATA or put it in ../shared/data")
    points = np.fromfile(data / "semantickitti/sequences/00/velodyne/000000.bin", np.float32).reshape(-1, 4)
    voxels = segmenter.features(points[:, :3], points[:, 3])
    assert len(voxels.centres) == len(np.unique(np.floor(points[:, :3] / np.float32(0.2)), axis=0))
    assert np.isfinite(voxels.features).all() and voxels.features.std(axis=0).min() > 0
    assert np.abs(points[:, :3] - voxels.centres[voxels.point_to_voxel]).max() <= 0.1 + 1e-4


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_point_voxel_network_in_place_of_the_other(precision: str) -> None:
    info = dataclasses.replace(INFO, arch="SPVCNN")
    torch.manual_seed(0)
    network = info.build().eval()
    xyz, intensity = cloud()
    voxels = Segmenter(network, info, device="cpu", precision=precision).features(xyz, intensity)
    points = torch.from_numpy(xyz)
    inputs = torch.stack([torch.ones(len(xyz)), torch.from_numpy(intensity)], dim=1)
    coords, mean, inverse = quantize(points, info.voxel_size, inputs)
    with torch.no_grad():
        expected = network(SparseTensor(mean, coords)).feats.numpy()
    assert np.array_equal(voxels.point_to_voxel, inverse.numpy())
    cosine = (voxels.features * expected).sum(1)
    cosine /= np.linalg.norm(voxels.features, axis=1) * np.linalg.norm(expected, axis=1)
    assert cosine.min() > (0.999 if precision == "bf16" else 1 - 1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_minkowski_engine_gives_the_same_features(checkpoint: Path, segmenter: Segmenter, precision: str) -> None:
    try:
        other = Segmenter.load(checkpoint, "cpu", precision, "minkowski")
    except BackendError as error:
        pytest.skip(str(error))
    xyz, intensity = cloud()
    voxels, expected = other.features(xyz, intensity), segmenter.features(xyz, intensity)
    assert np.array_equal(voxels.point_to_voxel, expected.point_to_voxel)
    cosine = (voxels.features * expected.features).sum(1)
    cosine /= np.linalg.norm(voxels.features, axis=1) * np.linalg.norm(expected.features, axis=1)
    assert np.quantile(cosine, 0.01) > (0.999 if precision == "bf16" else 1 - 1e-5)


def test_a_backend_that_is_unknown_or_not_for_the_device(checkpoint: Path) -> None:
    """Refused at once, not with the first scan."""
    with pytest.raises(BackendError, match=r"'tensorflow'.*Choose auto, torch, minkowski, spconv"):
        Segmenter.load(checkpoint, backend="tensorflow")
    with pytest.raises(BackendError, match="CUDA devices only"):
        Segmenter.load(checkpoint, device="cpu", backend="spconv")
