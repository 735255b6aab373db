"""A bag's images with their poses by TF: the camera's own way through a scene that stands still."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ov3d_perception.bags.cameras import BagCamera, find_cameras
from ov3d_perception.bags.images import decode_image
from ov3d_perception.bags.messages import stamp_ns
from ov3d_perception.bags.reader import Bag, open_bag
from ov3d_perception.bags.streams import read_stream
from ov3d_perception.errors import DatasetError, TransformError
from ov3d_perception.fields.scene import Scene
from ov3d_perception.fields.sources.images import undistorted
from ov3d_perception.geometry.transform_tree import TransformTree
from ov3d_perception.types import View

MOST = 60
_HELD_OUT = 10
_TOLERANCE = 50_000_000  # ns


def load_bag(path: Path, cameras: tuple[str, ...] = (), fixed_frame: str = "") -> Scene:
    """Up to 60 images of one camera, evenly spread over the way; every tenth is a test view.

    cameras: its namespace or topic; the first found where empty. fixed_frame: map or odom where empty, whichever there
    is. Images are undistorted. Raises BagError, DatasetError.
    """
    with open_bag(path) as bag:
        tree = bag.transforms()
        found = find_cameras(bag, tree, list(cameras) or None)
        if not found.cameras:
            raise DatasetError(f"{path} has no camera to learn a field from: {found}", "Record images with camera_info")
        camera = found.cameras[0]
        frame = fixed_frame or next((name for name in ("map", "odom") if name in tree.frames), "")
        if not frame:
            raise DatasetError(f"{path} has neither map nor odom, but {tree.frames}", "Record /tf of the odometry")
        views = _views(bag, camera, tree, frame)
    names = tuple(str(view.stamp) for view in views)
    return Scene(path.stem, tuple(views), names, test=tuple(range(_HELD_OUT // 2, len(views), _HELD_OUT)))


def _views(bag: Bag, camera: BagCamera, tree: TransformTree, frame: str) -> list[View]:
    stream = read_stream(bag, camera.images)
    poses = {}
    for number, stamp in enumerate(stream.stamps.tolist()):
        try:
            poses[number] = tree.lookup(frame, camera.frame_id, stamp, _TOLERANCE) @ camera.T_frame_camera
        except TransformError:
            continue  # the way begins after the first images, and ends before the last
    if not poses:
        raise DatasetError(f"No image of {camera.images} has a pose in {frame}", "Record /tf with the images")
    numbers = list(poses)
    chosen = list(range(len(numbers)))
    if len(numbers) > MOST:
        way = np.stack([poses[n][:3, 3] for n in numbers])
        along = np.concatenate([[0], np.linalg.norm(np.diff(way, axis=0), axis=1).cumsum()])
        wanted = np.searchsorted(along, np.linspace(0, along[-1], MOST))
        chosen = np.unique(wanted.clip(0, len(along) - 1)).tolist()
    kept = {int(stream.stamps[numbers[i]]): numbers[i] for i in chosen}
    views = []
    for message in bag.messages([camera.images]):
        decoded = message.decode()
        stamp = stamp_ns(decoded)
        if stamp in kept:
            pose = poses[kept.pop(stamp)]
            views.append(undistorted(View(camera.camera, pose, decode_image(decoded), stamp)))
    return views
