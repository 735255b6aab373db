"""Loading image-text models, and what is said when they do not load."""

from __future__ import annotations

import json
import shutil
import socket
import urllib.request
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from ov3d_perception.errors import EncoderError
from ov3d_perception.language import encoder as encoders
from ov3d_perception.language import weights
from ov3d_perception.language.encoder import DenseSettings, Encoder, load_encoder
from ov3d_perception.street_clip.model import WEIGHTS_FILE, create_untrained


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 72, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def standard_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of one of open_clip's own small architectures, image tower alone."""
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-S-32-alt", load_weights=False)
    path = tmp_path_factory.mktemp("weights") / "tower.safetensors"
    save_file({key: value.contiguous() for key, value in model.visual.state_dict().items()}, str(path))
    return path


def test_folder_model_has_both_towers_and_its_files_hash(tiny: Encoder, tiny_folder: Path):
    assert (tiny.identity.model, tiny.identity.pretrained, tiny.identity.dim) == ("tiny_clip", "local", 16)
    assert tiny.identity.sha256 == weights.sha256(tiny_folder / WEIGHTS_FILE)
    assert tiny.has_text
    assert tiny.logit_scale == pytest.approx(1 / 0.07, rel=1e-3)


def test_text_embeddings_are_open_clips_normalised(tiny: Encoder, tiny_folder: Path):
    model, tokenizer = create_untrained(tiny_folder)
    model.load_state_dict({k: v.float() for k, v in load_file(tiny_folder / WEIGHTS_FILE).items()}, strict=False)
    with torch.no_grad():
        expected = model.eval().encode_text(tokenizer(["a car", "two trees"]))
    torch.testing.assert_close(tiny.encode_text(["a car", "two trees"]), expected / expected.norm(dim=1, keepdim=True))
    assert tiny.encode_text([]).shape == (0, 16)


def test_dense_features_do_not_depend_on_the_batch(tiny: Encoder, image: np.ndarray):
    other = image[::-1].copy()
    both = tiny.dense([image, other])
    assert both.shape == (2, 16, 5, 9)
    torch.testing.assert_close(both[1:], tiny.dense([other]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(tiny.dense(torch.from_numpy(image).permute(2, 0, 1)[None]), both[:1])


def test_dense_size_is_rounded_to_whole_patches(tiny: Encoder, image: np.ndarray):
    assert tiny.dense_size((40, 72), (61, 99)) == (64, 96)
    assert tiny.dense_size((40, 72), (1, 1)) == (8, 8)
    assert tiny.dense([image], size=(61, 99)).shape == (1, 16, 8, 12)


def test_dense_scale_is_used_when_no_size_is_given(tiny: Encoder, image: np.ndarray):
    doubled = Encoder(tiny.model, tiny.tokenizer, tiny.identity, dense=DenseSettings(scale=2.0))
    torch.testing.assert_close(doubled.dense([image]), tiny.dense([image], size=(80, 144)))


def test_several_scales_are_averaged_on_the_grid_of_the_first(tiny: Encoder, image: np.ndarray):
    both = Encoder(tiny.model, tiny.tokenizer, tiny.identity, dense=DenseSettings(scales=(1.0, 0.5)))
    whole, half = tiny.dense([image]), tiny.dense([image], size=(20, 36))
    assert half.shape == (1, 16, 2, 4)  # 2.5 and 4.5 patches, rounded to even
    total = whole + functional.interpolate(half, (5, 9), mode="bilinear")
    torch.testing.assert_close(both.dense([image]), functional.normalize(total, dim=1), atol=1e-5, rtol=1e-5)


def test_pixels_are_normalised_by_the_models_own_numbers(tiny: Encoder):
    white = np.full((8, 8, 3), 255, np.uint8)
    expected = (1 - torch.tensor([0.48, 0.46, 0.44])) / 0.25
    torch.testing.assert_close(tiny.pixels([white], (8, 8))[0, :, 0, 0], expected)


def test_bfloat16_agrees_roughly(tiny: Encoder, tiny_folder: Path, image: np.ndarray, monkeypatch):
    monkeypatch.setattr(encoders, "halves_in_vectors", lambda device: True)
    rough = load_encoder(str(tiny_folder), device="cpu", precision="bfloat16").dense([image])
    assert rough.dtype == torch.float32
    assert (rough * tiny.dense([image])).sum(1).min() > 0.99


def test_a_processor_without_vectors_of_halves_computes_in_float32(tiny_folder: Path, image: np.ndarray, monkeypatch):
    monkeypatch.setattr(encoders, "halves_in_vectors", lambda device: False)
    asked, whole = (load_encoder(str(tiny_folder), device="cpu", precision=name) for name in ("bfloat16", "float32"))
    np.testing.assert_array_equal(asked.dense([image]), whole.dense([image]))
    assert asked.dense_key == whole.dense_key


def test_windows_go_one_by_one_in_half_precision_on_a_cpu(tiny_folder: Path, image: np.ndarray, monkeypatch):
    """PyTorch's bfloat16 projection of a batch's transposed tokens copies the weights for each token."""
    monkeypatch.setattr(encoders, "halves_in_vectors", lambda device: True)
    for precision, expected in (("bfloat16", {1}), ("float32", {2, 4})):
        encoder = load_encoder(str(tiny_folder), None, "cpu", precision).see(window=16, stride=16, batch=4)
        seen, run = set(), encoder._dense_batch

        def counted(pixels, seen=seen, run=run):
            seen.add(len(pixels))
            return run(pixels)

        monkeypatch.setattr(encoder, "_dense_batch", counted)
        encoder.dense([image], (32, 48))
        assert seen == expected


def test_image_embedding_is_open_clips(tiny: Encoder, image: np.ndarray):
    with torch.no_grad():
        expected = tiny.model.encode_image(tiny.pixels([image], (32, 32)), normalize=True)
    torch.testing.assert_close(tiny.encode_image([image]), expected)


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8)]
)
def test_images_that_are_not_rgb_uint8_are_refused(tiny: Encoder, bad: np.ndarray):
    with pytest.raises(EncoderError, match="not RGB uint8"):
        tiny.dense([bad], size=(8, 8))


