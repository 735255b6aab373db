"""Pictures: rays through the pixels' centres, classes where they belong, shadows, determinism."""

from __future__ import annotations

import numpy as np

from ov3d_perception.geometry.cameras import project
from ov3d_perception.sim import camera, classes, rig
from ov3d_perception.sim.meshes import Surface, box
from ov3d_perception.sim.rays import Layer, RayScene
from ov3d_perception.sim.world import Light
from ov3d_perception.types import UNLABELLED

NOON = Light(*np.array([[0, 0, 1], [2, 2, 2], [0.2, 0.4, 0.8], [0.7, 0.8, 0.9]], np.float32), haze=0.0, clouds=0.0)
FRONT = rig.cameras(240, 135)[0]


def test_rays_pass_through_the_pixels_centres() -> None:
    uv, depth, in_front = project(FRONT.camera, camera.rays(FRONT.camera) * 7)
    v, u = np.mgrid[:135, :240]
    assert in_front.all() and (depth > 0).all()
    np.testing.assert_allclose(uv, np.column_stack([u.ravel(), v.ravel()]), atol=1e-3)


def test_cameras_look_where_their_names_say() -> None:
    for mounted in rig.cameras():
        forward = mounted.T_base_camera[:3, 2]
        np.testing.assert_allclose(np.arctan2(forward[1], forward[0]) - mounted.yaw, 0, atol=1e-9)
        np.testing.assert_allclose(mounted.T_base_camera[:3, 1], [0, 0, -1], atol=1e-12)  # image down is down
        assert ("left" in mounted.camera.name) == (mounted.T_base_camera[1, 3] > 0)


def test_a_box_covers_its_projection() -> None:
    T = np.eye(4)
    T[:3, :3] = FRONT.T_base_camera[:3, :3]
    face = box((0.5, 4, 2), (10.25, 1, 0), Surface((0.8, 0.1, 0.1))).tagged(classes.BUS, 3)
    picture = camera.render(FRONT.camera, T, RayScene(Layer(face)), NOON, np.random.default_rng(0))
    f, cu, cv = FRONT.camera.K[0, 0], FRONT.camera.K[0, 2], FRONT.camera.K[1, 2]
    v, u = np.mgrid[:135, :240]
    # y from -1 to 3 and z from -1 to 1, at x = 10: image right is -y, image down is -z
    inside = (u >= cu - 0.3 * f) & (u <= cu + 0.1 * f) & (v >= cv - 0.1 * f) & (v <= cv + 0.1 * f)
    np.testing.assert_array_equal(picture.classes == classes.BUS, inside)
    np.testing.assert_array_equal(picture.instances == 3, inside)
    assert (picture.classes[~inside] == UNLABELLED).all()
    red, green, blue = picture.image[inside].mean(axis=0)
    assert red > 1.5 * green and red > 1.5 * blue
    assert picture.image[0, 0, 2] > picture.image[0, 0, 0]  # the sky is blue


def test_what_stands_in_the_sun_casts_a_shadow() -> None:
    ground = box((40, 40, 1), (0, 0, -0.5), Surface((0.4, 0.4, 0.4))).tagged(classes.TERRAIN)
    plate = box((4, 4, 0.1), (8, 0, 4), Surface((0.4, 0.4, 0.4))).tagged(classes.MANMADE)
    T = np.eye(4)
    T[:3, :3], T[2, 3] = FRONT.T_base_camera[:3, :3], 1.5
    images = [
        camera.render(FRONT.camera, T, RayScene(*layers), NOON, np.random.default_rng(0))
        for layers in ((Layer(ground),), (Layer(ground), Layer(plate)))
    ]
    f, cv = FRONT.camera.K[0, 0], FRONT.camera.K[1, 2]
    below = round(cv + 1.5 / 8 * f)  # the row that looks at the ground 8 m ahead
    lit, shaded = (picture.image[below, 115:125].mean() for picture in images)
    assert images[1].classes[below, 120] == classes.TERRAIN
    assert shaded < 0.75 * lit
