"""``sensor_msgs/CameraInfo`` to a :class:`Camera` and back. Knows messages by their attributes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from ov3d_perception.errors import CalibrationError
from ov3d_perception.geometry.cameras import COEFFICIENTS, resized, validate_camera
from ov3d_perception.geometry.poses import invert
from ov3d_perception.types import Camera, Pose

# Names of distortion models in lower case without separators: sensor_msgs', those of drivers, of Kalibr, of OpenCV.
_PINHOLE = {"plumbbob", "rationalpolynomial", "radtan", "radialtangential", "pinholeradtan", "brownconrady", "opencv"}
_PINHOLE |= {"pinhole"}
_FISHEYE = {"equidistant", "equi", "pinholeequi", "fisheye", "opencvfisheye"}
_FISHEYE |= {"kannalabrandt", "kannalabrandt4", "kannalabrandt8", "kb4", "kb8"}
_ZEROS_ONLY = {"", "none", "nodistortion", "undistorted", "rectified", "perspective"}  # of other formulae, or of none:
_ZEROS_ONLY |= {"inversebrownconrady", "modifiedbrownconrady", "division"}
_REMEDY = "Calibrate camera '{}' and let its driver publish the result as camera_info"


def fit_to_images(msg: Any, name: str, size: tuple[int, int], rectified: bool = False) -> tuple[Camera, str]:
    """The camera of images of ``size`` (width, height), and a note on what does not agree with camera_info, or "".

    Raw images have K and D, rectified ones P alone. Region of interest and binning are applied: crop, then bin, as
    REP 104 and image_geometry have them. Images of camera_info's full size are taken as neither cropped nor binned,
    whatever it says. Images of its proportions are taken as scaled, so K is scaled with them.
    Raises CalibrationError: images of any other size, zero K or P (uncalibrated, by REP 104), zero size, unknown
    distortion model, wrong number of coefficients, values that are not finite.
    """
    full = _full_resolution(msg, name, rectified)
    camera = _crop_and_bin(full, msg)
    width, height = size
    said = f"{camera.width} x {camera.height}"
    if size == (camera.width, camera.height):
        return camera, ""
    if size == (full.width, full.height):
        return (
            full,
            f"binning or region of camera_info ({said}) not applied: the images have the full {width} x {height}",
        )
    binned = max(msg.binning_x, msg.binning_y) > 1
    if binned and 0 <= width - camera.width <= 1 and 0 <= height - camera.height <= 1:  # rounded up where we round down
        return replace(camera, width=width, height=height), ""
    if abs(width * camera.height - height * camera.width) <= max(camera.width, camera.height):
        return resized(camera, width, height), f"camera_info is of {said}: scaled to the images' {width} x {height}"
    raise CalibrationError(
        f"Its images are {width} x {height}, its camera_info says {said}, which is no scaling",
        "Record images and camera_info of the same stream, or set binning and roi in camera_info",
    )


def camera_in_frame(msg: Any, rectified: bool = False, first: Any = None) -> Pose:
    """T_frame_camera: where the camera of the images is in the frame that camera_info names.

    Raw images are taken in that frame itself; rectified ones in the frame turned by R. first: camera_info of the first
    camera of a stereo pair when this one names the first one's frame as its own: then P[:, 3] moves it.
    Raises CalibrationError where R is no rotation.
    """
    T_camera_frame = np.eye(4)
    if first is None and not rectified:
        return T_camera_frame
    T_camera_frame[:3, :3] = _rectifying_rotation(msg if first is None else first)
    if first is not None:
        P = np.asarray(msg.p, np.float64).reshape(3, 4)
        T_camera_frame[:2, 3] = P[0, 3] / P[0, 0], P[1, 3] / P[1, 1]
    if not rectified:
        T_camera_frame[:3] = _rectifying_rotation(msg).T @ T_camera_frame[:3]
    return invert(T_camera_frame)


def from_camera(camera: Camera) -> dict[str, Any]:
    """The attributes of a CameraInfo for this camera: height, width, distortion_model, d, k, r, p."""
    model = {"fisheye": "equidistant"}.get(
        camera.model, "rational_polynomial" if len(camera.distortion) >= 8 else "plumb_bob"
    )
    d = camera.distortion if len(camera.distortion) else np.zeros(5)
    p = np.hstack([camera.K, np.zeros((3, 1))])
    return {
        "height": int(camera.height),
        "width": int(camera.width),
        "distortion_model": model,
        "d": np.asarray(d, np.float64),
        "k": camera.K.reshape(-1).astype(np.float64),
        "r": np.eye(3).reshape(-1),
        "p": p.reshape(-1).astype(np.float64),
    }


def _full_resolution(msg: Any, name: str, rectified: bool) -> Camera:
    remedy = _REMEDY.format(name)
    K, d = np.array(msg.k, np.float64).reshape(3, 3), np.array(msg.d, np.float64)
    model = "pinhole"
    if rectified:
        P = np.array(msg.p, np.float64).reshape(3, 4)[:, :3]
        if not P.any() and d.any():
            raise CalibrationError(f"Camera '{name}' sends rectified images, and P in its camera_info is zero", remedy)
        K, d = (P if P.any() else K), np.zeros(0)
    if not np.isfinite(K).all() or not np.isfinite(d).all():
        raise CalibrationError(f"Camera '{name}' has intrinsics that are not finite", remedy)
    if K[0, 0] <= 0 or K[1, 1] <= 0:
        raise CalibrationError(f"Camera '{name}' is not calibrated: its K is {K.ravel().tolist()}", remedy)
    if msg.width < 1 or msg.height < 1:
        raise CalibrationError(f"Camera '{name}' announces images of {msg.width} x {msg.height} pixels", remedy)
    if max(K[0, 0], K[1, 1]) < 0.05 * msg.width or not K[:2, 2].any():
        raise CalibrationError(
            f"Camera '{name}' has a K that is not in pixels of its {msg.width} x {msg.height} images: "
            f"{K.ravel().tolist()}",
            remedy,
        )
    if not rectified:
        model, d = _lens(msg.distortion_model, d, name)
    camera = Camera(name, int(msg.width), int(msg.height), K, model, d)
    validate_camera(camera)
    return camera


def _lens(announced: str, d: Float64[np.ndarray, " d"], name: str) -> tuple[str, Float64[np.ndarray, " c"]]:
    """Our model and its coefficients. Zeros at the end are dropped as far as a shorter model allows."""
    key = "".join(letter for letter in announced.lower() if letter.isalnum())
    model = "fisheye" if key in _FISHEYE else "pinhole"
    if key in _PINHOLE | _ZEROS_ONLY and not d.any():
        return model, np.zeros(0)
    if key in _ZEROS_ONLY:
        raise CalibrationError(
            f"Camera '{name}' has the distortion model '{announced}', which is known with zeros only, and coefficients "
            f"{d.tolist()}",
            "Calibrate it as plumb_bob, rational_polynomial or equidistant, and name that in camera_info",
        )
    if key not in _PINHOLE | _FISHEYE:
        raise CalibrationError(
            f"Camera '{name}' has the unknown distortion model '{announced}'",
            "Calibrate it as plumb_bob, rational_polynomial or equidistant (fisheye, kannala_brandt), or record "
            "rectified images (image_rect)",
        )
    used = int(np.flatnonzero(d)[-1]) + 1 if d.any() else 0
    lengths = [n for n in COEFFICIENTS[model] if n >= 4]
    length = next((n for n in lengths if used <= n <= len(d)), None)
    if length is None:
        raise CalibrationError(
            f"Camera '{name}' has {len(d)} coefficients for '{announced}', not one of {lengths}", _REMEDY.format(name)
        )
    return model, d[:length]


def _rectifying_rotation(msg: Any) -> Float64[np.ndarray, "3 3"]:
    R = np.array(msg.r, np.float64).reshape(3, 3)
    if not R.any():  # left out by the driver
        return np.eye(3)
    if not np.allclose(R @ R.T, np.eye(3), atol=1e-3) or np.linalg.det(R) < 0:
        raise CalibrationError(f"R in camera_info is no rotation: {R.ravel().tolist()}", "Calibrate the camera anew")
    return R


def _crop_and_bin(camera: Camera, msg: Any) -> Camera:
    """Pixel centres are at integers, so a bin of b pixels has its centre at (b - 1) / 2."""
    roi, bin_x, bin_y = msg.roi, max(1, int(msg.binning_x)), max(1, int(msg.binning_y))
    cropped = roi.width > 0 and roi.height > 0
    if not cropped and bin_x == 1 and bin_y == 1:
        return camera
    K = camera.K.copy()
    width, height = (roi.width, roi.height) if cropped else (camera.width, camera.height)
    if cropped:
        K[0, 2] -= roi.x_offset
        K[1, 2] -= roi.y_offset
    K[0, 2] -= (bin_x - 1) / 2
    K[1, 2] -= (bin_y - 1) / 2
    K[0] /= bin_x
    K[1] /= bin_y
    return replace(camera, width=int(width) // bin_x, height=int(height) // bin_y, K=K)
