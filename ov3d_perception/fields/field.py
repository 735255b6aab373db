"""A radiance field: density and appearance in vector-matrix grids, colour by a small network (TensoRF)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ov3d_perception.fields import composite
from ov3d_perception.fields.grid import Size, VMGrid
from ov3d_perception.fields.march import MarchSettings, Samples, march
from ov3d_perception.fields.rays import Rays, spans

_CHUNK = 1 << 17


@dataclass(frozen=True)
class FieldSettings:
    """The shape of a field; the defaults are TensoRF's VM-192.

    density, appearance: channels of the three products. features: what appearance becomes, by a matrix, before the
    networks see it. hidden: width of the colour network; view_frequencies, feature_frequencies: of its positional
    encodings. activation: of density, "softplus" or "relu"; shift: added before. thickness: optical depth of density 1
    over the first box's mean side (TensoRF: 25 for a length of 1, in boxes of about 3). step: of a ray, in cells.
    alpha: opacity of a step above which a cell counts as occupied. weight: of a sample, below which its colour is not
    looked at. near: least distance from a camera.
    """

    density: Size = (16, 16, 16)
    appearance: Size = (48, 48, 48)
    features: int = 27
    hidden: int = 128
    view_frequencies: int = 2
    feature_frequencies: int = 2
    activation: str = "softplus"
    shift: float = -10.0
    thickness: float = 75.0
    step: float = 0.5
    alpha: float = 1e-4
    weight: float = 1e-4
    near: float = 0.05


@dataclass(frozen=True)
class Looked:
    """What rays meet: the samples that matter, ``weight`` of each, and of each ray opacity and depth (in t)."""

    samples: Samples
    weight: Float[Tensor, " k"]
    opacity: Float[Tensor, " n"]
    depth: Float[Tensor, " n"]


class RadianceField(nn.Module):
    """size: nodes of the grids; box (2, 3): the corners of what they fill."""

    box: Tensor
    unit: Tensor
    occupied: Tensor

    def __init__(self, settings: FieldSettings, size: Size, box: Float[Tensor, "2 3"]) -> None:
        super().__init__()
        self.settings = settings
        self.density = VMGrid(size, settings.density)
        self.appearance = VMGrid(size, settings.appearance)
        self.basis = nn.Linear(self.appearance.width, settings.features, bias=False)
        self.colour = ColourNetwork(settings)
        self.register_buffer("box", box.float().clone())
        self.register_buffer("unit", self.extent.mean())
        self.register_buffer("occupied", torch.ones(1, 1, 1, dtype=torch.uint8))

    @property
    def size(self) -> Size:
        """Nodes of the grids along x, y and z."""
        return self.density.size

    @property
    def step(self) -> float:
        """Length of a step."""
        return float((self.extent / self._last).mean()) * self.settings.step

    @property
    def extent(self) -> Float[Tensor, " 3"]:
        """Side lengths of the box."""
        return self.box[1] - self.box[0]

    @property
    def _last(self) -> Tensor:
        return torch.tensor(self.size, device=self.box.device, dtype=self.box.dtype) - 1

    def cells(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Points of the box in cells of the grids."""
        return (points - self.box[0]) / self.extent * self._last

    def place(self, cells: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """The inverse of :meth:`cells`."""
        return cells / self._last * self.extent + self.box[0]

    def sigma(self, sums: Tensor) -> Tensor:
        """Density of the grid's sums."""
        shifted = sums + self.settings.shift
        return functional.softplus(shifted) if self.settings.activation == "softplus" else functional.relu(shifted)

    def optical_depth(self, sums: Tensor) -> Tensor:
        """Density times the length of a step."""
        return self.sigma(sums) * self._depth_of_step

    @property
    def _depth_of_step(self) -> float:
        return self.step * self.settings.thickness / float(self.unit)

    def look(self, rays: Rays, jitter: bool = False, weight: float = 0.0, block: int = 1, fade: float = 0.0) -> Looked:
        """Samples of the rays and their weights, differentiable by the density.

        jitter: begin at a random part of a step, as in training. weight: of a sample that is kept; the settings' where
        that is more. block: as many samples as a multiple of it, the last ones without weight: products in bfloat16 on
        a processor are compiled anew for each new number of rows, which takes longer than the product.
        """
        scale = self._last / self.extent
        lines = ((rays.origins - self.box[0]) * scale, rays.directions * scale)
        offsets = (
            torch.rand(len(rays), device=self.box.device)
            if jitter
            else torch.full((len(rays),), 0.5, device=self.box.device)
        )
        settings = self.settings
        marching = MarchSettings(self.step, settings.shift, self._depth_of_step)
        samples = march(self.density, self.occupied, lines, spans(rays, self.box, settings.near), offsets, marching)
        depth = faded(self.optical_depth(self.density.sum(samples.points, samples.sums)), samples.t, fade)
        weights = composite.weights(depth, samples.ray, samples.rays)
        both = torch.stack([weights, weights.detach() * samples.t], 1)
        total = composite.over_rays(both, samples.ray, samples.rays)
        matter = torch.nonzero(weights.detach() > max(weight, settings.weight))[:, 0]
        lack = -len(matter) % block if len(matter) else 0
        kept_weights = functional.pad(weights[matter], (0, lack))
        matter = functional.pad(matter, (0, lack), value=len(samples) - 1)
        kept = replace(samples, **{name: getattr(samples, name)[matter] for name in ("points", "t", "ray", "sums")})
        return Looked(kept, kept_weights, total[:, 0], total[:, 1].detach())

    def features(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        """Appearance features at points in cells."""
        return self.basis(self.appearance(points))

    def render(
        self, rays: Rays, background: float, jitter: bool = False, block: int = 1, fade: float = 0.0
    ) -> tuple[Tensor, Looked]:
        """Colours in [0, 1] (not clamped while training), equation (1); background: grey behind all; block, fade: of
        look."""
        looked = self.look(rays, jitter, block=block, fade=fade)
        features = faded(self.features(looked.samples.points), looked.samples.t[:, None], fade)
        return self.shade(rays, looked, features, background), looked

    def shade(self, rays: Rays, looked: Looked, features: Tensor, background: float) -> Float[Tensor, "n 3"]:
        """Colours of what has been looked at."""
        samples = looked.samples
        colour = self.colour(features, rays.views, samples.ray)
        summed = composite.over_rays(looked.weight[:, None] * colour, samples.ray, len(rays))
        return summed + background * (1 - looked.opacity[:, None])

    @torch.no_grad()
    def find_occupied(self, size: Size) -> Float[Tensor, "2 3"]:
        """Mark the cells of a coarser grid in which, or beside which, there is anything; the box around them."""
        axes = [
            (torch.arange(n, device=self.box.device) + 0.5) / n * (m - 1) for n, m in zip(size, self.size, strict=True)
        ]
        z, y, x = torch.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
        points = torch.stack([x, y, z], -1).reshape(-1, 3)
        depth = torch.cat([self.optical_depth(self.density.sum(part)) for part in points.split(_CHUNK)])
        full = (-torch.expm1(-depth) > self.settings.alpha).view(1, 1, *size[::-1])
        near = functional.max_pool3d(full.float(), 3, 1, 1)[0, 0] > 0
        self.occupied = near.to(torch.uint8).contiguous()
        where = torch.nonzero(near).flip(1)
        if not len(where):
            return self.box.clone()
        cells = self.extent / torch.tensor(size, device=self.box.device)
        return torch.stack([self.box[0] + where.amin(0) * cells, self.box[0] + (where.amax(0) + 1) * cells])

    @torch.no_grad()
    def shrink(self, box: Float[Tensor, "2 3"]) -> None:
        """Keep the nodes around a smaller box. The occupied cells must be found anew."""
        first = self.cells(box[:1])[0].floor().long().clamp_min(0)
        stop = (self.cells(box[1:])[0].ceil().long() + 1).minimum(torch.tensor(self.size, device=box.device))
        first = first.minimum(stop - 2)
        corners = self.place(torch.stack([first, stop - 1]).float())
        for grid in (self.density, self.appearance):
            grid.crop(first.tolist(), stop.tolist())
        self.box = corners
        self.occupied = torch.ones(1, 1, 1, dtype=torch.uint8, device=box.device)

    def resize(self, size: Size) -> None:
        """Another number of nodes over the same box."""
        for grid in (self.density, self.appearance):
            grid.resize(size)


class ColourNetwork(nn.Module):
    """TensoRF's ``MLP_Fea``: features, direction of sight and their positional encodings to a colour."""

    def __init__(self, settings: FieldSettings) -> None:
        super().__init__()
        self.frequencies = settings.feature_frequencies, settings.view_frequencies
        width = settings.features * (1 + 2 * self.frequencies[0]) + 3 * (1 + 2 * self.frequencies[1])
        self.layers = nn.Sequential(
            nn.Linear(width, settings.hidden), nn.ReLU(), nn.Linear(settings.hidden, settings.hidden), nn.ReLU(),
            nn.Linear(settings.hidden, 3),
        )  # fmt: skip
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.bias)

    def forward(self, features: Tensor, views: Tensor, ray: Tensor) -> Float[Tensor, "k 3"]:
        """features (k, f) of samples of rays ``ray`` (k,), whose directions are views (n, 3)."""
        seen = torch.cat([views, *encoded(views, self.frequencies[1])], 1)[ray]
        return torch.sigmoid(self.layers(torch.cat([features, seen, *encoded(features, self.frequencies[0])], 1)))


def faded(values: Tensor, t: Tensor, fade: float) -> Tensor:
    """The same values, their gradients times ``min(1, (t / fade)^2)`` (Philip and Deschaintre, EGSR 2023).

    Rays of a camera lie close together before it, so that space there gets gradients with the inverse square of the
    distance: floaters. 0: as they are.
    """
    if not fade:
        return values
    share = (t / fade).square().clamp_max(1)
    return values * share + values.detach() * (1 - share)


def encoded(values: Float[Tensor, "n c"], frequencies: int) -> list[Tensor]:
    """Positional encoding: sines and cosines of ``2^f`` times the values, for each frequency f."""
    waves = [values * 2**f for f in range(frequencies)]
    return [part for wave in waves for part in (wave.sin(), wave.cos())]


def nodes_for(count: int, box: Float[Tensor, "2 3"]) -> Size:
    """Nodes of a grid of about ``count`` cubic cells over a box."""
    extent = (box[1] - box[0]).double()
    edge = float((extent.prod() / count) ** (1 / 3))
    x, y, z = (max(2, int(side / edge)) for side in extent.tolist())
    return x, y, z
