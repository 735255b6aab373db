"""Ray casting against static and moving triangles (Embree through embreex): nearest hits with their attributes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh
from jaxtyping import Bool, Float, Float32, Int32

from ov3d_perception.sim.meshes import Mesh
from ov3d_perception.types import UNLABELLED

_FAR = np.float32(1e6)


@dataclass(frozen=True)
class Hits:
    """What n rays met. ``distance`` is inf and ``label`` UNLABELLED where a ray met nothing; ``rows``: rays that hit.

    The attributes below ``rows`` have one row per entry of ``rows``.
    """

    distance: Float32[np.ndarray, " n"]
    label: Int32[np.ndarray, " n"]
    instance: Int32[np.ndarray, " n"]
    rows: Int32[np.ndarray, " h"]
    normal: Float32[np.ndarray, "h 3"]
    flat_normal: Float32[np.ndarray, "h 3"]
    uv: Float32[np.ndarray, "h 2"]
    surface: Float32[np.ndarray, "h c"]


class Layer:
    """One mesh, built once for rays."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        a, b, c = mesh.vertices.transpose(1, 0, 2)
        across = np.cross(b - a, c - a)
        self.flat_normals = across / (np.linalg.norm(across, axis=1, keepdims=True) + 1e-12)
        self._scene = rtcore_scene.EmbreeScene()
        self._geometry = TriangleMesh(self._scene, np.ascontiguousarray(mesh.vertices)) if len(mesh) else None

    def first(self, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distance (n,), face (n,), -1 for none, and barycentric (n, 2) of the first hit of each ray."""
        if self._geometry is None or not len(origins):
            n = len(origins)
            return np.full(n, _FAR, np.float32), np.full(n, -1, np.int32), np.zeros((n, 2), np.float32)
        found = self._scene.run(origins, directions, output=1)
        return found["tfar"], found["primID"], np.stack([found["u"], found["v"]], axis=1)

    def blocked(self, origins: np.ndarray, directions: np.ndarray) -> Bool[np.ndarray, " n"]:
        """Whether each ray meets anything at all."""
        if self._geometry is None or not len(origins):
            return np.zeros(len(origins), bool)
        return self._scene.run(origins, directions, query="OCCLUDED") >= 0


class RayScene:
    """A few layers, seen as one world."""

    def __init__(self, *layers: Layer) -> None:
        self._layers = layers

    def cast(self, origins: Float[np.ndarray, "n 3"], directions: Float[np.ndarray, "n 3"]) -> Hits:
        """Nearest hit of each ray; ``directions`` are unit vectors. Flat normals face the ray's origin."""
        origins, directions = (np.ascontiguousarray(a, np.float32) for a in (origins, directions))
        n = len(origins)
        distance, owner = np.full(n, _FAR, np.float32), np.full(n, -1, np.int8)
        face, bary = np.full(n, -1, np.int32), np.zeros((n, 2), np.float32)
        for number, layer in enumerate(self._layers):
            tfar, primitive, uv = layer.first(origins, directions)
            nearer = (primitive >= 0) & (tfar < distance)
            distance[nearer], owner[nearer] = tfar[nearer], number
            face[nearer], bary[nearer] = primitive[nearer], uv[nearer]
        return self._gather(directions, distance, owner, face, bary)

    def _gather(
        self, directions: np.ndarray, distance: np.ndarray, owner: np.ndarray, face: np.ndarray, bary: np.ndarray
    ) -> Hits:
        n = len(distance)
        rows = np.flatnonzero(owner >= 0).astype(np.int32)
        label, instance = np.full(n, UNLABELLED, np.int32), np.zeros(n, np.int32)
        columns = self._layers[0].mesh.surface.shape[1]
        normal, flat = np.zeros((len(rows), 3), np.float32), np.zeros((len(rows), 3), np.float32)
        uv, surface = np.zeros((len(rows), 2), np.float32), np.zeros((len(rows), columns), np.float32)
        for number, layer in enumerate(self._layers):
            part = np.flatnonzero(owner[rows] == number)
            where, mesh = rows[part], layer.mesh
            hit = face[where]
            b = bary[where]
            weights = np.column_stack([1 - b[:, 0] - b[:, 1], b])
            normal[part] = np.einsum("hcx,hc->hx", mesh.normals[hit], weights)
            uv[part] = np.einsum("hcx,hc->hx", mesh.uv[hit], weights)
            flat[part] = layer.flat_normals[hit]
            surface[part] = mesh.surface[hit]
            label[where], instance[where] = mesh.label[hit], mesh.instance[hit]
        normal /= np.sqrt(np.einsum("hx,hx->h", normal, normal) + 1e-12)[:, None]
        sheet = np.abs(np.einsum("hx,hx->h", normal, flat)) > 0.999
        away = np.einsum("hx,hx->h", flat, directions[rows]) > 0
        flat[away] *= -1
        normal[sheet] = flat[sheet]
        distance = np.where(owner >= 0, distance, np.inf).astype(np.float32)
        return Hits(distance, label, instance, rows, normal, flat, uv, surface)

    def blocked(
        self, origins: Float[np.ndarray, "n 3"], directions: Float[np.ndarray, "n 3"]
    ) -> Bool[np.ndarray, " n"]:
        """Whether anything lies on each ray."""
        origins, directions = (np.ascontiguousarray(a, np.float32) for a in (origins, directions))
        result = np.zeros(len(origins), bool)
        for layer in self._layers:
            open_ = np.flatnonzero(~result)
            result[open_] = layer.blocked(origins[open_], directions[open_])
        return result
