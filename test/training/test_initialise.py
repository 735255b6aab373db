"""A network that starts from another's weights."""

import dataclasses
from pathlib import Path

import pytest
import torch

from ov3d_perception.errors import CheckpointError
from ov3d_perception.networks.checkpoint import CheckpointInfo, save_checkpoint
from ov3d_perception.recipes.specs import NetworkSpec, Recipe, SourceSpec, TeacherSpec
from ov3d_perception.training.initialise import keep, start_from
from ov3d_perception.types import EncoderIdentity

ENCODER = EncoderIdentity("model", "somewhere", 8)
SPEC = NetworkSpec(arch="MinkUNet14A", width=0.1, inputs=("ones", "height"), voxel_size=0.2)
INFO = CheckpointInfo(SPEC.arch, SPEC.width, SPEC.inputs, SPEC.voxel_size, ENCODER)

RECIPE = Recipe("r", SourceSpec("bag", "drive"), TeacherSpec("model"))


@pytest.fixture
def checkpoint(tmp_path: Path):
    network = INFO.build()
    save_checkpoint(tmp_path / "first.safetensors", network, INFO)
    return tmp_path / "first.safetensors", network.state_dict()


def test_same_encoder_takes_all(checkpoint) -> None:
    path, theirs = checkpoint
    network = INFO.build()
    start_from(network, path, SPEC, ENCODER)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=0)


@pytest.mark.parametrize("dimension", [8, 5])
def test_other_encoder_keeps_its_fresh_head(checkpoint, dimension: int) -> None:
    path, theirs = checkpoint
    other = EncoderIdentity("another model", "elsewhere", dimension)
    network = dataclasses.replace(INFO, identity=other).build()
    head = network.final.kernel.detach().clone()
    start_from(network, path, SPEC, other)
    assert torch.equal(network.final.kernel, head)
    assert torch.equal(network.conv0p1s1.kernel, theirs["conv0p1s1.kernel"])


def test_another_network_is_refused(checkpoint) -> None:
    path, _ = checkpoint
    with pytest.raises(CheckpointError, match=r"0\.2.*asks for.*0\.1"):
        start_from(INFO.build(), path, dataclasses.replace(SPEC, voxel_size=0.1), ENCODER)


def test_inputs_are_matched_by_name(checkpoint) -> None:
    path, theirs = checkpoint
    spec = dataclasses.replace(SPEC, inputs=("height", "roughness"))
    network = dataclasses.replace(INFO, inputs=spec.inputs).build()
    start_from(network, path, spec, ENCODER)
    assert torch.equal(network.conv0p1s1.kernel[:, 0], theirs["conv0p1s1.kernel"][:, 1])
    assert not network.conv0p1s1.kernel[:, 1].any()
    assert torch.equal(network.block8[0].conv1.kernel, theirs["block8.0.conv1.kernel"])


def test_a_head_with_bias_is_not_taken(tmp_path: Path) -> None:
    info = dataclasses.replace(INFO, head_bias=True)
    source = info.build()
    save_checkpoint(tmp_path / "bias.safetensors", source, info)
    network = INFO.build()
    head = network.final.kernel.detach().clone()
    start_from(network, tmp_path / "bias.safetensors", SPEC, ENCODER)
    assert torch.equal(network.final.kernel, head)
    assert torch.equal(network.conv0p1s1.kernel, source.conv0p1s1.kernel)


def test_what_is_kept_lies_between_start_and_end(checkpoint) -> None:
    path, theirs = checkpoint
    network = INFO.build()
    with torch.no_grad():
        for value in network.state_dict().values():
            value.add_(1)
    ours = {name: value.clone() for name, value in network.state_dict().items()}
    spec = dataclasses.replace(SPEC, init=str(path), keep=0.25)
    keep(network, dataclasses.replace(RECIPE, network=spec), ENCODER)
    for name, value in network.state_dict().items():
        between = 0.25 * theirs[name] + 0.75 * ours[name] if value.is_floating_point() else ours[name]
        torch.testing.assert_close(value, between, msg=name)
    assert any("running_var" in name for name in ours)


def test_nothing_is_kept_of_another_encoders_network(checkpoint) -> None:
    path, _ = checkpoint
    other = EncoderIdentity("another model", "elsewhere", 8)
    with pytest.raises(CheckpointError, match=r"nothing of it can be kept"):
        start_from(INFO.build(), path, dataclasses.replace(SPEC, keep=0.5), other)
