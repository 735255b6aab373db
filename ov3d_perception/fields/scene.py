"""Posed images of a scene that stands still, and the space that a field of it fills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float64, Int32
from torch import Tensor

from ov3d_perception.errors import DatasetError
from ov3d_perception.fields.rays import Ndc, Rays, camera_rays
from ov3d_perception.types import UNLABELLED, Camera, Pose, View

FEWEST = 3


@dataclass(frozen=True)
class Scene:
    """views: pinhole cameras without distortion. names: of the images, one a view.

    depths (v, 2): least and greatest depth that each view sees, metres, if known; points: of the scene, if known; box
    (2, 3): what to fill, if known. classes: words; masks: class of each pixel (UNLABELLED for none), by the index of
    the view. test: views that no field is trained on.
    """

    name: str
    views: tuple[View, ...]
    names: tuple[str, ...]
    depths: Float64[np.ndarray, "v 2"] | None = None
    points: Float64[np.ndarray, "p 3"] | None = None
    box: Float64[np.ndarray, "2 3"] | None = None
    classes: tuple[str, ...] = ()
    masks: dict[int, Int32[np.ndarray, "h w"]] = field(default_factory=dict)
    test: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = sorted({view.image.shape[:2] for view in self.views})
        if len(self.views) < FEWEST:
            raise DatasetError(
                f"{self.name} has {len(self.views)} posed images",
                f"A field needs {FEWEST} at least, from different places; 20 to 40 are usual",
            )
        if len(sizes) > 1:
            raise DatasetError(
                f"The images of {self.name} have the sizes {', '.join(f'{w} x {h}' for h, w in sizes)}",
                "Give images of one camera and one size; undo the crop or the rotation of the others",
            )

    @property
    def training(self) -> list[int]:
        """The views to train on."""
        return [number for number in range(len(self.views)) if number not in self.test]

    def downsampled(self, factor: float) -> Scene:
        """Images and masks smaller by ``factor``, intrinsics with them."""
        if factor == 1:
            return self
        views = tuple(_smaller(view, factor) for view in self.views)
        height, width = views[0].image.shape[:2]
        masks = {
            number: cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
            for number, mask in self.masks.items()
        }
        return replace(self, views=views, masks=masks)

    def boxed(self, corners: Sequence[float]) -> Scene:
        """With another box: x0, y0, z0, x1, y1, z1, metres; itself where ``corners`` is empty. Raises DatasetError."""
        if not corners:
            return self
        box = np.array(corners, np.float64)
        if box.size != 6 or not (box[:3] < box[3:]).all():
            raise DatasetError(f"images.box is {list(corners)}", "Write its least and its greatest corner, six numbers")
        return replace(self, box=box.reshape(2, 3))

    def thinned(self, share: float) -> Scene:
        """A share of the training views, evenly spread; all test views."""
        training = self.training
        count = max(FEWEST, round(share * len(training)))
        kept = {training[n] for n in np.linspace(0, len(training) - 1, count).round().astype(int)}
        rows = [n for n in range(len(self.views)) if n in kept or n in self.test]
        new = {old: n for n, old in enumerate(rows)}
        return replace(
            self,
            views=tuple(self.views[n] for n in rows),
            names=tuple(self.names[n] for n in rows),
            depths=None if self.depths is None else self.depths[rows],
            masks={new[n]: mask for n, mask in self.masks.items() if n in new},
            test=tuple(new[n] for n in self.test),
        )


@dataclass(frozen=True)
class Space:
    """What a field fills: a box (2, 3) in the world, or in normalised device coordinates."""

    box: Float[Tensor, "2 3"]
    ndc: Ndc | None = None

    def rays(self, camera: Camera, T_world_camera: Pose) -> Rays:
        """The rays of a camera in this space."""
        return camera_rays(camera, T_world_camera, self.ndc)

    def to_world(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Points of the space in the world, metres."""
        return points if self.ndc is None else self.ndc.to_world(points)


def space_of(scene: Scene, kind: str = "auto") -> Space:
    """kind: "box"; "ndc", for cameras that all look the same way; or "auto": the scene's own box where it has one,
    its points', else NDC if all cameras look within 60 degrees of their mean and depths are known, else a box.

    Raises DatasetError where a box cannot be had.
    """
    poses = np.stack([view.T_world_camera for view in scene.views])
    if kind == "auto":
        forward = poses[:, :3, 2].mean(0)
        together = (poses[:, :3, 2] @ forward / np.linalg.norm(forward)).min() > 0.5
        known = scene.box is not None or scene.points is not None
        kind = "ndc" if together and not known and scene.depths is not None else "box"
    if kind == "ndc":
        return _ndc_of(scene, poses)
    if kind != "box":
        raise DatasetError(f"There is no space {kind!r}", "Use box, ndc or auto")
    if scene.box is not None:
        return Space(torch.from_numpy(scene.box).float())
    points = scene.points if scene.points is not None else _far_points(scene, poses)
    low, high = np.percentile(points, [0.5, 99.5], axis=0)
    return Space(torch.from_numpy(np.stack([low, high]) + 0.02 * (high - low) * [[-1], [1]]).float())


