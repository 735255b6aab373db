"""What a checkpoint says of itself, read without PyTorch: the network's description, its words and its preparation.

A checkpoint is a safetensors file. Its metadata holds the format's name and version, :class:`CheckpointInfo` as JSON,
and a SHA-256 over the JSON and all tensors, so that a single flipped byte is noticed. Beside the network's tensors lies
one of text embeddings, :data:`EMBEDDINGS`. Version 1 had neither embeddings nor the preparation of clouds; it is still
read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError, deserialize

from ov3d_perception.errors import CheckpointError, EncoderError
from ov3d_perception.language.bank import TextBank
from ov3d_perception.language.text import TextSource, load_text_source
from ov3d_perception.types import EncoderIdentity, Preparation, WordEmbeddings

if TYPE_CHECKING:
    from ov3d_perception.networks.registry import Network

FORMAT = "ov3d-checkpoint"
VERSION = "2"
READABLE = ("1", VERSION)
EMBEDDINGS = "text_bank.embeddings"
_KINDS = {"F": "float", "BF": "bfloat", "I": "int", "U": "uint"}
_TORCH_NAMES = {f"{kind}{bits}": f"torch.{name}{bits}" for kind, name in _KINDS.items() for bits in (8, 16, 32, 64)}
_TORCH_NAMES["BOOL"] = "torch.bool"


@dataclass(frozen=True)
class CheckpointInfo:
    """All that is needed to rebuild and use the network.

    arch, width: see :func:`build_network`; inputs: names of :func:`point_inputs`; voxel_size: metres;
    identity, logit_scale: the image-text encoder that it was distilled from, and that encoder's inverse temperature;
    vocabulary: default classes, each with its prompt words; bank: embeddings of these words, and of others;
    preparation: of the clouds in training;
    recipe: the training recipe; commit: of the code that trained it; metrics: what it reached, by name;
    head_bias: the last of the point features is the constant one (imported networks);
    largest_outputs: of each layer, in the order in which they run, on the scans by which int8 was calibrated; none for
    a network that was not.
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
    largest_outputs: tuple[float, ...] = ()

    def build(self) -> Network:
        """An untrained network of this description."""
        from ov3d_perception.networks.registry import build_network  # PyTorch

        return build_network(self.arch, len(self.inputs), self.identity.dim, self.width, self.head_bias)

    def to_json(self) -> str:
        """One line of JSON; of the bank the words alone."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields["identity"] = dataclasses.asdict(self.identity)
        fields["preparation"] = dataclasses.asdict(self.preparation)
        fields["bank"] = None if self.bank is None else self.bank.words
        return json.dumps(fields)  # the order of the vocabulary is that of the class ids

    @classmethod
    def from_json(cls, text: str, embeddings: Float32[np.ndarray, "n d"] | None = None) -> CheckpointInfo:
        """The inverse of :meth:`to_json`; embeddings: of the bank's words."""
        fields = json.loads(text)
        words = fields.pop("bank", None)
        if words is not None and embeddings is not None:
            fields["bank"] = WordEmbeddings(tuple(words), embeddings)
        sweeps = fields.pop("sweeps", 1)  # version 1
        fields["preparation"] = Preparation(**fields.get("preparation", {"sweeps": sweeps}))
        fields["identity"] = EncoderIdentity(**fields["identity"])
        for name in ("inputs", "largest_outputs"):
            fields[name] = tuple(fields.get(name, ()))
        return cls(**fields)


def load_info(path: str | Path) -> CheckpointInfo:
    """A checkpoint's description, without its network. Raises CheckpointError as :func:`read_checkpoint`."""
    return read_checkpoint(Path(path))[1]


def read_checkpoint(path: Path) -> tuple[bytes, CheckpointInfo]:
    """The bytes and the description of a file whose checksum holds.

    Raises CheckpointError for a file that is missing, truncated, altered, of another program or another version.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}", "Check the path, or train one with `ov3d train`")
    try:
        content = path.read_bytes()
        tensors, metadata = parsed(content)
    except (ValueError, OSError) as error:
        raise _damaged(path, f"it does not parse as safetensors: {error}") from error
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
    if not is_whole(tensors, metadata):
        raise _damaged(path, "its content does not match its checksum")
    bank, embeddings = tensors.get(EMBEDDINGS), None
    if bank is not None:
        embeddings = np.frombuffer(bank["data"], "<f4").reshape(bank["shape"]).astype(np.float32)
    return content, CheckpointInfo.from_json(metadata["info"], embeddings)


def parsed(content: bytes) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Tensors by name (dtype, shape, data) and metadata of a safetensors file. Raises ValueError if it is none."""
    try:
        tensors = dict(deserialize(content))
        header = int.from_bytes(content[:8], "little")
        metadata: dict[str, str] = json.loads(content[8 : 8 + header]).get("__metadata__", {})
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return tensors, metadata


def is_whole(tensors: Mapping[str, Mapping[str, Any]], metadata: Mapping[str, str]) -> bool:
    """Whether the checksum in the metadata holds (:func:`digest` of ``info`` and the tensors)."""
    columns = ((n, _TORCH_NAMES.get(t["dtype"], t["dtype"]), t["shape"], t["data"]) for n, t in tensors.items())
    return digest(metadata.get("info", ""), columns) == metadata.get("sha256")


def digest(info: str, tensors: Iterable[tuple[str, str, Sequence[int], bytes | memoryview]]) -> str:
    """SHA-256 over the description and the tensors: name, PyTorch's name of the type, shape, little-endian bytes."""
    result = hashlib.sha256(info.encode())
    for name, dtype, shape, data in sorted(tensors, key=itemgetter(0)):
        result.update(f"|{name}|{dtype}|{tuple(shape)}|".encode())
        result.update(data)
    return result.hexdigest()


def words_of_checkpoint(info: CheckpointInfo, name: str | Path, remedy: str = "") -> TextBank:
    """The text bank that a checkpoint carries; name: of its file. Raises EncoderError where there is none."""
    if info.bank is None:
        raise EncoderError(
            f"The checkpoint {name} carries no text bank",
            remedy or f"Give text: a text bank (.npz) of {info.identity}, or a model with that text tower",
        )
    return TextBank(info.bank.words, info.bank.embeddings, info.identity, info.logit_scale)


def open_text(text: str, checkpoint: str | Path) -> TextSource:
    """The words of ``text``, a bank or a text tower (see :func:`load_text_source`); where empty, the checkpoint's own.

    Raises EncoderError, CheckpointError.
    """
    return load_text_source(text) if text else words_of_checkpoint(load_info(checkpoint), checkpoint)


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path} is damaged or not a checkpoint: {why}", "Copy or download the file again")
