"""Agreement over time: what all images of a few moments say of each voxel of each scan, and how sure that is.

Three means, one over the other:

1. of a point: over the pixels that see it (depth-tested), in images of up to ``view_window`` frames before and after:
   OpenScene's fusion (:func:`~ov3d_perception.methods.openscene.fuse_views`). Another frame's image counts if that
   frame's own scan has a point in the same coarse voxel; else what was here has moved on, and the image shows what is
   behind it.
2. of a voxel, fixed in the frame of the poses: over the points of all scans of the window that fall into it.
3. the *confidence* of a voxel: how probable its own class is on the mean over all that the window's scans have in the
   coarse voxel around it. A voxel that is sure but alone among others is not to be trusted; nor is one at which moments
   contradict each other. Without words it is the length of the mean feature.

It streams: each frame is read once, few are held (``4 view_window + 2``), and an image that sees no point is never
encoded. Weights by distance, viewing angle and image border, a vote of probabilities in the place of features and a
geometric median gained nothing on real streets (docs/teachers.md): all pixels weigh the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from ov3d_perception.errors import Ov3dError
from ov3d_perception.geometry.sweeps import merge
from ov3d_perception.geometry.voxels import voxel_keys
from ov3d_perception.language.text_classifier import TextClassifier
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.lifting.compact import principal_basis
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.nearby import drive_of, with_neighbours
from ov3d_perception.lifting.pairs import fused_teacher, image_size, pair
from ov3d_perception.recipes.specs import PairSpec
from ov3d_perception.types import Frame, PixelPointPairs, View

_BASIS_FRAMES = 16
_CHUNK = 8192


@dataclass(frozen=True, eq=False)
class Consolidated:
    """What images say of a scan (the sweeps that ``pairs.sweeps`` merges).

    point: rows of the points that an image sees, ascending. row: of each of them, its voxel's row in the others.
    feature: of unit norm, in the coordinates of the basis. confidence: in [0, 1].
    pairs: how many pixels see a point.
    """

    point: Int64[np.ndarray, " n"]
    row: Int64[np.ndarray, " n"]
    feature: Float[Tensor, "v k"]
    confidence: Float[Tensor, " v"]
    pairs: int


def basis_of(source: Sequence[Frame], teacher: ImageTeacher, spec: PairSpec) -> Float[Tensor, "k d"]:
    """The ``spec.basis`` principal directions of the teacher on frames spread over the source, as rows.

    Frames that no pixel sees or that cannot be read are passed over; without any other, all directions are taken.
    """

    def maps() -> Iterator[Float[Tensor, "d _ _"]]:
        for index in np.unique(np.linspace(0, len(source) - 1, _BASIS_FRAMES).round().astype(int)):
            try:
                frame = source[int(index)]
            except Ov3dError:
                continue
            for camera in np.unique(pair(frame, spec).camera):
                yield teacher.dense(frame.views[camera].image)

    if not 0 < spec.basis < teacher.identity.dim:
        return torch.eye(teacher.identity.dim)
    try:
        return principal_basis(maps(), spec.basis)
    except ValueError:
        return torch.eye(teacher.identity.dim)


def consolidate(
    frames: Iterable[tuple[int, Frame]],
    teacher: ImageTeacher,
    spec: PairSpec,
    basis: Float[Tensor, "k d"],
    vocabulary: Vocabulary | None = None,
) -> Iterator[tuple[int, Frame, Consolidated]]:
    """Each frame with what the images around it in time say of its points; some frames later than it came.

    Any posed images and cloud are a :class:`~ov3d_perception.types.Frame`.

    Args:
        frames: with ascending numbers; those of one drive, which have the name before the last "/" in common, follow
            each other.
        teacher: what it encodes goes to its cache.
        spec: association, window, voxels.
        basis: orthonormal rows, the coordinates of the features (:func:`basis_of`).
        vocabulary: classes that the confidence is about.

    Raises DatasetError where the teacher's features exceed their budget, PointCloudError for points beyond a million
    voxels from the drive's first pose.
    """
    words = None if vocabulary is None else _Words.of(vocabulary, basis)
    posed = (_Posed(index, frame, teacher, basis) for index, frame in frames)

    def lifted() -> Iterator[_Lifted]:
        drive, origin = None, np.zeros(3)
        for one, near in with_neighbours(posed, spec.view_window, _index, _drive):
            if drive != _drive(one):
                drive, origin = _drive(one), one.frame.sweeps[0].T_world_lidar[:3, 3]
            yield _lift(one, near, spec, origin, words)

    for one, near in with_neighbours(lifted(), spec.view_window, _index, _drive):
        yield one.index, one.frame, _join(one, near, spec, words)


def placed(
    frame: Frame, found: Consolidated, spec: PairSpec
) -> tuple[Float32[np.ndarray, "n 3"], Float32[np.ndarray, "n k"]]:
    """The points of a frame that images see, in the frame of the poses (metres), and their features."""
    points = merge(frame.sweeps[: spec.sweeps]).xyz[found.point]
    return _world(frame, points, np.zeros(3)).astype(np.float32), found.feature.numpy()[found.row]


@dataclass
class _Posed:
    """A frame, whose images are encoded when something of them is seen."""

    index: int
    frame: Frame
    teacher: ImageTeacher
    basis: Float[Tensor, "k d"]
    _maps: dict[int, Float[Tensor, "k gh gw"]] = field(default_factory=dict)
    _occupied: Int64[np.ndarray, " v"] | None = None

    def map(self, camera: int) -> Float[Tensor, "k gh gw"]:
        if camera not in self._maps:
            dense = self.teacher.dense(self.frame.views[camera].image)
            self._maps[camera] = (self.basis @ dense.flatten(1)).view(-1, *dense.shape[1:])
        return self._maps[camera]

    def has(
        self, keys: Int64[np.ndarray, " n"], size: float, origin: Float64[np.ndarray, " 3"]
    ) -> Bool[np.ndarray, " n"]:
        """Which voxels this frame's own scan has a point in."""
        if self._occupied is None:
            self._occupied = np.unique(voxel_keys(_world(self.frame, self.frame.sweeps[0].scan.xyz, origin), size))
        return np.isin(keys, self._occupied)


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over the points of each voxel: keys ascending, how many points, and their sum."""

    key: Int64[np.ndarray, " v"]
    total: Float[Tensor, "v c"]
    count: Float[Tensor, " v"]

    @classmethod
    def over(cls, keys: Int64[np.ndarray, " n"], values: Float[Tensor, "n c"]) -> _Sums:
        key, row = np.unique(keys, return_inverse=True)
        rows = torch.from_numpy(row.reshape(-1))
        total = values.new_zeros(len(key), values.shape[1]).index_add_(0, rows, values)
        return cls(key, total, torch.bincount(rows, minlength=len(key)).float())

    def add_to(self, key: Int64[np.ndarray, " m"], total: Float[Tensor, "m c"], count: Float[Tensor, " m"]) -> None:
        """Add what is in the voxels of ``key`` to their rows."""
        if not len(self.key):
            return
        place = np.searchsorted(self.key, key).clip(max=len(self.key) - 1)
        mine = np.flatnonzero(self.key[place] == key)
        rows, found = torch.from_numpy(mine), torch.from_numpy(place[mine])
        total.index_add_(0, rows, self.total[found])
        count.index_add_(0, rows, self.count[found])


@dataclass(frozen=True, eq=False)
class _Lifted:
    """A scan after the first mean. fine: of its voxels (of its points where there are none); wide: of larger ones."""

    index: int
    frame: Frame
    point: Int64[np.ndarray, " n"]
    xyz: Float64[np.ndarray, "n 3"]
    feature: Float[Tensor, "n k"]
    fine: _Sums | None
    wide: _Sums
    pairs: int


@dataclass(frozen=True, eq=False)
class _Words:
    classifier: TextClassifier
    members: Float[Tensor, "p c"]
    scale: float

    @classmethod
    def of(cls, vocabulary: Vocabulary, basis: Float[Tensor, "k d"]) -> _Words:
        members = F.one_hot(torch.from_numpy(vocabulary.prompt_class).long(), len(vocabulary.names)).float()
        return cls(TextClassifier(basis.numpy(), vocabulary.embeddings), members, vocabulary.logit_scale)

    def probabilities(self, features: Float[Tensor, "n k"]) -> Float[Tensor, "n c"]:
        parts = [
            torch.softmax(self.classifier.cosines(part).mul_(self.scale), dim=1) @ self.members
            for part in features.split(_CHUNK)
        ]
        return torch.cat(parts) if parts else features.new_zeros(0, self.members.shape[1])


def _index(item: _Posed | _Lifted) -> int:
    return item.index


def _drive(item: _Posed | _Lifted) -> str:
    return drive_of(item.frame)


def _lift(
    one: _Posed, near: Sequence[_Posed], spec: PairSpec, origin: Float64[np.ndarray, " 3"], words: _Words | None
) -> _Lifted:
    """The first mean, and this scan's part of the other two."""
    views: list[View] = [view for posed in near for view in posed.frame.views]
    owner = [(posed, camera) for posed in near for camera in range(len(posed.frame.views))]
    cloud = merge(one.frame.sweeps[: spec.sweeps]).xyz
    pairs = _still(pair(one.frame, spec, views), cloud, one, near, spec, origin)
    used = {int(camera) for camera in np.unique(pairs.camera)}
    maps = [
        posed.map(camera) if number in used else one.basis.new_zeros(len(one.basis), 1, 1)
        for number, (posed, camera) in enumerate(owner)
    ]
    point = np.unique(pairs.point)
    feature = one.basis.new_zeros(0, len(one.basis))
    if len(point):
        feature = fused_teacher(maps, [image_size(view) for view in views], pairs, len(cloud))[point]
    xyz = _world(one.frame, cloud[point], origin)
    fine = _Sums.over(voxel_keys(xyz, spec.voxel), feature) if spec.voxel > 0 else None
    said = feature if words is None else words.probabilities(feature)
    wide = _Sums.over(voxel_keys(xyz, spec.coarse_voxel), said)
    return _Lifted(one.index, one.frame, point, xyz, feature, fine, wide, len(pairs))


