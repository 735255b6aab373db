"""A street world from a seed: road, ground, buildings, things, traffic, day light."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from ov3d_perception.sim import furnish, ground
from ov3d_perception.sim import layout as layouts
from ov3d_perception.sim.actors import Traffic, populate
from ov3d_perception.sim.furnish import Instances
from ov3d_perception.sim.layout import Layout
from ov3d_perception.sim.meshes import Mesh, join, repainted
from ov3d_perception.sim.rays import Layer, RayScene
from ov3d_perception.sim.road import Road

_MARGIN = 95.0


@dataclass(frozen=True)
class Light:
    """Day light. ``sun``: unit vector to the sun; colours are linear RGB; ``haze``: share of light lost per metre."""

    sun: Float32[np.ndarray, " 3"]
    sun_colour: Float32[np.ndarray, " 3"]
    zenith: Float32[np.ndarray, " 3"]
    horizon: Float32[np.ndarray, " 3"]
    haze: float
    clouds: float


@dataclass(frozen=True)
class World:
    """What a seed stands for. ``ego``: the robot's s at a time (s); ``ego_t``: its lateral position."""

    road: Road
    layout: Layout
    static: Layer
    traffic: Traffic
    light: Light
    ego: Callable[[np.ndarray], np.ndarray]
    ego_t: float
    paint: int = 0

    def at(self, time: float) -> RayScene:
        """The world for rays at ``time`` seconds."""
        movers = self.traffic.at(time, float(self.ego(np.asarray(time))))
        return RayScene(self.static, Layer(repainted(movers, self.paint)))


def generate(seed: int, duration_s: float, *, sun: tuple[float, float] | None = None, paint: int = 0) -> World:
    """The world of ``seed``, long enough for a drive of ``duration_s``. ``sun``: azimuth, elevation (radians).

    paint: see :func:`repainted`.
    """
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence([seed, 2]).spawn(6)]
    ego = _ride(streams[0], duration_s)
    length = float(ego(np.asarray(duration_s)))
    road = Road(streams[1], -_MARGIN, length + _MARGIN)
    layout = layouts.draw(streams[2])
    crossings = _crossings(streams[1], road)
    instances = Instances()
    earth = ground.build(road, layout, crossings, streams[3])
    things = furnish.Furnisher(road, layout, crossings, instances, streams[4]).furnish()
    ego_t = -layout.right.lanes[int(streams[0].integers(len(layout.right.lanes)))]
    traffic = populate(road, layout, crossings, lambda time: float(ego(np.asarray(time))), ego_t, instances, streams[5])
    static: Mesh = join([earth, things])
    light = _light(streams[0], sun)
    return World(road, layout, Layer(repainted(static, paint)), traffic, light, ego, ego_t, paint)


def _ride(rng: np.random.Generator, duration_s: float) -> Callable[[np.ndarray], np.ndarray]:
    """Distance driven at a time: 5 to 8 m/s, gently varying."""
    mean, swing, period, phase = rng.uniform(5.8, 7.2), rng.uniform(0.2, 0.8), rng.uniform(8, 20), rng.uniform(0, 6.28)
    w = 2 * np.pi / period
    return lambda time: mean * time - swing / w * (np.cos(w * time + phase) - np.cos(phase))


def _crossings(rng: np.random.Generator, road: Road) -> list[tuple[float, float]]:
    """Side streets every 60 to 110 m."""
    s, found = road.start + rng.uniform(25, 70), []
    while s < road.end - 30:
        width = rng.uniform(7, 10)
        found.append((s, s + width))
        s += rng.uniform(60, 110)
    return found


def _light(rng: np.random.Generator, sun: tuple[float, float] | None) -> Light:
    azimuth, elevation = sun or (rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(18, 65)))
    way = np.array(
        [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)], np.float32
    )
    clouds = float(rng.beta(1.2, 1.7))
    warm = 1 - np.clip(np.degrees(elevation) / 45, 0, 1)
    strength = 2.6 * (1 - 0.75 * max(0.0, clouds - 0.45) / 0.55)
    colour = np.array([1.0, 0.96 - 0.14 * warm, 0.9 - 0.32 * warm]) * strength
    grey = np.clip((clouds - 0.3) / 0.6, 0, 1)
    zenith = (1 - grey) * np.array([0.20, 0.40, 0.78]) + grey * np.array([0.62, 0.65, 0.70])
    horizon = (1 - grey) * np.array([0.68, 0.78, 0.90]) + grey * np.array([0.78, 0.80, 0.82])
    colours = [np.asarray(v, np.float32) for v in (colour, zenith, horizon)]
    return Light(way, colours[0], colours[1], colours[2], haze=float(rng.uniform(0.0008, 0.004)), clouds=clouds)
