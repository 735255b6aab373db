"""Things that move: traffic in the lanes, cyclists at the edge, people on the pavement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ov3d_perception.sim.catalogue import people, vehicles
from ov3d_perception.sim.furnish import Crossings, Instances
from ov3d_perception.sim.layout import Layout, Side
from ov3d_perception.sim.meshes import Mesh, empty, join
from ov3d_perception.sim.road import Road

_STEPS = 8
_SIGHT = 80.0


@dataclass(frozen=True)
class Actor:
    """One mover. ``meshes``: its looks over one gait cycle of ``cycle`` metres (one look for what rolls).

    ``along``: its s at time t; ``t``, ``h``: lateral position and height (0 in ``crossings``, intervals of s);
    ``forward``: +1 along the road, -1 against.
    """

    meshes: tuple[Mesh, ...]
    along: Callable[[float], float]
    t: float
    h: float = 0.0
    crossings: tuple[tuple[float, float], ...] = ()
    forward: int = 1
    cycle: float = 1.0

    def at(self, road: Road, time: float) -> Mesh:
        """Its mesh at ``time`` seconds, in the world."""
        s = self.along(time)
        look = self.meshes[int(s / self.cycle * len(self.meshes)) % len(self.meshes)]
        h = 0.0 if any(a < s < b for a, b in self.crossings) else self.h
        return look.moved(road.pose(s, self.t, h, 0.0 if self.forward > 0 else np.pi))


@dataclass(frozen=True)
class Traffic:
    """All movers of a world."""

    road: Road
    actors: tuple[Actor, ...]

    def at(self, time: float, near_s: float) -> Mesh:
        """Meshes of the movers within sight of road position ``near_s`` at ``time`` seconds."""
        seen = [a.at(self.road, time) for a in self.actors if abs(a.along(time) - near_s) < _SIGHT]
        return join(seen) if seen else empty()


def populate(
    road: Road,
    layout: Layout,
    crossings: Crossings,
    ego: Callable[[float], float],
    ego_t: float,
    instances: Instances,
    rng: np.random.Generator,
) -> Traffic:
    """Traffic around a robot that drives at ``ego_t`` and is at ``ego(t)``."""
    actors: list[Actor] = []

    def add(looks: list[Mesh], **how: Any) -> None:
        actors.append(Actor(tuple(_same(instances, looks)), crossings=tuple(crossings), **how))

    for sign in (-1, 1):
        side = layout.side(sign)
        for lane in side.lanes:
            t = sign * lane
            if abs(t - ego_t) < 0.5:
                _convoy(ego, t, rng, add)
            else:
                speed = -sign * rng.uniform(4, 9)
                for start in _starts(road, rng, 16, 38):
                    add([_vehicle(rng)], along=_loop(road, start, speed), t=t, forward=-sign)
        if side.flat[1] > side.flat[0]:
            for start in _starts(road, rng, 25, 60):
                along = _loop(road, start, -sign * 4.5)
                add(
                    [people.bicycle(rng, rider=True)], along=along, t=sign * (side.flat[0] + 0.6), h=0.04, forward=-sign
                )
        _walkers(road, side, sign, layout.kerb_height, rng, add)
    return Traffic(road, tuple(actors))


def _vehicle(rng: np.random.Generator) -> Mesh:
    if rng.uniform() < 0.2:
        return (people.motorcycle if rng.uniform() < 0.6 else people.bicycle)(rng, rider=True)
    makers = [vehicles.car, vehicles.truck, vehicles.bus, vehicles.articulated]
    return makers[rng.choice(4, p=[0.76, 0.1, 0.1, 0.04])](rng)


def _convoy(ego: Callable[[float], float], t: float, rng: np.random.Generator, add: Callable[..., None]) -> None:
    """Vehicles ahead of and behind the robot keep its speed."""
    gap = rng.uniform(13, 24)
    for shift in (gap, gap + rng.uniform(18, 30), -rng.uniform(16, 26)):
        add([_vehicle(rng)], along=_following(ego, shift), t=t, forward=1)


def _following(ego: Callable[[float], float], shift: float) -> Callable[[float], float]:
    return lambda time: ego(time) + shift


def _walkers(road: Road, side: Side, sign: int, h: float, rng: np.random.Generator, add: Callable[..., None]) -> None:
    for start in _starts(road, rng, 10, 24):
        forward, stride, look = int(rng.choice([-1, 1])), rng.uniform(0.7, 1.0), rng.integers(2**31)
        meshes = [people.pedestrian(np.random.default_rng(look), k / _STEPS, stride) for k in range(_STEPS)]
        t = sign * rng.uniform(side.pavement[0] + 0.8, side.pavement[1] - 0.4)
        speed = forward * rng.uniform(0.9, 1.7)
        add(meshes, along=_loop(road, start, speed), t=t, h=h, forward=forward, cycle=1.5 * stride)


def _starts(road: Road, rng: np.random.Generator, low: float, high: float) -> list[float]:
    s, found = road.start + rng.uniform(0, high), []
    while s < road.end - low:
        found.append(s)
        s += rng.uniform(low, high)
    return found


def _loop(road: Road, start: float, speed: float) -> Callable[[float], float]:
    """Constant speed; whoever leaves the road at one end enters at the other, out of the robot's sight."""
    length = road.end - road.start
    return lambda time: road.start + (start - road.start + speed * time) % length


def _same(instances: Instances, meshes: list[Mesh]) -> list[Mesh]:
    """All looks of one mover, with one instance id."""
    first = instances.tag(meshes[0])
    if len(meshes) == 1:
        return [first]
    return [mesh.with_instance(int(first.instance[0])) for mesh in meshes]
