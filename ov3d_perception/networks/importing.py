"""Weights of OpenScene, GGSD, SLidR and CLIP2Scene become a checkpoint of ours that computes the same.

MinkUNet has MinkowskiEngine's names here and SPVCNN has torchsparse's, so names fit. What is converted is

* the order of even kernels: x runs fastest here and in MinkowskiEngine, z in torchsparse (odd ones are all alike);
* a MinkUNet's stem of size 3 (SLidR, CLIP2Scene): put into the middle of ours of size 5, zero around it;
* the head: ``final`` of a MinkUNet; of an SPVCNN ``point_mapping_global`` (which CLIP2Scene compares with its text) or
  else ``classifier.0``. With a bias, that is the head's last row, against a last feature that is always one. A head
  of several layers is no linear map and does not fit;
* the scale of the intensity (0..255 in SLidR's and CLIP2Scene's nuScenes): multiplied into the stem;
* inputs that are the same (OpenScene's three ones): they become one, the stem's matrices for them are added.

Heads that are not for text, stored text embeddings and other networks in the file are skipped and named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ov3d_perception.errors import CheckpointError
from ov3d_perception.networks import minkunet, spvcnn
from ov3d_perception.networks.checkpoint import CheckpointInfo, save_checkpoint
from ov3d_perception.networks.foreign import ForeignCheckpoint, read_foreign
from ov3d_perception.networks.inputs import INPUTS
from ov3d_perception.types import EncoderIdentity

_LEFT_OUT = ("local_feature.", "classifier.", "point_mapping_local.", "point_mapping_global_random.", "text_embeddings")
"""Of CLIP2Scene: heads of other losses and for fine-tuning, and its text."""
_COUNTER = "num_batches_tracked"  # of norms; nothing is computed from it, and old files have none


@dataclass(frozen=True)
class Family:
    """How a kind of network names its tensors.

    stages: for the stem and each of the eight stages, a kernel whose last dimension is its channels; channels: these,
    by architecture; scaled: channels at a width; head: ours; heads: theirs, of which the first that is there counts.
    """

    stages: tuple[str, ...]
    channels: dict[str, tuple[int, ...]]
    scaled: Callable[[int, float], int]
    head: str
    heads: tuple[str, ...]

    @property
    def stem(self) -> str:
        """The first kernel."""
        return self.stages[0]


MINKUNET = Family(
    stages=("conv0p1s1.kernel", *(f"block{i}.0.conv1.kernel" for i in range(1, 9))),
    channels={name: (design.stem, *design.planes) for name, design in minkunet.ARCHITECTURES.items()},
    scaled=minkunet.scaled,
    head="final.kernel",
    heads=("final",),
)
SPVCNN = Family(
    stages=(
        "stem.0.kernel",
        *(f"stage{i}.1.net.0.kernel" for i in range(1, 5)),
        *(f"up{i}.1.0.net.0.kernel" for i in range(1, 5)),
    ),
    channels=dict.fromkeys(spvcnn.ARCHITECTURES, spvcnn.CHANNELS),
    scaled=lambda channels, width: int(channels * width),
    head="classifier.0.weight",
    heads=("point_mapping_global", "classifier.0"),
)


@dataclass(frozen=True)
class Head:
    """kernel: [features, dimensions of the image-text space]; names: the tensors that it was made of."""

    kernel: Tensor
    bias: Tensor | None
    names: tuple[str, ...]


@dataclass(frozen=True)
class ImportReport:
    """What was written and what was not.

    taken: number of tensors; unfit: each tensor that does not fit, and why; skipped: tensors that the network does not
    need; notes: what to know before use.
    """

    info: CheckpointInfo
    taken: int
    unfit: list[str]
    skipped: list[str]
    notes: list[str]

    def to_text(self) -> str:
        """Some lines for a person."""
        info = self.info
        lines = [
            f"{info.arch}, width {info.width:g}, inputs {', '.join(info.inputs)}, voxels of {info.voxel_size:g} m, "
            f"head for {info.identity}: {self.taken} tensors taken",
            *(f"does not fit: {line}" for line in self.unfit),
            *(f"skipped: {name}" for name in self.skipped),
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class ImportSpec:
    """What a file does not say of itself, and how it is to be taken.

    identity: the image-text encoder whose features it learned; with ``dim`` 0, of as many as the head gives.
    logit_scale: that encoder's. inputs: names of :func:`point_inputs`, one for each input channel. voxel_size: metres;
    default: what the file's configuration says. arch: default: what the tensors' names and shapes say.
    intensity_scale: what the intensity was multiplied by in its training, against ours in [0, 1].
    trust, prefix: see :func:`read_foreign`. partial: take what fits, leave the rest as initialised, and raise nothing.
    """

    identity: EncoderIdentity
    inputs: tuple[str, ...]
    voxel_size: float | None = None
    logit_scale: float = 100.0
    arch: str = ""
    intensity_scale: float = 1.0
    prefix: str | None = None
    trust: bool = False
    partial: bool = False


def import_checkpoint(path: Path, out: Path, spec: ImportSpec) -> ImportReport:
    """Reads another release's checkpoint and writes ours to ``out``.

    Raises CheckpointError for a file that cannot be read or does not fit; every tensor that does not is named.
    """
    source = read_foreign(path, spec.trust, spec.prefix)
    family = MINKUNET if MINKUNET.stem in source.tensors else SPVCNN
    head = _head(source.tensors, family)
    info = _describe(path, source, family, head, spec)
    network = info.build()
    target = network.state_dict()
    tensors, skipped = _select(source.tensors, family, head, spec)
    fitted, unfit = _fit(tensors, target, family)
    if unfit and not spec.partial:
        raise CheckpointError(
            f"{path} does not fit {info.arch} of width {info.width:g}: {'; '.join(unfit)}",
            "Name another --arch, or take what fits with --partial",
        )
    network.load_state_dict(target | fitted)
    save_checkpoint(out, network, info)
    skipped += [f"{module}.* ({count} tensors)" for module, count in source.others.items()]
    return ImportReport(info, len(fitted), unfit, skipped, _notes(source, info, family))


def _describe(
    path: Path, source: ForeignCheckpoint, family: Family, head: Head | None, spec: ImportSpec
) -> CheckpointInfo:
    arch, width = _recognise(source.tensors, family, head, spec.arch)
    channels, unknown = source.tensors[family.stem].shape[-2], set(spec.inputs) - set(INPUTS)
    if unknown or channels != len(spec.inputs):
        raise CheckpointError(
            f"The network in {path} has {channels} input channels, named are: {', '.join(spec.inputs) or 'none'}",
            f"Name {', '.join(INPUTS)} for each: ones,ones,ones for OpenScene and GGSD, intensity for CLIP2Scene",
        )
    return CheckpointInfo(
        arch=arch,
        width=width,
        inputs=tuple(dict.fromkeys(spec.inputs)),
        voxel_size=_voxel_size(path, source, spec.voxel_size),
        identity=replace(spec.identity, dim=_dimensions(path, head, spec)),
        logit_scale=spec.logit_scale,
        commit=f"imported from {path.name}, sha256 {source.sha256[:16]}",
        head_bias=head is not None and head.bias is not None,
    )


def _head(tensors: dict[str, Tensor], family: Family) -> Head | None:
    """The head, if it is one linear map: a kernel [1, features, d] or [features, d], or a weight [d, features]."""
    for name in family.heads:
        kernel, weight, bias = (tensors.get(f"{name}.{part}") for part in ("kernel", "weight", "bias"))
        if kernel is None and weight is not None:
            kernel = weight.T
        if kernel is not None and kernel.dim() == 3 and len(kernel) == 1:
            kernel = kernel[0]
        if kernel is not None and kernel.dim() == 2 and (bias is None or bias.numel() == kernel.shape[1]):
            names = tuple(f"{name}.{part}" for part in ("kernel", "weight", "bias"))
            return Head(kernel.float(), None if bias is None else bias.float().flatten(), names)
    return None


def _recognise(tensors: dict[str, Tensor], family: Family, head: Head | None, arch: str) -> tuple[str, float]:
    """(architecture, width); ``arch`` overrides what the names and shapes say."""
    if arch and arch not in family.channels:
        raise CheckpointError(f"'{arch}' is no network of the file's kind", f"Choose {' or '.join(family.channels)}")
    there = {index: tensors[name].shape[-1] for index, name in enumerate(family.stages) if name in tensors}
    if family is MINKUNET:
        blocks = _blocks(tensors)
        candidates = [name for name, design in minkunet.ARCHITECTURES.items() if design.layers == blocks]
    else:
        blocks = ()
        candidates = ["SPVCNNConcat" if head is not None and len(head.kernel) > there.get(8, 0) else "SPVCNN"]
    for name in [arch] if arch else candidates:
        planned = family.channels[name]
        for width in sorted({actual / planned[i] for i, actual in there.items()}, key=lambda w: abs(w - 1)):
            if all(family.scaled(planned[i], width) == actual for i, actual in there.items()):
                return name, width
    if arch:
        return arch, there[0] / family.channels[arch][0]
    raise CheckpointError(
        f"No known network has stages of {tuple(there.values())} channels" + f" and {blocks} blocks" * bool(blocks),
        f"Known are {', '.join(family.channels)}, at any width; --arch and --partial take what fits one of them",
    )


def _blocks(tensors: dict[str, Tensor]) -> tuple[int, ...]:
    """Number of blocks of each of a MinkUNet's stages."""
    blocks = {tuple(name.split(".")[:2]) for name in tensors if name.startswith("block")}
    return tuple(sum(stage == f"block{i}" for stage, *_ in blocks) for i in range(1, 9))


