"""Networks to and from checkpoint files; :mod:`checkpoint_info` says what is in them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load, save

from ov3d_perception.errors import CheckpointError, Ov3dError
from ov3d_perception.files import replacing
from ov3d_perception.networks.checkpoint_info import (
    EMBEDDINGS,
    FORMAT,
    VERSION,
    CheckpointInfo,
    digest,
    load_info,
    read_checkpoint,
)
from ov3d_perception.networks.registry import Network

__all__ = ["CheckpointInfo", "load_checkpoint", "load_info", "save_checkpoint", "stored_type"]


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
    columns = ((n, str(t.dtype), t.shape, t.reshape(-1).view(torch.uint8).numpy().data) for n, t in tensors.items())
    metadata = {"format": FORMAT, "version": VERSION, "info": text, "sha256": digest(text, columns)}
    content = save(tensors, metadata)
    with replacing(path) as file:
        file.write(content)


def stored_type(network: Network) -> torch.dtype:
    """The type in which kernels lose nothing: float16 for a network that was loaded from such a checkpoint."""
    kernels = (kernel for kernel in network.parameters() if kernel.dim() >= 2)
    return torch.float16 if all(torch.equal(kernel, kernel.half().float()) for kernel in kernels) else torch.float32


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> tuple[Network, CheckpointInfo]:
    """The network in float32 and evaluation mode, and its description.

    Raises CheckpointError for a file that is missing, truncated, altered, of another program or another version.
    """
    path = Path(path)
    content, info = read_checkpoint(path)
    tensors = load(content)
    tensors.pop(EMBEDDINGS, None)
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
