"""``ov3d``: one command for the whole project. Every subcommand is a thin call into the room that does the work.

Imports are inside the commands, so that ``ov3d --help`` needs neither PyTorch nor ROS.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ov3d_perception.errors import Ov3dError
from ov3d_perception.training import commands

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
bag_app = typer.Typer(no_args_is_help=True, help="Record, play, inspect and make rosbag2 bags.")
bank_app = typer.Typer(no_args_is_help=True, help="Text banks: embeddings of words, stored for robots without a CLIP.")
app.add_typer(bag_app, name="bag")
map_app = typer.Typer(no_args_is_help=True, help="Maps: save and load the running one; ask, export, merge files.")
app.add_typer(bank_app, name="bank")
app.add_typer(map_app, name="map")
commands.register(app)

MapPath = Annotated[Path, typer.Argument(help="A map file (.ov3dmap)")]
Words = Annotated[str, typer.Option(help="Text bank (.npz) or model with a text tower; default: the bank shipped")]
Background = Annotated[str, typer.Option("--vocabulary", help="Label set: classes, and what words compete with")]


def main() -> None:
    """Entry point: known errors become one line on stderr and exit status 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        app()
    except Ov3dError as error:
        print(f"ov3d: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where pictures, bag and scores go")] = Path("out/demo"),
    seed: Annotated[int, typer.Option(help="Which simulated world; below 2000 were used in training")] = 2002,
    seconds: Annotated[float, typer.Option(help="Length of the drive")] = 12.0,
    rate: Annotated[float, typer.Option(help="Of the live drive; below 1 a slow machine labels more scans")] = 1.0,
) -> None:
    """Simulate a drive, label it live in separate ROS 2 processes, ask the map in words, score and draw it all."""
    from ov3d_perception.ros.tools.demo import run_demo

    raise typer.Exit(run_demo(out, seed, seconds, rate))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def up(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="lidar (lidar_node and map_node), navigation, or one node")] = "lidar",
) -> None:
    """Start the nodes of a launch file where `ros2 launch` does not exist; extra `name:=value` set parameters."""
    from ov3d_perception.ros.tools.up import up as start

    raise typer.Exit(start(name, context.args))


@app.command()
def query(
    words: Annotated[list[str], typer.Argument(help="What to look for")],
    negative: Annotated[list[str] | None, typer.Option(help="What it may be instead")] = None,
    threshold: Annotated[float, typer.Option(help="Probability of a voxel that is sure; 0: the node's default")] = 0.0,
    limit: Annotated[int, typer.Option(help="Most matches a word; 0: all")] = 10,
    nearest: Annotated[bool, typer.Option(help="Nearest first, not best first")] = False,
    position: Annotated[
        tuple[float, float, float], typer.Option(help="Where distances are measured from, m in --frame")
    ] = (0.0, 0.0, 0.0),
    frame: Annotated[str, typer.Option(help="base_link: from the robot; empty: the map's frame")] = "",
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the map node")] = 10.0,
) -> None:
    """Ask the running map: where is a ...?"""
    from ov3d_perception.ros.tools.client import ask, describe

    answer = ask(
        words, negative or [], threshold, limit, timeout, nearest=nearest, position=position, position_frame=frame
    )
    print(describe(answer))
    raise typer.Exit(0 if answer.matches else 1)


@app.command()
def vocabulary(
    words: Annotated[list[str], typer.Argument(help="The classes to label with from the next scan on")],
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the LiDAR node")] = 10.0,
) -> None:
    """Change the words that the running LiDAR node labels with."""
    from ov3d_perception.ros.tools.client import set_vocabulary

    answer = set_vocabulary(words, timeout=timeout)
    print(answer.message)
    raise typer.Exit(0 if answer.success else 1)


@app.command()
def view(
    save: Annotated[Path | None, typer.Option(help="Write an .rrd instead of opening the viewer")] = None,
    seconds: Annotated[float, typer.Option(help="Stop after that long; 0: at Ctrl-C")] = 0.0,
) -> None:
    """Show the running nodes in Rerun: labelled scans, the map, the mask; type words to see where they are."""
    from ov3d_perception.ros.tools.view import view as show_live

    raise typer.Exit(show_live(save, seconds))


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="The bag, or the data set's folder, to write")],
    seed: Annotated[int, typer.Option(help="Which world")] = 2000,
    seconds: Annotated[float, typer.Option(help="Length of the drive")] = 12.0,
    image_every: Annotated[int, typer.Option(help="Render the cameras at every n-th scan")] = 1,
    nuscenes: Annotated[
        tuple[str, str] | None, typer.Option(help="nuScenes' format; training and validation seeds: 0-7 1000-1001")
    ] = None,
) -> None:
    """Drive through a simulated street and write a standard bag, with ground truth for each point."""
    if nuscenes:
        from ov3d_perception.datasets.simulated_nuscenes import write_street

        print(write_street(out, *nuscenes, seconds=seconds))
        return
    from ov3d_perception.sim.bag import write_drive
    from ov3d_perception.sim.drive import simulate as drive

    write_drive(out, drive(seed, seconds, image_every=image_every))
    print(out)


