"""Triangle soups with what a ray that hits them must know: class, instance, surface, texture coordinates, normals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import trimesh
from jaxtyping import Float32, Int32

from ov3d_perception.types import UNLABELLED, Pose

# Columns of a surface row: what `Surface.row` writes and `textures.shade` reads.
COLOUR, ACCENT, TEXTURE, SCALE, REFLECTIVITY, GLOSS = slice(0, 3), slice(3, 6), 6, 7, 8, 9

Row = Sequence[float] | np.ndarray
Rows = Sequence[Row] | np.ndarray


@dataclass(frozen=True)
class Surface:
    """How a face looks. colour, accent: linear RGB in [0, 1]; texture: id in :mod:`textures`; scale: metres a tile.

    reflectivity: at the LiDAR's wavelength, in [0, 1]; gloss: strength of the mirror-like part in the camera.
    """

    colour: tuple[float, float, float]
    accent: tuple[float, float, float] = (0.0, 0.0, 0.0)
    texture: int = 0
    scale: float = 1.0
    reflectivity: float = 0.3
    gloss: float = 0.0

    def row(self) -> Float32[np.ndarray, " c"]:
        """The surface as one row of :attr:`Mesh.surface`."""
        values = (*self.colour, *self.accent, self.texture, self.scale, self.reflectivity, self.gloss)
        return np.array(values, np.float32)


@dataclass(frozen=True)
class Mesh:
    """F triangles. ``uv``: texture coordinates in metres, in the object's own frame; one row per face corner."""

    vertices: Float32[np.ndarray, "f 3 3"]
    normals: Float32[np.ndarray, "f 3 3"]
    uv: Float32[np.ndarray, "f 3 2"]
    surface: Float32[np.ndarray, "f c"]
    label: Int32[np.ndarray, " f"]
    instance: Int32[np.ndarray, " f"]

    def __len__(self) -> int:
        return len(self.vertices)

    def moved(self, T: Pose) -> Mesh:
        """The same mesh after the rigid (or scaled) transform ``T``; texture coordinates stay with the object."""
        R, t = T[:3, :3].astype(np.float32), T[:3, 3].astype(np.float32)
        return replace(self, vertices=self.vertices @ R.T + t, normals=self.normals @ R.T)

    def tagged(self, label: int, instance: int = 0) -> Mesh:
        """The same mesh with every face of class ``label`` and instance ``instance``."""
        n = len(self)
        return replace(self, label=np.full(n, label, np.int32), instance=np.full(n, instance, np.int32))

    def with_instance(self, instance: int) -> Mesh:
        """The same mesh, its classes kept, with every face of instance ``instance``."""
        return replace(self, instance=np.full(len(self), instance, np.int32))

    def shifted_texture(self, offset: tuple[float, float]) -> Mesh:
        """The same mesh with its texture moved, so that equal objects do not look alike."""
        return replace(self, uv=self.uv + np.asarray(offset, np.float32))


def from_triangles(vertices: np.ndarray, surface: Surface, *, normals: np.ndarray | None = None) -> Mesh:
    """A mesh from corners (F, 3, 3); flat normals unless given; texture coordinates from the dominant axis."""
    vertices = np.asarray(vertices, np.float32).reshape(-1, 3, 3)
    flat = _cross(vertices[:, 1] - vertices[:, 0], vertices[:, 2] - vertices[:, 0])
    flat /= np.linalg.norm(flat, axis=1, keepdims=True) + 1e-12
    if normals is None:
        normals = np.repeat(flat[:, None], 3, axis=1)
    axis = np.abs(flat).argmax(axis=1)
    pick = np.array([[1, 2], [0, 2], [0, 1]])[axis]
    uv = np.take_along_axis(vertices, np.repeat(pick[:, None], 3, axis=1), axis=2)
    n = len(vertices)
    rows = np.repeat(surface.row()[None], n, axis=0)
    labels, instances = np.full(n, UNLABELLED, np.int32), np.zeros(n, np.int32)
    return Mesh(vertices, np.asarray(normals, np.float32), uv.astype(np.float32), rows, labels, instances)


def join(meshes: Iterable[Mesh]) -> Mesh:
    """All meshes as one."""
    meshes = list(meshes)
    names = ("vertices", "normals", "uv", "surface", "label", "instance")
    return Mesh(*(np.concatenate([getattr(m, name) for m in meshes]) for name in names))


