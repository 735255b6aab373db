"""What stands on a street: parked vehicles, work sites, people, furniture, trees, buildings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ov3d_perception.sim import classes
from ov3d_perception.sim.catalogue import buildings, furniture, machines, people, plants, vehicles
from ov3d_perception.sim.layout import Layout, Side
from ov3d_perception.sim.meshes import Mesh, join, place
from ov3d_perception.sim.road import Road
from ov3d_perception.types import Pose

# Classes that are counted: each object of them gets an instance id of its own. All others have instance 0.
THINGS = tuple(range(classes.DRIVEABLE_SURFACE))
Crossings = list[tuple[float, float]]
_Placer = Callable[[float, float, int], float]  # puts something at (s, t) on side sign; returns the metres it takes


class Instances:
    """Hands out instance ids, from 1."""

    def __init__(self) -> None:
        self._last = 0

    def tag(self, mesh: Mesh) -> Mesh:
        """The mesh with one new id for each thing class in it."""
        instance = np.zeros(len(mesh), np.int32)
        for label in np.unique(mesh.label):
            if label in THINGS:
                self._last += 1
                instance[mesh.label == label] = self._last
        return Mesh(mesh.vertices, mesh.normals, mesh.uv, mesh.surface, mesh.label, instance)


class Furnisher:
    """Places things along both sides of a street between two crossings; collects their meshes."""

    def __init__(
        self, road: Road, layout: Layout, crossings: Crossings, instances: Instances, rng: np.random.Generator
    ) -> None:
        self._road, self._layout, self._crossings = road, layout, crossings
        self._instances, self._rng = instances, rng
        self.meshes: list[Mesh] = []

    def furnish(self) -> Mesh:
        """Everything that does not move, as one mesh."""
        for sign in (-1, 1):
            side = self._layout.side(sign)
            self._kerbside(sign, side)
            self._pavement(sign, side)
            self._verge(sign, side)
            self._plots(sign, side)
        self._median()
        self._signals()
        self._ends()
        return join(self.meshes)

    def _add(self, mesh: Mesh, s: float, t: float, *, yaw: float = 0.0, h: float = 0.0) -> None:
        shift = self._rng.uniform(0, 50, 2)
        mesh = mesh.shifted_texture((float(shift[0]), 0.0)) if len(mesh) < 400 else mesh
        T: Pose = self._road.pose(s, t, h, yaw)
        if mesh.label[0] not in THINGS:
            T = T @ _upright(T)
        self.meshes.append(self._instances.tag(mesh.moved(T)))

    def _free(self, s: float, margin: float = 2.0) -> bool:
        return all(s < a - margin or s > b + margin for a, b in self._crossings)

    def _range(self, low: float, high: float) -> list[float]:
        """Positions along the road with random steps in [low, high], none in a crossing."""
        s, found = self._road.start + self._rng.uniform(0, high), []
        while s < self._road.end:
            if self._free(s):
                found.append(s)
            s += self._rng.uniform(low, high)
        return found

    # The kerb: parked vehicles and work sites.

    def _kerbside(self, sign: int, side: Side) -> None:
        rng, s = self._rng, self._road.start + self._rng.uniform(0, 6)
        deck: list[_Placer] = []
        t = sign * (side.parking if side.parking is not None else side.lanes[-1] + self._layout.lane_width / 2 + 0.9)
        while s < self._road.end - 20:
            if not deck:
                cards = self._parked() if side.parking is not None else [self._cones, self._gap, self._gap, self._gap]
                deck = [cards[i] for i in rng.permutation(len(cards))]
            blocked = [b for a, b in self._crossings if a - 18 < s < b + 4]
            if blocked:
                s = max(blocked) + 4.5
                continue
            s += deck.pop()(s, t, sign) + rng.uniform(0.6, 2.0) + (rng.uniform(2, 8) if rng.uniform() < 0.35 else 0.0)

    def _parked(self) -> list[_Placer]:
        big = self._articulated if self._rng.uniform() < 0.25 else self._truck
        cars: list[_Placer] = [self._car] * 5
        others: list[_Placer] = [self._bus, self._trailer, self._worksite, self._motorcycles, self._bicycles]
        return [*cars, big, *others, self._gap, self._cones]

    def _park(self, mesh: Mesh, s: float, t: float, sign: int, *, wobble: float = 0.03) -> float:
        low, high = mesh.vertices[..., 0].min(), mesh.vertices[..., 0].max()
        yaw = self._rng.normal(0, wobble) + (np.pi if sign > 0 else 0.0)
        self._add(mesh, s + (high if sign > 0 else -low), t + self._rng.normal(0, 0.08), yaw=yaw)
        return float(high - low)

    def _car(self, s: float, t: float, sign: int) -> float:
        return self._park(vehicles.car(self._rng), s, t, sign)

    def _truck(self, s: float, t: float, sign: int) -> float:
        return self._park(vehicles.truck(self._rng), s, t, sign)

    def _bus(self, s: float, t: float, sign: int) -> float:
        return self._park(vehicles.bus(self._rng), s, t, sign)

    def _trailer(self, s: float, t: float, sign: int) -> float:
        return self._park(vehicles.trailer(self._rng), s, t, sign)

    def _articulated(self, s: float, t: float, sign: int) -> float:
        return self._park(vehicles.articulated(self._rng), s, t, sign)

    def _gap(self, s: float, t: float, sign: int) -> float:
        return self._rng.uniform(3, 9)

    def _motorcycles(self, s: float, t: float, sign: int) -> float:
        count = int(self._rng.integers(2, 4))
        for k in range(count):
            yaw = sign * self._rng.uniform(0.9, 1.4)
            self._add(people.motorcycle(self._rng), s + 0.6 + 1.2 * k, t + sign * 0.2, yaw=yaw)
        return 1.2 * count

    def _bicycles(self, s: float, t: float, sign: int) -> float:
        count = int(self._rng.integers(3, 6))
        for k in range(count):
            self._add(
                people.bicycle(self._rng), s + 0.4 + 0.7 * k, t + sign * 0.3, yaw=sign * self._rng.uniform(1.1, 1.7)
            )
        return 0.7 * count

    def _cones(self, s: float, t: float, sign: int) -> float:
        count = int(self._rng.integers(3, 6))
        for k in range(count):
            self._add(furniture.traffic_cone(self._rng), s + 1.5 * k, t - sign * 0.5 + self._rng.normal(0, 0.15))
        for k in range(int(self._rng.integers(1, 4))):
            self._add(furniture.barrier(self._rng), s + 1.5 + 2.6 * k, t + sign * 0.5, yaw=self._rng.normal(0, 0.08))
        return 1.5 * count + 3.0

    def _worksite(self, s: float, t: float, sign: int) -> float:
        """A construction vehicle behind barriers and cones."""
        length = 9.0
        self._add(
            machines.construction_vehicle(self._rng), s + length / 2, t + sign * 0.3, yaw=self._rng.choice([0.0, np.pi])
        )
        element = furniture.barrier(self._rng)
        if self._rng.uniform() < 0.6:
            for k in range(3):
                self._add(element, s + 2.0 + 2.7 * k, t - sign * 1.35)
        for ds in (-0.5, length + 0.5):
            self._add(furniture.traffic_cone(self._rng), s + ds, t - sign * 1.1)
        self._add(furniture.barrier(self._rng), s - 1.2, t, yaw=np.pi / 2)
        return length + 1.5

    # The pavement and the verge.

    def _pavement(self, sign: int, side: Side) -> None:
        rng, h = self._rng, self._layout.kerb_height
        inner, outer = side.pavement
        kerb = sign * (inner + 0.45)
        for s in self._range(20, 32):
            self._add(furniture.street_light(rng), s, sign * (side.verge[0] + 0.4), yaw=0.0 if sign < 0 else np.pi, h=h)
        makers = [furniture.sign, furniture.bin_, furniture.bollard, furniture.sign]
        for s in self._range(9, 20):
            mesh = makers[rng.integers(len(makers))](rng)
            self._add(mesh, s, kerb, yaw=0.0 if sign < 0 else np.pi, h=h)
        for s in self._range(25, 60):
            turn = np.pi if sign > 0 else 0.0
            self._add(
                furniture.bus_shelter(rng) if rng.uniform() < 0.4 else furniture.bench(rng),
                s,
                sign * (outer - 0.5),
                yaw=turn,
                h=h,
            )
        for s in self._range(8, 20):
            self._people(s, sign * rng.uniform(inner + 0.9, outer - 0.3), h)
        for s in self._range(18, 40):
            self._add(people.bicycle(rng), s, sign * (outer - 0.4), yaw=rng.normal(0, 0.2), h=h)

    def _people(self, s: float, t: float, h: float) -> None:
        for _ in range(int(self._rng.integers(1, 4))):
            offset = self._rng.normal(0, 0.55, 2)
            stride = self._rng.choice([0.0, 0.7])
            mesh = people.pedestrian(self._rng, self._rng.uniform(), stride)
            self._add(mesh, s + offset[0], t + 0.5 * offset[1], yaw=self._rng.uniform(0, 2 * np.pi), h=h)

    def _verge(self, sign: int, side: Side) -> None:
        if side.verge[1] - side.verge[0] > 0.5:
            for s in self._range(7, 14):
                mesh = plants.tree(self._rng) if self._rng.uniform() < 0.75 else plants.bush(self._rng)
                self._add(mesh, s, sign * (sum(side.verge) / 2), h=self._layout.kerb_height)

    def _median(self) -> None:
        if self._layout.median > 0.8:
            for s in self._range(10, 22):
                maker = (plants.bush, furniture.street_light, furniture.sign, furniture.bollard)[self._rng.choice(4)]
                self._add(maker(self._rng), s, 0.0, h=self._layout.kerb_height)
        elif self._layout.median:
            for s in self._range(14, 30):
                self._add(furniture.barrier(self._rng), s, 0.0, h=self._layout.kerb_height)

    def _signals(self) -> None:
        h = self._layout.kerb_height
        for a, b in self._crossings:
            self._add(furniture.traffic_light(self._rng), a - 3.8, -(self._layout.right.verge[0] + 0.4), h=h)
            self._add(furniture.traffic_light(self._rng), b + 3.8, self._layout.left.verge[0] + 0.4, yaw=np.pi, h=h)

    # Plots behind the pavement.

    def _plots(self, sign: int, side: Side) -> None:
        rng, s = self._rng, self._road.start
        previous = ""
        while s < self._road.end - 6:
            length = rng.uniform(13, 26)
            inside = [b for a, b in self._crossings if a - 3 < s < b + 3]
            if inside:
                s = max(inside) + 3.5
                continue
            ahead = [a - 2 - s for a, _ in self._crossings if a > s]
            length = min([length, *ahead])
            if length < 6:
                s += length + 0.5
                continue
            kind = rng.choice(["building", "green", "yard"], p=[0.62, 0.24, 0.14])
            if kind == "yard" and previous == "yard":
                kind = "building"
            getattr(self, f"_{kind}")(s + length / 2, length - 0.6, sign, side)
            previous, s = kind, s + length

    def _building(self, s: float, length: float, sign: int, side: Side) -> None:
        rng, h = self._rng, self._layout.kerb_height
        setback = rng.uniform(3.0, 7.0) if rng.uniform() < 0.45 else 0.9
        yaw = np.pi if sign > 0 else 0.0
        self._add(
            buildings.building(rng, length, rng.uniform(8, 13)), s, sign * (side.front + setback), yaw=yaw, h=h - 0.1
        )
        if setback > 2:
            maker = (plants.hedge, furniture.fence, furniture.wall)[rng.choice(3)]
            self._add(maker(rng, length), s, sign * (side.front + 0.4), h=h)
            for _ in range(int(rng.integers(1, 4))):
                mesh = plants.bush(rng) if rng.uniform() < 0.6 or setback < 4.5 else plants.tree(rng)
                self._add(mesh, s + rng.uniform(-0.4, 0.4) * length, sign * (side.front + setback * 0.5), h=h)

    def _green(self, s: float, length: float, sign: int, side: Side) -> None:
        """A small park: trees, bushes, a bench, people on the grass."""
        rng, h = self._rng, self._layout.kerb_height
        for _ in range(int(length / 4) + 2):
            mesh = plants.tree(rng) if rng.uniform() < 0.65 else plants.bush(rng)
            self._add(mesh, s + rng.uniform(-0.5, 0.5) * length, sign * (side.front + rng.uniform(1.5, 14)), h=h)
        if rng.uniform() < 0.5:
            self._add(plants.hedge(rng, length * 0.8), s, sign * (side.front + 0.5), h=h)
        self._people(s, sign * (side.front + 3), h)

    def _yard(self, s: float, length: float, sign: int, side: Side) -> None:
        """A building site or depot: a machine, a trailer, a fence of barriers."""
        rng, h = self._rng, self._layout.kerb_height
        self._add(
            machines.construction_vehicle(rng), s - length / 4, sign * (side.front + 5), yaw=rng.uniform(0, 6.3), h=h
        )
        other = vehicles.trailer(rng) if rng.uniform() < 0.6 else vehicles.truck(rng)
        self._add(other, s + length / 5, sign * (side.front + 9), yaw=rng.uniform(-0.4, 0.4), h=h)
        element = furniture.barrier(rng)
        for at in np.arange(-length / 2 + 1.5, length / 2 - 1, 3.1):
            self._add(element, s + at, sign * (side.front + 0.5), h=h)
        for _ in range(3):
            self._add(furniture.traffic_cone(rng), s + rng.uniform(-0.4, 0.4) * length, sign * (side.front + 2), h=h)
        self._add(furniture.wall(rng, length), s, sign * (side.front + 14), h=h)

    def _ends(self) -> None:
        """Close the street's view at both ends."""
        for s, yaw in ((self._road.start + 2, -np.pi / 2), (self._road.end - 2, np.pi / 2)):
            for t in (-40, -14, 14, 40):
                self._add(buildings.building(self._rng, 24, 10), s, t, yaw=yaw)


def _upright(T: Pose) -> Pose:
    """The rotation that takes the pitch out of ``T``: masts and houses stand plumb on a slope."""
    heading = np.arctan2(T[1, 0], T[0, 0])
    plumb = place(yaw=heading)
    plumb[:3, 3] = T[:3, 3]
    return np.linalg.inv(T) @ plumb
