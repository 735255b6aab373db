"""Self-describing checkpoints: a safetensors file whose metadata says what the network is and which words it answers.

The metadata holds the format's name and version, :class:`CheckpointInfo` as JSON, and a SHA-256 over the JSON and all
tensors, so that a single flipped byte is noticed. Beside the network's tensors lies one of text embeddings,
:data:`EMBEDDINGS`. Version 1 had neither embeddings nor the preparation of clouds; it is still read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ov3d_perception.errors import CheckpointError, Ov3dError
from ov3d_perception.files import replacing
from ov3d_perception.networks.registry import Network, build_network
from ov3d_perception.types import EncoderIdentity, Preparation, WordEmbeddings

FORMAT = "ov3d-checkpoint"
VERSION = "2"
READABLE = ("1", VERSION)
EMBEDDINGS = "text_bank.embeddings"


@dataclass(frozen=True)
class CheckpointInfo:
    """All that is needed to rebuild and use the network.

    arch, width: see :func:`build_network`; inputs: names of :func:`point_inputs`; voxel_size: metres;
    identity, logit_scale: the image-text encoder that it was distilled from, and that encoder's inverse temperature;
    vocabulary: default classes, each with its prompt words; bank: embeddings of these words, and of others;
    preparation: of the clouds in training;
    recipe: the training recipe; commit: of the code that trained it; metrics: what it reached, by name;
    head_bias: the last of the narrow features is the constant one (imported networks).
    """

    arch: str
    width: float
    inputs: tuple[str, ...]
    voxel_size: float
    identity: EncoderIdentity
    logit_scale: float = 100.0
    vocabulary: dict[str, list[str]] = field(default_factory=dict)
    bank: WordEmbeddings | None = field(default=None, compare=False)
    preparation: Preparation = field(default_factory=Preparation)
    recipe: dict[str, Any] = field(default_factory=dict)
    commit: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    head_bias: bool = False

    def build(self) -> Network:
        """An untrained network of this description."""
        return build_network(self.arch, len(self.inputs), self.identity.dim, self.width, self.head_bias)

    def to_json(self) -> str:
        """One line of JSON; of the bank the words alone."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields["identity"] = dataclasses.asdict(self.identity)
        fields["preparation"] = dataclasses.asdict(self.preparation)
        fields["bank"] = None if self.bank is None else self.bank.words
        return json.dumps(fields)  # the order of the vocabulary is that of the class ids

    @classmethod
    def from_json(cls, text: str, embeddings: Tensor | None = None) -> CheckpointInfo:
        """The inverse of :meth:`to_json`; embeddings: of the bank's words."""
        fields = json.loads(text)
        words = fields.pop("bank", None)
        if words is not None and embeddings is not None:
            fields["bank"] = WordEmbeddings(tuple(words), embeddings.float().numpy())
        sweeps = fields.pop("sweeps", 1)  # version 1
        fields["preparation"] = Preparation(**fields.get("preparation", {"sweeps": sweeps}))
        fields["identity"] = EncoderIdentity(**fields["identity"])
        fields["inputs"] = tuple(fields["inputs"])
        return cls(**fields)


def save_checkpoint(
    path: str | Path, network: Network, info: CheckpointInfo, dtype: torch.dtype = torch.float32
) -> None:
    """Writes the checkpoint in one step: another process sees the old file or the new one, never half of it.

    dtype: of the stored kernels (torch.float16 halves the file); normalisation stays float32.
    """
    path = Path(path)
    tensors = {
        name: (value.to(dtype) if value.dim() >= 2 else value).detach().cpu().contiguous()
        for name, value in network.state_dict().items()
    }
    if info.bank is not None:
        tensors[EMBEDDINGS] = torch.from_numpy(info.bank.embeddings).float().contiguous()
    text = info.to_json()
    metadata = {"format": FORMAT, "version": VERSION, "info": text, "sha256": _digest(text, tensors)}
    content = save(tensors, metadata)
    with replacing(path) as file:
        file.write(content)


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> tuple[Network, CheckpointInfo]:
    """The network in float32 and evaluation mode, and its description.

    Raises CheckpointError for a file that is missing, truncated, altered, of another program or another version.
    """
    path = Path(path)
    tensors, info = _checked(path)
    broken = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise CheckpointError(f"{path} holds non-finite weights in {broken[0]}", "Train it anew with a lower rate")
    try:
        network = info.build()
        network.load_state_dict({n: v.float() if v.is_floating_point() else v for n, v in tensors.items()})
    except (RuntimeError, Ov3dError) as error:
        raise CheckpointError(
            f"The weights in {path} do not fit {info.arch}: {error}", "Use the release that wrote it"
        ) from error
    return network.eval().to(device), info


def load_info(path: str | Path) -> CheckpointInfo:
    """A checkpoint's description, without building its network. Raises CheckpointError as :func:`load_checkpoint`."""
    return _checked(Path(path))[1]


def _checked(path: Path) -> tuple[dict[str, Tensor], CheckpointInfo]:
    """The network's tensors and the description, of a file whose checksum holds."""
    metadata, tensors = _read(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is a safetensors file, but not a checkpoint of this project",
            "Point to one written by `ov3d train`",
        )
    if metadata.get("version") not in READABLE:
        raise CheckpointError(
            f"{path} has checkpoint format {metadata.get('version')}, this program reads {' and '.join(READABLE)}",
            "Use the release that wrote it, or train or download it anew",
        )
    if _digest(metadata.get("info", ""), tensors) != metadata.get("sha256"):
        raise _damaged(path, "its content does not match its checksum")
    return tensors, CheckpointInfo.from_json(metadata["info"], tensors.pop(EMBEDDINGS, None))


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}", "Check the path, or train one with `ov3d train`")
    try:
        with safe_open(str(path), framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, UnicodeDecodeError, ValueError, OSError) as error:
        raise _damaged(path, f"it does not parse as safetensors: {error}") from error


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path} is damaged or not a checkpoint: {why}", "Copy or download the file again")


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"|{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
