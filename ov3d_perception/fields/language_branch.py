"""What a field knows of language: a CLIP feature and the scale it belongs to, at every point (3D-OVS, appendix A.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ov3d_perception.fields import composite
from ov3d_perception.fields.field import Looked, RadianceField
from ov3d_perception.fields.grid import Size, VMGrid
from ov3d_perception.fields.rays import Rays


@dataclass(frozen=True)
class BranchSettings:
    """scales: N_s; selection: channels of its volume's products; hidden: width of the feature network; dim: D."""

    dim: int
    scales: int = 3
    selection: Size = (16, 4, 4)
    hidden: int = 128


class LanguageBranch(nn.Module):
    """The selection volume, and a network from the field's appearance features to CLIP features.

    The network's last layer is linear, so a ray's feature is that layer of its mean hidden values: the sum of
    w_i (h_i W + b) is (sum of w_i h_i) W + (sum of w_i) b, with one row a ray instead of one a sample. These hidden
    values, and 1 for the bias, are the narrow features of a ray; ``basis`` makes CLIP features of them.

    (The paper's release has no activation between its layers, so that its CLIP feature is linear in 27 numbers.)
    """

    def __init__(self, settings: BranchSettings, size: Size, features: int) -> None:
        super().__init__()
        self.settings = settings
        self.selection = VMGrid(size, settings.selection)
        self.scales = nn.Linear(self.selection.width, settings.scales)
        self.hidden = nn.Sequential(
            nn.Linear(features, settings.hidden), nn.ReLU(), nn.Linear(settings.hidden, settings.hidden), nn.ReLU()
        )
        self.last = nn.Linear(settings.hidden, settings.dim)

    @property
    def basis(self) -> Float[Tensor, "k d"]:
        """W and b, a row below each other."""
        return torch.cat([self.last.weight.T, self.last.bias[None]])

    def narrow(self, looked: Looked, features: Float[Tensor, "m f"], bf16: bool = False) -> Float[Tensor, "n k"]:
        """Narrow features of rays, from the appearance features of their samples; bf16: hidden ones in bfloat16."""
        with torch.autocast(features.device.type, torch.bfloat16, enabled=bf16):
            hidden = self.hidden(features).float()
        with_one = torch.cat([hidden, hidden.new_ones(len(hidden), 1)], 1)
        samples = looked.samples
        return composite.over_rays(looked.weight[:, None] * with_one, samples.ray, samples.rays)

    def forward(
        self, looked: Looked, features: Float[Tensor, "m f"], bf16: bool = False
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n s"]]:
        """F^(r), equation (1), and S(r), equation (2)."""
        samples = looked.samples
        vectors = torch.sigmoid(self.scales(self.selection(samples.points)))  # bounded, as in the paper's release
        summed = composite.over_rays(looked.weight[:, None] * vectors, samples.ray, samples.rays)
        return self.narrow(looked, features, bf16) @ self.basis, torch.softmax(summed, 1)


@dataclass(frozen=True)
class Rendered:
    """Of n rays: narrow features, depth along the ray, colours in [0, 1]."""

    narrow: Float[Tensor, "n k"]
    depth: Float[Tensor, " n"]
    colour: Float[Tensor, "n 3"]


@torch.no_grad()
def render_words(
    field: RadianceField, branch: LanguageBranch, rays: Rays, weight: float = 0.0, chunk: int = 1024
) -> tuple[Tensor, Tensor, Tensor]:
    """Narrow features (n, k) and opacity (n,) of many rays, and up to which t they have a quarter, a half and three
    quarters of it (n, 3); weight: of look."""
    found = []
    for start in range(0, len(rays), chunk):
        looked = field.look(rays[slice(start, start + chunk)], weight=weight)
        narrow = branch.narrow(looked, field.features(looked.samples.points))
        samples = looked.samples
        ends = [composite.quantile(looked.weight, samples.t, samples.ray, samples.rays, q) for q in (0.25, 0.5, 0.75)]
        found.append((narrow, looked.opacity, torch.stack(ends, 1)))
    narrow, opacity, t = (torch.cat(parts) for parts in zip(*found, strict=True))
    return narrow, opacity, t


@torch.no_grad()
def render(field: RadianceField, branch: LanguageBranch, rays: Rays, background: float, chunk: int = 1024) -> Rendered:
    """Words and colours along many rays; background: grey behind everything."""
    found = []
    for start in range(0, len(rays), chunk):
        some = rays[slice(start, start + chunk)]
        looked = field.look(some)
        features = field.features(looked.samples.points)
        colour = field.shade(some, looked, features, background).clamp(0, 1)
        depth = looked.depth / looked.opacity.clamp_min(1e-6)
        found.append((branch.narrow(looked, features), depth, colour))
    return Rendered(*(torch.cat(parts) for parts in zip(*found, strict=True)))
