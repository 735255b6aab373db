"""A Rerun stream of the running system: labelled scans, the map, the mask, and the boxes that answer a question.

Entities: ``map/scan`` (over time), ``map/voxels``, ``map/answers``, ``mask`` (an image), ``log`` (questions and
answers). The viewer, or a file that it opens later, is on the other end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rerun as rr
from jaxtyping import Float, Int8, UInt8

from ov3d_perception.errors import Ov3dError
from ov3d_perception.geometry.boxes import Box
from ov3d_perception.types import Pose
from ov3d_perception.viz.costs import grid_picture

_Points = Float[np.ndarray, "n 3"]
_Colours = UInt8[np.ndarray, "n 3"]


class LiveStream:
    """Into the viewer, which is started, or into ``save`` (.rrd). Raises Ov3dError if neither is possible."""

    def __init__(self, save: Path | None = None) -> None:
        self._stream = rr.RecordingStream("ov3d_view")
        try:
            if save is not None:
                save.parent.mkdir(parents=True, exist_ok=True)
                self._stream.save(save)
            else:
                self._stream.spawn()
        except (OSError, RuntimeError) as error:
            raise Ov3dError(
                f"The view cannot be shown or saved: {error}",
                "Without a display write a file, `ov3d view --save view.rrd`, in a folder that can be written to",
            ) from error
        self._stream.log("map", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)

    def scan(self, stamp: int, xyz: _Points, rgb: _Colours, T_map_sensor: Pose) -> None:
        """A labelled scan in the sensor's frame, and where the sensor was. stamp: ns."""
        self._at(stamp)
        rotation, translation = T_map_sensor[:3, :3], T_map_sensor[:3, 3]
        self._stream.log("map/scan", rr.Transform3D(translation=translation, mat3x3=rotation))
        self._stream.log("map/scan", rr.Points3D(xyz, colors=rgb, radii=0.04))

    def voxels(self, stamp: int, xyz: _Points, rgb: _Colours) -> None:
        """The whole map."""
        self._at(stamp)
        self._stream.log("map/voxels", rr.Points3D(xyz, colors=rgb, radii=0.08))

    def mask(self, stamp: int, values: Int8[np.ndarray, "h w"]) -> None:
        """The costmap filter's mask, a pixel a cell."""
        self._at(stamp)
        self._stream.log("mask", rr.Image(grid_picture(values)))

    def answers(self, stamp: int, question: str, boxes: Sequence[Box], text: str) -> None:
        """The boxes that answer a question take the place of the former ones."""
        self._at(stamp)
        self._stream.log(
            "map/answers",
            rr.Boxes3D(
                centers=[box.centre for box in boxes],
                half_sizes=[box.size / 2 for box in boxes],
                rotations=[rr.RotationAxisAngle([0, 0, 1], radians=float(box.yaw)) for box in boxes],
                labels=[box.text or box.label for box in boxes],
            ),
        )
        self._stream.log("log", rr.TextLog(f"{question}? {text}"))

    def close(self) -> None:
        """Write what is left."""
        self._stream.flush()
        self._stream.disconnect()

    def _at(self, stamp: int) -> None:
        self._stream.set_time("stamp", timestamp=np.datetime64(stamp, "ns"))
