"""The nouns of the project. Every room speaks in these types; none of them knows ROS.

Conventions, everywhere:

* ``T_a_b`` is a 4x4 float64 matrix that maps coordinates in frame b to frame a: ``p_a = T_a_b @ p_b``.
* Metres, radians, seconds; stamps are integer nanoseconds (ROS time).
* Body frames are REP 103 (x forward, y left, z up), LiDAR frames, too, unless ``Scan.R_upright`` says how they lean;
  camera frames are optical (x right, y down, z forward).
* Pixels are (u, v) with the centre of the top-left pixel at (0, 0). Images are RGB uint8.
* Class ids are int32 in a label set; :data:`UNLABELLED` (65535) means no class.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8

UNLABELLED = 65535
BACKENDS = ("torch", "minkowski", "spconv")
"""What convolves, by name (sparse/backends.py). Here, since a launch file names them, and need not import PyTorch."""

Pose = Float64[np.ndarray, "4 4"]
Poses = Float64[np.ndarray, "t 4 4"]  # of one frame at t moments
Stamps = Int64[np.ndarray, " t"]  # ns


@dataclass(frozen=True)
class Scan:
    """One LiDAR sweep in its sensor frame. Only finite points; the reader of the source drops the others.

    xyz: metres. intensity: in [0, 1] (source-specific scale already applied), zeros where the sensor has none.
    time: seconds after ``stamp`` for each point, None where unknown. ring: beam index, None where unknown.
    source_index: row of each point in the original message or file, None when no point was dropped.
    R_upright: rotation from the sensor's axes to a frame with z up, None for a level sensor (geometry/upright.py).
    """

    xyz: Float32[np.ndarray, "n 3"]
    intensity: Float32[np.ndarray, " n"]
    stamp: int = 0
    frame_id: str = "lidar"
    time: Float32[np.ndarray, " n"] | None = None
    ring: Int32[np.ndarray, " n"] | None = None
    source_index: Int64[np.ndarray, " n"] | None = None
    R_upright: Float64[np.ndarray, "3 3"] | None = None

    def __len__(self) -> int:
        return len(self.xyz)


@dataclass(frozen=True)
class Camera:
    """Intrinsics. model: "pinhole" (0, 4, 5, 8, 12 or 14 coefficients) or "fisheye" (equidistant: 0 or 4).

    K is the 3x3 matrix for an image of ``width`` x ``height``; ``distortion`` in OpenCV's order:
    k1 k2 p1 p2 k3, rational k4 k5 k6, thin prism s1 s2 s3 s4, tilt of the sensor tx ty (radians).
    """

    name: str
    width: int
    height: int
    K: Float64[np.ndarray, "3 3"]
    model: str = "pinhole"
    distortion: Float64[np.ndarray, " d"] = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class View:
    """A camera at the moment of its own exposure. ``T_world_camera`` is the optical frame's pose at ``stamp``.

    depth: of an RGB-D camera, metres along the optical axis, 0 where nothing was measured; any size, for it is
    registered to the image. None: there is none.
    """

    camera: Camera
    T_world_camera: Pose
    image: UInt8[np.ndarray, "h w 3"]
    stamp: int = 0
    depth: Float32[np.ndarray, "_ _"] | None = None


@dataclass(frozen=True)
class Sweep:
    """A scan and where it was taken: ``T_world_lidar`` at ``scan.stamp`` (points already de-skewed to that stamp)."""

    scan: Scan
    T_world_lidar: Pose


@dataclass(frozen=True)
class Frame:
    """One training or evaluation sample. ``sweeps[0]`` is the key sweep; labels, if any, belong to its points."""

    name: str
    sweeps: tuple[Sweep, ...]
    views: tuple[View, ...] = ()
    labels: Int32[np.ndarray, " n"] | None = None


@dataclass(frozen=True)
class PixelPointPairs:
    """Which pixel of which camera sees which point. M rows, sorted by (camera, point).

    point: row in the concatenation of all sweeps' points; sweep: index of its sweep;
    camera: index into the views; uv: sub-pixel position; depth: metres along the optical axis (fisheye: along the ray).
    """

    point: Int64[np.ndarray, " m"]
    sweep: Int32[np.ndarray, " m"]
    camera: Int32[np.ndarray, " m"]
    uv: Float32[np.ndarray, "m 2"]
    depth: Float32[np.ndarray, " m"]

    def __len__(self) -> int:
        return len(self.point)


@dataclass(frozen=True)
class EncoderIdentity:
    """Which image-text model a feature, a text embedding, a checkpoint or a map belongs to.

    sha256 is that of the weights file, "" where unknown. Two identities are compatible when model, pretrained and dim
    are equal and the hashes, where both are known, too.
    """

    model: str
    pretrained: str
    dim: int
    sha256: str = ""

    def compatible(self, other: EncoderIdentity) -> bool:
        """True if features of the one may be compared with features of the other."""
        same = (self.model, self.pretrained, self.dim) == (other.model, other.pretrained, other.dim)
        return same and (not self.sha256 or not other.sha256 or self.sha256 == other.sha256)

    def __str__(self) -> str:
        return f"{self.model}/{self.pretrained}/{self.dim}" + (f"@{self.sha256[:12]}" if self.sha256 else "")


@dataclass(frozen=True)
class Preparation:
    """How clouds are made ready for a network: as in its training.

    deskew: points are moved to where they were at the scan's stamp, where the scan has point times.
    sweeps: K, scans merged into one cloud; max_sweep_age: seconds beyond which an earlier scan is not merged.
    intensity_scale: factor that brings the sensor's intensity to [0, 1]; 0 estimates it from the values.
    upright: where a scan's direction up comes from, one of ``geometry.upright.MODES``.
    """

    deskew: bool = False
    sweeps: int = 1
    max_sweep_age: float = 1.0
    intensity_scale: float = 0.0
    upright: str = "auto"


@dataclass(frozen=True, eq=False)
class WordEmbeddings:
    """Words and their text embeddings, one row a word."""

    words: tuple[str, ...]
    embeddings: Float32[np.ndarray, "n d"]


@dataclass(frozen=True)
class VoxelFeatures:
    """Point features of the occupied voxels of a cloud.

    coords: voxels of ``voxel_size`` metres in the cloud's frame, floor(xyz / voxel_size); features: z, before the
    linear head; point_to_voxel: row of each input point's voxel.
    """

    coords: Int32[np.ndarray, "v 3"]
    voxel_size: float
    features: Float32[np.ndarray, "v c"]
    point_to_voxel: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def centres(self) -> Float32[np.ndarray, "v 3"]:
        """Centres of the voxels, metres."""
        return ((self.coords + 0.5) * self.voxel_size).astype(np.float32)


@dataclass(frozen=True)
class Segmentation:
    """A label for each point of a scan: class index in the vocabulary (or UNLABELLED) and its probability."""

    label: Int32[np.ndarray, " n"]
    probability: Float32[np.ndarray, " n"]


Mask = Bool[np.ndarray, " n"]