def _far_points(scene: Scene, poses: Float64[np.ndarray, "v 4 4"]) -> np.ndarray:
    """Corners of what the cameras see; without depths, a ball around where they look."""
    if scene.depths is None:
        return _looked_at(poses)
    found = []
    for view, (near, far) in zip(scene.views, scene.depths, strict=True):
        K, (width, height) = view.camera.K, (view.camera.width, view.camera.height)
        corners = np.array([[u, v, 1] for u in (0, width / 2, width) for v in (0, height / 2, height)], float)
        directions = corners @ np.linalg.inv(K).T
        for depth in (near, far):
            found.append(directions * depth @ view.T_world_camera[:3, :3].T + view.T_world_camera[:3, 3])
    return np.concatenate(found)


def _looked_at(poses: Float64[np.ndarray, "v 4 4"]) -> np.ndarray:
    """A cube around the point nearest to all optical axes, as large as the cameras' mean distance from it."""
    eyes, ways = poses[:, :3, 3], poses[:, :3, 2]
    across = np.eye(3) - ways[:, :, None] * ways[:, None, :]
    total = across.sum(0)
    if np.linalg.cond(total) > 1e4:
        raise DatasetError(
            "The cameras look the same way, and nothing says how far they see",
            "Name a box: --set images.box=[x0,y0,z0,x1,y1,z1], metres in the frame of the poses",
        )
    centre = np.linalg.solve(total, np.einsum("vij,vj->i", across, eyes))
    radius = np.linalg.norm(eyes - centre, axis=1).mean()
    return centre + radius * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])


def _ndc_of(scene: Scene, poses: Float64[np.ndarray, "v 4 4"]) -> Space:
    """NDC of the mean camera; the box that its cameras' rays fill."""
    reference = np.eye(4)
    forward = poses[:, :3, 2].mean(0)
    forward /= np.linalg.norm(forward)
    right = poses[:, :3, 0].mean(0)
    right -= right @ forward * forward
    right /= np.linalg.norm(right)
    reference[:3, :3] = np.column_stack([right, np.cross(forward, right), forward])
    reference[:3, 3] = poses[:, :3, 3].mean(0)
    camera = scene.views[0].camera
    half = (float(camera.width / 2 / camera.K[0, 0]), float(camera.height / 2 / camera.K[1, 1]))
    ahead = float(((poses[:, :3, 3] - reference[:3, 3]) @ forward).max())
    near = float(scene.depths.min()) if scene.depths is not None else 1.0
    ndc = Ndc(reference.astype(np.float32), half, max(0.75 * near, 1.05 * ahead, 1e-3))
    ends = []
    for view in scene.views:
        rays = camera_rays(_corners(view.camera), view.T_world_camera, ndc)  # straight lines stay straight
        o, d = rays.origins, rays.directions
        ends += [o, o + (1 - o[:, 2:]) / d[:, 2:] * d]
    all_ends = torch.cat(ends)
    low, high = all_ends.amin(0), all_ends.amax(0)
    low[2], high[2] = -1.0, 1.0
    return Space(torch.stack([low, high]).float(), ndc)


def _corners(camera: Camera) -> Camera:
    """A camera of 2 x 2 pixels, those at the picture's corners."""
    K = camera.K.copy()
    K[:2] /= [[camera.width - 1], [camera.height - 1]]
    return replace(camera, width=2, height=2, K=K)


def _smaller(view: View, factor: float) -> View:
    camera = view.camera
    width, height = round(camera.width / factor), round(camera.height / factor)
    scale = np.array([width / camera.width, height / camera.height])
    K = camera.K.copy()
    K[:2, :2] *= scale[:, None]
    K[:2, 2] = (K[:2, 2] + 0.5) * scale - 0.5  # pixels have their centres at whole numbers
    image = cv2.resize(view.image, (width, height), interpolation=cv2.INTER_AREA)
    return replace(view, camera=replace(camera, width=width, height=height, K=K), image=image)


def class_masks(masks: dict[str, np.ndarray], classes: Sequence[str]) -> Int32[np.ndarray, "h w"]:
    """One image of classes from a mask (bool) a class; UNLABELLED where none or several are."""
    stack = np.stack([masks[name] for name in classes])
    return np.where(stack.sum(0) == 1, stack.argmax(0), UNLABELLED).astype(np.int32)
