"""Small scenes that the tests of the room share."""

from __future__ import annotations

import numpy as np

from ov3d_perception.fields.scene import Scene
from ov3d_perception.sim.still_life import BOX, carried_camera, photograph, still_life
from ov3d_perception.types import View


def small_scene(views: int = 6, size: tuple[int, int] = (64, 48)) -> Scene:
    life = still_life(3, things=2)
    camera, poses = carried_camera(views, size)
    shots, masks = [], {}
    for number, T in enumerate(poses):
        picture, _ = photograph(life, camera, T, number)
        shots.append(View(camera, T, picture.image))
        if number == 2:
            masks[number] = np.select([picture.classes == n for n in life.labels], range(len(life.labels)), 65535)
    masks = {number: mask.astype(np.int32) for number, mask in masks.items()}
    names = tuple(f"{n:02d}" for n in range(views))
    return Scene("still life", tuple(shots), names, box=BOX, classes=life.words, masks=masks, test=(2,))