def _voxel_size(path: Path, source: ForeignCheckpoint, given: float | None) -> float:
    stated = source.config.get("voxel_size") if given is None else given
    if not isinstance(stated, float):
        raise CheckpointError(f"{path} does not say its voxel size", "Say it: --voxel-size, in metres")
    return stated


def _dimensions(path: Path, head: Head | None, spec: ImportSpec) -> int:
    """Of the image-text space: the head's, which must be the encoder's; with ``partial`` the encoder's."""
    theirs, encoders = 0 if head is None else head.kernel.shape[1], spec.identity.dim
    if encoders and (head is None or spec.partial or theirs == encoders):
        return encoders
    if encoders or not theirs:
        raise CheckpointError(
            f"The head in {path} gives {theirs} dimensions, {spec.identity.model}'s image-text space has {encoders}",
            "Name the encoder whose features it learned",
        )
    return theirs


def _select(
    tensors: dict[str, Tensor], family: Family, head: Head | None, spec: ImportSpec
) -> tuple[dict[str, Tensor], list[str]]:
    """(tensors with head and stem as ours, names of tensors that are not needed)."""
    used = head.names if head else ()
    skipped = [name for name in tensors if name.startswith(_LEFT_OUT) and name not in used]
    selected = {name: value for name, value in tensors.items() if name not in used and name not in skipped}
    if head:
        rows = head.kernel if head.bias is None else torch.cat([head.kernel, head.bias[None]])
        selected[family.head] = rows if family is MINKUNET else rows.T
    selected[family.stem] = _stem(selected[family.stem].float(), spec)
    return selected, skipped


