"""``ov3d map``: the running map saved and loaded; map files asked, exported and merged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ov3d_perception.cli.common import (
    FILES,
    Background,
    Limit,
    Nearest,
    Negatives,
    Settings,
    Text,
    Words,
    finish,
    timeout,
)

group = typer.Typer(no_args_is_help=True, help="Maps: save and load the running one; ask, export, merge files.")

MapPath = Annotated[Path, typer.Argument(help="A map file (.ov3dmap)")]


def register(app: typer.Typer) -> None:
    """Add the group to ``ov3d``."""
    app.add_typer(group, name="map", rich_help_panel=FILES)


@group.command("save")
def save(
    path: Annotated[str, typer.Argument(help="Where the node writes to; default: its `map_file`")] = "",
    timeout: Annotated[float, timeout("the map node")] = 120.0,
) -> None:
    """Save the running map, whole or not at all, while it goes on."""
    from ov3d_perception.ros.tools.client import save_map

    finish(save_map(path, timeout=timeout))


@group.command("load")
def load(
    path: Annotated[str, typer.Argument(help="What the node reads; default: its `map_file`")] = "",
    merge: Annotated[bool, typer.Option(help="Add to the running map instead of taking its place")] = False,
    timeout: Annotated[float, timeout("the map node")] = 120.0,
) -> None:
    """Give the running node a saved map."""
    from ov3d_perception.ros.tools.client import load_map

    finish(load_map(path, merge=merge, timeout=timeout))


@group.command("info")
def info(path: MapPath) -> None:
    """What a map file says of itself: encoder, network, frame, voxels, bound, dates."""
    from ov3d_perception.mapping.save_load import read_info

    print(read_info(path))


@group.command("query")
def query(
    path: MapPath,
    words: Words,
    negative: Negatives = None,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Probability of a voxel that is sure; 0: the default")
    ] = 0.0,
    limit: Limit = 10,
    nearest: Nearest = False,
    position: Annotated[
        tuple[float, float, float], typer.Option(help="Where distances are measured from, m in the map's frame")
    ] = (0.0, 0.0, 0.0),
    text: Text = "",
    background: Background = "",
) -> None:
    """Ask a map file: where is a ...?"""
    import numpy as np

    from ov3d_perception.map_tool import describe, query_file
    from ov3d_perception.mapping.query import TextQuery

    query = TextQuery(
        words,
        tuple(negative or ()),
        threshold=threshold or TextQuery.threshold,
        limit=limit,
        position=np.array(position),
        order="nearest" if nearest else "best",
    )
    answer = query_file(path, query, text, background)
    print(describe(answer))
    raise typer.Exit(0 if answer.matches else 1)


@group.command("export")
def export(
    path: MapPath,
    out: Annotated[Path, typer.Argument(help="The .ply, .pcd (clouds) or .png (seen from above) to write")],
    word: Annotated[list[str] | None, typer.Option(help="Add this word's probability to a cloud, as p_word")] = None,
    text: Text = "",
    background: Background = "",
) -> None:
    """Make a cloud or a picture of a map file."""
    from ov3d_perception.map_tool import export_file

    count, content = export_file(path, out, word or [], text, background)
    print(f"{out}: {count} voxels, {content}")


@group.command("from-images")
def from_images(
    root: Annotated[Path, typer.Argument(help="A bag with LiDAR, cameras and TF, or the folder of a data set")],
    out: Annotated[Path, typer.Option("--map", help="The .ov3dmap file to write")],
    recipe: Annotated[Path, typer.Option(help="Whose teacher, words and association are used")] = Path(
        "config/train/ggsd_bag.yaml"
    ),
    dataset: Annotated[str, typer.Option(help="A name of docs/datasets.md")] = "bag",
    voxel: Annotated[float, typer.Option(min=0.001, help="Edge of the map's voxels, metres")] = 0.2,
    frames: Annotated[int, typer.Option(min=0, help="So many scans, evenly spread over the drive; 0: all")] = 0,
    override: Settings = None,
    option: Annotated[list[str] | None, typer.Option("--option", "-o", help="Data set option, name=value")] = None,
) -> None:
    """Map what cameras see where the LiDAR hits, without training a network: features of pixels in voxels."""
    from ov3d_perception.datasets.registry import parse_options
    from ov3d_perception.lift_tool import map_from_images
    from ov3d_perception.recipes.load import load_recipe
    from ov3d_perception.recipes.specs import SourceSpec

    loaded = load_recipe(recipe, override or [])
    source = SourceSpec(dataset, str(root), parse_options(option or []))
    print(map_from_images(loaded, source, out, voxel, frames))


@group.command("merge")
def merge(
    paths: Annotated[list[Path], typer.Argument(help="Map files of one frame, voxel size and network")],
    out: Annotated[Path, typer.Option(help="The map file to write")],
    max_voxels: Annotated[int, typer.Option(min=0, help="Bound; 0: the largest of theirs")] = 0,
) -> None:
    """Make one map of several: weighted means, newest stamps."""
    from ov3d_perception.mapping.save_load import merge_maps

    print(merge_maps(paths, out, max_voxels))