def _still(
    pairs: PixelPointPairs,
    cloud: Float32[np.ndarray, "n 3"],
    one: _Posed,
    near: Sequence[_Posed],
    spec: PairSpec,
    origin: Float64[np.ndarray, " 3"],
) -> PixelPointPairs:
    """The pairs without those of other frames' images with points where that frame's scan has nothing."""
    keep = np.ones(len(pairs), bool)
    first = len(one.frame.views)
    for other in near[1:]:
        mine = np.flatnonzero((pairs.camera >= first) & (pairs.camera < first + len(other.frame.views)))
        keys = voxel_keys(_world(one.frame, cloud[pairs.point[mine]], origin), spec.coarse_voxel)
        keep[mine] = other.has(keys, spec.coarse_voxel, origin)
        first += len(other.frame.views)
    return PixelPointPairs(*(getattr(pairs, name)[keep] for name in ("point", "sweep", "camera", "uv", "depth")))


def _world(
    frame: Frame, xyz: Float32[np.ndarray, "n 3"], origin: Float64[np.ndarray, " 3"]
) -> Float64[np.ndarray, "n 3"]:
    """Points of the key sweep's frame in the frame of the poses, from the drive's first pose on."""
    T = frame.sweeps[0].T_world_lidar
    return xyz.astype(np.float64) @ T[:3, :3].T + (T[:3, 3] - origin)


