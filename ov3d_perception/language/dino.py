"""DINO's features of patches (Caron et al. 2021), by timm: what belongs together looks alike, whatever it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from ov3d_perception.errors import EncoderError

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
        """The last block's patch features, a row a patch of the image (its border cut to whole patches), on the CPU."""
        height, width = (side // self.patch * self.patch for side in image.shape[:2])
        pixels = torch.from_numpy(np.ascontiguousarray(image[:height, :width])).permute(2, 0, 1)[None].float() / 255
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
        tokens = self._network.forward_features(((pixels - mean) / std).to(self._device))
        features = tokens[:, self._network.num_prefix_tokens :]
        grid = functional.normalize(features[0].float().cpu(), dim=1)
        return grid.unflatten(0, (height // self.patch, width // self.patch))


def load_dino(spec: str, device: str | torch.device = "cpu") -> Dino:
    """spec: "<timm model>:<file>". Raises EncoderError."""
    model, colon, file = spec.partition(":")
    if not colon or not Path(file).is_file():
        raise EncoderError(f"{spec!r} names no weights of DINO", "Write <timm model>:<file>")
    return Dino(model, file, device)