def test_images_of_two_sizes_are_refused(tiny: Encoder, image: np.ndarray):
    with pytest.raises(EncoderError, match="sizes"):
        tiny.dense([image, image[:8]])
    with pytest.raises(EncoderError, match="no image"):
        tiny.dense([])


def test_image_tower_alone_knows_no_words(standard_file: Path):
    encoder = load_encoder("ViT-S-32-alt", f"my_tag:{standard_file}", device="cpu")
    assert not encoder.has_text
    assert encoder.identity.pretrained == "my_tag"
    assert encoder.identity.dim == 256
    with pytest.raises(EncoderError, match="text bank"):
        encoder.encode_text(["car"])


def test_a_plain_file_is_its_own_tag(standard_file: Path):
    assert load_encoder("ViT-S-32-alt", str(standard_file), device="cpu").identity.pretrained == "tower"


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("no-such-model", None, "neither a folder nor a model"),
        ("ViT-B-32", None, "No weights are named"),
        ("ViT-B-32", "no_such_tag", "neither an existing weights file nor a tag"),
        ("ViT-B-32", "openai:/no/such/file", "neither an existing weights file nor a tag"),
    ],
)
def test_names_that_do_not_exist(model: str, pretrained: str | None, message: str):
    with pytest.raises(EncoderError, match=message):
        load_encoder(model, pretrained, device="cpu")


def test_weights_of_another_model(standard_file: Path, tiny_folder: Path):
    with pytest.raises(EncoderError, match="do not fit"):
        load_encoder("ViT-S-32", str(tiny_folder / WEIGHTS_FILE), device="cpu")


def test_truncated_weights(tiny_folder: Path, tmp_path: Path):
    folder = tmp_path / "cut"
    shutil.copytree(tiny_folder, folder)
    whole = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EncoderError, match="cannot be read"):
        load_encoder(str(folder), device="cpu")
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(EncoderError, match=r"0 .*safetensors"):
        load_encoder(str(folder), device="cpu")


