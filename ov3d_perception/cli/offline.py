"""Commands that need no running node: simulate, label."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ov3d_perception.cli.common import OFFLINE, Settings


def register(app: typer.Typer) -> None:
    """Add the commands to ``ov3d``."""
    for command in (label, simulate):
        app.command(rich_help_panel=OFFLINE)(command)


def label(
    path: Annotated[Path, typer.Argument(help="A cloud (.pcd .ply .las .laz .bin .pcd.bin .npy) or a bag")],
    out: Annotated[Path, typer.Option("--out", "-o", help="What to write: .pcd, .ply or .npy; of a bag a bag")],
    words: Annotated[list[str] | None, typer.Argument(help="Classes; default: those of the checkpoint")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Default: the network shipped")] = None,
    text: Annotated[str, typer.Option(help="Text bank (.npz) or model; default: the checkpoint's words")] = "",
    intensity_scale: Annotated[
        float, typer.Option(min=0.0, help="Factor that brings the intensity to 0..1; 0: estimated from the values")
    ] = 0.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    settings: Settings = None,
) -> None:
    """Label a cloud in a file, or every scan of a bag: each point gets one of the words.

    --set names how the bag is read: points=/velodyne_points, fixed_frame=map, every=5, ...
    """
    from ov3d_perception.api import load
    from ov3d_perception.bags.writer import STORAGE
    from ov3d_perception.datasets.registry import parse_options
    from ov3d_perception.label_tool import describe, label_bag, label_file

    perception = load(checkpoint, text or None, device)
    if path.is_dir() or path.suffix in STORAGE:
        options = parse_options(settings or [])
        if intensity_scale:
            options["intensity_scale"] = intensity_scale
        print(describe(label_bag(perception, path, out, words or None, options)))
        return
    if settings:
        raise typer.BadParameter("--set is about how a bag is read, and this is no bag")
    print(describe(label_file(perception, path, out, words or None, intensity_scale or None).counts()))


def simulate(
    out: Annotated[Path, typer.Argument(help="The bag, or the data set's folder, to write")],
    seed: Annotated[int, typer.Option(min=0, help="Which world")] = 2000,
    seconds: Annotated[float, typer.Option(min=0.0, help="Length of the drive")] = 12.0,
    image_every: Annotated[int, typer.Option(min=1, help="Render the cameras at every n-th scan")] = 1,
    robot: Annotated[str, typer.Option(help="car; car64, with KITTI's LiDAR; cart: low, 16 beams")] = "car",
    paint: Annotated[int, typer.Option(min=0, help="Other than 0: the materials of another town")] = 0,
    nuscenes: Annotated[
        tuple[str, str] | None, typer.Option(help="nuScenes' format; training and validation seeds: 0-7 1000-1001")
    ] = None,
    scannet: Annotated[
        tuple[str, str] | None, typer.Option(help="Furnished rooms in ScanNet's format; seeds likewise: 0-7 1000-1001")
    ] = None,
) -> None:
    """Drive through a simulated street and write a standard bag, with ground truth for each point."""
    if scannet:
        from ov3d_perception.datasets.simulated_rooms import write_rooms

        print(write_rooms(out, *scannet))
        return
    if nuscenes:
        from ov3d_perception.datasets.simulated_nuscenes import write_street

        print(write_street(out, *nuscenes, seconds=seconds))
        return
    from ov3d_perception.sim.bag import write_drive
    from ov3d_perception.sim.drive import simulate as drive

    write_drive(out, drive(seed, seconds, image_every=image_every, robot=robot, paint=paint))
    print(out)
