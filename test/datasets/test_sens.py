"""ScanNet's .sens files: what is written is read, by the byte as SensReader describes it; damage is named."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from ov3d_perception.datasets.sens import SensCalibration, SensFile, SensFrame, write_sens
from ov3d_perception.errors import DatasetError, ImageError

K = np.array([[50.0, 0, 19.5], [0, 52.0, 14.5], [0, 0, 1]])
CALIBRATION = SensCalibration(K, K / 2, (40, 30), (20, 15))


def frames(count: int = 3) -> list[SensFrame]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        pose = np.eye(4)
        pose[:3, 3] = number, 2 * number, 0.5
        depth = (rng.integers(0, 5000, (15, 20)) / 1000).astype(np.float32)
        made.append(SensFrame(np.full((30, 40, 3), (200, 40 * number, 10), np.uint8), depth, pose))
    return made


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = frames()
    write_sens(tmp_path / "a.sens", CALIBRATION, written)
    file = SensFile(tmp_path / "a.sens")
    assert len(file) == 3 and file.calibration.color_size == (40, 30) and file.calibration.depth_size == (20, 15)
    np.testing.assert_allclose(file.calibration.K_color, K)
    np.testing.assert_allclose(file.calibration.K_depth, K / 2)
    for number in (2, 0, 1):
        read = file.frame(number)
        np.testing.assert_allclose(read.T_world_camera, written[number].T_world_camera)
        np.testing.assert_allclose(read.depth, written[number].depth, atol=1e-6)
        assert np.abs(read.color.astype(int) - written[number].color.astype(int)).max() <= 3, "JPEG, RGB kept"
        np.testing.assert_allclose(file.pose(number), written[number].T_world_camera)


def test_the_bytes_are_those_of_sens_reader(tmp_path: Path) -> None:
    """Packed here by hand, field after field."""
    jpeg = cv2.imencode(".jpg", np.zeros((30, 40, 3), np.uint8))[1].tobytes()
    depth = zlib.compress(np.full((15, 20), 2500, "<u2").tobytes())
    matrices = [np.eye(4, dtype="<f4") for _ in range(4)]
    matrices[0][0, 0] = 577.0
    head = struct.pack("<I", 4) + struct.pack("<Q", 3) + b"cam" + b"".join(m.tobytes() for m in matrices)
    head += struct.pack("<ii", 2, 1) + struct.pack("<IIII", 40, 30, 20, 15) + struct.pack("<f", 1000.0)
    pose = np.eye(4, dtype="<f4")
    pose[0, 3] = 7.0
    frame = pose.tobytes() + struct.pack("<QQ", 11, 12) + struct.pack("<QQ", len(jpeg), len(depth)) + jpeg + depth
    (tmp_path / "b.sens").write_bytes(head + struct.pack("<Q", 2) + frame + frame)
    file = SensFile(tmp_path / "b.sens")
    assert len(file) == 2 and file.calibration.K_color[0, 0] == 577.0
    assert (file.frame(1).depth == 2.5).all() and file.pose(1)[0, 3] == 7.0


def test_a_cut_file_is_an_error(tmp_path: Path) -> None:
    write_sens(tmp_path / "a.sens", CALIBRATION, frames())
    whole = (tmp_path / "a.sens").read_bytes()
    for length in (2, 100, len(whole) - 1):
        (tmp_path / "cut.sens").write_bytes(whole[:length])
        with pytest.raises(DatasetError, match=r"cut\.sens ends too early"):
            SensFile(tmp_path / "cut.sens")
    (tmp_path / "new.sens").write_bytes(struct.pack("<I", 5) + whole[4:])
    with pytest.raises(DatasetError, match="version 5"):
        SensFile(tmp_path / "new.sens")
    with pytest.raises(DatasetError, match="cannot be read"):
        SensFile(tmp_path / "none.sens")


def test_images_that_do_not_decode_are_an_error_when_they_are_read(tmp_path: Path) -> None:
    write_sens(tmp_path / "a.sens", CALIBRATION, frames(1))
    data = bytearray((tmp_path / "a.sens").read_bytes())
    data[-3:] = b"\0\0\0"  # the end of the compressed depth: its checksum
    (tmp_path / "a.sens").write_bytes(bytes(data))
    with pytest.raises(ImageError, match="images of frame 0"):
        SensFile(tmp_path / "a.sens").frame(0)
