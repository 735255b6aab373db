"""An image-text model (any open_clip CLIP with a ViT image tower) behind one small class."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from jaxtyping import Float, UInt8
from open_clip.factory import load_checkpoint
from open_clip.model import get_model_preprocess_cfg
from open_clip.transformer import QuickGELU
from torch import Tensor
from torch.nn import functional

from ov3d_perception.errors import EncoderError
from ov3d_perception.language import weights
from ov3d_perception.language.dense import WAYS, check_supported, dense_features
from ov3d_perception.language.windows import dense_in_windows
from ov3d_perception.llvm_code import halves_in_vectors
from ov3d_perception.types import EncoderIdentity

_log = logging.getLogger(__name__)

_TEXT_BATCH = 256


def _not_open_clips(record: logging.LogRecord) -> bool:
    """False for a step that open_clip tells on the root logger; also, that weights are random which are loaded next."""
    return record.levelno >= logging.ERROR or "open_clip" not in Path(record.pathname).parts


logging.getLogger().addFilter(_not_open_clips)


@dataclass(frozen=True)
class DenseSettings:
    """How an image becomes dense features.

    scale: images are resized by it when no size is asked for. scales: factors on that size, the first of them 1; the
    features of the others are brought to its grid and averaged (small sides see large things whole). window, stride:
    side of the square windows, in pixels of the resized image, that the tower sees one at a time, and their spacing;
    0 = the whole image at once. A tower that was trained on small crops needs windows of that size; CLIP itself is fine
    without, and sees small things better with. batch: windows or images a pass. way: how the last block attends, a name
    of :data:`.dense.WAYS`. key_smoothing: see :func:`.dense_features`.

    Raises EncoderError for a way that there is not.
    """

    scale: float = 1.0
    scales: tuple[float, ...] = (1.0,)
    window: int = 0
    stride: int = 0
    batch: int = 8
    key_smoothing: float = 0.0
    way: str = "maskclip"

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise EncoderError(f"There is no way of attending {self.way!r}", f"Use one of {', '.join(WAYS)}")


class Encoder:
    """Text and images to unit-norm float32 embeddings in one space of ``identity.dim`` dimensions.

    ``logit_scale`` is the model's learned inverse temperature: softmax(logit_scale * cosine) are its probabilities.
    ``has_text`` is False where only the image tower was to be had; :meth:`encode_text` then raises.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Callable[[list[str]], Tensor],
        identity: EncoderIdentity,
        *,
        has_text: bool = True,
        dense: DenseSettings | None = None,
        device: str | torch.device = "cpu",
        precision: str = "auto",
    ) -> None:
        self.model: Any = model.eval().requires_grad_(False).to(device)
        self.tokenizer = tokenizer
        self.identity = identity
        self.has_text = has_text
        self.settings = dense or DenseSettings()
        self.device = torch.device(device)
        self.logit_scale = float(model.logit_scale.exp()) if has_text else 100.0
        self._precision = _autocast_dtype(precision, self.device)
        preprocess = get_model_preprocess_cfg(model)
        self._mean, self._std = (
            torch.tensor(preprocess[key], device=self.device).view(1, 3, 1, 1) * 255 for key in ("mean", "std")
        )

    @property
    def patch_size(self) -> tuple[int, int]:
        """(height, width) of a patch in pixels."""
        check_supported(self.model.visual)
        return self.model.visual.patch_size

    @property
    def dense_key(self) -> str:
        """Everything but the model that :meth:`dense` depends on: its settings and the precision it computes in."""
        return f"{self.settings}|{self._precision or torch.float32}"

    def see(self, **changes: Any) -> Encoder:
        """The same model with some of its dense settings changed. Raises EncoderError as they do."""
        changed = copy(self)
        changed.settings = replace(self.settings, **changes)
        return changed

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Embeddings of whole sentences, on the CPU. Raises :class:`EncoderError` without a text tower."""
        if not self.has_text:
            raise EncoderError(
                f"{self.identity} was loaded from a file that holds the image tower only, so it cannot embed words",
                "Use a stored text bank (.npz) of the same model, or weights that hold both towers",
            )
        out = [torch.zeros(0, self.identity.dim)]
        for start in range(0, len(texts), _TEXT_BATCH):
            tokens = self.tokenizer(list(texts[start : start + _TEXT_BATCH])).to(self.device)
            out.append(self.model.encode_text(tokens, normalize=True).float().cpu())
        return torch.cat(out)

    @torch.inference_mode()
    def encode_image(self, images: Sequence[np.ndarray] | UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Embeddings of whole images, squeezed to the size the tower was trained on. On the encoder's device."""
        pixels = self.pixels(images, self.model.visual.image_size)
        with self._autocast():
            features = self.model.encode_image(pixels)
        return functional.normalize(features.float(), dim=-1)

    @torch.inference_mode()
    def dense(
        self, images: Sequence[np.ndarray] | UInt8[Tensor, "b 3 h w"], size: tuple[int, int] | None = None
    ) -> Float[Tensor, "b d gh gw"]:
        """Features of patches (see :mod:`.dense`), unit norm, one per patch; on the encoder's device.

        images: RGB uint8, all of one size. size: (height, width) in pixels to which they are resized first, rounded to
        whole patches; by default the images' own size times the settings' scale.
        """
        image_size = _size_of(images)
        height, width = size or (image_size[0] * self.settings.scale, image_size[1] * self.settings.scale)
        total: Tensor | None = None
        for factor in self.settings.scales:
            features = self._dense_at(images, self.dense_size(image_size, (height * factor, width * factor)))
            if total is None:
                total = features
            else:
                total += functional.interpolate(features, total.shape[2:], mode="bilinear", align_corners=False)
        assert total is not None
        return total if len(self.settings.scales) == 1 else functional.normalize(total, dim=1)

    def dense_size(self, image_size: tuple[int, int], size: tuple[float, float] | None = None) -> tuple[int, int]:
        """(height, width) in pixels at which :meth:`dense` sees images of ``image_size``: whole patches, at least 1."""
        wanted = size or (image_size[0] * self.settings.scale, image_size[1] * self.settings.scale)
        height, width = (max(1, round(w / p)) * p for w, p in zip(wanted, self.patch_size, strict=True))
        return height, width

    def pixels(
        self, images: Sequence[np.ndarray] | UInt8[Tensor, "b 3 h w"], size: tuple[int, int]
    ) -> Float[Tensor, "b 3 h w"]:
        """Images resized to ``size`` (antialiased bicubic) and normalised by the model's own mean and deviation."""
        resized = [
            functional.interpolate(image.float(), size=size, mode="bicubic", antialias=True).clamp(0, 255)
            if image.shape[2:] != size
            else image.float()
            for image in (as_tensor(one, self.device) for one in images)
        ]
        if not resized:
            raise EncoderError("There is no image to encode", "Pass at least one RGB uint8 image")
        return (torch.cat(resized) - self._mean) / self._std

    def _dense_at(
        self, images: Sequence[np.ndarray] | UInt8[Tensor, "b 3 h w"], size: tuple[int, int]
    ) -> Float[Tensor, "b d gh gw"]:
        pixels = self.pixels(images, size)
        if self.settings.window:
            return dense_in_windows(
                self._dense_batch, pixels, self.patch_size, replace(self.settings, batch=self._batch)
            )
        return torch.cat([self._dense_batch(chunk) for chunk in pixels.split(self._batch)])

    @property
    def _batch(self) -> int:
        """Half precision on a CPU goes one by one: for batches PyTorch copies an attention's weights for each token."""
        return 1 if self.device.type == "cpu" and self._precision else self.settings.batch

    def _dense_batch(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d gh gw"]:
        with self._autocast():
            return dense_features(self.model.visual, pixels, self.settings.way, self.settings.key_smoothing)

    def _autocast(self) -> torch.autocast:
        dtype = self._precision or torch.bfloat16
        return torch.autocast(self.device.type, dtype=dtype, enabled=self._precision is not None)


def as_tensor(image: np.ndarray | Tensor, device: torch.device) -> UInt8[Tensor, "1 3 h w"]:
    """An HxWx3 array or a 3xHxW tensor of uint8 as a batch of one."""
    if isinstance(image, Tensor):
        tensor, valid = image, image.ndim == 3 and image.shape[0] == 3
    else:
        valid = image.ndim == 3 and image.shape[2] == 3
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1) if valid else torch.empty(0)
    if not valid or tensor.dtype != torch.uint8:
        raise EncoderError(
            f"An image of shape {tuple(image.shape)} and type {image.dtype} is not RGB uint8",
            "Convert it to height x width x 3 uint8 first",
        )
    return tensor[None].to(device)


