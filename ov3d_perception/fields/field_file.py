"""Fields in files: safetensors that say what they are, written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from ov3d_perception.errors import CheckpointError
from ov3d_perception.fields.field import FieldSettings, RadianceField
from ov3d_perception.fields.language_branch import BranchSettings, LanguageBranch
from ov3d_perception.fields.rays import Ndc
from ov3d_perception.fields.scene import Space
from ov3d_perception.files import replacing
from ov3d_perception.networks.checkpoint_info import digest, is_whole, parsed
from ov3d_perception.types import EncoderIdentity

T = TypeVar("T")
FORMAT, VERSION = "ov3d-field", "1"


@dataclass(frozen=True)
class FieldFile:
    """A field, and what its branch knows of language, if anything yet.

    space: what it fills. identity, logit_scale: of the encoder. words: of the classes it was trained on, text (c, d)
    their embeddings. background: grey behind everything. recipe: that made it; figures: what it reached, by name.
    """

    field: RadianceField
    space: Space
    branch: LanguageBranch | None = None
    identity: EncoderIdentity | None = None
    logit_scale: float = 100.0
    words: tuple[str, ...] = ()
    text: Tensor | None = None
    background: float = 0.0
    recipe: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)


def save_field(path: Path | str, content: FieldFile) -> None:
    """Write a field file. Raises WriteError."""
    tensors = {f"field.{name}": value for name, value in content.field.state_dict().items()}
    if content.branch is not None:
        tensors |= {f"branch.{name}": value for name, value in content.branch.state_dict().items()}
    if content.text is not None:
        tensors["text"] = content.text
    tensors["space.box"] = content.space.box
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    text = json.dumps(_description(content))
    columns = ((n, str(t.dtype), t.shape, t.reshape(-1).view(torch.uint8).numpy().data) for n, t in tensors.items())
    metadata = {"format": FORMAT, "version": VERSION, "info": text, "sha256": digest(text, columns)}
    data = save(tensors, metadata)
    with replacing(path) as file:
        file.write(data)


def load_field(path: Path | str, device: str | torch.device = "cpu") -> FieldFile:
    """Read a field file. Raises CheckpointError for one that is missing, cut, altered or of another program."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no field {path}", "Check the path, or train one: ov3d field train")
    try:
        content = path.read_bytes()
        tensors, metadata = parsed(content)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no field: {error}", "Copy it again, or train it anew") from error
    if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
        raise CheckpointError(f"{path} is no field file of this release", "Name one written by ov3d field train")
    if not is_whole(tensors, metadata):
        raise CheckpointError(f"{path} is damaged: its checksum does not hold", "Copy it again, or train it anew")
    return _rebuilt(json.loads(metadata["info"]), load(content), torch.device(device))


def settings_from(kind: Callable[..., T], stored: dict[str, Any]) -> T:
    """Settings from what JSON made of them: its lists are tuples."""
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()})


def _description(content: FieldFile) -> dict[str, Any]:
    ndc = content.space.ndc
    return {
        "field": dataclasses.asdict(content.field.settings),
        "size": content.field.size,
        "branch": None if content.branch is None else dataclasses.asdict(content.branch.settings),
        "ndc": None if ndc is None else [ndc.T_world_reference.tolist(), ndc.half, ndc.near],
        "identity": None if content.identity is None else dataclasses.asdict(content.identity),
        "logit_scale": content.logit_scale,
        "words": content.words,
        "background": content.background,
        "recipe": content.recipe,
        "figures": content.figures,
    }


def _rebuilt(info: dict[str, Any], tensors: dict[str, Tensor], device: torch.device) -> FieldFile:
    shape = settings_from(FieldSettings, info["field"])
    size = tuple(info["size"])
    box = tensors["field.box"]
    model = RadianceField(shape, size, box)
    model.occupied = torch.empty_like(tensors["field.occupied"])
    model.load_state_dict(_part(tensors, "field."))
    branch = None
    if info["branch"] is not None:
        branch = LanguageBranch(settings_from(BranchSettings, info["branch"]), size, shape.features)
        branch.load_state_dict(_part(tensors, "branch."))
    ndc = None
    if info["ndc"] is not None:
        pose, half, near = info["ndc"]
        ndc = Ndc(np.asarray(pose, np.float32), (half[0], half[1]), near)
    return FieldFile(
        model.to(device),
        Space(tensors["space.box"], ndc),
        None if branch is None else branch.to(device),
        None if info["identity"] is None else EncoderIdentity(**info["identity"]),
        info["logit_scale"],
        tuple(info["words"]),
        tensors.get("text"),
        info["background"],
        info["recipe"],
        info["figures"],
    )


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
