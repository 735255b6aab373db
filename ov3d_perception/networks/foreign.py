"""Checkpoint files of other programs: the network's tensors, without their container.

Releases differ in the container (``state_dict``, ``model_points``, ...), in the prefix of the names (``module.``,
``net3d.``, ...) and in what else lies in the file (optimiser, image model, configuration).
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ov3d_perception.errors import CheckpointError

ANCHORS = ("conv0p1s1.kernel", "stem.0.kernel")
"""A tensor of each family that no other network has: MinkUNet in MinkowskiEngine's names, SPVCNN in torchsparse's."""
_CONTAINERS = ("model_points", "state_dict", "model_state", "model_state_dict", "model", "network", "net")
_NUMPY_SCALARS = ("float64", "float32", "int64")


@dataclass(frozen=True)
class ForeignCheckpoint:
    """tensors: of the one network found, names without their prefix; others: how many tensors of which other modules.

    config: the training configuration where the file has one; sha256: of the file.
    """

    tensors: dict[str, Tensor]
    others: dict[str, int]
    config: dict[str, Any]
    sha256: str


def read_foreign(path: str | Path, trust: bool = False, prefix: str | None = None) -> ForeignCheckpoint:
    """Read ``.safetensors`` and files of ``torch.save`` (``.pth``, ``.pth.tar``, ``.pt``, ``.ckpt``).

    trust: unpickle objects of any class too, which runs code of the file's maker. prefix: which network, where the
    file holds several. Raises CheckpointError for a file that is missing, damaged, needs trust, or holds no such
    network.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}", "Check the path, or download the release's weights")
    content = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path, trust)
    tensors, others = _network(path, _state_dict(path, content), prefix)
    config = content.get("config", {})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ForeignCheckpoint(tensors, others, dict(config) if isinstance(config, Mapping) else {}, digest)


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        return dict(load_file(path))
    except (SafetensorError, UnicodeDecodeError, ValueError, OSError) as error:
        raise _damaged(path, error) from error


def _pickled(path: Path, trust: bool) -> Mapping[str, Any]:
    """weights_only first: it builds tensors and plain containers alone. NumPy scalars (OpenScene's best IoU) pass."""
    scalar: Any = np.float64(0).__reduce__()[0]
    numpy = [scalar, (scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype]
    numpy += [type(np.dtype(name)) for name in _NUMPY_SCALARS]
    try:
        with torch.serialization.safe_globals(numpy):
            content = torch.load(path, map_location="cpu", weights_only=not trust)
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"{path} holds objects of the Python package {error.name}, which is not installed",
            f"pip install {error.name}, then import again; or save its state_dict alone where the package is",
        ) from error
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if trust or found is None:
            raise _damaged(path, error) from error
        raise CheckpointError(
            f"{path} holds an object of class {found[1]} beside its tensors; to read that is to run code",
            "If you trust the file's maker say --trust, else ask for a file with the state_dict alone",
        ) from error
    except Exception as error:  # a damaged pickle can raise anything: EOFError, KeyError, RuntimeError, OSError, ...
        raise _damaged(path, error) from error
    if not isinstance(content, Mapping):
        content = getattr(content, "state_dict", dict)()  # a whole module was saved
    return content


def _state_dict(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The first mapping of names to tensors: the content itself, or one of the known containers in it."""
    found: Mapping[str, Any] | None = content
    while found is not None:
        tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
        found = next((found[name] for name in _CONTAINERS if isinstance(found.get(name), Mapping)), None)
    raise CheckpointError(
        f"{path} holds no tensors, only {', '.join(map(str, content)) or 'an empty container'}",
        f"Import a file with the weights, by themselves or under one of: {', '.join(_CONTAINERS)}",
    )


def _network(path: Path, state: dict[str, Tensor], prefix: str | None) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The tensors under the one prefix that has an anchor, and a count of the others by their first name."""
    found = [(name, anchor) for name in state for anchor in ANCHORS if f".{name}".endswith(f".{anchor}")]
    prefixes = sorted(name.removesuffix(anchor) for name, anchor in found if state[name].dim() == 3)
    if prefix is not None and prefix not in prefixes:
        raise CheckpointError(f"{path} has no network with the prefix '{prefix}'", f"There are: {prefixes}")
    if not prefixes:
        raise CheckpointError(
            f"{path} holds neither a MinkUNet in MinkowskiEngine's names nor an SPVCNN in torchsparse's: no tensor is "
            f"called {' or '.join(ANCHORS)}; it begins with {', '.join(list(state)[:3])}",
            "Import a checkpoint of OpenScene, GGSD, SLidR, CLIP2Scene or of a network with the same names",
        )
    if prefix is None and len(prefixes) > 1:
        raise CheckpointError(
            f"{path} holds {len(prefixes)} networks, with the prefixes {', '.join(map(repr, prefixes))}",
            "Say which one with --prefix",
        )
    chosen = prefixes[0] if prefix is None else prefix
    others: dict[str, int] = {}
    for name in state:
        if not name.startswith(chosen):
            module = name.split(".")[0]
            others[module] = others.get(module, 0) + 1
    return {name[len(chosen) :]: value for name, value in state.items() if name.startswith(chosen)}, others


def _damaged(path: Path, error: Exception) -> CheckpointError:
    why = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
    return CheckpointError(
        f"{path} cannot be read as weights; it is damaged, or not a checkpoint ({why})", "Download the file again"
    )