def _size_of(images: Sequence[np.ndarray] | Tensor) -> tuple[int, int]:
    sizes = {(int(i.shape[-2]), int(i.shape[-1])) if isinstance(i, Tensor) else i.shape[:2] for i in images}
    if len(sizes) != 1:
        raise EncoderError(
            f"The images of one call have the sizes {sorted(sizes)}" if sizes else "There is no image to encode",
            "Pass images of one size, or one call for each size",
        )
    height, width = sizes.pop()
    return height, width


def _autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    names = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
    names["auto"] = torch.bfloat16 if device.type == "cuda" else None
    if precision not in names:
        raise EncoderError(f"Unknown precision {precision!r}", f"Choose one of {sorted(names)}")
    if names[precision] is not None and not halves_in_vectors(device.type):
        _log.warning("This processor has no vectors of %s: the encoder computes in float32, which is faster", precision)
        return None
    return names[precision]


def pick_device(device: str) -> torch.device:
    """ "auto" is the first CUDA device if there is one, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise EncoderError(f"device={device!r} is asked for, but PyTorch sees no CUDA device", "Use device=auto or cpu")
    return torch.device(device)


def load_encoder(model: str, pretrained: str | None = None, device: str = "auto", precision: str = "auto") -> Encoder:
    """Build an encoder; :mod:`.weights` says what ``model`` and ``pretrained`` may be.

    precision: "auto" (bfloat16 autocast on CUDA, float32 on CPU), "float32", "bfloat16", "float16": of the image tower.
    On a processor without vectors of halves (AVX2 alone) it is float32 always: halves are several times slower there.
    Raises :class:`EncoderError` with cause and remedy where the model cannot be built or its weights do not load.
    """
    where = pick_device(device)
    source = weights.resolve(str(model), pretrained)
    if source.file is not None:
        return _from_file(source, where, precision)
    with weights.no_long_wait_for_the_hub():
        try:
            network = open_clip.create_model(source.model, pretrained=None if source.tag == "hub" else source.tag)
            tokenizer = open_clip.get_tokenizer(source.model)
        except Exception as error:
            raise EncoderError(
                f"The weights of {source.model}/{source.tag} could not be fetched ({str(error)[:200]})",
                "Connect this machine to the hub once, or name a local weights file: pretrained=<tag>:<file>",
            ) from error
    _check_activation(network, source)
    identity = EncoderIdentity(source.model, source.tag, _dim(network))
    return Encoder(network, tokenizer, identity, device=where, precision=precision)


def _from_file(source: weights.WeightsSource, device: torch.device, precision: str) -> Encoder:
    assert source.file is not None
    network, dense = _build(source)
    _check_activation(network, source)
    state = weights.read_weights(source.file)
    image_only = weights.is_image_tower_only(state)
    try:
        if image_only:
            network.visual.load_state_dict({key.removeprefix("visual."): value for key, value in state.items()})
        elif weights.is_torchscript(source.file):
            network.load_state_dict({key: value for key, value in state.items() if key != "attn_mask"})
        else:
            load_checkpoint(network, str(source.file))  # knows the layouts of older files
    except RuntimeError as error:
        raise EncoderError(
            f"The weights in {source.file} do not fit {source.model} ({str(error)[:300]})",
            "Name the model these weights were made for, or fetch them again",
        ) from error
    identity = EncoderIdentity(source.model, source.tag, _dim(network), weights.sha256(source.file))
    tokenizer = _tokenizer(source)
    return Encoder(
        network, tokenizer, identity, has_text=not image_only, dense=dense, device=device, precision=precision
    )


def _build(source: weights.WeightsSource) -> tuple[Any, DenseSettings]:
    """An untrained network of the source's architecture, and its dense settings where a folder states them."""
    try:
        network = open_clip.create_model(source.open_clip_name, load_weights=False, pretrained_text=False)
        settings: dict[str, Any] = {}
        if source.folder is not None:
            settings = json.loads((source.folder / weights.CONFIG_FILE).read_text(encoding="utf-8")).get("dense", {})
        scales = tuple(settings.pop("scales", (1.0,)))
        return network, DenseSettings(scales=scales, **settings)
    except Exception as error:
        raise EncoderError(
            f"The configuration of {source.model} does not make a model ({str(error)[:200]})",
            "Restore its open_clip_config.json",
        ) from error