def repainted(mesh: Mesh, paint: int) -> Mesh:
    """The same mesh in the materials of another town; 0: as it is.

    By texture, colours are multiplied by up to a third more or less a channel, and reflectivities by 0.5 to 1.8.
    """
    if paint == 0:
        return mesh
    rng, kinds = np.random.default_rng([paint, 11]), 64
    tint = rng.uniform(0.7, 1.3, (kinds, 3)).astype(np.float32)
    shine = np.exp(rng.uniform(np.log(0.5), np.log(1.8), kinds)).astype(np.float32)
    kind, surface = mesh.surface[:, TEXTURE].astype(int) % kinds, mesh.surface.copy()
    for columns in (COLOUR, ACCENT):
        surface[:, columns] = np.clip(surface[:, columns] * tint[kind], 0, 1)
    surface[:, REFLECTIVITY] = np.clip(surface[:, REFLECTIVITY] * shine[kind], 0.02, 1)
    return replace(mesh, surface=surface)


def empty() -> Mesh:
    """A mesh without faces."""
    return from_triangles(np.zeros((0, 3, 3)), Surface((0, 0, 0)))


def place(x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0, scale: float = 1.0) -> Pose:
    """Transform of an object put at (x, y, z), turned by ``yaw`` about z, scaled."""
    c, s = np.cos(yaw) * scale, np.sin(yaw) * scale
    return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, scale, z], [0, 0, 0, 1]], np.float64)


def _quads(corners: np.ndarray) -> np.ndarray:
    """(Q, 4, 3) corners, counter-clockwise from outside, to triangles (2Q, 3, 3)."""
    return np.stack([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]], axis=1).reshape(-1, 3, 3)


_CUBE = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_CUBE_FACES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])


def box(size: Row, centre: Row, surface: Surface, *, taper: Row = (1, 1)) -> Mesh:
    """A box; its top face is scaled by ``taper`` (x, y)."""
    corners = _CUBE.copy()
    top = corners[:, 2] > 0
    corners[top, 0] *= taper[0]
    corners[top, 1] *= taper[1]
    corners = corners * np.asarray(size, float) + np.asarray(centre, float)
    return from_triangles(_quads(corners[_CUBE_FACES]), surface)


def prism(profile: Rows, width: float, surface: Surface, *, y: float = 0.0) -> Mesh:
    """A convex or star-shaped polygon (x, z), extruded along y to ``width``, centred at ``y``."""
    return loft(profile, [(-width / 2 + y, 1.0), (width / 2 + y, 1.0)], surface)


def loft(profile: Rows, stations: Sequence[tuple[float, float]], surface: Surface) -> Mesh:
    """A polygon (x, z), swept along y through ``stations`` (y, scale about the polygon's mean), closed at both ends."""
    outline = np.asarray(profile, float)
    if _area(outline) < 0:
        outline = outline[::-1]
    mean = outline.mean(axis=0)
    rings = []
    for y, scale in stations:
        xz = mean + (outline - mean) * scale
        rings.append(np.column_stack([xz[:, 0], np.full(len(xz), y), xz[:, 1]]))
    triangles = []
    for a, b in pairwise(rings):
        nxt_a, nxt_b = np.roll(a, -1, axis=0), np.roll(b, -1, axis=0)
        triangles.append(_quads(np.stack([a, b, nxt_b, nxt_a], axis=1)))
    for ring, flip in ((rings[0], False), (rings[-1], True)):
        fan = np.stack([np.broadcast_to(ring.mean(axis=0), ring.shape), ring, np.roll(ring, -1, axis=0)], axis=1)
        triangles.append(fan[:, ::-1] if flip else fan)
    return from_triangles(np.concatenate(triangles), surface)


def _area(outline: np.ndarray) -> float:
    x, z = outline.T
    return 0.5 * float((x * np.roll(z, -1) - np.roll(x, -1) * z).sum())


