"""Where an image-text model's configuration and weights come from, and what to say when they do not come.

A model is named by two strings:

* ``model``: an open_clip name ("ViT-B-16-quickgelu"), "hf-hub:<owner>/<name>", or a folder that holds
  ``open_clip_config.json``, weights as ``*.safetensors`` and, if it has its own words, ``bpe_vocab.txt.gz``.
* ``pretrained``: an open_clip tag ("openai"), a local weights file, or ``<tag>:<file>``: the file holds the weights
  known by that tag, so features and texts of the tag and of the file go together. None for folders and the hub.

A weights file may hold both towers or the image tower alone (keys of ``model.visual``, with or without that prefix).
OpenAI's own downloads (``ViT-B-16.pt``) are TorchScript archives; their weights are read, their code is not run.
"""

from __future__ import annotations

import hashlib
import os
import socket
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import huggingface_hub.constants
import open_clip
import torch
from open_clip.factory import load_state_dict
from torch import Tensor

from ov3d_perception.errors import EncoderError
from ov3d_perception.paths import shipped

CONFIG_FILE = "open_clip_config.json"
BPE_FILE = "bpe_vocab.txt.gz"
_PROBE_SECONDS = 3.0
_OPENAI_NUMBERS = ("input_resolution", "context_length", "vocab_size")  # stored beside the weights, no weights


@dataclass(frozen=True)
class WeightsSource:
    """Resolved names: ``folder`` for a local model, ``file`` for local weights, ``tag`` as the identity shows it."""

    model: str
    tag: str
    file: Path | None = None
    folder: Path | None = None

    @property
    def open_clip_name(self) -> str:
        """The name by which open_clip finds the configuration."""
        return self.model if self.folder is None else f"local-dir:{self.folder}"


def resolve(model: str, pretrained: str | None) -> WeightsSource:
    """Decide what the two names mean. Raises :class:`EncoderError` where a file, a folder or a name does not exist."""
    folder = Path(shipped(model))
    if folder.is_dir():
        return _resolve_folder(folder)
    if model.startswith("hf-hub:"):
        return WeightsSource(model, "hub")
    if model not in open_clip.list_models():
        raise EncoderError(
            f"{model!r} is neither a folder nor a model that open_clip {open_clip.__version__} knows",
            "Give a folder with open_clip_config.json, hf-hub:<owner>/<name>, or one of open_clip.list_models()",
        )
    if not pretrained:
        raise EncoderError(
            f"No weights are named for {model}",
            f"Set pretrained to a file, <tag>:<file>, or one of {open_clip.list_pretrained_tags_by_model(model)}",
        )
    return _resolve_pretrained(model, pretrained)


def _resolve_folder(folder: Path) -> WeightsSource:
    if not (folder / CONFIG_FILE).is_file():
        raise EncoderError(f"The model folder {folder} has no {CONFIG_FILE}", "Point to an open_clip model folder")
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise EncoderError(
            f"The model folder {folder} holds {len(files)} *.safetensors files instead of one",
            "Restore the model's weights file (a git-lfs or download step may have been left out)",
        )
    folder = folder.resolve()
    return WeightsSource(folder.name, "local", files[0].resolve(), folder)


def _resolve_pretrained(model: str, pretrained: str) -> WeightsSource:
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained in tags:
        return WeightsSource(model, pretrained)
    if Path(pretrained).is_file():
        return WeightsSource(model, Path(pretrained).stem, Path(pretrained))
    tag, separator, name = pretrained.partition(":")
    if separator and tag and Path(name).is_file():
        return WeightsSource(model, tag, Path(name))
    raise EncoderError(
        f"pretrained={pretrained!r} is neither an existing weights file nor a tag of {model}",
        f"Give a file, <tag>:<file>, or one of {tags}",
    )


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_torchscript(path: Path) -> bool:
    """True for an archive of ``torch.jit.save``, as OpenAI publishes CLIP; False for a file of ``torch.save``."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/")[1:] == ["constants.pkl"] for name in archive.namelist())


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file in float32. Raises :class:`EncoderError` for one that cannot be read."""
    try:
        if is_torchscript(path):
            state = dict(torch.jit.load(str(path), map_location="cpu").state_dict())
        else:
            state = load_state_dict(str(path), device="cpu")
    except Exception as error:
        raise EncoderError(f"The weights file {path} cannot be read ({error})", "Fetch the file again") from error
    return {
        key: value.float() if torch.is_floating_point(value) else value
        for key, value in state.items()
        if key not in _OPENAI_NUMBERS
    }


def needs_quick_gelu(source: WeightsSource) -> bool | None:
    """Whether the weights were trained with QuickGELU (x sigmoid(1.702 x)) in the place of GELU; None if unknown.

    Known for open_clip's tags, and for TorchScript archives, which only OpenAI published.
    """
    if source.file is not None and is_torchscript(source.file):
        return True
    if source.tag not in open_clip.list_pretrained_tags_by_model(source.model):
        return None
    return bool((open_clip.get_pretrained_cfg(source.model, source.tag) or {}).get("quick_gelu", False))


def is_image_tower_only(state: dict[str, Tensor]) -> bool:
    """True if the weights hold no text tower."""
    return not any("token_embedding" in key or key.startswith("text.") for key in state)


@contextmanager
def no_long_wait_for_the_hub() -> Iterator[None]:
    """Within the block, an unreachable hub is not asked again and again: only the local cache is looked at.

    huggingface_hub retries each file for half a minute before it gives up on a machine without a network.
    """
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = before or not _hub_reachable()
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before


def _hub_reachable() -> bool:
    if urllib.request.getproxies():
        return True  # a proxy resolves names for us; nothing can be learned from here
    endpoint = urlparse(os.environ.get("HF_ENDPOINT", huggingface_hub.constants.ENDPOINT))
    try:
        port = endpoint.port or (80 if endpoint.scheme == "http" else 443)
        socket.create_connection((endpoint.hostname or "", port), timeout=_PROBE_SECONDS).close()
    except OSError:
        return False
    return True
