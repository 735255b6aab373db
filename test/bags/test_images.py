"""Images of every encoding that is read, from pictures whose colours are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from ov3d_perception.bags.images import (
    byte_order_fault,
    decode_image,
    encode_jpeg,
    encode_png,
    encoding_of,
    grey_levels,
    is_depth,
)
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
@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bayer_rggb16"])
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_wrong_byte_order_is_found(order: str, encoding: str, bits: int) -> None:
    """A slope with some noise, of a camera of so many bits; is_bigendian says the opposite."""
    slope = np.linspace(0, 0.9 * 2**bits, 64) + RNG.uniform(0, 0.05 * 2**bits, (48, 64))
    values = slope.astype(np.uint16)
    if encoding == "rgb16":
        values = np.stack([values, values // 2, values // 3], 2)
    stored = values.astype(order + "u2")
    right, wrong = (image(encoding, stored, is_bigendian=(order == ">") == told) for told in (True, False))
    levels = grey_levels([right])
    np.testing.assert_array_equal(decode_image(wrong, levels), decode_image(right, levels))
    assert byte_order_fault(right) == "" and "other order" in byte_order_fault(wrong)
    assert byte_order_fault(compressed(b"")) == byte_order_fault(image("mono8", PICTURE[..., 0].copy())) == ""


def test_noise_and_pictures_of_eight_bits_are_not_swapped() -> None:
    noise = RNG.integers(0, 65536, (48, 64)).astype(np.uint16)
    upper = RNG.integers(0, 256, (48, 64)).astype(np.uint16) << 8
    for values in (noise, upper, upper | 0x80):
        assert byte_order_fault(image("mono16", values)) == ""
        np.testing.assert_array_equal(decode_image(image("mono16", values), (0, 65535))[..., 0], values >> 8)


@pytest.mark.parametrize("order", ["<", ">"])
def test_full_sixteen_bits_keep_the_upper_byte(order: str) -> None:
    values = np.array([[0x1234, 0xFF00], [0x00FF, 0xABCD]], np.uint16)
    decoded = decode_image(image("mono16", values.astype(order + "u2"), is_bigendian=order == ">"))
    np.testing.assert_array_equal(decoded[..., 0], [[0x12, 0xFF], [0x00, 0xAB]])


RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("packed", [False, True])
def test_a_sensor_of_few_bits_fills_the_eight(bits: int, packed: bool) -> None:
    """A ramp over the sensor's whole range comes out as the ramp of 0 to 255, raw and as a PNG."""
    values = RAMP << (bits - 8)
    message = (
        compressed(cv2.imencode(".png", values)[1], "mono16; png compressed ") if packed else image("mono16", values)
    )
    np.testing.assert_array_equal(decode_image(message)[..., 0], RAMP)


