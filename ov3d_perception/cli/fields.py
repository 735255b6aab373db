"""``ov3d field``: posed images into a radiance field that knows words, and that into views, masks and maps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ov3d_perception.cli.common import TRAINING, Limit, Negatives, Text, Words

group = typer.Typer(no_args_is_help=True, help="Radiance fields of posed images: train, evaluate, render, ask, export.")

ScenePath = Annotated[
    Path, typer.Argument(help="poses_bounds.npy, transforms.json, COLMAP, 7-Scenes: their folder; or a bag")
]
FieldPath = Annotated[Path, typer.Argument(help="A field (field.safetensors)")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1: of the encoder and of the field's training")]
Camera = Annotated[list[str] | None, typer.Option(help="A bag's camera, by namespace or topic; default: its first")]


def register(app: typer.Typer) -> None:
    """Add the group to ``ov3d``."""
    app.add_typer(group, name="field", rich_help_panel=TRAINING)


@group.command("simulate")
def simulate(
    folder: Annotated[Path, typer.Argument(help="The folder to write, in 3D-OVS's format")],
    seed: Annotated[int, typer.Option(min=0, help="Which things, where, in what light")] = 0,
    views: Annotated[int, typer.Option(min=1, help="Pictures")] = 25,
    all_round: Annotated[bool, typer.Option(help="The camera goes around the things")] = False,
) -> None:
    """Write a small simulated scene with masks of five test views."""
    from ov3d_perception.fields.sources.simulated import write_still_life

    write_still_life(folder, seed, views, all_round=all_round)
    print(f"{folder}: {views} images, {(folder / 'segmentations' / 'classes.txt').read_text().split(chr(10))[:-1]}")


@group.command("train")
def train(
    scene: ScenePath,
    out: Annotated[Path, typer.Option(help="The run's folder")],
    recipe: Annotated[Path, typer.Option(help="A YAML file of config/field")] = Path("config/field/small.yaml"),
    word: Annotated[list[str] | None, typer.Option(help="A class, once for each; default: the scene's own")] = None,
    override: Annotated[list[str] | None, typer.Option("--set", help="section.field=value, in YAML")] = None,
    camera: Camera = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option(help="Go on where the run in --out stopped")] = False,
) -> None:
    """Reconstruct a scene, then teach it words (3D-OVS). No labels are used."""
    from ov3d_perception.fields.recipe import load_recipe
    from ov3d_perception.fields.run import FIELD, open_models
    from ov3d_perception.fields.run import train as run
    from ov3d_perception.fields.sources import load_scene

    loaded = load_recipe(recipe, override or [])
    posed = load_scene(scene, tuple(camera or ()))
    result = run(posed, loaded, out, word or (), open_models(loaded, device), resume)
    figures = ", ".join(f"{name} {value:.1f}" for name, value in result.figures.items())
    print(f"{out / FIELD}: {', '.join(result.words)}; {figures}")


@group.command("evaluate")
def evaluate(
    field: FieldPath,
    scene: ScenePath,
    out: Annotated[Path | None, typer.Option(help="Folder for evaluation.json, evaluation.md and pictures")] = None,
    teacher: Annotated[bool, typer.Option(help="Score the image teacher alone, too")] = True,
) -> None:
    """mIoU, accuracy and mAP over the views with masks, and PSNR."""
    from ov3d_perception.fields.evaluate import evaluate as score
    from ov3d_perception.fields.field_file import load_field
    from ov3d_perception.fields.sources import load_scene
    from ov3d_perception.language.encoder import load_encoder

    content = load_field(field)
    encoder = None
    if teacher:
        model, _, pretrained = content.recipe["words"]["encoder"].partition(",")
        encoder = load_encoder(model, pretrained or None)
    result = score(content, load_scene(scene), encoder, None if out is None else out / "pictures")
    print(result.to_markdown())
    if out is not None:
        result.write(out)


@group.command("ablate")
def ablate(
    scenes: Annotated[list[Path], typer.Argument(help="Scenes with masks, each a folder as of train")],
    out: Annotated[Path, typer.Option(help="Folder of all runs and of the table")],
    table: Annotated[str, typer.Option(help="table2, table4 or quick")] = "table2",
    tables: Annotated[str, typer.Option(help="The file of tables")] = "config/field/tables.yaml",
    recipe: Annotated[Path, typer.Option(help="A YAML file of config/field")] = Path("config/field/small.yaml"),
    row: Annotated[list[str] | None, typer.Option(help="Only this row, by name; may be given several times")] = None,
    override: Annotated[list[str] | None, typer.Option("--set", help="section.field=value, in YAML")] = None,
    device: Device = "auto",
) -> None:
    """Repeat a table of 3D-OVS on scenes: mean and spread over them. Goes on where it was killed."""
    from ov3d_perception.evaluation.tables import load_table, to_markdown
    from ov3d_perception.fields.ablate import ablate as repeat
    from ov3d_perception.fields.recipe import load_recipe
    from ov3d_perception.fields.run import open_models
    from ov3d_perception.fields.sources import load_scene
    from ov3d_perception.paths import shipped

    chosen = load_table(Path(shipped(tables)), table)
    loaded = load_recipe(recipe, override or [])
    found = repeat([load_scene(scene) for scene in scenes], loaded, chosen, out, row or (), open_models(loaded, device))
    print(to_markdown(found))


@group.command("render")
def render(
    field: FieldPath,
    scene: ScenePath,
    out: Annotated[Path, typer.Option(help="Folder for the pictures")],
    word: Annotated[list[str] | None, typer.Option(help="Draw how much each place is like this word")] = None,
    text: Annotated[str, typer.Option(help="Text bank (.npz) or model with a text tower; default: the field's")] = "",
    every: Annotated[int, typer.Option(min=1, help="Each n-th view")] = 4,
    camera: Camera = None,
) -> None:
    """Draw views: photograph, rendering, depth, classes, and words."""
    from ov3d_perception.fields.draw import draw_views
    from ov3d_perception.fields.field_file import load_field
    from ov3d_perception.fields.sources import load_scene

    count = draw_views(load_field(field), load_scene(scene, tuple(camera or ())), out, word or (), text, every)
    print(f"{out}: {count} pictures")


@group.command("export")
def export(
    field: FieldPath,
    scene: ScenePath,
    out: Annotated[Path, typer.Option("--map", help="The .ov3dmap file to write; ov3d map query asks it")],
    voxel: Annotated[float, typer.Option(min=0.001, help="Edge of the map's voxels, metres")] = 0.1,
    text: Annotated[str, typer.Option(help="Text bank (.npz) to save with it; default: the field's words")] = "",
    like: Annotated[Path | None, typer.Option(help="A map file that it shall be merged with: its basis")] = None,
    camera: Camera = None,
) -> None:
    """Write what the field's views see into a semantic map."""
    from ov3d_perception.fields.export import export_map
    from ov3d_perception.fields.field_file import load_field
    from ov3d_perception.fields.sources import load_scene

    print(export_map(load_field(field), load_scene(scene, tuple(camera or ())), out, voxel, text, like))


@group.command("query")
def query(
    field: FieldPath,
    scene: ScenePath,
    words: Words,
    negative: Negatives = None,
    limit: Limit = 10,
    voxel: Annotated[float, typer.Option(min=0.001, help="Edge of the voxels that answer, metres")] = 0.1,
    text: Text = "",
    camera: Camera = None,
) -> None:
    """Ask a field: where is a ...?"""
    from ov3d_perception.fields.field_file import load_field
    from ov3d_perception.fields.sources import load_scene
    from ov3d_perception.fields.to_map import map_of
    from ov3d_perception.language.text import load_text_source
    from ov3d_perception.map_tool import describe
    from ov3d_perception.mapping.query import TextQuery

    source = load_text_source(text) if text else None
    session = map_of(load_field(field), load_scene(scene, tuple(camera or ())), voxel, source)
    answer = session.ask(TextQuery(words, tuple(negative or ()), limit=limit))
    print(describe(answer))
    raise typer.Exit(0 if answer.matches else 1)
