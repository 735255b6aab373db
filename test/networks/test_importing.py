"""Imported weights compute what they computed. The sources are made here, each in its release's names and containers.

Names and containers are those of pengsongyou/openscene (run/distill.py, models/disnet.py), valeoai/SLidR
(pretrain/lightning_trainer.py, model/res16unet.py), runnanchen/CLIP2Scene (pretrain/lightning_trainer.py,
model/minkunet.py, model/spvcnn.py), and the order of kernels that of torchsparse 1.4.0 (nn/utils/kernel.py).
"""

from __future__ import annotations

import argparse
import itertools
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer.testing
from safetensors.torch import save_file
from torch import Tensor, nn

from ov3d_perception.cli import app
from ov3d_perception.errors import CheckpointError
from ov3d_perception.inference import LiveModel, Segmenter
from ov3d_perception.language.bank import TextBank
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.networks.checkpoint import load_checkpoint
from ov3d_perception.networks.importing import ImportReport, ImportSpec, import_checkpoint
from ov3d_perception.networks.minkunet import ARCHITECTURES, MinkUNet
from ov3d_perception.networks.spvcnn import SPVCNN
from ov3d_perception.sparse import Conv3d, SparseTensor
from ov3d_perception.types import EncoderIdentity

Weights = dict[str, Tensor]
ONES = ("ones", "ones", "ones")
OPENSEG = EncoderIdentity("ViT-L-14-336-quickgelu", "openai", 24)
CLIP = EncoderIdentity("ViT-B-16-quickgelu", "openai", 16)


