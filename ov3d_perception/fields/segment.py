"""The second training: CLIP's features and their scales into a reconstructed field (3D-OVS, appendix A.3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ov3d_perception.fields.field import Looked, RadianceField
from ov3d_perception.fields.language_branch import BranchSettings, LanguageBranch
from ov3d_perception.fields.rays import Rays
from ov3d_perception.fields.reconstruct import BLOCK, rays_and_colours
from ov3d_perception.fields.scene import Scene, Space
from ov3d_perception.fields.teachers import Teachers
from ov3d_perception.llvm_code import halves_in_vectors
from ov3d_perception.methods import ovs3d
from ov3d_perception.methods.ovs3d import Ovs3dOptions, PatchBatch, RayBatch


@dataclass(frozen=True)
class SegmentationSettings:
    """steps: of which the first ``frozen`` leave the field as it is; then its appearance follows. The density never
    does. rays: at random pixels a step; patches: of ``patch`` places a side, ``every`` cells of the edges' apart, for
    equation (14). The paper's patches are 32 places, a third of the photograph's width.

    weight: of a sample, below which the words do not look at it; 0: as the field does. Fog of many light samples costs
    much and says little. bf16: the feature network computes in bfloat16, where
    the device has it.

    grid_rate, network_rate: of the new volume and network; field_grid_rate, field_network_rate: of the field's own.
    decay: what the rates fall to.
    """

    steps: int = 15_000
    frozen: int = 5_000
    rays: int = 4096
    patches: int = 8
    patch: int = 32
    every: int = 1
    weight: float = 0.0
    bf16: bool = False
    grid_rate: float = 0.02
    network_rate: float = 1e-4
    field_grid_rate: float = 5e-3
    field_network_rate: float = 5e-5
    decay: float = 0.1


class Segmentation:
    """A training that can be stopped between any two steps. text (c, d): unit embeddings of the classes."""

    def __init__(
        self,
        scene: Scene,
        space: Space,
        field: RadianceField,
        teachers: Teachers,
        text: Float[Tensor, "c d"],
        branch: BranchSettings,
        settings: SegmentationSettings,
        options: Ovs3dOptions,
        background: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.field, self.settings, self.options = field, settings, options
        self.background, self.seed, self.step = background, seed, 0
        self._device, self._views = field.box.device, scene.training
        self._halves = settings.bf16 and halves_in_vectors(self._device.type)
        torch.manual_seed(seed)
        self.branch = LanguageBranch(branch, field.size, field.settings.features).to(self._device)
        self._rays, self._colours = rays_and_colours(scene, space, self._views)
        self._shape = scene.views[0].image.shape[:2]
        self._text = text.to(self._device)
        self._clip = torch.from_numpy(np.stack([teachers.clip[n] for n in self._views]))
        self._edges = torch.from_numpy(np.stack([teachers.edges[n] for n in self._views]))
        self._relevancy = torch.stack([
            ovs3d.normalised(ovs3d.relevancy(view.float().flatten(1, 2), text.cpu())) for view in self._clip
        ])  # fmt: skip
        self._make_optimiser()

    @property
    def joint(self) -> bool:
        """Whether the field's appearance is trained, too."""
        return self.step >= self.settings.frozen

    def run(self, until: int | None = None) -> Iterator[tuple[int, dict[str, float]]]:
        """Steps, each with its losses by name."""
        stop = self.settings.steps if until is None else min(until, self.settings.steps)
        while self.step < stop:
            if self.step == self.settings.frozen:
                self._make_optimiser()
            found = self._advance()
            self.step += 1
            yield self.step, found

    def state(self) -> dict[str, Any]:
        """All that :meth:`restore` needs to go on from here."""
        return {"step": self.step, "optimiser": self._optimiser.state_dict()}

    def restore(self, state: dict[str, Any], field: RadianceField, branch: LanguageBranch) -> None:
        """Go on from a field, its branch and the state that was saved with them."""
        self.field, self.branch, self.step = field.to(self._device), branch.to(self._device), int(state["step"])
        self._make_optimiser(self.step > self.settings.frozen)
        self._optimiser.load_state_dict(state["optimiser"])

    def _advance(self) -> dict[str, float]:
        rng = np.random.default_rng([self.seed, self.step])
        torch.manual_seed(self.seed * 1_000_003 + self.step)
        rays, patches = self._ray_batch(rng), self._patch_batch(rng)
        found = ovs3d.losses(rays, patches, self._text, self.options)
        loss = torch.stack(list(found.values())).sum()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        fall = self.settings.decay ** (self.step / self.settings.steps)
        for group in self._optimiser.param_groups:
            group["lr"] = group["initial"] * fall
        self._optimiser.step()
        return {name: float(value.detach()) for name, value in found.items()}

    def _ray_batch(self, rng: np.random.Generator) -> RayBatch:
        height, width = self._shape
        rows = torch.from_numpy(rng.integers(len(self._rays), size=self.settings.rays))
        view, pixel = rows // (height * width), rows % (height * width)
        rays = self._rays[rows].to(self._device)
        looked, features = self._look(rays)
        narrow, scales = self.branch(looked, features, self._halves)
        colour = wanted = None
        if self.joint:
            colour = self.field.shade(rays, looked, features, self.background)
            wanted = self._colours[rows].to(self._device).float() / 255
        _, _, rows_of_cells, columns_of_cells, _ = self._clip.shape
        i = ((pixel // width).float().add(0.5) * (rows_of_cells / height)).long()
        j = ((pixel % width).float().add(0.5) * (columns_of_cells / width)).long()
        teacher = self._clip[view, :, i, j].float().to(self._device)
        relevancy = self._relevancy[view, :, i * columns_of_cells + j].to(self._device)
        return RayBatch(colour, wanted, narrow, scales, teacher, relevancy)

    def _patch_batch(self, rng: np.random.Generator) -> PatchBatch | None:
        settings = self.settings
        if not settings.patches or self.options.form == "none":
            return None
        height, width = self._shape
        count, eh, ew, _ = self._edges.shape
        every = settings.every
        side = min(settings.patch, -(-eh // every), -(-ew // every))
        reach = (side - 1) * every
        rows, edges = [], []
        for _ in range(settings.patches):
            view = int(rng.integers(count))
            top, left = int(rng.integers(eh - reach)), int(rng.integers(ew - reach))
            down, right = (first + every * torch.arange(side) for first in (top, left))
            edges.append(self._edges[view, down[:, None], right].float().flatten(0, 1))
            i = ((down + 0.5) * height / eh).long()
            j = ((right + 0.5) * width / ew).long()
            rows.append((view * height * width + i[:, None] * width + j).flatten())
        looked, features = self._look(self._rays[torch.cat(rows)].to(self._device))
        feature = self.branch.narrow(looked, features, self._halves) @ self.branch.basis
        return PatchBatch(feature.unflatten(0, (settings.patches, -1)), torch.stack(edges).to(self._device))

    def _look(self, rays: Rays) -> tuple[Looked, Tensor]:
        with torch.no_grad():
            block = BLOCK if self._halves else 1
            looked = self.field.look(rays, jitter=True, weight=self.settings.weight, block=block)
        with torch.set_grad_enabled(self.joint):
            return looked, self.field.features(looked.samples.points)

    def _make_optimiser(self, joint: bool | None = None) -> None:
        field, branch, settings = self.field, self.branch, self.settings
        parts = [
            (branch.selection, settings.grid_rate),
            (branch.scales, settings.network_rate),
            (branch.hidden, settings.network_rate),
            (branch.last, settings.network_rate),
        ]
        if self.joint if joint is None else joint:
            parts += [
                (field.appearance, settings.field_grid_rate),
                (field.basis, settings.field_network_rate),
                (field.colour, settings.field_network_rate),
            ]
        groups = [{"params": list(part.parameters()), "lr": rate, "initial": rate} for part, rate in parts]
        self._optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)
