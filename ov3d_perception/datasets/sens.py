"""ScanNet's ``.sens`` files: the colour and depth images of an RGB-D camera with their poses, in one file.

The layout is that of ScanNet's SensReader, version 4: a head (names, calibration, sizes), then frame after frame (pose,
two stamps, two lengths, a JPEG or PNG, zlib-compressed depth of 16 bits). Frames are found by their lengths and read
when asked for.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from ov3d_perception.errors import DatasetError, ImageError
from ov3d_perception.files import replacing
from ov3d_perception.types import Pose

_VERSION = 4
_JPEG, _PNG, _ZLIB = 2, 1, 1
_SIZES = struct.Struct("<iiIIIIfQ")  # compressions, colour's and depth's width and height, depth shift, frames
_FRAME = struct.Struct("<16f4Q")
_REMEDY = "Download it again; SensReader of the ScanNet repository describes the format"


@dataclass(frozen=True)
class SensCalibration:
    """K_color, K_depth: pinhole matrices; sizes: (width, height) in pixels. Depth is registered to colour."""

    K_color: Float64[np.ndarray, "3 3"]
    K_depth: Float64[np.ndarray, "3 3"]
    color_size: tuple[int, int]
    depth_size: tuple[int, int]


@dataclass(frozen=True)
class SensFrame:
    """color: RGB as stored; depth: metres, 0 where nothing was measured; T_world_camera: not finite where lost."""

    color: UInt8[np.ndarray, "h w 3"]
    depth: Float32[np.ndarray, "_ _"]
    T_world_camera: Pose


class SensFile:
    """A ``.sens`` file by frame.

    Raises DatasetError where there is no such file, it is of another version or compression, or it was cut.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                self._places = self._index(file)
        except OSError as error:
            raise DatasetError(f"{self.path} cannot be read ({error.strerror})", _REMEDY) from error
        except struct.error as error:
            raise DatasetError(f"{self.path} ends too early", _REMEDY) from error

    def __len__(self) -> int:
        return len(self._places)

    def _index(self, file: BinaryIO) -> list[tuple[int, int, int]]:
        """Reads the head; of each frame its place and the lengths of its colour and its depth."""
        (version,) = struct.unpack("<I", file.read(4))
        if version != _VERSION:
            raise DatasetError(f"{self.path} is of version {version}, not {_VERSION}", _REMEDY)
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(length, 1)
        matrices = np.array(struct.unpack("<64f", file.read(256))).reshape(4, 4, 4)
        intrinsic = matrices[::2, :3, :3]  # the others are extrinsics, which are not to be applied
        head = _SIZES.unpack(file.read(_SIZES.size))
        if head[0] not in (_JPEG, _PNG) or head[1] != _ZLIB:
            raise DatasetError(f"{self.path}: compressions {head[0]} and {head[1]} are not known", _REMEDY)
        self.calibration = SensCalibration(intrinsic[0], intrinsic[1], head[2:4], head[4:6])
        self.depth_shift = head[6]
        size, places = self.path.stat().st_size, []
        for _ in range(head[7]):
            place = file.tell()
            *_, color, depth = _FRAME.unpack(file.read(_FRAME.size))
            if place + _FRAME.size + color + depth > size:
                raise struct.error
            places.append((place, color, depth))
            file.seek(color + depth, 1)
        return places

    def pose(self, index: int) -> Pose:
        """T_world_camera of a frame; not finite where the camera had lost its way."""
        with self.path.open("rb") as file:
            file.seek(self._places[index][0])
            return np.array(_FRAME.unpack(file.read(_FRAME.size))[:16], np.float64).reshape(4, 4)

    def frame(self, index: int) -> SensFrame:
        """Both images of a frame, and its pose. Raises ImageError where one does not decode."""
        place, color, depth = self._places[index]
        with self.path.open("rb") as file:
            file.seek(place + _FRAME.size)
            packed, squeezed = file.read(color), file.read(depth)
        image = cv2.imdecode(np.frombuffer(packed, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        width, height = self.calibration.depth_size
        try:
            raw = np.frombuffer(zlib.decompress(squeezed), "<u2").reshape(height, width)
        except (zlib.error, ValueError):
            raw = None
        if image is None or raw is None:
            raise ImageError(f"{self.path}: the images of frame {index} do not decode", _REMEDY)
        metres = raw.astype(np.float32) / self.depth_shift
        return SensFrame(np.ascontiguousarray(image[..., ::-1]), metres, self.pose(index))


def write_sens(path: Path, calibration: SensCalibration, frames: Iterable[SensFrame]) -> None:
    """Write frames as ScanNet's files hold them: JPEG, depth in millimetres; whole or not at all."""
    packed = []
    for number, frame in enumerate(frames):
        jpeg = cv2.imencode(".jpg", frame.color[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        depth = zlib.compress(np.rint(frame.depth * 1000).astype("<u2").tobytes())
        pose, stamp = frame.T_world_camera.ravel().tolist(), number * 33333
        packed.append(_FRAME.pack(*pose, stamp, stamp, len(jpeg), len(depth)) + jpeg + depth)
    name = b"StructureSensor"
    matrices = np.tile(np.eye(4, dtype="<f4"), (4, 1, 1))
    matrices[0, :3, :3], matrices[2, :3, :3] = calibration.K_color, calibration.K_depth
    sizes = (*calibration.color_size, *calibration.depth_size)
    with replacing(path) as file:
        file.write(struct.pack("<IQ", _VERSION, len(name)) + name + matrices.tobytes())
        file.write(_SIZES.pack(_JPEG, _ZLIB, *sizes, 1000.0, len(packed)))
        for frame_bytes in packed:
            file.write(frame_bytes)