def trained(network: nn.Module) -> nn.Module:
    """Every weight and statistic as after some training: no two alike."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if name.endswith(("running_var", "bn.weight")) or (tensor.dim() == 1 and name.endswith("weight")):
            tensor.copy_(torch.empty_like(tensor).uniform_(0.5, 1.5, generator=generator))
        elif tensor.dim() == 1:
            tensor.copy_(torch.empty_like(tensor).uniform_(-0.3, 0.3, generator=generator))
    return network.eval()


def sample(channels: int) -> SparseTensor:
    generator = torch.Generator().manual_seed(0)
    coords = torch.randint(-9, 9, (300, 4), generator=generator)
    coords[:, 0] = 0
    coords = coords.unique(dim=0)
    return SparseTensor(torch.randn(len(coords), channels, generator=generator), coords)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@torch.no_grad()
def outputs(network: Any, x: SparseTensor) -> Tensor:
    return network.head(network(x).feats)


def imported(path: Path, spec: ImportSpec) -> tuple[Any, ImportReport]:
    report = import_checkpoint(path, path.with_name("ours.safetensors"), spec)
    network, info = load_checkpoint(path.with_name("ours.safetensors"))
    assert info == report.info
    return network, report


def openscene(weights: Weights, prefix: str = "module.net3d.") -> dict[str, Any]:
    """What run/distill.py saves: the best IoU is a NumPy scalar."""
    state = OrderedDict((prefix + name, value) for name, value in weights.items())
    optimizer = {"state": {0: {"step": 5, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}
    return {"epoch": 100, "state_dict": state, "optimizer": optimizer, "best_iou": np.float64(0.47)}


def ones(channels: int) -> SparseTensor:
    x = sample(1)
    return x.replace(torch.ones(len(x), channels))


def check_ones(network: Any, report: ImportReport, expected: Tensor) -> None:
    """Three equal inputs have become one."""
    assert report.info.inputs == ("ones",) and network.in_channels == 1
    torch.testing.assert_close(outputs(network, ones(1)), expected, rtol=1e-4, atol=1e-5)


def with_stem_of_three(network: MinkUNet) -> MinkUNet:
    """As SLidR's and CLIP2Scene's configurations have it: kernel_size 3."""
    network.conv0p1s1 = Conv3d(network.in_channels, network.conv0p1s1.out_channels, kernel_size=3)
    return network


PREFIXES = [("MinkUNet18A", prefix) for prefix in ("net3d.", "module.", "")]


@pytest.mark.parametrize(("arch", "prefix"), [*((arch, "module.net3d.") for arch in ARCHITECTURES), *PREFIXES])
def test_openscene_and_ggsd(tmp_path: Path, arch: str, prefix: str) -> None:
    source = trained(MinkUNet(arch, 3, 24, width=0.25))
    torch.save(openscene(source.state_dict(), prefix), tmp_path / "model_best.pth.tar")
    network, report = imported(tmp_path / "model_best.pth.tar", ImportSpec(OPENSEG, ONES, 0.05))
    assert (report.info.arch, report.info.width, report.info.head_bias) == (arch, 0.25, False)
    assert report.info.identity == OPENSEG and report.info.voxel_size == 0.05 and not report.unfit
    check_ones(network, report, outputs(source, ones(3)))


def test_the_real_openscene_is_recognised_at_full_width(tmp_path: Path) -> None:
    torch.save(openscene(MinkUNet("MinkUNet18A", 3, 768).state_dict()), tmp_path / "m.pth")
    spec = ImportSpec(EncoderIdentity("ViT-L-14-336-quickgelu", "openai", 768), ONES, 0.02)
    report = import_checkpoint(tmp_path / "m.pth", tmp_path / "o.safetensors", spec)
    assert (report.info.arch, report.info.width) == ("MinkUNet18A", 1.0)
    assert report.info.commit.startswith("imported from m.pth, sha256 ")


@pytest.mark.parametrize("flat", [True, False], ids=["kernel [in, out]", "kernel [1, in, out]"])
def test_slidr(tmp_path: Path, flat: bool) -> None:
    """Res16UNet34C: stem of size 3, a head with bias, other networks beside it, cylindrical voxels."""
    source = trained(with_stem_of_three(MinkUNet("MinkUNet34C", 1, 8, width=0.25)))
    weights, bias = source.state_dict(), random(1, 8)
    if not flat:
        weights = {n: v[None] if v.dim() == 2 and n.endswith("kernel") else v for n, v in weights.items()}
    content = {
        "model_points": weights | {"final.bias": bias},
        "model_images": {"encoder.conv1.weight": torch.zeros(4, 3, 7, 7)},
        "epoch": 50,
        "config": {"voxel_size": 0.1, "cylindrical_coordinates": True, "kernel_size": 3, "datetime": "010126-1200"},
    }
    torch.save(content, tmp_path / "model.pt")
    network, report = imported(tmp_path / "model.pt", ImportSpec(EncoderIdentity("none", "none", 0), ("intensity",)))
    assert (report.info.arch, report.info.width, report.info.voxel_size) == ("MinkUNet34C", 0.25, 0.1)
    assert report.info.identity.dim == 8 and report.info.head_bias
    assert any("cubes" in note for note in report.notes) and any("no word" in note for note in report.notes)
    x = sample(1)
    torch.testing.assert_close(outputs(network, x), outputs(source, x) + bias, rtol=1e-4, atol=1e-5)


def test_clip2scene_minkunet(tmp_path: Path) -> None:
    """ScanNet's: heads for other losses, and the text as a buffer."""
    source = trained(with_stem_of_three(MinkUNet("MinkUNet14A", 3, 16, width=0.5)))
    c, bias = source.feature_dim, random(1, 16)
    extra = {"final.bias": bias, "local_feature.kernel": random(c, 16), "local_feature.bias": random(1, 16)}
    extra |= {"classifier.kernel": random(c, 21), "classifier.bias": random(1, 21), "text_embeddings": random(21, 16)}
    torch.save({"model_points": source.state_dict() | extra, "model_fusion": {}, "config": {}}, tmp_path / "model.pt")
    network, report = imported(tmp_path / "model.pt", ImportSpec(CLIP, ONES, 0.05))
    assert (report.info.arch, report.info.width) == ("MinkUNet14A", 0.5)
    assert sorted(report.skipped) == sorted(set(extra) - {"final.bias"})
    check_ones(network, report, outputs(source, ones(3)) + bias)


THEIR_ORDER = list(itertools.product((0, 1), (0, 1), (0, 1)))  # (x, y, z), z fastest
OUR_ORDER = [(x, y, z) for z in (0, 1) for y in (0, 1) for x in (0, 1)]


def torchsparse(weights: Weights) -> Weights:
    """A state_dict of ours as torchsparse would hold it."""
    order = [OUR_ORDER.index(offset) for offset in THEIR_ORDER]
    assert order != list(range(8))
    return {name: value[order] if value.dim() == 3 and len(value) == 8 else value for name, value in weights.items()}


def clip2scene_spvcnn(source: SPVCNN) -> Weights:
    """With its heads: 480 -> 512 twice and once unused, 480 -> classes; ``classifier`` of ours is none of them."""
    c, d = source.feature_dim, source.out_channels
    weights = torchsparse(source.state_dict())
    weights["point_mapping_global.weight"] = weights.pop("classifier.0.weight")
    weights |= {
        "point_mapping_global.bias": random(d),
        "classifier.0.weight": random(17, c),
        "classifier.0.bias": random(17),
    }
    for name in ("point_mapping_local", "point_mapping_global_random"):
        weights |= {f"{name}.weight": random(d, c), f"{name}.bias": random(d)}
    return weights | {"text_embeddings": random(17, d)}