@app.command()
def show(checkpoint: Annotated[Path, typer.Argument(help="A .safetensors checkpoint of ours")]) -> None:
    """What a checkpoint says of itself: network, inputs, encoder, recipe, figures."""
    import json
    from dataclasses import asdict

    from ov3d_perception.networks.checkpoint import load_checkpoint

    _, info = load_checkpoint(checkpoint)
    print(json.dumps(asdict(info), indent=2))


@app.command("import-checkpoint")
def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="Weights of OpenScene, GGSD, SLidR or CLIP2Scene, or with their names")],
    out: Annotated[Path, typer.Argument(help="The .safetensors checkpoint to write")],
    encoder: Annotated[
        str,
        typer.Option(
            help="Whose features it learned, as open_clip names it: ViT-L-14-336-quickgelu,openai for OpenScene's and "
            "GGSD's 768 dimensions, ViT-B-32-quickgelu,openai for their 512 (LSeg), ViT-B-16-quickgelu,openai for "
            "CLIP2Scene; none for SLidR"
        ),
    ] = "",
    text: Annotated[str, typer.Option(help="Or a text bank (.npz) or model of that encoder, which says it")] = "",
    inputs: Annotated[str, typer.Option(help="One for each input channel")] = "ones,ones,ones",
    voxel_size: Annotated[float | None, typer.Option(min=0.001, help="Metres; default: what the file says")] = None,
    intensity_scale: Annotated[float, typer.Option(help="Largest intensity in its training: 255 for nuScenes")] = 1.0,
    arch: Annotated[str, typer.Option(help="Default: what the tensors' names and shapes say")] = "",
    prefix: Annotated[str | None, typer.Option(help="Which network, where the file holds several")] = None,
    partial: Annotated[bool, typer.Option(help="Take what fits and say what does not")] = False,
    trust: Annotated[bool, typer.Option(help="Unpickle any class: runs code of the file's maker")] = False,
) -> None:
    """Make a checkpoint of ours from another release's weights; whatever does not fit is named."""
    from ov3d_perception.language.identity import find_identity
    from ov3d_perception.networks.importing import ImportSpec
    from ov3d_perception.networks.importing import import_checkpoint as run

    identity, logit_scale = find_identity(encoder, text)
    names = tuple(name.strip() for name in inputs.split(","))
    spec = ImportSpec(identity, names, voxel_size, logit_scale, arch, intensity_scale, prefix, trust, partial)
    print(run(file, out, spec).to_text())


@bag_app.command("info")
def bag_info(path: Annotated[Path, typer.Argument(help="Bag folder or file")]) -> None:
    """Topics, counts, rates and length of a bag; of a damaged one, what is readable."""
    from ov3d_perception.bags.info import info

    print(info(path))


@bag_app.command("repair")
def bag_repair(path: Path, out: Path) -> None:
    """Copy what is readable of a truncated bag into a new one."""
    from ov3d_perception.bags.salvage import repair

    print(repair(path, out))


@bag_app.command("from-semantickitti")
def bag_from_semantickitti(
    root: Annotated[Path, typer.Argument(help="Folder that holds `sequences`")],
    sequence: Annotated[str, typer.Argument(help="Two digits, such as 08")],
    out: Annotated[Path, typer.Argument(help="The bag to write")],
    jpeg: Annotated[bool, typer.Option(help="Smaller images")] = False,
) -> None:
    """A SemanticKITTI sequence becomes a standard bag with images, camera_info and tf."""
    from ov3d_perception.datasets.semantickitti_bag import from_semantickitti

    print(from_semantickitti(root, sequence, out, image_format="jpeg" if jpeg else "png"))


@bag_app.command("play")
def bag_play(
    path: Annotated[Path, typer.Argument(help="Bag folder or file")],
    rate: Annotated[float, typer.Option(help="Speed; 1 is real time")] = 1.0,
    loop: Annotated[bool, typer.Option(help="Start again at the end, with later stamps")] = False,
    seconds: Annotated[float, typer.Option(help="Stop after that long; 0: at the end")] = 0.0,
    topic: Annotated[list[str] | None, typer.Option(help="Only these topics")] = None,
    clock: Annotated[bool, typer.Option(help="Publish /clock")] = True,
    wait_for: Annotated[list[str] | None, typer.Option(help="Wait until these topics have a subscriber")] = None,
) -> None:
    """Publish a bag's messages."""
    from ov3d_perception.ros.tools.bag_player import play

    raise typer.Exit(
        play(path, rate=rate, loop=loop, seconds=seconds, topics=topic, clock=clock, wait_for=wait_for or [])
    )


