"""Primitives: closed surfaces of the right volume, normals that look out, rigid motion."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from ov3d_perception.sim.meshes import Mesh, Surface, box, ellipsoid, join, loft, place, prism, tube

GREY = Surface((0.5, 0.5, 0.5))


def volume(mesh: Mesh) -> float:
    solid = trimesh.Trimesh(mesh.vertices.reshape(-1, 3), np.arange(3 * len(mesh)).reshape(-1, 3), process=False)
    solid.merge_vertices(digits_vertex=5)
    assert solid.is_watertight
    return abs(float(solid.volume))


def test_volumes() -> None:
    assert volume(box((2, 3, 4), (1, 1, 1), GREY)) == pytest.approx(24, rel=1e-5)
    # A frustum of a pyramid: h / 3 (A + a + sqrt(A a))
    assert volume(box((2, 2, 3), (0, 0, 0), GREY, taper=(0.5, 0.5))) == pytest.approx(4 + 1 + 2, rel=1e-5)
    assert volume(prism([(0, 0), (2, 0), (0, 1)], 3, GREY)) == pytest.approx(3, rel=1e-5)
    # A regular n-gon has area n / 2 r^2 sin(2 pi / n)
    area = 6 / 2 * 0.25 * np.sin(np.pi / 3)
    assert volume(tube([(0, 0, 0), (0, 0, 2)], 0.5, GREY, 6)) == pytest.approx(2 * area, rel=1e-5)


def test_a_profile_may_run_either_way() -> None:
    outline = [(0, 0), (2, 0), (2, 1), (0, 1)]
    for profile in (outline, outline[::-1]):
        mesh = loft(profile, [(-1, 1.0), (1, 1.0)], GREY)
        middle = mesh.vertices.mean(axis=1) - [1, 0, 0.5]
        assert ((middle * mesh.normals[:, 0]).sum(axis=1) > 0).all()


def test_normals_look_out() -> None:
    for mesh in (box((1, 2, 3), (0, 0, 0), GREY), ellipsoid((1, 2, 0.5), (0, 0, 0), GREY, subdivisions=2)):
        assert ((mesh.vertices * mesh.normals).sum(axis=2) > 0).all()
        np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=2), 1, atol=1e-5)


def test_motion_is_rigid_and_leaves_the_texture() -> None:
    mesh = box((1, 2, 3), (0, 0, 0), GREY).tagged(4, 9)
    moved = mesh.moved(place(5, 6, 7, yaw=np.pi / 2))
    np.testing.assert_allclose(moved.vertices[..., 0], 5 - mesh.vertices[..., 1], atol=1e-5)
    np.testing.assert_allclose(moved.vertices[..., 1], 6 + mesh.vertices[..., 0], atol=1e-5)
    np.testing.assert_array_equal(moved.uv, mesh.uv)
    both = join([mesh, moved.with_instance(3)])
    assert len(both) == 24 and set(both.label) == {4} and set(both.instance) == {9, 3}