@pytest.mark.parametrize("lightning", [False, True])
def test_clip2scene_spvcnn(tmp_path: Path, lightning: bool) -> None:
    source = trained(SPVCNN("SPVCNNConcat", 1, 16, width=0.25))
    weights = clip2scene_spvcnn(source)
    content: dict[str, Any] = {"model_points": weights, "config": {"voxel_size": 0.1, "cylindrical_coordinates": False}}
    if lightning:
        state = {f"model_points.{name}": value for name, value in weights.items()}
        content = {
            "state_dict": state | {"model_images.conv.weight": torch.zeros(2), "text_embeddings": torch.zeros(2)}
        }
    torch.save(content, tmp_path / "model.pt")
    network, report = imported(tmp_path / "model.pt", ImportSpec(CLIP, ("intensity",), 0.1))
    assert (report.info.arch, report.info.width, report.info.head_bias) == ("SPVCNNConcat", 0.25, True)
    assert "point_mapping_local.bias" in report.skipped and "classifier.0.weight" in report.skipped
    assert ("model_images.* (1 tensors)" in report.skipped) == lightning
    x = sample(1)
    expected = outputs(source, x) + weights["point_mapping_global.bias"]
    torch.testing.assert_close(outputs(network, x), expected, rtol=1e-4, atol=1e-5)


def test_spvnas_and_its_halving_as_torchsparse_computes_it(tmp_path: Path) -> None:
    """``out[q] = sum over offsets (x, y, z), z fastest, of in[q + offset] @ kernel[offset]``, written as loops."""
    source = trained(SPVCNN("SPVCNN", 4, 16, width=0.5))
    weights = torchsparse(source.state_dict()) | {"classifier.0.bias": random(16)}
    torch.save({"model": weights}, tmp_path / "init")
    inputs = ("ones", "log_intensity", "height", "intensity")
    network, report = imported(tmp_path / "init", ImportSpec(CLIP, inputs, 0.05))
    assert (report.info.arch, report.info.width) == ("SPVCNN", 0.5)
    x = sample(16)
    halved = network.stage1[0].net[0](x)
    rows = {tuple(coord): row for row, coord in enumerate(x.coords[:, 1:].tolist())}
    expected = torch.zeros(len(halved), 16)
    for row, coord in enumerate(halved.coords[:, 1:].tolist()):
        for offset, kernel in zip(THEIR_ORDER, weights["stage1.0.net.0.kernel"], strict=True):
            neighbour = rows.get(tuple(c + o for c, o in zip(coord, offset, strict=True)))
            if neighbour is not None:
                expected[row] += x.feats[neighbour] @ kernel
    torch.testing.assert_close(halved.feats, expected, rtol=1e-4, atol=1e-5)


def test_intensity_of_another_scale(tmp_path: Path) -> None:
    source = trained(MinkUNet("MinkUNet14A", 2, 16, width=0.25))
    torch.save(source.state_dict(), tmp_path / "raw.pth")
    network, _ = imported(tmp_path / "raw.pth", ImportSpec(CLIP, ("height", "intensity"), 0.1, intensity_scale=255.0))
    x = sample(2)
    theirs = x.replace(x.feats * torch.tensor([1.0, 255.0]))
    torch.testing.assert_close(outputs(network, x), outputs(source, theirs), rtol=1e-4, atol=1e-4)


def test_a_biased_head_answers_words_exactly(tmp_path: Path) -> None:
    """The live path knows of no bias: narrow features, basis, words. Still cos(W z + b, text) decides."""
    source = trained(MinkUNet("MinkUNet14A", 1, 16, width=0.25))
    bias = 3 * random(16)
    torch.save(source.state_dict() | {"final.bias": bias}, tmp_path / "m.pth")
    network, report = imported(tmp_path / "m.pth", ImportSpec(CLIP, ("ones",), 0.2))
    xyz = np.random.default_rng(0).uniform(-3, 3, (500, 3)).astype(np.float32)
    segmenter = Segmenter(network, report.info, device="cpu", precision="fp32")
    output = segmenter.run(xyz, np.zeros(500, np.float32))
    voxels = output.cpu()
    text = random(5, 16)
    words = Vocabulary.from_words(list("abcde"), TextBank(list("abcde"), text.numpy(), CLIP))
    found = LiveModel.of(segmenter, words).label(output).label
    narrow = torch.from_numpy(voxels.features[:, :-1])
    assert (voxels.features[:, -1] == 1).all()
    cosine = nn.functional.cosine_similarity((narrow @ source.basis + bias)[:, None], text, dim=2)
    assert found.tolist() == cosine.argmax(1)[output.point_to_voxel].tolist()
    assert (
        nn.functional.cosine_similarity((narrow @ source.basis)[:, None], text, dim=2).argmax(1) != cosine.argmax(1)
    ).any()


