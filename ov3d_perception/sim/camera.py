"""Pictures of a world: one primary ray a pixel, procedural textures, sun with shadows, sky with clouds, haze, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from ov3d_perception.sim import textures
from ov3d_perception.sim.meshes import GLOSS
from ov3d_perception.sim.rays import Hits, RayScene
from ov3d_perception.sim.world import Light
from ov3d_perception.types import UNLABELLED, Camera, Pose


@dataclass(frozen=True)
class Picture:
    """An RGB image and, pixel by pixel, class and instance (UNLABELLED and 0 for the sky)."""

    image: UInt8[np.ndarray, "h w 3"]
    classes: Int32[np.ndarray, "h w"]
    instances: Int32[np.ndarray, "h w"]


def rays(camera: Camera) -> Float32[np.ndarray, "n 3"]:
    """Unit directions of all pixels, row by row, in the optical frame of a pinhole camera."""
    v, u = np.mgrid[: camera.height, : camera.width]
    x, y = (u - camera.K[0, 2]) / camera.K[0, 0], (v - camera.K[1, 2]) / camera.K[1, 1]
    directions = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)
    return (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)


def render(
    camera: Camera,
    T_world_camera: Pose,
    scene: RayScene,
    light: Light,
    rng: np.random.Generator,
    exposure: float | None = None,
) -> Picture:
    """What ``camera`` sees at ``T_world_camera``. exposure: of a camera set by hand; None for one that adapts."""
    directions = rays(camera) @ T_world_camera[:3, :3].T.astype(np.float32)
    origins = np.broadcast_to(T_world_camera[:3, 3].astype(np.float32), directions.shape)
    hits = scene.cast(origins, directions)
    colour = np.empty_like(directions)
    above = np.flatnonzero(hits.label == UNLABELLED)
    colour[above] = sky(light, directions[above])
    colour[hits.rows] = _shade(hits, origins, directions, scene, light)
    image = _develop(colour, rng, exposure).reshape(camera.height, camera.width, 3)
    shape = (camera.height, camera.width)
    return Picture(image, hits.label.reshape(shape), hits.instance.reshape(shape))


def sky(light: Light, directions: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
    """Colour of the sky in each direction: a gradient, clouds, the glow of the sun."""
    up = np.clip(directions[:, 2], 0, 1)
    colour = light.horizon + (light.zenith - light.horizon) * (up**0.5)[:, None]
    plane = directions[:, :2] / (up + 0.12)[:, None]
    cover = np.clip(textures.cloud(plane + 7, 0.02) * 0.9 + 2.2 * light.clouds - 1.2, 0, 1) * np.clip(up * 5, 0, 1)
    colour = colour + (np.array([0.92, 0.93, 0.95], np.float32) - colour) * (0.85 * cover)[:, None]
    glow = np.clip(directions @ light.sun, 0, 1) ** 60
    return (colour + light.sun_colour * (0.25 * glow * (1 - cover))[:, None]).astype(np.float32)


def _shade(
    hits: Hits, origins: np.ndarray, directions: np.ndarray, scene: RayScene, light: Light
) -> Float32[np.ndarray, "h 3"]:
    """Light that each hit sends back: sun where no shadow falls, sky from above, a mirror of the sky, haze."""
    rows = hits.rows
    distance, view, normal = hits.distance[rows], directions[rows], hits.normal
    albedo = textures.albedo(hits.uv, hits.surface, distance)
    points = origins[rows] + view * distance[:, None]
    sunward = normal @ light.sun
    lit = np.flatnonzero(sunward > 0.02)
    lift = hits.flat_normal[lit] * (0.01 + 0.0005 * distance[lit])[:, None]
    shadow = scene.blocked(points[lit] + lift, np.broadcast_to(light.sun, (len(lit), 3)))
    direct = np.zeros(len(rows), np.float32)
    direct[lit] = sunward[lit] * ~shadow
    ambient = 0.55 * (light.zenith + light.horizon) / 2 * (0.65 + 0.35 * normal[:, 2])[:, None]
    colour = albedo * (ambient + direct[:, None] * light.sun_colour * 0.75)
    shiny = np.flatnonzero(hits.surface[:, GLOSS] > 0)
    if len(shiny):
        n, d = normal[shiny], view[shiny]
        facing = np.clip(-(n * d).sum(axis=1), 0, 1)
        mirror = d + 2 * facing[:, None] * n
        fresnel = hits.surface[shiny, GLOSS] * (0.06 + 0.6 * (1 - facing) ** 4)
        reflected = np.where((mirror[:, 2] > 0)[:, None], sky(light, mirror), 0.25)
        sparkle = np.clip(mirror @ light.sun, 0, 1) ** 80 * (direct[shiny] > 0) * hits.surface[shiny, GLOSS]
        colour[shiny] += reflected * fresnel[:, None] + sparkle[:, None] * light.sun_colour * 0.5
    clear = np.exp(-light.haze * distance)[:, None]
    return (colour * clear + light.horizon * 0.9 * (1 - clear)).astype(np.float32)


def _develop(
    colour: Float32[np.ndarray, "n 3"], rng: np.random.Generator, exposure: float | None
) -> UInt8[np.ndarray, "n 3"]:
    """Exposure to a mean grey, a soft shoulder, gamma, saturation, sensor noise. A set exposure sets the saturation."""
    saturation = 1.2
    if exposure is None:
        exposure = np.clip(0.36 / (np.mean(colour) + 1e-6) * rng.uniform(0.9, 1.1), 0.5, 2.5)
        saturation = rng.uniform(1.05, 1.4)
    exposed = colour * np.float32(exposure)
    film = (exposed * (1 + exposed / 6.0) / (1 + exposed)) ** np.float32(1 / 2.2)
    luma = film @ np.array([0.3, 0.59, 0.11], np.float32)
    film = luma[:, None] + (film - luma[:, None]) * np.float32(saturation)
    film += rng.normal(0, 0.012, film.shape[0]).astype(np.float32)[:, None]
    return (np.clip(film, 0, 1) * 255 + 0.5).astype(np.uint8)
