"""A small still scene in a courtyard, and a camera that is carried around it: what a radiance field is tested on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ov3d_perception.sim import camera as cameras
from ov3d_perception.sim import classes, textures
from ov3d_perception.sim.camera import Picture
from ov3d_perception.sim.catalogue import furniture, paint, people, plants, vehicles
from ov3d_perception.sim.meshes import Mesh, Surface, box, join, place
from ov3d_perception.sim.rays import Layer, RayScene
from ov3d_perception.sim.world import Light
from ov3d_perception.types import Camera, Pose, Poses

BOX = np.array([[-5.5, -6.7, -0.3], [4.5, 6.7, 6.5]])
"""What a still life fills, metres: x to the wall at the back, z up."""
_CENTRE = np.array([-0.3, 0.0, 0.8])
_EXPOSURE = 1.1
_THINGS: dict[int, tuple[str, Callable[[np.random.Generator], Mesh], float]] = {
    classes.CAR: ("car", vehicles.car, 2.4),
    classes.TRAFFIC_CONE: ("traffic cone", furniture.traffic_cone, 0.5),
    classes.PEDESTRIAN: ("pedestrian", people.pedestrian, 0.6),
    classes.MOTORCYCLE: ("motorcycle", people.motorcycle, 1.2),
    classes.BICYCLE: ("bicycle", people.bicycle, 1.1),
    classes.BARRIER: ("barrier", furniture.barrier, 1.5),
    classes.VEGETATION: ("bush", plants.bush, 1.0),
}
_GROUNDS = {
    classes.DRIVEABLE_SURFACE: ("road", Surface(paint.srgb(92, 92, 95), paint.srgb(60, 60, 62), textures.PLASTER, 0.5)),
    classes.TERRAIN: ("grass", Surface(paint.srgb(86, 124, 50), paint.srgb(60, 90, 35), textures.GRASS, 0.5)),
}


@dataclass(frozen=True)
class StillLife:
    """words: of the classes ``labels`` in turn."""

    scene: RayScene
    light: Light
    labels: tuple[int, ...]
    words: tuple[str, ...]


def still_life(seed: int, things: int = 4) -> StillLife:
    """``things`` different things on a road or on grass, in a courtyard."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 17]))
    chosen = [int(n) for n in rng.permutation(list(_THINGS))[:things]]
    ground = int(rng.choice(list(_GROUNDS)))
    meshes = [box((26, 22, 0.2), (-2.0, 0, -0.1), _GROUNDS[ground][1]).tagged(ground), _walls(rng)]
    for (x, y), label in zip(_places(rng, [_THINGS[n][2] for n in chosen]), chosen, strict=True):
        meshes.append(_THINGS[label][1](rng).moved(place(x, y, 0, rng.uniform(0, 2 * np.pi))))
    sun = np.array([-0.35, rng.uniform(-0.5, 0.5), 1.3])
    warm, zenith, horizon = np.array([[2.0, 1.9, 1.75], [0.35, 0.5, 0.8], [0.7, 0.78, 0.9]], np.float32)
    light = Light((sun / np.linalg.norm(sun)).astype(np.float32), warm, zenith, horizon, haze=0.0, clouds=0.3)
    labels = (*chosen, ground, classes.MANMADE)
    words = (*(_THINGS[n][0] for n in chosen), _GROUNDS[ground][0], "wall")
    return StillLife(RayScene(Layer(join(meshes))), light, labels, words)


def carried_camera(count: int, size: tuple[int, int], all_round: bool = False) -> tuple[Camera, Poses]:
    """A camera of ``size`` (width, height) at ``count`` places on a winding arc, all looking at the
    things; all_round: a wider arc, from beside the things to their other side."""
    width, height = size
    focal = 0.95 * width
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
    turn = np.linspace(-1, 1, count)
    azimuth = np.pi + turn * (np.radians(70) if all_round else np.radians(30))
    radius, up = 6.3 + 0.5 * np.sin(5.1 * turn), 2.3 + 0.8 * np.sin(7.3 * turn + 0.4)
    eyes = np.column_stack([radius * np.cos(azimuth), radius * np.sin(azimuth), up])
    return Camera("hand", width, height, K), np.stack([looking(eye, _CENTRE) for eye in eyes])


def photograph(life: StillLife, camera: Camera, T_world_camera: Pose, seed: int) -> tuple[Picture, np.ndarray]:
    """A picture, and the distance along the optical axis of each pixel (h, w), metres."""
    picture = cameras.render(camera, T_world_camera, life.scene, life.light, np.random.default_rng(seed), _EXPOSURE)
    directions = cameras.rays(camera)
    origins = np.broadcast_to(T_world_camera[:3, 3], directions.shape)
    hits = life.scene.cast(origins, directions @ T_world_camera[:3, :3].T)
    return picture, (hits.distance * directions[:, 2]).reshape(camera.height, camera.width)


def _walls(rng: np.random.Generator) -> Mesh:
    colour = paint.pick(rng, paint.srgb(150, 85, 65), paint.srgb(190, 180, 165), paint.srgb(205, 200, 190))
    surface = Surface(colour, paint.scaled(colour, 0.5), textures.WINDOWS, rng.uniform(1.8, 2.6))
    sides = [box((24, 0.4, 14), (-7.5, y, 7), surface) for y in (-6.7, 6.7)]
    return join([box((0.4, 13.8, 14), (4.4, 0, 7), surface), *sides]).tagged(classes.MANMADE)


def _places(rng: np.random.Generator, radii: list[float]) -> list[tuple[float, float]]:
    """Centres of circles that do not touch, the largest placed first."""
    found: dict[int, tuple[float, float]] = {}
    for number in np.argsort(radii)[::-1]:
        for _ in range(400):
            x, y = float(rng.uniform(-2.0, 2.4)), float(rng.uniform(-2.8, 2.8))
            if all(np.hypot(x - a, y - b) > 0.85 * (radii[number] + radii[n]) for n, (a, b) in found.items()):
                break
        found[int(number)] = (x, y)
    return [found[n] for n in range(len(radii))]


def looking(eye: np.ndarray, at: np.ndarray) -> Pose:
    """The optical frame of a camera at ``eye`` that looks at a point, with its picture upright."""
    forward = (at - eye) / np.linalg.norm(at - eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    T = np.eye(4)
    T[:3, :3] = np.column_stack([right, np.cross(forward, right), forward])
    T[:3, 3] = eye
    return T