def test_safetensors_half_precision_and_no_counters(tmp_path: Path) -> None:
    source = trained(MinkUNet("MinkUNet14A", 1, 16, width=0.25))
    weights = {n: v.half().float() for n, v in source.state_dict().items() if not n.endswith("num_batches_tracked")}
    save_file({f"net.{n}": v.half() for n, v in weights.items()}, tmp_path / "m.safetensors")
    network, _ = imported(tmp_path / "m.safetensors", ImportSpec(CLIP, ("ones",), 0.1))
    state = network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in weights.items())


@pytest.fixture
def weights() -> Weights:
    return MinkUNet("MinkUNet14A", 1, 16, width=0.25).state_dict()


SPEC = ImportSpec(CLIP, ("ones",), 0.1)


def refused(tmp_path: Path, content: object, spec: ImportSpec = SPEC) -> str:
    path = tmp_path / "theirs.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(path, tmp_path / "ours.safetensors", spec)
    assert not (tmp_path / "ours.safetensors").exists()
    return str(caught.value)


def test_every_tensor_that_does_not_fit_is_named_in_one_error(tmp_path: Path, weights: Weights) -> None:
    del weights["bn3.bn.weight"], weights["block2.0.conv2.kernel"]
    weights["block5.0.downsample.0.kernel"] = random(3, 4)
    weights["attention.query"] = random(2, 2)
    weights["bntr4.bn.bias"][2] = float("nan")
    message = refused(tmp_path, {"state_dict": weights})
    for part in (
        "bn3.bn.weight is missing",
        "block2.0.conv2.kernel is missing",
        "block5.0.downsample.0.kernel is [3, 4], ours [64, 32]",
        "attention.query [2, 2] is not in ours",
        "bntr4.bn.bias is not finite",
        "--partial",
    ):
        assert part in message
    spec = ImportSpec(CLIP, ("ones",), 0.1, partial=True)
    network, report = imported(tmp_path / "theirs.pth", spec)
    assert len(report.unfit) == 5 and "does not fit: attention.query" in report.to_text()
    state = network.state_dict()
    assert torch.equal(state["block8.0.conv1.kernel"], weights["block8.0.conv1.kernel"])
    assert bool(state["bntr4.bn.bias"].isfinite().all())


def test_a_head_of_several_layers_is_named(tmp_path: Path, weights: Weights) -> None:
    del weights["final.kernel"]
    weights |= {"final.0.weight": random(16, 24), "final.2.weight": random(16, 16)}
    message = refused(tmp_path, weights)
    assert "final.0.weight [16, 24] is not in ours" in message and "final.kernel is missing" in message


def test_another_encoders_dimensions(tmp_path: Path, weights: Weights) -> None:
    message = refused(tmp_path, weights, ImportSpec(OPENSEG, ("ones",), 0.1))
    assert "gives 16 dimensions" in message and "has 24" in message
    network, report = imported(tmp_path / "theirs.pth", ImportSpec(OPENSEG, ("ones",), 0.1, partial=True))
    assert network.basis.shape == (24, 24) and report.unfit == ["final.kernel is [24, 16], ours [24, 24]"]


def test_inputs_voxel_size_and_architecture(tmp_path: Path, weights: Weights) -> None:
    assert "has 1 input channels, named are: ones, ones, ones" in refused(
        tmp_path, weights, ImportSpec(CLIP, ONES, 0.1)
    )
    assert "colour" in refused(tmp_path, weights, ImportSpec(CLIP, ("colour",), 0.1))
    assert "does not say its voxel size" in refused(tmp_path, weights, ImportSpec(CLIP, ("ones",)))
    assert "'SPVCNN' is no network of the file's kind" in refused(
        tmp_path, weights, ImportSpec(CLIP, ("ones",), 0.1, arch="SPVCNN")
    )
    other = refused(tmp_path, weights, ImportSpec(CLIP, ("ones",), 0.1, arch="MinkUNet18A"))
    assert "block1.1.conv1.kernel is missing" in other
    weights["block3.0.conv1.kernel"] = random(27, 16, 40)
    assert "No known network has stages of (8, 8, 16, 40, 64, 32, 32, 24, 24) channels" in refused(tmp_path, weights)