def test_a_folder_without_a_configuration(tmp_path: Path):
    with pytest.raises(EncoderError, match="has no open_clip_config"):
        load_encoder(str(tmp_path), device="cpu")
    (tmp_path / "open_clip_config.json").write_text("{}")
    (tmp_path / "x.safetensors").write_bytes(b"")
    with pytest.raises(EncoderError, match="does not make a model"):
        load_encoder(str(tmp_path), device="cpu")


def test_an_unreachable_hub_is_not_asked_again_and_again(monkeypatch: pytest.MonkeyPatch):
    """The model is built with the hub's client offline (it would retry for half a minute), and online again after."""
    seen: list[bool] = []

    def refuse(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    def create(*_: object, **__: object) -> None:
        seen.append(huggingface_hub.constants.HF_HUB_OFFLINE)
        raise RuntimeError("not in the cache")

    monkeypatch.setattr(urllib.request, "getproxies", dict)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(open_clip, "create_model", create)
    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(EncoderError, match=r"not in the cache.*pretrained=<tag>:<file>"):
        load_encoder("ViT-B-32", "laion2b_s34b_b79k", device="cpu")
    assert seen == [True]
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False


def test_a_reachable_hub_is_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        with weights.no_long_wait_for_the_hub():
            assert huggingface_hub.constants.HF_HUB_OFFLINE is False


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_cuda(tiny_folder: Path):
    with pytest.raises(EncoderError, match="no CUDA device"):
        load_encoder(str(tiny_folder), device="cuda")


def test_unknown_precision(tiny_folder: Path):
    with pytest.raises(EncoderError, match="precision"):
        load_encoder(str(tiny_folder), device="cpu", precision="int3")


class _Folder(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def as_openai_publishes(model: torch.nn.Module, path: Path) -> Path:
    """A TorchScript archive of the weights in float16, with OpenAI's three numbers beside them."""
    root = _Folder()
    numbers = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    for name, value in {**model.state_dict(), **{key: torch.tensor(value) for key, value in numbers.items()}}.items():
        *folders, leaf = name.split(".")
        at = root
        for folder in folders:
            if not hasattr(at, folder):
                at.add_module(folder, _Folder())
            at = getattr(at, folder)
        at.register_buffer(leaf, value.half() if value.is_floating_point() else value)
    torch.jit.script(root).save(str(path))
    return path


def test_openais_own_archive_and_its_activation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: np.ndarray):
    small = {"layers": 1, "width": 64, "image_size": 32, "patch_size": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
    for name, quick in (("tiny-quickgelu", True), ("tiny", False)):
        config = {"embed_dim": 16, "quick_gelu": quick, "vision_cfg": small, "text_cfg": text}
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
    monkeypatch.setattr("open_clip.factory._MODEL_CONFIGS", {})
    monkeypatch.setattr("open_clip.factory._MODEL_CONFIG_PATHS", [])
    open_clip.add_model_config(tmp_path)
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-quickgelu", load_weights=False).eval()
    path = as_openai_publishes(model, tmp_path / "ViT.pt")
    encoder = load_encoder("tiny-quickgelu", f"openai:{path}", device="cpu")
    assert encoder.has_text
    pixels = encoder.pixels([image], (32, 32))
    with torch.inference_mode():
        expected = functional.normalize(model.encode_image(pixels), dim=-1)
    assert torch.allclose(encoder.encode_image([image]), expected, atol=2e-3)  # the archive has float16
    with pytest.raises(
        EncoderError, match=r"trained with QuickGELU, the model tiny has GELU\. Name the model tiny-quick"
    ):
        load_encoder("tiny", f"openai:{path}", device="cpu")


@pytest.mark.parametrize(
    ("model", "tag", "needed"), [("ViT-B-16", "laion2b_s34b_b88k", False), ("ViT-B-16", "openai", True)]
)
def test_activation_of_a_tag(model: str, tag: str, needed: bool):
    assert weights.needs_quick_gelu(weights.WeightsSource(model, tag)) is needed
    assert weights.needs_quick_gelu(weights.WeightsSource(model, "mine")) is None
