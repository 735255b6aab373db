"""DINO's features of patches (Caron et al. 2021), by timm: what belongs together looks alike, whatever it is called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from ov3d_perception.errors import EncoderError
from ov3d_perception.language.windows import dense_in_windows

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class _Windows:
    """Of the paper's size, 256 pixels; every place is in four of them, but at the border."""

    window: int = 256
    stride: int = 128
    batch: int = 8


class Dino:
    """A vision transformer of timm. model: such as "vit_base_patch8_224.dino", the paper's dino_vitb8; file: weights.

    Raises EncoderError without timm, for an unknown model, and for weights that do not fit.
    """

    def __init__(self, model: str, file: str | Path, device: str | torch.device = "cpu") -> None:
        try:
            import timm
        except ImportError as error:
            raise EncoderError("DINO needs timm", "pip install timm") from error
        try:
            network: Any = timm.create_model(
                model, pretrained=False, num_classes=0, dynamic_img_size=True, checkpoint_path=str(file)
            )
        except Exception as error:
            raise EncoderError(
                f"{file} does not make {model} ({str(error)[:200]})",
                "Name its weights: <timm model>:<file>",
            ) from error
        self._network = network.eval().requires_grad_(False).to(device)
        self._device = torch.device(device)
        self.patch = int(network.patch_embed.patch_size[0])

    @torch.inference_mode()
    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "gh gw e"]:
        """The last block's patch features, a row a patch of the image (its border cut to whole patches), on the CPU.

        Seen in windows, since a network that attends to all of a large image takes the square of its size.
        """
        height, width = (side // self.patch * self.patch for side in image.shape[:2])
        pixels = torch.from_numpy(np.ascontiguousarray(image[:height, :width])).permute(2, 0, 1)[None].float() / 255
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
        grid = dense_in_windows(self._see, ((pixels - mean) / std).to(self._device), (self.patch,) * 2, _Windows())
        return grid[0].float().cpu().permute(1, 2, 0)

    def _see(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b e gh gw"]:
        tokens = self._network.forward_features(pixels)[:, self._network.num_prefix_tokens :]
        grid = functional.normalize(tokens, dim=2).transpose(1, 2)
        return grid.unflatten(2, (pixels.shape[2] // self.patch, pixels.shape[3] // self.patch))


def load_dino(spec: str, device: str | torch.device = "cpu") -> Dino:
    """spec: "<timm model>:<file>". Raises EncoderError."""
    model, colon, file = spec.partition(":")
    if not colon or not Path(file).is_file():
        raise EncoderError(f"{spec!r} names no weights of DINO", "Write <timm model>:<file>")
    return Dino(model, file, device)