def test_levels_far_above_black_are_stretched() -> None:
    """A thermal camera that uses 8000 to 8199: a tenth of reserve makes 7981 black and 8218 white."""
    values = np.repeat(np.arange(8000, 8200, dtype=np.uint16), 8).reshape(40, 40)
    decoded = decode_image(image("mono16", values))[..., 0].astype(int)
    np.testing.assert_array_equal(decoded, (values.astype(int) - 7981) * 256 // 238)


def test_levels_of_a_stream_hold_for_each_of_its_images() -> None:
    """One grey value means the same in all images: here 1000 of 4095, in a dark picture and in a bright one."""
    dark, bright = RAMP * 4, RAMP * 16
    levels = grey_levels([image("mono16", dark), image("mono16", bright)])
    assert levels == (0, 4095)
    for values in (dark, bright):
        decoded = decode_image(image("mono16", values), levels)[..., 0]
        np.testing.assert_array_equal(decoded, values // 16)


def test_levels_beyond_those_given_are_black_or_white() -> None:
    values = np.array([[0, 999, 1000, 2000, 65535]], np.uint16)
    decoded = decode_image(image("mono16", values), (1000, 2023))[0, :, 0]
    np.testing.assert_array_equal(decoded, [0, 0, 0, 250, 255])


def test_a_uniform_sixteen_bit_picture_is_no_division_by_zero() -> None:
    decoded = decode_image(image("mono16", np.full((4, 4), 9000, np.uint16)))
    assert len(np.unique(decoded)) == 1 and 0 < decoded[0, 0, 0] < 255


def test_sixteen_bit_colours() -> None:
    wide = PICTURE.astype(np.uint16) << 8
    wide[0, 0] = 0xFF00  # uses all sixteen bits
    expected = PICTURE.copy()
    expected[0, 0] = 255
    np.testing.assert_array_equal(decode_image(image("rgb16", wide)), expected)
    np.testing.assert_array_equal(decode_image(image("bgr16", wide[..., ::-1].copy())), expected)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_of_a_uniform_colour(pattern: str) -> None:
    """A mosaic of one colour must give that colour everywhere: a wrong pattern would swap or mix its channels."""
    colour = {"r": 200, "g": 120, "b": 40}
    tile = np.array([[colour[pattern[0]], colour[pattern[1]]], [colour[pattern[2]], colour[pattern[3]]]], np.uint8)
    mosaic, expected = np.tile(tile, (4, 4)), np.broadcast_to(np.uint8([200, 120, 40]), (8, 8, 3))
    np.testing.assert_array_equal(decode_image(image(f"bayer_{pattern}8", mosaic)), expected)
    packed = compressed(cv2.imencode(".png", mosaic)[1], f"bayer_{pattern}8; png compressed ")
    np.testing.assert_array_equal(decode_image(packed), expected)
    wide = compressed(cv2.imencode(".png", mosaic.astype(np.uint16) << 8)[1], f"bayer_{pattern}16; png compressed ")
    np.testing.assert_array_equal(decode_image(wide, (0, 65535)), expected)


def test_bayer_jpeg_keeps_its_colours() -> None:
    """A JPEG blurs the mosaic a little; as a grey picture it would be 80 off."""
    tile = np.array([[200, 120], [120, 40]], np.uint8)
    data = cv2.imencode(".jpg", np.tile(tile, (20, 20)), [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    decoded = decode_image(compressed(data, "bayer_rggb8; jpeg compressed "))
    assert np.abs(decoded.astype(int) - [200, 120, 40]).max() < 12


def test_a_bayer_camera_that_was_demosaiced_before_compression_stays_as_it_is() -> None:
    data = encode_png(PICTURE)
    np.testing.assert_array_equal(decode_image(compressed(data, "bayer_rggb8; png compressed bgr8")), PICTURE)


def test_orientation_written_by_a_camera_is_not_applied() -> None:
    """EXIF "turn by 90 degrees" would turn the picture away from its camera_info."""
    jpeg = encode_jpeg(np.zeros((6, 8, 3), np.uint8)).tobytes()
    tiff = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + b"\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    turned = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (8, 6, 3)
    assert decode_image(compressed(turned)).shape == (6, 8, 3)


@pytest.mark.parametrize(
    ("message", "depth", "encoding"),
    [
        (image("16UC1", RAMP), True, "16UC1"),
        (image("32FC1", RAMP.astype(np.float32)), True, "32FC1"),
        (image("mono16", RAMP), False, "mono16"),
        (compressed(b"", "16UC1; png compressed "), True, "16UC1"),
        (compressed(b"", "16UC1; compressedDepth rvl"), True, "16UC1"),
        (compressed(b"", "rgb8; jpeg compressed bgr8"), False, "rgb8"),
        (compressed(b"", "jpeg"), False, ""),
    ],
)
def test_depth_is_told_from_pictures(message: SimpleNamespace, depth: bool, encoding: str) -> None:
    assert (is_depth(message), encoding_of(message)) == (depth, encoding)


@pytest.mark.parametrize(("encoding", "order"), [("nv12", [0, 1]), ("nv21", [1, 0])])
@pytest.mark.parametrize("padding", [0, 5])
def test_half_height_colour_of_two_halves(encoding: str, order: list[int], padding: int) -> None:
    """Left red, right blue; BT.601 of limited range: red is (Y, U, V) = (81, 90, 240), blue (41, 240, 110)."""
    red, blue = (81, 90, 240), (41, 240, 110)
    grey = np.repeat(np.uint8([[red[0]] * 4 + [blue[0]] * 4]), 6, 0)
    colour = np.repeat(np.uint8([[red[1:][k] for k in order] * 2 + [blue[1:][k] for k in order] * 2]), 3, 0)
    rows = np.pad(np.concatenate([grey, colour]), ((0, 0), (0, padding)))
    found = decode_image(image(encoding, rows, height=6, width=8)).astype(int)
    assert found.shape == (6, 8, 3)
    assert np.abs(found[:, :4] - (255, 0, 0)).max() <= 3 and np.abs(found[:, 4:] - (0, 0, 255)).max() <= 3
    with pytest.raises(ImageError, match="has 48 bytes"):
        decode_image(image(encoding, grey))


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
        (image("yuv422", PICTURE[:, :7, :2], step=14), "7 x .* 'yuv422' cannot be converted"),
        (image("rgb8", PICTURE, height=0), "8 x 0"),
        (image("16UC1", RAMP), "'16UC1' holds depths.*mono16"),
        (compressed(b"", "32FC1; compressedDepth png"), "'32FC1' holds depths"),
        (compressed(b""), "0 bytes does not decode"),
        (compressed(b"not a picture"), "format 'jpeg' and 13 bytes"),
        (compressed(encode_png(PICTURE)[:30], "png"), "does not decode"),
    ],
)
def test_bad_images_say_why(message: SimpleNamespace, cause: str) -> None:
    with pytest.raises(ImageError, match=cause):
        decode_image(message)
