"""A field into the semantic map: what each view sees of it becomes an observation of the voxels there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32

from ov3d_perception.errors import CheckpointError, IdentityError
from ov3d_perception.fields.field_file import FieldFile
from ov3d_perception.fields.language_branch import render_words
from ov3d_perception.fields.scene import Scene
from ov3d_perception.language.text import TextSource
from ov3d_perception.language.vocabulary import TextBank
from ov3d_perception.mapping.basis import Basis
from ov3d_perception.mapping.map_words import MapWords
from ov3d_perception.mapping.session import MapSession, MapSettings

_SURE = 0.7
"""Opacity of a ray whose end is a surface."""
_SHARP = 2.0
"""Voxels, or the field's own cells, within which a ray that ends on a surface has the middle half of its opacity."""


@dataclass(frozen=True)
class Seen:
    """Surface points (world, metres) of a view with their narrow features, and where the camera was."""

    points: Float32[np.ndarray, "n 3"]
    features: Float32[np.ndarray, "n k"]
    stamp: int
    sensor: np.ndarray


def map_of(
    content: FieldFile, scene: Scene, voxel_size: float = 0.1, text: TextSource | None = None, like: Basis | None = None
) -> MapSession:
    """A map of what the field's views see, ready to be asked and saved.

    text: words to ask in; None for the field's own. like: the basis of another map, which the features are brought to,
    so that the two can be merged; None for the field's own. Raises IdentityError if it is of another encoder,
    CheckpointError for a field without words, or in which nothing is a surface.
    """
    if content.branch is None or content.identity is None or content.text is None:
        raise CheckpointError("This field knows no words yet", "Train it to the end: ov3d field train --resume")
    own = content.branch.basis.detach().cpu().numpy().astype(np.float32)
    basis = like or Basis(own, content.identity, content.logit_scale)
    if not content.identity.compatible(basis.identity):
        raise IdentityError(
            f"The field's features are of {content.identity}, the map's of {basis.identity}",
            "Train the field with the encoder of that map",
        )
    turn = None if like is None else (own @ np.linalg.pinv(like.weights)).astype(np.float32)
    known = text or TextBank(list(content.words), content.text.numpy(), content.identity, content.logit_scale)
    words = MapWords.of(known, {word: [word] for word in content.words})
    session = MapSession(MapSettings(voxel_size=voxel_size), words)
    session.basis = basis
    for seen in views_of(content, scene, _SHARP * voxel_size):
        features = seen.features if turn is None else seen.features @ turn
        session.integrate(basis.basis_id, voxel_size, seen.points, features, seen.stamp, seen.sensor)
    if session.map is None or not len(session.map):
        raise CheckpointError(
            "No ray of its views ends on a surface: the field is fog",
            "Reconstruct it longer, and look at the depth that ov3d field render draws",
        )
    return session


@torch.no_grad()
def views_of(content: FieldFile, scene: Scene, sharp: float) -> Iterator[Seen]:
    """The surface that each view sees that the field was trained on, pixel by pixel at the size that it was.

    A ray's place is where it has half of its opacity. Rays that collect the middle half of it over more than ``sharp``
    metres, and over more than two cells, end in fog, or on the edge of a thing, and say nothing.
    """
    assert content.branch is not None
    images, weight = content.recipe["images"], content.recipe["segmentation"]["weight"]
    small = scene.thinned(images["views"]).downsampled(images["downsample"])
    for number in small.training:
        view = small.views[number]
        rays = content.space.rays(view.camera, view.T_world_camera).to(content.field.box.device)
        narrow, opacity, t = render_words(content.field, content.branch, rays, weight)
        places = [rays.origins + t[:, q, None] * rays.directions for q in range(3)]
        near, points, far = (content.space.to_world(place) for place in places)
        cells = content.field.cells(places[2]) - content.field.cells(places[0])
        on_surface = ((far - near).norm(dim=1) <= sharp) | (cells.norm(dim=1) <= _SHARP)
        sure = (opacity > _SURE) & on_surface
        stamp = view.stamp or (number + 1) * 1_000_000_000
        yield Seen(points[sure].cpu().numpy(), narrow[sure].cpu().numpy(), stamp, view.T_world_camera[:3, 3])
