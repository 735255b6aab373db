"""Fields written as map files."""

from __future__ import annotations

from pathlib import Path

from ov3d_perception.fields.field_file import FieldFile
from ov3d_perception.fields.scene import Scene
from ov3d_perception.fields.to_map import map_of
from ov3d_perception.language.text import load_text_source
from ov3d_perception.mapping.basis import Basis
from ov3d_perception.mapping.save_load import MapInfo, load_map


def export_map(
    content: FieldFile, scene: Scene, out: Path, voxel_size: float = 0.1, text: str = "", like: Path | None = None
) -> MapInfo:
    """Write the map of a field's views; what the file says of itself.

    text: bank or model to ask it with; like: a map file whose basis, voxel size and frame it takes, to be merged with
    it. Raises EncoderError, IdentityError, MapFileError.
    """
    basis = None
    if like is not None:
        other = load_map(like)
        basis, voxel_size = Basis(other.head, other.identity, other.logit_scale), other.voxel_size
    session = map_of(content, scene, voxel_size, load_text_source(text) if text else None, basis)
    return session.save(out)[0]
