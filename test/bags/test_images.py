"""Images of every encoding that is read, from pictures whose colours are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from ov3d_perception.bags.images import decode_image, encode_jpeg, encode_png
from ov3d_perception.errors import ImageError

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (6, 8, 3), np.uint8)


def image(encoding: str, pixels: np.ndarray, **other: Any) -> SimpleNamespace:
    values = {
        "encoding": encoding,
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "step": pixels.strides[0],
        "is_bigendian": 0,
        "data": pixels.tobytes(),
    }
    return SimpleNamespace(**(values | other))


def compressed(data: np.ndarray | bytes, format: str = "jpeg") -> SimpleNamespace:
    return SimpleNamespace(format=format, data=data)


@pytest.mark.parametrize(
    ("encoding", "channels"),
    [
        ("rgb8", [0, 1, 2]),
        ("bgr8", [2, 1, 0]),
        ("8UC3", [2, 1, 0]),
        ("rgba8", [0, 1, 2, 0]),
        ("bgra8", [2, 1, 0, 0]),
    ],
)
def test_colour_orders(encoding: str, channels: list[int]) -> None:
    np.testing.assert_array_equal(decode_image(image(encoding, PICTURE[..., channels].copy())), PICTURE)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey(encoding: str) -> None:
    grey = PICTURE[..., 0].copy()
    np.testing.assert_array_equal(decode_image(image(encoding, grey)), np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_keep_the_upper_byte(order: str) -> None:
    values = np.array([[0x1234, 0xFF00], [0x00FF, 0xABCD]], np.uint16)
    decoded = decode_image(image("mono16", values.astype(order + "u2"), is_bigendian=order == ">"))
    np.testing.assert_array_equal(decoded[..., 0], [[0x12, 0xFF], [0x00, 0xAB]])


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_of_a_uniform_colour(pattern: str) -> None:
    """A mosaic of one colour must give that colour everywhere: a wrong pattern would swap or mix its channels."""
    colour = {"r": 200, "g": 120, "b": 40}
    tile = np.array([[colour[pattern[0]], colour[pattern[1]]], [colour[pattern[2]], colour[pattern[3]]]], np.uint8)
    decoded = decode_image(image(f"bayer_{pattern}8", np.tile(tile, (4, 4))))
    np.testing.assert_array_equal(decoded, np.broadcast_to(np.uint8([200, 120, 40]), (8, 8, 3)))


@pytest.mark.parametrize(("encoding", "bytes_of"), [("yuv422", "uyvy"), ("yuv422_yuy2", "yuyv")])
def test_yuv422_of_a_uniform_colour(encoding: str, bytes_of: str) -> None:
    """ITU-R BT.601, studio range: Y 81, U 90, V 240 is pure red."""
    value = {"y": 81, "u": 90, "v": 240}
    row = np.uint8([value[letter] for letter in bytes_of] * 2)
    pixels = np.tile(row, (2, 1)).reshape(2, 4, 2)
    decoded = decode_image(image(encoding, pixels)).astype(int)
    assert np.abs(decoded - [255, 0, 0]).max() <= 2


def test_padded_rows() -> None:
    padded = np.zeros((6, 32), np.uint8)
    padded[:, :24] = PICTURE.reshape(6, 24)
    message = image("rgb8", PICTURE, step=32, data=padded.tobytes()[:-8])  # the last row's padding may be missing
    np.testing.assert_array_equal(decode_image(message), PICTURE)


def test_result_does_not_share_the_message() -> None:
    message = image("rgb8", PICTURE)
    decode_image(message)[:] = 0
    np.testing.assert_array_equal(decode_image(message), PICTURE)


def test_png_is_lossless_and_jpeg_close() -> None:
    np.testing.assert_array_equal(decode_image(compressed(encode_png(PICTURE), "png")), PICTURE)
    smooth = cv2.resize(np.uint8([[[250, 30, 30], [30, 30, 250]]]), (64, 48))
    decoded = decode_image(compressed(encode_jpeg(smooth, 95)))
    assert np.abs(decoded.astype(int) - smooth).mean() < 2  # would be over 70 with red and blue exchanged


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (image("jpeg2000", PICTURE), "encoding 'jpeg2000' is unknown.*rgb8"),
        (image("rgb8", PICTURE, data=b"\0" * 143), "143 bytes"),
        (image("rgb8", PICTURE, step=23), "rows of 23"),
        (image("rgb8", PICTURE, height=0), "8 x 0"),
        (compressed(b""), "0 bytes does not decode"),
        (compressed(b"not a picture"), "format 'jpeg' and 13 bytes"),
        (compressed(encode_png(PICTURE)[:30], "png"), "does not decode"),
    ],
)
def test_bad_images_say_why(message: SimpleNamespace, cause: str) -> None:
    with pytest.raises(ImageError, match=cause):
        decode_image(message)