@bag_app.command("record")
def bag_record(
    out: Annotated[Path, typer.Argument(help="The bag to write")],
    topic: Annotated[list[str] | None, typer.Option(help="Topics or patterns; default: what training needs")] = None,
) -> None:
    """Record what training needs: points, images, camera_info, tf, odom. Ctrl-C ends it; the bag is always closed."""
    from ov3d_perception.ros.tools.bag_recorder import record

    raise typer.Exit(record(out, topics=topic))


@bank_app.command("make")
def bank_make(
    out: Annotated[Path, typer.Argument(help="The .npz to write")],
    model: Annotated[str, typer.Option(help="open_clip model name, or a model folder")],
    words: Annotated[list[str], typer.Argument(help="Words to store")],
    pretrained: Annotated[str | None, typer.Option(help="open_clip tag, or weights file")] = None,
) -> None:
    """Embed words once, with the text tower, for robots that have none."""
    from ov3d_perception.language.encoder import load_encoder
    from ov3d_perception.language.vocabulary import TextBank, TextTower

    tower = TextTower(load_encoder(model, pretrained))
    TextBank(words, tower.embed(words), tower.identity, tower.logit_scale).save(out)
    print(f"{out}: {len(words)} words of {tower.identity}")


@bank_app.command("import")
def bank_import(
    path: Annotated[Path, typer.Argument(help="An .npz of words and embeddings, as published by others")],
    key: Annotated[str, typer.Argument(help="Which embeddings, such as cocostuff171_multi")],
    out: Annotated[Path, typer.Argument(help="The bank to write")],
) -> None:
    """Make a bank of text embeddings that somebody else computed (with OpenAI's CLIP ViT-B/16)."""
    from ov3d_perception.language.vocabulary import TextBank

    bank = TextBank.load(path, key=key)
    bank.save(out)
    print(f"{out}: {len(bank.words)} words of {bank.identity}")


@bank_app.command("show")
def bank_show(path: Path) -> None:
    """Which words a bank knows, and whose embeddings they are."""
    from ov3d_perception.language.vocabulary import TextBank

    bank = TextBank.load(path)
    print(f"{bank.identity}: {', '.join(bank.words)}")


@map_app.command("save")
def map_save(
    path: Annotated[str, typer.Argument(help="Where the node writes to; default: its `map_file`")] = "",
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the map node")] = 120.0,
) -> None:
    """Save the running map, whole or not at all, while it goes on."""
    from ov3d_perception.ros.tools.client import save_map

    _finish(save_map(path, timeout=timeout))


@map_app.command("load")
def map_load(
    path: Annotated[str, typer.Argument(help="What the node reads; default: its `map_file`")] = "",
    merge: Annotated[bool, typer.Option(help="Add to the running map instead of taking its place")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the map node")] = 120.0,
) -> None:
    """Give the running node a saved map."""
    from ov3d_perception.ros.tools.client import load_map

    _finish(load_map(path, merge=merge, timeout=timeout))


@map_app.command("info")
def map_info(path: MapPath) -> None:
    """What a map file says of itself: encoder, network, frame, voxels, bound, dates."""
    from ov3d_perception.mapping.persistence import read_info

    print(read_info(path))


@map_app.command("query")
def map_query(
    path: MapPath,
    words: Annotated[list[str], typer.Argument(help="What to look for")],
    negative: Annotated[list[str] | None, typer.Option(help="What it may be instead")] = None,
    threshold: Annotated[float, typer.Option(help="Probability of a voxel that is sure; 0: the default")] = 0.0,
    limit: Annotated[int, typer.Option(help="Most matches a word; 0: all")] = 10,
    text: Words = "",
    background: Background = "street",
) -> None:
    """Ask a map file: where is a ...?"""
    from ov3d_perception.map_tool import describe, query_file

    matches = query_file(path, words, negative or [], threshold, limit, text, background)
    print(describe(words, matches))
    raise typer.Exit(0 if matches else 1)


@map_app.command("export")
def map_export(
    path: MapPath,
    out: Annotated[Path, typer.Argument(help="The .ply, .pcd (clouds) or .png (seen from above) to write")],
    word: Annotated[list[str] | None, typer.Option(help="Add this word's probability to a cloud, as p_word")] = None,
    text: Words = "",
    background: Background = "street",
) -> None:
    """Make a cloud or a picture of a map file."""
    from ov3d_perception.map_tool import export_file

    count, content = export_file(path, out, word or [], text, background)
    print(f"{out}: {count} voxels, {content}")


@map_app.command("merge")
def map_merge(
    paths: Annotated[list[Path], typer.Argument(help="Map files of one frame, voxel size and network")],
    out: Annotated[Path, typer.Option(help="The map file to write")],
    max_voxels: Annotated[int, typer.Option(help="Bound; 0: the largest of theirs")] = 0,
) -> None:
    """Make one map of several: weighted means, newest stamps."""
    from ov3d_perception.mapping.persistence import merge_maps

    print(merge_maps(paths, out, max_voxels))


def _finish(answer: Any) -> None:
    print(answer.message)
    raise typer.Exit(0 if answer.success else 1)


if __name__ == "__main__":
    main()