def tube(points: Rows, radius: float | Row, surface: Surface, sides: int = 6) -> Mesh:
    """A round bar through ``points``, radius constant or one per point, ends closed, normals smooth."""
    points_ = np.asarray(points, float)
    radii = np.broadcast_to(np.asarray(radius, float), len(points_))[:, None, None]
    along = points_[1:] - points_[:-1]
    along /= np.sqrt((along * along).sum(axis=1, keepdims=True)) + 1e-12
    upright = np.abs(along[:, 2:]) >= 0.9
    side = _cross(along, np.where(upright, [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]))
    side /= np.sqrt((side * side).sum(axis=1, keepdims=True))
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)[:, None]
    out = np.cos(angle) * side[:, None] + np.sin(angle) * _cross(along, side)[:, None]
    lower, upper = points_[:-1, None] + out * radii[:-1], points_[1:, None] + out * radii[1:]
    following = np.r_[1:sides, 0]
    next_lower, next_upper, next_out = (rim[:, following] for rim in (lower, upper, out))
    quads = np.stack([lower, next_lower, next_upper, upper], axis=2).reshape(-1, 4, 3)
    normals = [_quads(np.stack([out, next_out, next_out, out], axis=2).reshape(-1, 4, 3))]
    triangles = [_quads(quads)]
    for centre, rim, way in ((points_[0], lower[0], -along[0]), (points_[-1], upper[-1], along[-1])):
        cap = np.stack([np.broadcast_to(centre, rim.shape), rim, rim[following]], axis=1)
        triangles.append(cap)
        normals.append(np.broadcast_to(way, cap.shape))
    return from_triangles(np.concatenate(triangles), surface, normals=np.concatenate(normals))


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of rows (n, 3): a third of the time of np.cross, which street furniture calls ten thousand times a world."""
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    found = np.empty(a.shape, np.result_type(a, b))
    found[:, 0], found[:, 1], found[:, 2] = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    return found


@lru_cache(maxsize=4)
def _sphere(subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions)
    return np.asarray(sphere.vertices), np.asarray(sphere.faces)


def ellipsoid(
    radii: Row,
    centre: Row,
    surface: Surface,
    *,
    subdivisions: int = 1,
    rough: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Mesh:
    """An ellipsoid with smooth normals; ``rough`` pushes each vertex in or out by that share, at random."""
    unit, faces = _sphere(subdivisions)
    size = np.ones(len(unit)) if rng is None else 1.0 + rough * rng.uniform(-1, 1, len(unit))
    vertices = unit * size[:, None] * np.asarray(radii, float) + np.asarray(centre, float)
    normals = unit / np.asarray(radii, float)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return from_triangles(vertices[faces], surface, normals=normals[faces])


def wheel(radius: float, width: float, centre: Row, tyre: Surface, rim: Surface, sides: int = 14) -> Mesh:
    """A wheel with its axle along y: a tyre and a lighter disc on both sides."""
    x, y, z = centre
    body = tube([(x, y - width / 2, z), (x, y + width / 2, z)], radius, tyre, sides)
    hub = tube([(x, y - width / 2 - 0.01, z), (x, y + width / 2 + 0.01, z)], radius * 0.58, rim, sides)
    return join([body, hub])


def ring(radius: float, thickness: float, centre: Row, surface: Surface, sides: int = 16) -> Mesh:
    """A thin wheel (a bicycle's): a tube bent to a circle about y."""
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    x, y, z = centre
    points = np.column_stack([x + radius * np.cos(angle), np.full(sides + 1, y), z + radius * np.sin(angle)])
    return tube(points, thickness, surface, 4)


def cards(
    centres: np.ndarray, size: np.ndarray, surface: Surface, rng: np.random.Generator, outward: np.ndarray
) -> Mesh:
    """Square leaves at ``centres`` (n, 3) with edge ``size`` (n,), turned at random, shaded as facing ``outward``."""
    n = len(centres)
    first = rng.normal(size=(n, 3))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = _cross(first, rng.normal(size=(n, 3)))
    second /= np.linalg.norm(second, axis=1, keepdims=True) + 1e-9
    a, b = first * size[:, None] / 2, second * size[:, None] / 2
    corners = np.stack([centres - a - b, centres + a - b, centres + a + b, centres - a + b], axis=1)
    normals = outward / (np.linalg.norm(outward, axis=1, keepdims=True) + 1e-9)
    normals = np.repeat(normals, 2, axis=0)[:, None].repeat(3, axis=1)
    return from_triangles(_quads(corners), surface, normals=normals)
