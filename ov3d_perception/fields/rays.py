"""Rays of posed images, in the space that a field fills: the world's, or NDC for scenes that face the camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional

from ov3d_perception.types import Camera, Pose


@dataclass(frozen=True)
class Rays:
    """n rays. origins: metres (or NDC); directions: unit; views: unit directions of sight in the world."""

    origins: Float[Tensor, "n 3"]
    directions: Float[Tensor, "n 3"]
    views: Float[Tensor, "n 3"]

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, rows: Tensor | slice) -> Rays:
        return Rays(self.origins[rows], self.directions[rows], self.views[rows])

    def to(self, device: torch.device) -> Rays:
        """The same rays elsewhere."""
        return Rays(self.origins.to(device), self.directions.to(device), self.views.to(device))

    @classmethod
    def join(cls, parts: list[Rays]) -> Rays:
        """All rays in turn."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in ("origins", "directions", "views")))


@dataclass(frozen=True)
class Ndc:
    """Normalised device coordinates of a reference camera (Mildenhall et al. 2020, appendix C).

    The camera looks along +z from ``T_world_reference``; what lies between ``near`` (metres) and infinity, within the
    picture of half sizes ``half`` (tangents), fills the cube [-1, 1]^3, z growing with the distance.
    """

    T_world_reference: Float32[np.ndarray, "4 4"]
    half: tuple[float, float]
    near: float

    def warp(self, rays: Rays) -> Rays:
        """World rays that look forward, from the near plane on."""
        R, t = self._rotation(rays.origins)
        o, d = (rays.origins - t) @ R, rays.directions @ R
        o = o + ((self.near - o[:, 2:]) / d[:, 2:]) * d
        half = torch.tensor(self.half, device=o.device)
        slope_o, slope_d = o[:, :2] / o[:, 2:], d[:, :2] / d[:, 2:]
        start = torch.cat([slope_o / half, 1 - 2 * self.near / o[:, 2:]], 1)
        way = torch.cat([(slope_d - slope_o) / half, 2 * self.near / o[:, 2:]], 1)
        return Rays(start, functional.normalize(way, dim=1), rays.views)

    def to_world(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Where points of the cube lie in the world, metres."""
        R, t = self._rotation(points)
        z = 2 * self.near / (1 - points[:, 2:]).clamp_min(1e-6)
        half = torch.tensor(self.half, device=points.device)
        return torch.cat([points[:, :2] * half * z, z], 1) @ R.T + t

    def _rotation(self, like: Tensor) -> tuple[Tensor, Tensor]:
        T = torch.as_tensor(self.T_world_reference, dtype=like.dtype, device=like.device)
        return T[:3, :3], T[:3, 3]


def camera_rays(camera: Camera, T_world_camera: Pose, ndc: Ndc | None = None) -> Rays:
    """The rays of all pixels, row by row, of a pinhole camera without distortion."""
    v, u = np.mgrid[: camera.height, : camera.width]
    x, y = (u - camera.K[0, 2]) / camera.K[0, 0], (v - camera.K[1, 2]) / camera.K[1, 1]
    directions = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True) @ T_world_camera[:3, :3].T
    views = torch.from_numpy(directions.astype(np.float32))
    origins = torch.from_numpy(T_world_camera[:3, 3].astype(np.float32)).expand(len(views), 3).contiguous()
    rays = Rays(origins, views, views)
    return rays if ndc is None else ndc.warp(rays)


def spans(rays: Rays, box: Float[Tensor, "2 3"], near: float) -> Float[Tensor, "n 2"]:
    """Where each ray enters and leaves a box; the same number twice where it misses it. near: the least t."""
    way = torch.where(rays.directions.abs() < 1e-6, torch.full_like(rays.directions, 1e-6), rays.directions)
    a, b = (box[0] - rays.origins) / way, (box[1] - rays.origins) / way
    enter = torch.minimum(a, b).amax(1).clamp_min(near)
    return torch.stack([enter, torch.maximum(a, b).amin(1).maximum(enter)], 1)
