"""Every thing of the catalogue: its class, a plausible size, standing on the ground, never twice the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ov3d_perception.sim import classes
from ov3d_perception.sim.catalogue import buildings, furniture, machines, people, plants, vehicles
from ov3d_perception.sim.meshes import Mesh

Maker = Callable[[np.random.Generator], Mesh]
# Maker, class, smallest and largest size: length, width, height in metres.
CATALOGUE: list[tuple[Maker, int, tuple[float, ...], tuple[float, ...]]] = [
    (vehicles.car, classes.CAR, (3.6, 1.6, 1.3), (5.8, 2.5, 2.2)),
    (vehicles.bus, classes.BUS, (9, 2.4, 2.8), (13, 2.8, 3.7)),
    (vehicles.truck, classes.TRUCK, (6.4, 2.2, 2.2), (10, 3.2, 4.0)),
    (vehicles.trailer, classes.TRAILER, (3, 1.5, 1.2), (12, 2.7, 4.1)),
    (machines.construction_vehicle, classes.CONSTRUCTION_VEHICLE, (3, 1.4, 2), (10, 5, 5.5)),
    (people.bicycle, classes.BICYCLE, (1.6, 0.5, 0.9), (2.0, 0.7, 1.2)),
    (lambda r: people.bicycle(r, rider=True), classes.BICYCLE, (1.6, 0.5, 1.6), (2.0, 0.8, 2.0)),
    (people.motorcycle, classes.MOTORCYCLE, (1.6, 0.6, 0.9), (2.3, 0.9, 1.4)),
    (people.pedestrian, classes.PEDESTRIAN, (0.2, 0.4, 1.4), (1.1, 1.0, 2.1)),
    (lambda r: people.pedestrian(r, 0.25, 0.9), classes.PEDESTRIAN, (0.5, 0.4, 1.4), (1.6, 1.0, 2.1)),
    (furniture.traffic_cone, classes.TRAFFIC_CONE, (0.2, 0.2, 0.4), (0.6, 0.6, 1.2)),
    (furniture.barrier, classes.BARRIER, (1.1, 0.3, 0.7), (3.1, 0.8, 1.3)),
    (furniture.street_light, classes.MANMADE, (0.1, 0.4, 4), (0.5, 3.2, 9)),
    (furniture.sign, classes.MANMADE, (0.05, 0.3, 1.9), (0.3, 1.0, 3)),
    (lambda r: buildings.building(r, 15, 10), classes.MANMADE, (14, 9, 3), (17, 14, 36)),
    (plants.tree, classes.VEGETATION, (1, 1, 4), (9, 9, 14)),
    (plants.bush, classes.VEGETATION, (0.6, 0.6, 0.5), (4.5, 4.5, 3)),
    (lambda r: plants.hedge(r, 6), classes.VEGETATION, (5.9, 0.5, 0.7), (6.6, 1.4, 2.1)),
]  # fmt: skip


@pytest.mark.parametrize(("maker", "label", "least", "most"), CATALOGUE)
def test_class_size_and_ground(maker: Maker, label: int, least: tuple[float, ...], most: tuple[float, ...]) -> None:
    looks = []
    for seed in range(12):
        mesh = maker(np.random.default_rng(seed))
        assert set(mesh.label) == {label}
        assert np.isfinite(mesh.vertices).all() and np.isfinite(mesh.uv).all() and len(mesh) < 4000
        low, high = mesh.vertices.reshape(-1, 3).min(axis=0), mesh.vertices.reshape(-1, 3).max(axis=0)
        assert (high - low >= least).all() and (high - low <= most).all(), (seed, high - low)
        assert -0.8 <= low[2] <= 0.12
        looks.append([*(high - low), *mesh.surface.mean(axis=0)])
    assert len(np.unique(np.round(looks, 3), axis=0)) > 8


def test_an_articulated_truck_is_truck_and_trailer_without_overlap() -> None:
    mesh = vehicles.articulated(np.random.default_rng(0))
    cab = mesh.vertices[(mesh.label == classes.TRUCK) & (mesh.vertices[..., 2].min(axis=1) > 1.3), :, 0]
    load = mesh.vertices[mesh.label == classes.TRAILER, :, 0]
    assert cab.min() > load.max()


def test_a_step_moves_the_legs() -> None:
    looks = [people.pedestrian(np.random.default_rng(3), phase, 0.9) for phase in (0.25, 0.75)]
    assert len(looks[0]) == len(looks[1])
    shift = np.abs(looks[0].vertices - looks[1].vertices).max(axis=(1, 2))
    assert shift.max() > 0.5 and (shift < 1e-6).sum() > 100  # feet swing, the head does not