def _stem(kernel: Tensor, spec: ImportSpec) -> Tensor:
    """One matrix for each different input, for an intensity in [0, 1]."""
    names = list(dict.fromkeys(spec.inputs))
    stem = kernel.new_zeros(len(kernel), len(names), kernel.shape[2])
    for column, name in enumerate(spec.inputs):
        stem[:, names.index(name)] += kernel[:, column] * (spec.intensity_scale if name == "intensity" else 1.0)
    return stem


def _fit(tensors: dict[str, Tensor], target: dict[str, Tensor], family: Family) -> tuple[dict[str, Tensor], list[str]]:
    """(tensors that fit, as ours; names of those that do not, and why)."""
    fitted: dict[str, Tensor] = {}
    unfit = []
    for name, value in tensors.items():
        converted = _converted(value, target[name].shape, family) if name in target else value
        if name not in target:
            unfit.append(f"{name} {list(value.shape)} is not in ours")
        elif converted.shape != target[name].shape:
            unfit.append(f"{name} is {list(value.shape)}, ours {list(target[name].shape)}")
        elif not bool(torch.isfinite(converted).all()):
            unfit.append(f"{name} is not finite")
        else:
            fitted[name] = converted
    unfit += [f"{name} is missing" for name in target if name not in tensors and not name.endswith(_COUNTER)]
    return fitted, unfit


def _converted(value: Tensor, shape: torch.Size, family: Family) -> Tensor:
    """The tensor in our layout; ``shape`` is the one wanted."""
    value = value.float() if value.is_floating_point() else value
    if value.dim() == 3 and len(value) == 1 and len(shape) == 2:
        value = value[0]  # size 1, as older versions of MinkowskiEngine store it
    if value.dim() == 3 and len(value) == 27 and shape[:1] == (125,):
        grown = value.new_zeros(5, 5, 5, *value.shape[1:])
        grown[1:4, 1:4, 1:4] = value.view(3, 3, 3, *value.shape[1:])
        value = grown.flatten(0, 2)
    if family is SPVCNN and value.dim() == 3 and len(value) == 8:
        value = value.view(2, 2, 2, *value.shape[1:]).transpose(0, 2).flatten(0, 2)
    return value.contiguous()


def _notes(source: ForeignCheckpoint, info: CheckpointInfo, family: Family) -> list[str]:
    notes = []
    if family is MINKUNET and len(source.tensors[family.stem]) == 27:
        notes.append("its stem of size 3 is the middle of ours of size 5")
    if info.head_bias:
        notes.append("its head's bias is the last row of ours, against a last feature that is always one")
    stated = source.config.get("voxel_size")
    if stated is not None and stated != info.voxel_size:
        notes.append(f"trained with voxels of {stated} m, imported for {info.voxel_size:g} m")
    if source.config.get("cylindrical_coordinates"):
        notes.append(
            "trained on cells of distance, angle and height; voxels here are cubes, so use it as network.init, to "
            "train from, not as it is"
        )
    if info.identity.model == "none":
        notes.append("its features are of no image-text model, so no word can be asked; use it as network.init")
    return notes
