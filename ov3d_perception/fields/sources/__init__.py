"""Posed images in the formats that others write; what is at a path says which it is."""

from __future__ import annotations

from pathlib import Path

from ov3d_perception.errors import DatasetError
from ov3d_perception.fields.scene import Scene

FORMATS = "poses_bounds.npy (LLFF, 3D-OVS), transforms.json (nerfstudio), a COLMAP model (sparse/0), frame-*.pose.txt \
(7-Scenes), or a bag"


def load_scene(path: Path | str, topics: tuple[str, ...] = ()) -> Scene:
    """The scene at a path. topics: of a bag's cameras, the first found where empty.

    Raises DatasetError, and for a bag BagError, CalibrationError and TransformError.
    """
    folder = Path(path).expanduser()
    if not folder.exists():
        raise DatasetError(f"There is no {folder}", f"Name a folder with {FORMATS}")
    if (folder / "transforms.json").is_file():
        from ov3d_perception.fields.sources.nerfstudio import load_transforms

        return load_transforms(folder)
    if (folder / "poses_bounds.npy").is_file():
        from ov3d_perception.fields.sources.llff import load_llff

        return load_llff(folder)
    if any(folder.glob("frame-*.pose.txt")):
        from ov3d_perception.fields.sources.seven_scenes import load_seven_scenes

        return load_seven_scenes(folder)
    from ov3d_perception.fields.sources import colmap

    model = colmap.find_model(folder)
    if model is not None:
        return colmap.load_colmap(folder, model)
    if folder.suffix in (".mcap", ".db3", ".bag") or (folder / "metadata.yaml").is_file():
        from ov3d_perception.fields.sources.bag import load_bag

        return load_bag(folder, topics)
    raise DatasetError(f"{folder} holds no posed images", f"Name a folder with {FORMATS}")
