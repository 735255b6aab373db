"""``sensor_msgs/Image`` and ``CompressedImage`` to RGB arrays and back. Knows messages by their attributes."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from ov3d_perception.errors import ImageError

RGB = UInt8[np.ndarray, "h w 3"]

# encoding: (dtype, channels, OpenCV conversion to RGB or None). Bayer names: ROS names the top-left pixels, OpenCV the
# second row and column, hence the crossing (as in cv_bridge).
_ENCODINGS: dict[str, tuple[type, int, int | None]] = {
    "rgb8": (np.uint8, 3, None),
    "bgr8": (np.uint8, 3, cv2.COLOR_BGR2RGB),
    "8UC3": (np.uint8, 3, cv2.COLOR_BGR2RGB),
    "rgba8": (np.uint8, 4, cv2.COLOR_RGBA2RGB),
    "bgra8": (np.uint8, 4, cv2.COLOR_BGRA2RGB),
    "8UC4": (np.uint8, 4, cv2.COLOR_BGRA2RGB),
    "mono8": (np.uint8, 1, cv2.COLOR_GRAY2RGB),
    "8UC1": (np.uint8, 1, cv2.COLOR_GRAY2RGB),
    "mono16": (np.uint16, 1, cv2.COLOR_GRAY2RGB),
    "16UC1": (np.uint16, 1, cv2.COLOR_GRAY2RGB),
    "bayer_rggb8": (np.uint8, 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (np.uint8, 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (np.uint8, 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (np.uint8, 1, cv2.COLOR_BayerGB2RGB),
    "yuv422": (np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (np.uint8, 2, cv2.COLOR_YUV2RGB_YUYV),
    "yuyv": (np.uint8, 2, cv2.COLOR_YUV2RGB_YUYV),
}


def decode_image(msg: Any) -> RGB:
    """An Image (has ``encoding``) or CompressedImage (has ``format``) to RGB uint8 (h, w, 3).

    Grey images get three equal channels; 16-bit ones keep their upper byte. Rows may be padded (``step``).
    Raises ImageError: unknown encoding, fewer bytes than announced, a compressed image that does not decode.
    """
    return _decode_raw(msg) if hasattr(msg, "encoding") else _decode_compressed(msg)


def encode_jpeg(image: RGB, quality: int = 90) -> UInt8[np.ndarray, " bytes"]:
    """RGB to the bytes of a JPEG; quality 1-100."""
    return _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(image: RGB) -> UInt8[np.ndarray, " bytes"]:
    """RGB to the bytes of a PNG."""
    return _encode(".png", image, [])


def _encode(suffix: str, image: RGB, options: list[int]) -> UInt8[np.ndarray, " bytes"]:
    ok, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not ok:
        raise ImageError(f"An image of shape {image.shape} cannot be written as {suffix}", "Give RGB uint8 (h, w, 3)")
    return data.reshape(-1)


def _decode_compressed(msg: Any) -> RGB:
    data = np.frombuffer(msg.data, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if image is None:
        raise ImageError(
            f"A compressed image of format '{msg.format}' and {len(data)} bytes does not decode",
            "Publish JPEG or PNG (image_transport's `compressed`), and check the link for truncated messages",
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _decode_raw(msg: Any) -> RGB:
    if msg.encoding not in _ENCODINGS:
        raise ImageError(
            f"Image encoding '{msg.encoding}' is unknown", f"Publish one of {', '.join(sorted(_ENCODINGS))}"
        )
    dtype, channels, conversion = _ENCODINGS[msg.encoding]
    row = msg.width * channels * np.dtype(dtype).itemsize
    step = msg.step or row
    data = np.frombuffer(msg.data, np.uint8)
    if msg.height < 1 or msg.width < 1 or step < row or len(data) < (msg.height - 1) * step + row:
        raise ImageError(
            f"An image of {msg.width} x {msg.height} '{msg.encoding}' has {len(data)} bytes in rows of {step}",
            "The message is truncated or its driver fills step wrongly: check the driver",
        )
    rows = np.ndarray((msg.height, row), np.uint8, data.data, strides=(step, 1))
    order = ">" if msg.is_bigendian else "<"
    pixels = np.ascontiguousarray(rows).view(np.dtype(order + np.dtype(dtype).str[1:]))
    if dtype is np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    pixels = pixels.reshape(msg.height, msg.width, channels)
    return pixels.copy() if conversion is None else cv2.cvtColor(pixels, conversion)
