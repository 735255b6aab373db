"""Image files of data sets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from ov3d_perception.errors import ImageError

_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND\xaeB`\x82"}  # how a JPEG, a PNG begin, and how they end
_TAIL = 1024  # bytes that some cameras write after the end


def read_image(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB image. Raises ImageError where it does not decode or was cut short (OpenCV fills the rest with grey)."""
    data = path.read_bytes() if path.is_file() else b""
    whole = _ENDS.get(data[:2], b"") in data[-_TAIL:]
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data and whole else None
    if image is None:
        raise ImageError(f"{path} does not decode ({len(data)} bytes)", "Download it again")
    return np.ascontiguousarray(image[..., ::-1])
