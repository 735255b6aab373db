"""Image files of data sets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from ov3d_perception.errors import ImageError

_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND\xaeB`\x82"}  # how a JPEG, a PNG begin, and how they end
_TAIL = 1024  # bytes that some cameras write after the end
_AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # intrinsics and poses know nothing of EXIF


def read_image(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB image as its pixels are stored: EXIF does not turn it away from its intrinsics (COLMAP reads it so, too).

    Raises ImageError where it does not decode or was cut short (OpenCV fills the rest with grey).
    """
    data = path.read_bytes() if path.is_file() else b""
    whole = _ENDS.get(data[:2], b"") in data[-_TAIL:]
    image = cv2.imdecode(np.frombuffer(data, np.uint8), _AS_STORED) if data and whole else None
    if image is None:
        raise ImageError(f"{path} does not decode ({len(data)} bytes)", "Download it again")
    return np.ascontiguousarray(image[..., ::-1])
