"""By how much a camera's place, turn or clock is off, told by the edges of clouds and images of many frames.

Each silhouette point p of a frame, seen from the camera, has a value in the edge image, F(project(p)). The sum over all
points and frames, sides and tops with equal weight, is greatest where the calibration is right (Levinson and Thrun, RSS
2013). Here it is maximised over

    p' = exp(r) p + t - tau (w x p + v)

with a turn r, a shift t (both in the camera's optical frame) and a delay tau of the images' stamps, during which the
world moves past the camera by a twist (w, v). One scene seldom tells a shift from a turn or a delay: a prior
(:class:`Prior`) says how large each of them usually is, and what comes out has a standard deviation that says what
could not be told.

The sum is no likelihood. It is scaled to one by the spread of its gradient between independent parts, as pseudo-
likelihoods are (Godambe's information): parts are the sides, or the tops, in a column of the image within two seconds,
since the same tree in five consecutive scans is one witness, not five.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from ov3d_perception.doctor.edge_image import edge_images
from ov3d_perception.doctor.silhouettes import Silhouettes
from ov3d_perception.geometry.cameras import project_axes, resized
from ov3d_perception.geometry.poses import invert, transform
from ov3d_perception.types import Camera, Pose, View

PIXELS_PER_DEGREE = 10.0  # images are reduced to this; finer edges than a LiDAR's steps say nothing more
PART_NS = 2_000_000_000
PART_COLUMNS = 12
FARTHEST_TURN, TURN_STEP = 4.0, 0.4  # degrees, of the coarse search
LONGEST_DELAY, DELAY_STEP = 0.15, 0.01  # seconds
_UNITS = np.array([np.radians(0.5)] * 3 + [0.05] * 3 + [0.02])  # what the optimiser takes for one
_NUDGE = 1e-3  # metres, for derivatives of the lens
_LOOSE = 1e-2  # of _UNITS, to the power -2: what is held least
_SETTLED = 0.002  # of the log-likelihood gained so far, or of one: a step that gains less is the last
_COARSE_POINTS = 3000
_DRAWS = 20

Offset = Float64[np.ndarray, " 7"]  # r, t, tau


@dataclass(frozen=True)
class Prior:
    """Standard deviations of what is usual: degrees, metres, seconds."""

    turn: float = 1.0
    shift: float = 0.05
    delay: float = 0.03

    @property
    def precision(self) -> Float64[np.ndarray, "7 7"]:
        """Of r, t and tau."""
        return np.diag(1 / np.array([np.radians(self.turn)] * 3 + [self.shift] * 3 + [self.delay]) ** 2)


@dataclass(frozen=True)
class Edges:
    """What one view and one cloud say: points in the camera's frame, each kind with the image of its edges.

    twist: how the world turns (rad/s) and moves (m/s) past the camera, in its frame; None where unknown.
    """

    camera: Camera
    points: tuple[Float64[np.ndarray, "_ 3"], Float64[np.ndarray, "_ 3"]]
    images: tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]
    stamp: int
    twist: Float64[np.ndarray, " 6"] | None = None


@dataclass(frozen=True)
class Alignment:
    """How far the calibration is off, and how surely that is known; all in the camera's optical frame (x right, y down,
    z forward).

    turn: degrees, about x, y and z; shift: metres, by which the LiDAR's points have to move; delay: seconds, by which
    the images' stamps are late; each with its standard deviation. agreement: mean nearness of points to edges as
    calibrated and at the best, in standard deviations of the image. apart_deg: how far points lie from where they would
    be at the best, root of the mean square, with its standard deviation apart_sd: known better than which of turn,
    shift and delay it is. gain: twice the log-likelihood of the best over that of the calibration as it is, chi-squared
    with as many degrees of freedom as there are offsets. witnesses: independent parts of the data; better: the share of
    them that agree more at the best. moving: the delay could be looked for.
    """

    turn: Float64[np.ndarray, " 3"]
    shift: Float64[np.ndarray, " 3"]
    delay: float
    turn_sd: Float64[np.ndarray, " 3"]
    shift_sd: Float64[np.ndarray, " 3"]
    delay_sd: float
    agreement: tuple[float, float]
    apart_deg: float
    apart_sd: float
    gain: float
    witnesses: int
    better: float
    frames: int
    points: int
    moving: bool


def edges_of(silhouettes: Silhouettes, T_world_lidar: Pose, view: View, twist: np.ndarray | None = None) -> Edges:
    """The edges that one view can judge: those whose points it sees, or nearly."""
    degree = float(view.camera.K[0, 0]) * np.pi / 180
    factor = min(1.0, PIXELS_PER_DEGREE / degree)
    camera = resized(view.camera, round(view.camera.width * factor), round(view.camera.height * factor))
    image = cv2.resize(view.image, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
    T_camera_lidar = invert(view.T_world_camera) @ T_world_lidar
    border = 2 * degree * factor
    kept = []
    for points in (silhouettes.sides, silhouettes.tops):
        seen = transform(T_camera_lidar, points)
        u, v, depth, visible = project_axes(camera, *seen.T)
        visible = visible & (depth > 1) & (u > -border) & (v > -border)
        kept.append(seen[visible & (u < camera.width + border) & (v < camera.height + border)])
    return Edges(camera, (kept[0], kept[1]), edge_images(image, degree * factor), view.stamp, twist)


def align(edges: Sequence[Edges], prior: Prior | None = None) -> Alignment | None:
    """The most probable offset of one camera; None where there are fewer than a hundred points."""
    total = sum(len(points) for one in edges for points in one.points)
    if total < 100:
        return None
    precision = (prior or Prior()).precision
    moving = any(one.twist is not None for one in edges)
    free = np.arange(7 if moving else 6)
    problem = _Problem(edges)
    turned, *delayed = _starts(problem.thinned(_COARSE_POINTS), moving)
    turned = problem.climb(max(np.zeros(7), turned, key=problem.value), np.arange(3), 1.0, 0 * precision)
    scale = problem.scale(turned, np.arange(3))
    found = [problem.climb(start, free, scale, precision) for start in (turned, *delayed)]
    best = max(found, key=lambda x: scale * problem.value(x) - x @ precision @ x / 2)
    covariance = problem.covariance(best, free, scale, precision)
    sd = np.sqrt(np.diag(covariance))
    agreement = (problem.value(np.zeros(7)) / total, problem.value(best) / total)
    return Alignment(
        np.degrees(best[:3]),
        best[3:6],
        float(best[6]),
        np.degrees(sd[:3]),
        sd[3:6],
        float(sd[6]),
        agreement,
        problem.apart_deg(np.zeros(7), best),
        problem.uncertain_deg(best, covariance),
        2 * scale * (problem.value(best) - problem.value(np.zeros(7))),
        *problem.votes(best),
        len({one.stamp for one in edges}),
        total,
        moving,
    )


def _starts(problem: _Problem, moving: bool) -> list[Offset]:
    """The best turn and the best delay of a coarse grid: yaw and pitch together, then roll."""
    grid = np.radians(np.arange(-FARTHEST_TURN, FARTHEST_TURN + 1e-9, TURN_STEP))
    aimed = max((_along(pitch, yaw) for pitch in grid for yaw in grid), key=problem.value)
    rolled = [start + _along(roll=roll) for start in (np.zeros(7), aimed) for roll in grid]
    starts = [max(aimed, *rolled, key=problem.value)]
    if moving:
        times = np.arange(-LONGEST_DELAY, LONGEST_DELAY + 1e-9, DELAY_STEP)
        starts.append(max((_along(delay=time) for time in times), key=problem.value))
    return starts


def _along(pitch: float = 0.0, yaw: float = 0.0, roll: float = 0.0, delay: float = 0.0) -> Offset:
    return np.array([pitch, yaw, roll, 0, 0, 0, delay], np.float64)


class _Problem:
    """The sum of edge values as a function of the offset, with its gradient. All edges are of one camera."""

    def __init__(self, edges: Sequence[Edges]) -> None:
        kinds = [(one, points, image) for one in edges for points, image in zip(one.points, one.images, strict=True)]
        counts = [len(points) for _, points, _ in kinds]
        self._camera = edges[0].camera
        points = np.concatenate([points for _, points, _ in kinds])
        sides, tops = sum(counts[::2]), sum(counts[1::2])
        weights = [(sides + tops) / (2 * max(count, 1)) for count in (sides, tops)]  # both kinds count alike
        self._weight = np.repeat(np.resize(weights, len(kinds)), counts)
        self._images = np.concatenate([image.reshape(-1) for _, _, image in kinds])
        self._image = np.repeat(np.arange(len(kinds)), counts) * (self._camera.height * self._camera.width)
        twists = np.array([np.zeros(6) if one.twist is None else one.twist for one, _, _ in kinds])
        twist = np.repeat(twists, counts, axis=0)
        self._points = np.ascontiguousarray(points.T)
        self._drift = np.ascontiguousarray((np.cross(twist[:, :3], points) + twist[:, 3:]).T)  # m/s
        first = min(one.stamp for one in edges)
        blocks = [2 * ((one.stamp - first) // PART_NS) + number % 2 for number, (one, _, _) in enumerate(kinds)]
        self._block = np.repeat(blocks, counts)

    def thinned(self, most: int) -> _Problem:
        """The same of about ``most`` points, evenly taken."""
        few = copy(self)
        every = slice(None, None, max(1, len(self._weight) // most))
        for name in ("_points", "_weight", "_image", "_drift", "_block"):
            setattr(few, name, np.ascontiguousarray(getattr(self, name)[..., every]))
        return few

    def value(self, offset: Offset) -> float:
        """The sum."""
        u, v, _, seen = project_axes(self._camera, *self._moved(offset))
        return float(self._values(u, v, seen).sum())

    def gradients(self, offset: Offset) -> tuple[float, Float64[np.ndarray, "7 n"], Int64[np.ndarray, " n"]]:
        """The sum; each point's gradient; the number of the independent part that the point belongs to."""
        moved = self._moved(offset)
        u, v, _, seen = project_axes(self._camera, *moved)
        values, along_u, along_v = self._slopes(u, v, seen)
        slope = np.zeros_like(moved)
        for axis in range(3):
            nudged = list(moved)
            nudged[axis] = moved[axis] + _NUDGE
            du, dv, _, _ = project_axes(self._camera, *nudged)
            slope[axis] = np.where(seen, along_u * (du - u) + along_v * (dv - v), 0.0) / _NUDGE
        (x, y, z), (a, b, c) = moved, slope
        turned = [y * c - z * b, z * a - x * c, x * b - y * a]
        gradient = np.stack([*turned, *slope, -(slope * self._drift).sum(axis=0)])
        return float(values.sum()), gradient, self._parts(u, seen)

    def _parts(self, u: Float64[np.ndarray, " n"], seen: np.ndarray) -> Int64[np.ndarray, " n"]:
        column = np.clip(np.where(seen, u, 0) / self._camera.width * PART_COLUMNS, 0, PART_COLUMNS - 1)
        return self._block * PART_COLUMNS + column.astype(np.int64)

    def _moved(self, offset: Offset) -> Float64[np.ndarray, "3 n"]:
        moved = Rotation.from_rotvec(offset[:3]).as_matrix() @ self._points
        moved += offset[3:6, None]
        if offset[6]:
            moved -= offset[6] * self._drift
        return moved

    def _values(
        self, u: Float64[np.ndarray, " n"], v: Float64[np.ndarray, " n"], seen: np.ndarray
    ) -> Float64[np.ndarray, " n"]:
        """Bilinear value; 0, the images' mean, outside."""
        weight, a, b, (f00, f01, f10, f11) = self._cells(u, v, seen)
        upper, lower = f00 + a * (f01 - f00), f10 + a * (f11 - f10)
        return weight * (upper + b * (lower - upper))

    def _slopes(
        self, u: Float64[np.ndarray, " n"], v: Float64[np.ndarray, " n"], seen: np.ndarray
    ) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """:meth:`_values` and its derivatives by u and v."""
        weight, a, b, (f00, f01, f10, f11) = self._cells(u, v, seen)
        above, below = f01 - f00, f11 - f10
        upper, down = f00 + a * above, f10 - f00 + a * (below - above)
        return weight * (upper + b * down), weight * (above + b * (below - above)), weight * down

    def _cells(
        self, u: Float64[np.ndarray, " n"], v: Float64[np.ndarray, " n"], seen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Float32[np.ndarray, " n"]]]:
        """Of each point: weight, 0 outside the image; the place between its four pixels; these pixels."""
        width, height = self._camera.width, self._camera.height
        inside = seen & (u >= 0) & (v >= 0) & (u < width - 1) & (v < height - 1)
        u, v = np.where(inside, u, 0.0), np.where(inside, v, 0.0)
        column, row = u.astype(np.int64), v.astype(np.int64)
        at = self._image + row * width + column
        pixels = [self._images.take(at + step) for step in (0, 1, width, width + 1)]
        return np.where(inside, self._weight, 0.0), u - column, v - row, pixels

    def uncertain_deg(self, offset: Offset, covariance: Float64[np.ndarray, "7 7"]) -> float:
        """The same for what is not known of the offset: over draws from its distribution."""
        draws = np.random.default_rng(0).multivariate_normal(offset, covariance, _DRAWS)
        return float(np.sqrt(np.mean([self.apart_deg(offset, draw) ** 2 for draw in draws])))

    def apart_deg(self, one: Offset, other: Offset) -> float:
        """Root of the mean square of the points' ways in the image, from one offset to another; degrees."""
        (u0, v0, _, seen0), (u, v, _, seen) = (
            project_axes(self._camera, *self._moved(offset)) for offset in (one, other)
        )
        both = seen0 & seen
        squared = (u[both] - u0[both]) ** 2 + (v[both] - v0[both]) ** 2
        return float(np.sqrt(squared.mean()) * np.degrees(1 / self._camera.K[0, 0])) if both.any() else 0.0

    def votes(self, offset: Offset) -> tuple[int, float]:
        """How many independent parts have points in the image, and the share of them whose own sum is greater there."""
        (u, v, _, seen), there = (project_axes(self._camera, *self._moved(one)) for one in (np.zeros(7), offset))
        names, part = np.unique(self._parts(u, seen), return_inverse=True)
        before, after = self._values(u, v, seen), self._values(there[0], there[1], there[3])
        gains = np.bincount(part.reshape(-1), after - before, len(names))
        return len(names), float((gains[gains != 0] > 0).mean()) if gains.any() else 0.0

    def climb(self, start: Offset, free: np.ndarray, scale: float, precision: Float64[np.ndarray, "7 7"]) -> Offset:
        """The offset near ``start`` with the greatest scale * sum - prior; only the entries ``free`` change.

        The optimiser's units are standard deviations, as far as the spread of the gradient tells them at ``start``: so
        its first step has the right size and direction.
        """
        expected = scale**2 * self._spread(start, free) + precision[np.ix_(free, free)]
        expected += np.diag(_LOOSE / _UNITS[free] ** 2)  # where nothing is told
        units = np.linalg.cholesky(np.linalg.inv(expected))
        before = scale * self.value(start) - start @ precision @ start / 2

        def minus(y: np.ndarray) -> tuple[float, np.ndarray]:
            offset = start.copy()
            offset[free] += units @ y
            total, gradient, _ = self.gradients(offset)
            slope = scale * gradient.sum(axis=1) - precision @ offset
            return before - (scale * total - offset @ precision @ offset / 2), -units.T @ slope[free]

        options = {"maxiter": 40, "ftol": _SETTLED, "gtol": _SETTLED}
        result = minimize(minus, np.zeros(len(free)), jac=True, method="L-BFGS-B", options=options)
        offset = start.copy()
        offset[free] += units @ result.x
        return offset

    def scale(self, offset: Offset, free: np.ndarray) -> float:
        """What makes the sum a log-likelihood: curvature by spread of the gradient."""
        H, G = self._curvature(offset, free), self._spread(offset, free)
        return float(len(free) / max(np.trace(np.linalg.pinv(H) @ G), 1e-9))

    def covariance(
        self, offset: Offset, free: np.ndarray, scale: float, precision: Float64[np.ndarray, "7 7"]
    ) -> Float64[np.ndarray, "7 7"]:
        """Of the offset; the prior's where the data say nothing."""
        own = precision[np.ix_(free, free)]
        H, G = scale * self._curvature(offset, free), scale**2 * self._spread(offset, free)
        inverse = np.linalg.inv(H + own)
        usual, found = np.sqrt(1 / np.diag(own)), inverse @ (G + own) @ inverse
        bound = np.minimum(1, usual / np.sqrt(np.diag(found)))  # nothing is known less well than before
        covariance = np.linalg.inv(precision)
        covariance[np.ix_(free, free)] = found * bound * bound[:, None]
        return covariance

    def _slope(self, offset: Offset) -> Float64[np.ndarray, " 7"]:
        return self.gradients(offset)[1].sum(axis=1)

    def _curvature(self, offset: Offset, free: np.ndarray) -> Float64[np.ndarray, "k k"]:
        """Minus the second derivative, without what curves upwards."""
        rows = []
        for entry in free:
            step = np.zeros(7)
            step[entry] = 0.2 * _UNITS[entry]
            rows.append((self._slope(offset - step) - self._slope(offset + step))[free] / (2 * step[entry]))
        units = _UNITS[free]
        H = np.array(rows) * units * units[:, None]
        values, vectors = np.linalg.eigh((H + H.T) / 2)
        return (vectors * np.maximum(values, 0)) @ vectors.T / units / units[:, None]

    def _spread(self, offset: Offset, free: np.ndarray) -> Float64[np.ndarray, "k k"]:
        """Covariance of the gradient, by independent parts."""
        _, gradient, part = self.gradients(offset)
        speaking = gradient.any(axis=0)
        names, inverse = np.unique(part[speaking], return_inverse=True)
        sums = np.zeros((len(names), len(free)))
        np.add.at(sums, inverse.reshape(-1), gradient[free][:, speaking].T)
        few = len(names) / max(len(names) - len(free), 1)
        return few * sums.T @ sums
