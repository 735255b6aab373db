"""``sensor_msgs/Image`` and ``CompressedImage`` to RGB arrays and back. Knows messages by their attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16

from ov3d_perception.errors import ImageError

RGB = UInt8[np.ndarray, "h w 3"]
Levels = tuple[int, int]  # the grey levels of a 16-bit camera that become black and white

# encoding: (bits, channels, OpenCV conversion to RGB or None). Bayer names: ROS names the top-left pixels, OpenCV the
# second row and column, hence the crossing (as in cv_bridge).
_ENCODINGS: dict[str, tuple[int, int, int | None]] = {
    "rgb8": (8, 3, None),
    "bgr8": (8, 3, cv2.COLOR_BGR2RGB),
    "8UC3": (8, 3, cv2.COLOR_BGR2RGB),
    "rgba8": (8, 4, cv2.COLOR_RGBA2RGB),
    "bgra8": (8, 4, cv2.COLOR_BGRA2RGB),
    "8UC4": (8, 4, cv2.COLOR_BGRA2RGB),
    "mono8": (8, 1, cv2.COLOR_GRAY2RGB),
    "8UC1": (8, 1, cv2.COLOR_GRAY2RGB),
    "bayer_rggb8": (8, 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (8, 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (8, 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (8, 1, cv2.COLOR_BayerGB2RGB),
    "yuv422": (8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (8, 2, cv2.COLOR_YUV2RGB_YUYV),
    "yuyv": (8, 2, cv2.COLOR_YUV2RGB_YUYV),
    "nv12": (8, 1, cv2.COLOR_YUV2RGB_NV12),
    "nv21": (8, 1, cv2.COLOR_YUV2RGB_NV21),
}
_HALF_HEIGHT_COLOUR = ("nv12", "nv21")  # YUV 4:2:0: rows of grey, then half as many rows of colour
_ENCODINGS |= {  # the same in 16 bits
    name.removesuffix("8") + "16": (16, channels, conversion)
    for name, (_, channels, conversion) in _ENCODINGS.items()
    if name.startswith(("rgb", "bgr", "mono", "bayer"))
}
_DEPTH = ("16UC1", "16SC1", "32SC1", "32FC1", "64FC1")  # REP 118: millimetres or metres; and disparities
_ENOUGH = 256  # pixels, to tell noise from a picture
_NOISE = 8192  # mean difference of neighbours in 16 bits; 21845 where the upper byte is noise
_SMALLEST_SPAN = 16  # grey levels; a picture of less is noise


def encoding_of(msg: Any) -> str:
    """Encoding of the pixels: that of an Image; of a CompressedImage what its ``format`` names before the semicolon.

    "" where the format names none ("jpeg"): then the picture itself says how many channels it has.
    """
    if hasattr(msg, "encoding"):
        return str(msg.encoding)
    encoding = msg.format.partition(";")[0].strip()
    return encoding if encoding in _ENCODINGS or encoding in _DEPTH else ""


def is_depth(msg: Any) -> bool:
    """True for images of distances (16UC1, 32FC1, compressedDepth), which show nothing that words could name."""
    return encoding_of(msg) in _DEPTH or "compressedDepth" in getattr(msg, "format", "")


def is_sixteen_bit(msg: Any) -> bool:
    """True if :func:`decode_image` needs grey levels for this image. A bare "png" tells by its pixels only."""
    return bool(_pixels(msg)[0].dtype == np.uint16)


def decode_image(msg: Any, levels: Levels | None = None) -> RGB:
    """An Image (has ``encoding``) or CompressedImage (has ``format``) to RGB uint8 (h, w, 3).

    Grey images get three equal channels. Bayer mosaics, compressed ones too, are demosaiced. Rows may be padded
    (``step``). levels: what becomes black and white of a 16-bit image; None: those of this image alone, so that a
    stream flickers: give it :func:`grey_levels` of several of its images.
    Raises ImageError: unknown encoding, a depth image, fewer bytes than announced, one that does not decode.
    """
    pixels, conversion = _pixels(msg)
    if pixels.dtype == np.uint16:
        low, high = levels or _levels_of([pixels])
        scaled = (np.maximum(pixels, low) - low).astype(np.uint32) * 256 // (high + 1 - low)
        pixels = np.minimum(scaled, 255).astype(np.uint8)
    try:
        return pixels.copy() if conversion is None else cv2.cvtColor(pixels, conversion)
    except cv2.error as error:  # YUV 4:2:2 of an odd width, 4:2:0 of an odd height
        height, width = pixels.shape[:2]
        raise ImageError(
            f"An image of {width} x {height} '{encoding_of(msg)}' cannot be converted ({error.err or error})",
            "Let the driver send an even width and height",
        ) from error


def grey_levels(messages: Sequence[Any]) -> Levels:
    """Black and white of a camera that sends 10 to 16 bits in 16, from some of its images.

    A sensor of b bits whose black is near 0 keeps its whole range, 0 to 2^b - 1. One whose levels lie far above 0 (a
    thermal camera, 8000 to 8200 say) is stretched over what it uses, with a tenth in reserve on either side.
    """
    return _levels_of([_pixels(message)[0] for message in messages])


def _levels_of(pictures: list[np.ndarray]) -> Levels:
    low, high = (int(value) for value in np.percentile(np.concatenate([p.ravel() for p in pictures]), (0.1, 99.9)))
    if low < high // 4:
        return 0, (1 << max(high.bit_length(), 8)) - 1
    reserve = max((high - low) // 10, (_SMALLEST_SPAN - (high - low) + 1) // 2, 0)
    return max(low - reserve, 0), min(high + reserve, 65535)


def byte_order_fault(msg: Any) -> str:
    """What is wrong with ``is_bigendian`` of a 16-bit Image, which is read in the right order; "" if nothing."""
    if not hasattr(msg, "encoding") or _ENCODINGS.get(msg.encoding, (0,))[0] != 16:
        return ""
    bits, channels, _ = _ENCODINGS[msg.encoding]
    right, _ = _stored(msg)
    data = np.frombuffer(msg.data, np.uint8)[: msg.width * channels * bits // 8]
    told = data.view(">u2" if msg.is_bigendian else "<u2")
    if np.array_equal(told, right[0].ravel()):
        return ""
    return f"is_bigendian is {bool(msg.is_bigendian)}, the pixels are in the other order: read as such"


def _is_swapped(rows: UInt16[np.ndarray, "h c"], channels: int) -> bool:
    """Whether neighbours differ like noise, and hardly if the bytes of each pixel are swapped.

    Pictures of 8 bits in the upper half (all lower bytes alike) look the same either way, and stay.
    """
    sample = rows[:: max(1, len(rows) // 32)]
    if sample.size < _ENOUGH or (sample & 0xFF == sample.flat[0] & 0xFF).all():
        return False

    def unrest(values: UInt16[np.ndarray, "h c"]) -> float:
        return float(np.abs(np.diff(values[:, ::channels].astype(np.int32), axis=1)).mean())

    as_told = unrest(sample)
    return as_told > _NOISE and 4 * unrest(sample.byteswap()) < as_told


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


def _pixels(msg: Any) -> tuple[np.ndarray, int | None]:
    """Pixels as stored, (h, w) or (h, w, c) of uint8 or uint16, and their conversion to RGB."""
    if is_depth(msg):
        kind = encoding_of(msg) or msg.format
        raise ImageError(
            f"An image of '{kind}' holds depths, no picture",
            "Name a colour camera; a grey or thermal camera that sends 16 bits must call them mono16",
        )
    return _stored(msg) if hasattr(msg, "encoding") else _decompressed(msg)


def _decompressed(msg: Any) -> tuple[np.ndarray, int | None]:
    data = np.frombuffer(msg.data, np.uint8)
    # Not turned by EXIF: camera_info describes the pixels as stored.
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(data, flags) if len(data) else None
    if pixels is None:
        raise ImageError(
            f"A compressed image of format '{msg.format}' and {len(data)} bytes does not decode",
            "Publish JPEG or PNG (image_transport's `compressed`), and check the link for truncated messages",
        )
    if pixels.ndim == 3:
        return pixels, cv2.COLOR_BGR2RGB
    encoding = encoding_of(msg)
    return pixels, _ENCODINGS[encoding][2] if encoding.startswith("bayer") else cv2.COLOR_GRAY2RGB


def _stored(msg: Any) -> tuple[np.ndarray, int | None]:
    if msg.encoding not in _ENCODINGS:
        raise ImageError(
            f"Image encoding '{msg.encoding}' is unknown", f"Publish one of {', '.join(sorted(_ENCODINGS))}"
        )
    bits, channels, conversion = _ENCODINGS[msg.encoding]
    row = msg.width * channels * bits // 8
    count = msg.height * 3 // 2 if msg.encoding in _HALF_HEIGHT_COLOUR else msg.height
    step = msg.step or row
    data = np.frombuffer(msg.data, np.uint8)
    if msg.height < 1 or msg.width < 1 or step < row or len(data) < (count - 1) * step + row:
        raise ImageError(
            f"An image of {msg.width} x {msg.height} '{msg.encoding}' has {len(data)} bytes in rows of {step}",
            "The message is truncated or its driver fills step wrongly: check the driver",
        )
    rows = np.ascontiguousarray(np.ndarray((count, row), np.uint8, data.data, strides=(step, 1)))
    if bits == 16:
        rows = rows.view(">u2" if msg.is_bigendian else "<u2").astype(np.uint16, copy=False)
        if _is_swapped(rows, channels):
            rows = rows.byteswap()
    return rows.reshape(count, msg.width, channels), conversion
