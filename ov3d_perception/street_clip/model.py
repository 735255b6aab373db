"""The small CLIP of the simulated street: its architecture, its short BPE, and the folder it is shipped in."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from safetensors.torch import save

from ov3d_perception.files import replacing
from ov3d_perception.language.encoder import DenseSettings
from ov3d_perception.language.weights import BPE_FILE, CONFIG_FILE

WEIGHTS_FILE = "open_clip_model.safetensors"
MEAN, STD = (0.48, 0.46, 0.44), (0.25, 0.25, 0.25)


@dataclass(frozen=True)
class ModelSettings:
    """Sizes of both towers. merges: how many of CLIP's BPE merges are kept; image_size and patch in pixels."""

    dim: int = 128
    image_size: int = 96
    patch: int = 8
    width: int = 128
    layers: int = 4
    head_width: int = 32
    text_width: int = 128
    text_layers: int = 2
    text_heads: int = 4
    context: int = 24
    merges: int = 1500


def open_clip_config(settings: ModelSettings, dense: DenseSettings) -> dict[str, Any]:
    """The content of ``open_clip_config.json``; "dense" is ours, open_clip passes it over."""
    vocabulary = 2 * 256 + settings.merges + 2
    return {
        "model_cfg": {
            "embed_dim": settings.dim,
            "vision_cfg": {
                "image_size": settings.image_size,
                "patch_size": settings.patch,
                "width": settings.width,
                "layers": settings.layers,
                "head_width": settings.head_width,
            },
            "text_cfg": {
                "context_length": settings.context,
                "vocab_size": vocabulary,
                "width": settings.text_width,
                "heads": settings.text_heads,
                "layers": settings.text_layers,
            },
        },
        "preprocess_cfg": {"mean": list(MEAN), "std": list(STD)},
        "dense": asdict(dense),
    }


def write_bpe(path: Path, merges: int) -> None:
    """CLIP's byte-pair encoding cut to its first merges, in the layout that open_clip's tokenizer reads."""
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as stream:
        lines = stream.read().split("\n")[: merges + 1]
    with path.open("wb") as raw, gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as stream:
        stream.write("\n".join(lines).encode("utf-8"))


def create_folder(folder: Path, settings: ModelSettings, dense: DenseSettings) -> None:
    """Write the configuration and the BPE; weights follow with :func:`save_weights`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(open_clip_config(settings, dense), indent=2)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
    write_bpe(folder / BPE_FILE, settings.merges)


def create_untrained(folder: Path) -> tuple[open_clip.CLIP, SimpleTokenizer]:
    """A freshly initialised model of the folder's configuration, and its tokenizer."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # open_clip warns on the root logger that no weights are loaded
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}", bpe_path=str(folder / BPE_FILE))
    root.setLevel(level)
    return model, tokenizer


def save_weights(model: open_clip.CLIP, folder: Path) -> str:
    """Write both towers as float16, atomically; returns the file's SHA-256."""
    state = {key: value.detach().half().contiguous() for key, value in model.state_dict().items()}
    state["logit_scale"] = model.logit_scale.detach().float()
    state.pop("attn_mask", None)
    target = folder / WEIGHTS_FILE
    content = save(state)
    with replacing(target) as file:
        file.write(content)
    return hashlib.sha256(content).hexdigest()


def normalise(images: torch.Tensor) -> torch.Tensor:
    """uint8 (b, 3, h, w) to what the image tower is trained on."""
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) * 255 for x in (MEAN, STD))
    return (images.float() - mean) / std
