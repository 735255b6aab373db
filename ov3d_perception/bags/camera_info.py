"""``sensor_msgs/CameraInfo`` to a :class:`Camera` and back. Knows messages by their attributes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ov3d_perception.errors import CalibrationError
from ov3d_perception.types import Camera

_MODELS = {  # ROS distortion_model: (our model, lengths of D)
    "": ("pinhole", (0,)),
    "plumb_bob": ("pinhole", (0, 4, 5)),
    "rational_polynomial": ("pinhole", (8, 12, 14)),
    "equidistant": ("fisheye", (4,)),
    "fisheye": ("fisheye", (4,)),
}


def to_camera(msg: Any, name: str) -> Camera:
    """A CameraInfo to the intrinsics of the images beside it; binning and region of interest are applied to K.

    Raises CalibrationError: zero K (uncalibrated, by REP 104), zero size, unknown distortion model, wrong number of
    coefficients, values that are not finite.
    """
    K = np.array(msg.k, np.float64).reshape(3, 3)
    distortion = np.array(msg.d, np.float64)
    remedy = f"Calibrate camera '{name}' and let its driver publish the result as camera_info"
    if not np.isfinite(K).all() or not np.isfinite(distortion).all():
        raise CalibrationError(f"Camera '{name}' has intrinsics that are not finite", remedy)
    if K[0, 0] <= 0 or K[1, 1] <= 0:
        raise CalibrationError(f"Camera '{name}' is not calibrated: its K is {K.ravel().tolist()}", remedy)
    if msg.width < 1 or msg.height < 1:
        raise CalibrationError(f"Camera '{name}' announces images of {msg.width} x {msg.height} pixels", remedy)
    model, lengths = _MODELS.get(msg.distortion_model, (None, ()))
    if model is None:
        raise CalibrationError(
            f"Camera '{name}' has the unknown distortion model '{msg.distortion_model}'",
            f"Use one of {', '.join(name for name in _MODELS if name)}, or publish rectified images",
        )
    if not distortion.any() and model == "pinhole":
        distortion = np.zeros(0)
    elif len(distortion) not in lengths:
        raise CalibrationError(
            f"Camera '{name}' has {len(distortion)} coefficients for '{msg.distortion_model}', not one of {lengths}",
            remedy,
        )
    return _apply_roi_and_binning(Camera(name, int(msg.width), int(msg.height), K, model, distortion), msg)


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


def _apply_roi_and_binning(camera: Camera, msg: Any) -> Camera:
    """Crop, then bin: pixel centres at integers, so a bin of b pixels has its centre at (b - 1) / 2."""
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
    return Camera(camera.name, int(width) // bin_x, int(height) // bin_y, K, camera.model, camera.distortion)