def _check_activation(network: Any, source: weights.WeightsSource) -> None:
    """Raises EncoderError if the network's activation is not that of its weights: they load, and embed wrongly."""
    needed = weights.needs_quick_gelu(source)
    has = any(isinstance(module, QuickGELU) for module in network.modules())
    if needed is None or needed == has:
        return
    base = source.model.removesuffix("-quickgelu")
    twin = f"{base}-quickgelu" if needed else base
    trained, found = (("GELU", "QuickGELU")[quick] for quick in (needed, has))
    raise EncoderError(
        f"The weights {source.file or source.tag} were trained with {trained}, the model {source.model} has {found}",
        f"Name the model {twin}" if twin in open_clip.list_models() else "Name the model these weights were made for",
    )


def _tokenizer(source: weights.WeightsSource) -> Callable[[list[str]], Tensor]:
    options = {}
    if source.folder is not None and (source.folder / weights.BPE_FILE).is_file():
        options["bpe_path"] = str(source.folder / weights.BPE_FILE)
    return open_clip.get_tokenizer(source.open_clip_name, **options)


def _dim(network: Any) -> int:
    """Dimensions of the shared space, read off the image tower's projection."""
    return int(getattr(network.visual, "output_dim", 0)) or int(network.text_projection.shape[1])