def test_files_without_a_network(tmp_path: Path) -> None:
    assert "holds no tensors, only epoch, name" in refused(tmp_path, {"epoch": 3, "name": "x"})
    message = refused(tmp_path, {"state_dict": {"visual.conv1.weight": random(2, 2)}})
    assert "no tensor is called conv0p1s1.kernel or stem.0.kernel" in message and "visual.conv1.weight" in message
    with pytest.raises(CheckpointError, match="There is no file"):
        import_checkpoint(tmp_path / "none.pth", tmp_path / "o", SPEC)


def test_two_networks_in_one_file(tmp_path: Path, weights: Weights) -> None:
    mean = {f"teacher.{name}": value + 1 for name, value in weights.items()}
    both = {f"student.{name}": value for name, value in weights.items()} | mean
    assert "prefixes 'student.', 'teacher.'" in refused(tmp_path, both)
    assert "no network with the prefix 'ema.'" in refused(
        tmp_path, both, ImportSpec(CLIP, ("ones",), 0.1, prefix="ema.")
    )
    network, report = imported(tmp_path / "theirs.pth", ImportSpec(CLIP, ("ones",), 0.1, prefix="teacher."))
    assert torch.equal(network.basis, weights["final.kernel"] + 1)
    assert report.skipped == [f"student.* ({len(weights)} tensors)"]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 7, 500, -100])
def test_truncated_files(tmp_path: Path, weights: Weights, suffix: str, keep: int) -> None:
    path = tmp_path / f"m{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(weights, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"damaged, or not a checkpoint.*Download the file again"):
        import_checkpoint(path, tmp_path / "o", SPEC)


@pytest.mark.parametrize("content", [b"<html>404</html>", b"hello world, this is no pickle", bytes(range(256)) * 9])
def test_files_of_another_kind(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        import_checkpoint(tmp_path / "m.pth", tmp_path / "o", SPEC)


def test_objects_of_foreign_classes_need_trust(tmp_path: Path, weights: Weights) -> None:
    message = refused(tmp_path, {"state_dict": weights, "config": argparse.Namespace(voxel_size=0.1)})
    assert "argparse.Namespace" in message and "--trust" in message
    _, report = imported(tmp_path / "theirs.pth", ImportSpec(CLIP, ("ones",), 0.1, trust=True))
    assert not report.unfit


def test_trusted_objects_of_a_missing_package(
    tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("easydict_of_theirs")
    exec("class EasyDict(dict):\n    pass", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    torch.save({"state_dict": weights, "config": module.EasyDict(voxel_size=0.1)}, tmp_path / "m.pth")
    monkeypatch.delitem(sys.modules, module.__name__)
    with pytest.raises(CheckpointError, match=r"easydict_of_theirs, which is not installed.*pip install"):
        import_checkpoint(tmp_path / "m.pth", tmp_path / "o", ImportSpec(CLIP, ("ones",), trust=True))


def test_a_whole_module_saved(tmp_path: Path) -> None:
    source = trained(MinkUNet("MinkUNet14A", 1, 16, width=0.25))
    torch.save(source, tmp_path / "m.pth")
    network, _ = imported(tmp_path / "m.pth", ImportSpec(CLIP, ("ones",), 0.1, trust=True))
    assert torch.equal(network.basis, source.basis)


def test_command_line(tmp_path: Path) -> None:
    torch.save(openscene(MinkUNet("MinkUNet14A", 3, 512, width=0.25).state_dict()), tmp_path / "lseg.pth.tar")
    arguments = ["checkpoint", "import", str(tmp_path / "lseg.pth.tar"), str(tmp_path / "o.safetensors")]
    run = typer.testing.CliRunner().invoke
    result = run(app, [*arguments, "--encoder", "ViT-B-32-quickgelu,openai", "--voxel-size", "0.02"])
    assert result.exit_code == 0, result.output
    assert "MinkUNet14A, width 0.25, inputs ones, voxels of 0.02 m" in result.output
    _, info = load_checkpoint(tmp_path / "o.safetensors")
    assert info.identity == EncoderIdentity("ViT-B-32-quickgelu", "openai", 512)
    bank = TextBank(["a"], np.ones((1, 512), np.float32), EncoderIdentity("mine", "local", 512, "ab"), logit_scale=50.0)
    bank.save(tmp_path / "bank.npz")
    assert run(app, [*arguments, "--text", str(tmp_path / "bank.npz"), "--voxel-size", "0.02"]).exit_code == 0
    _, info = load_checkpoint(tmp_path / "o.safetensors")
    assert info.identity == bank.identity and info.logit_scale == 50.0
    refusal = run(app, [*arguments, "--encoder", "ViT-B-16-quickgelu,openai"])
    assert isinstance(refusal.exception, CheckpointError) and "--voxel-size" in str(refusal.exception)
