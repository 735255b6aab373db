"""The first training: colours of posed images into a radiance field, by TensoRF's schedule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ov3d_perception.fields.field import FieldSettings, RadianceField, nodes_for
from ov3d_perception.fields.rays import Rays
from ov3d_perception.fields.scene import Scene, Space
from ov3d_perception.llvm_code import halves_in_vectors

BLOCK = 4096
"""Of samples, in bfloat16 (see ``RadianceField.look``)."""


@dataclass(frozen=True)
class ReconstructionSettings:
    """steps of ``rays`` rays each; samples: fewer rays where those would have more samples than this, 0 for no bound
    (most are seen while the scene is still fog). first_cells, last_cells: of the grids, growing in a geometric series
    at ``grow_at``. occupy_at: steps at which empty cells are found; shrink: at the first of them the box shrinks, too.

    grid_rate, network_rate: of Adam (0.9, 0.99), falling to ``decay`` of themselves. variation: weights of the total
    variation of density and appearance; l1: weights of the density's L1 before and after the first of ``occupy_at``.
    background: grey behind everything. closed: how much it counts that light passes through everything, where each ray
    ends at something; 1 / 12, with a background of 0.5, is what backgrounds drawn at random come to. fade: distance
    from the camera, in mean sides of the first box, within which gradients are smaller (``field.faded``); none in
    NDC, whose rays do not lie closer together before the camera. bf16: the networks compute in
    bfloat16, where the device has it (a processor without vectors of halves is several times slower by it).
    """

    steps: int = 30_000
    rays: int = 4096
    samples: int = 0
    first_cells: int = 128**3
    last_cells: int = 640**3
    grow_at: tuple[int, ...] = (2000, 3000, 4000, 5500)
    occupy_at: tuple[int, ...] = (2500,)
    shrink: bool = True
    grid_rate: float = 0.02
    network_rate: float = 1e-3
    decay: float = 0.1
    variation: tuple[float, float] = (1.0, 1.0)
    l1: tuple[float, float] = (0.0, 0.0)
    background: float = 0.0
    closed: float = 0.0
    fade: float = 0.0
    mask_cells: int = 200**3
    bf16: bool = False


class Reconstruction:
    """A training that can be stopped between any two steps; the random numbers of a step depend on its number alone."""

    def __init__(
        self,
        scene: Scene,
        space: Space,
        shape: FieldSettings,
        settings: ReconstructionSettings,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.settings, self.seed, self.device = settings, seed, torch.device(device)
        self._halves = settings.bf16 and halves_in_vectors(self.device.type)
        self.step = 0
        self.rays_now = settings.rays // 16 if settings.samples else settings.rays
        self._fade = settings.fade * float((space.box[1] - space.box[0]).mean()) if space.ndc is None else 0.0
        torch.manual_seed(seed)
        self.cells = np.exp(np.linspace(
            np.log(settings.first_cells), np.log(settings.last_cells), len(settings.grow_at) + 1
        ))  # fmt: skip
        self.field = RadianceField(shape, nodes_for(int(self.cells[0]), space.box), space.box).to(self.device)
        self._rays, self._colours = rays_and_colours(scene, space, scene.training)
        self._make_optimiser()

    @property
    def done(self) -> bool:
        """Whether all steps have been made."""
        return self.step >= self.settings.steps

    def run(self, until: int | None = None) -> Iterator[tuple[int, float]]:
        """Steps, each with its PSNR over the training rays (dB)."""
        stop = self.settings.steps if until is None else min(until, self.settings.steps)
        while self.step < stop:
            error = self._advance()
            yield self.step, -10 * float(np.log10(max(error, 1e-12)))

    def state(self) -> dict[str, Any]:
        """All that :meth:`restore` needs to go on from here."""
        return {"step": self.step, "rays": self.rays_now, "optimiser": self._optimiser.state_dict()}

    def restore(self, state: dict[str, Any], field: RadianceField) -> None:
        """Go on from a field and the state that was saved with it."""
        self.field, self.step, self.rays_now = field.to(self.device), int(state["step"]), int(state["rays"])
        self._make_optimiser()
        self._optimiser.load_state_dict(state["optimiser"])

    def _advance(self) -> float:
        settings, field = self.settings, self.field
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        torch.manual_seed(self.seed * 1_000_003 + self.step + 500_000)
        rows = torch.randint(len(self._rays), (self.rays_now,), generator=generator)
        rays, wanted = self._rays[rows].to(self.device), self._colours[rows].to(self.device).float() / 255
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._halves):
            colours, looked = field.render(rays, settings.background, True, BLOCK if self._halves else 1, self._fade)
            error = functional.mse_loss(colours.float(), wanted)
            loss = error + settings.closed * (1 - looked.opacity).square().mean()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        fall = settings.decay ** (self.step / settings.steps)
        late = bool(settings.occupy_at) and self.step > settings.occupy_at[0]
        density, appearance = (weight * fall * 1e-2 for weight in settings.variation)
        field.density.add_penalty_gradients(density, settings.l1[late])
        field.appearance.add_penalty_gradients(appearance, 0.0)
        for group in self._optimiser.param_groups:
            group["lr"] = group["initial"] * fall
        self._optimiser.step()
        if settings.samples:
            fits = settings.samples * len(rays) // max(1, len(looked.samples))
            self.rays_now = min(settings.rays, max(settings.rays // 16, fits))
        self._reshape()
        self.step += 1
        return float(error.detach())

    def _reshape(self) -> None:
        """Find what is empty, shrink the box, let the grids grow, where this step is one for that."""
        settings, field = self.settings, self.field
        if self.step in settings.occupy_at:
            box = field.find_occupied(nodes_for(min(settings.mask_cells, self._cells_now()), field.box))
            if settings.shrink and self.step == settings.occupy_at[0]:
                field.shrink(box)
                field.find_occupied(nodes_for(min(settings.mask_cells, self._cells_now()), field.box))
        if self.step in settings.grow_at:
            field.resize(nodes_for(int(self.cells[settings.grow_at.index(self.step) + 1]), field.box))
        if self.step in settings.grow_at or self.step in settings.occupy_at[:1]:
            self._make_optimiser()

    def _cells_now(self) -> int:
        return int(np.prod(self.field.size))

    def _make_optimiser(self) -> None:
        field, settings = self.field, self.settings
        grids = [*field.density.parameters(), *field.appearance.parameters()]
        networks = [*field.basis.parameters(), *field.colour.parameters()]
        groups = [
            {"params": grids, "lr": settings.grid_rate, "initial": settings.grid_rate},
            {"params": networks, "lr": settings.network_rate, "initial": settings.network_rate},
        ]
        self._optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)


def rays_and_colours(scene: Scene, space: Space, views: list[int]) -> tuple[Rays, Tensor]:
    """All rays of these views, and their colours (n, 3), uint8."""
    rays = [space.rays(scene.views[n].camera, scene.views[n].T_world_camera) for n in views]
    colours = [torch.from_numpy(np.ascontiguousarray(scene.views[n].image)).reshape(-1, 3) for n in views]
    return Rays.join(rays), torch.cat(colours)


@torch.no_grad()
def draw(field: RadianceField, rays: Rays, background: float, chunk: int = 2048) -> tuple[Tensor, Tensor]:
    """Colours (n, 3) in [0, 1] and depths (n,) along the rays."""
    colours, depths = [], []
    for start in range(0, len(rays), chunk):
        colour, looked = field.render(rays[slice(start, start + chunk)], background)
        colours.append(colour.float().clamp(0, 1))
        depths.append(looked.depth / looked.opacity.clamp_min(1e-6))
    return torch.cat(colours), torch.cat(depths)


def psnr(colours: Float[Tensor, "n 3"], image: np.ndarray) -> float:
    """Peak signal-to-noise ratio (dB) of colours in [0, 1] against a picture."""
    wanted = torch.from_numpy(np.ascontiguousarray(image)).reshape(-1, 3).float() / 255
    return -10 * float(torch.log10(functional.mse_loss(colours.cpu(), wanted).clamp_min(1e-12)))