def _join(one: _Lifted, near: Sequence[_Lifted], spec: PairSpec, words: _Words | None) -> Consolidated:
    """The second mean and the third."""
    row, feature, xyz = np.arange(len(one.point)), one.feature, one.xyz
    if one.fine is not None:
        feature, count = torch.zeros_like(one.fine.total), torch.zeros_like(one.fine.count)
        for other in near:
            assert other.fine is not None
            other.fine.add_to(one.fine.key, feature, count)
        feature = F.normalize(feature, dim=1)
        keys = voxel_keys(one.xyz, spec.voxel)
        row = np.searchsorted(one.fine.key, keys)
        first = np.unique(row, return_index=True)[1]
        xyz = one.xyz[first]
    wide_keys = voxel_keys(xyz, spec.coarse_voxel)
    said, count = torch.zeros(len(xyz), one.wide.total.shape[1]), torch.zeros(len(xyz))
    for other in near:
        other.wide.add_to(wide_keys, said, count)
    said = said / count.clamp_min(1)[:, None]
    if words is None:
        confidence = said.norm(dim=1)
    else:
        label = words.probabilities(feature).argmax(1)
        confidence = said.gather(1, label[:, None])[:, 0]
    return Consolidated(one.point, row, feature, confidence.clamp(0, 1), one.pairs)
