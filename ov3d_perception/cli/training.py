"""Commands that train a network and say how good it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ov3d_perception.cli.common import TRAINING, CheckpointPath

Recipe = Annotated[Path, typer.Argument(help="A YAML file of config/train")]
Out = Annotated[Path, typer.Option(help="The run's folder")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="section.field=value, in YAML")]
Modules = Annotated[
    list[str] | None, typer.Option("--module", help="A Python file, or a module, that registers methods of your own")
]
Resume = Annotated[bool, typer.Option(help="Go on where the run in --out stopped")]
Fast = Annotated[bool, typer.Option("--fast-dev-run", help="Two steps and one validated frame")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``ov3d``."""
    for command in (train, finetune, evaluate, ablate, teacher):
        app.command(rich_help_panel=TRAINING)(command)


def train(
    recipe: Recipe,
    out: Out,
    override: Overrides = None,
    module: Modules = None,
    resume: Resume = False,
    fast: Fast = False,
) -> None:
    """Train a sparse 3D network by the recipe's method, from a data set or a bag. No labels are used."""
    from ov3d_perception.recipes.load import load_recipe
    from ov3d_perception.recipes.method_specs import load_module
    from ov3d_perception.training.run import train

    for one in module or ():
        load_module(one)
    print(train(load_recipe(recipe, override or []), out, resume=resume, fast=fast).to_markdown())
    print(f"The network: {out / 'student.safetensors'}")


def finetune(
    recipe: Recipe,
    out: Out,
    split: Annotated[str, typer.Option(help="A name under the recipe's finetune.splits")],
    init: Annotated[Path | None, typer.Option(help="Pre-trained checkpoint; default: random weights")] = None,
    override: Overrides = None,
    resume: Resume = False,
    fast: Fast = False,
) -> None:
    """Train on labels, from a pre-trained checkpoint or from random weights, and evaluate by class."""
    from ov3d_perception.recipes.load import load_recipe
    from ov3d_perception.training.finetune import finetune as run

    loaded = load_recipe(recipe, override or [])
    print(run(loaded, out, split, init, resume=resume, fast=fast).to_markdown())


def ablate(
    recipe: Recipe,
    out: Annotated[Path, typer.Option(help="Folder of all runs and of the table")],
    table: Annotated[str, typer.Option(help="table1 (annotation-free) or table2 (fine-tuned)")] = "table1",
    tables: Annotated[str, typer.Option(help="The file of tables")] = "config/train/clip2scene_tables.yaml",
    seeds: Annotated[str, typer.Option(help="Such as 1-3 or 1,2,3")] = "1,2,3",
    row: Annotated[list[str] | None, typer.Option(help="Only this row, by name; may be given several times")] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Fine-tune on this split only; several times likewise")
    ] = None,
    fold: Annotated[list[str] | None, typer.Option(help="Only this fold of the recipe; several times likewise")] = None,
    override: Overrides = None,
    module: Modules = None,
) -> None:
    """Repeat a paper's table on the recipe's data: mean and spread over seeds. Goes on where it was killed."""
    from ov3d_perception.datasets.splits import parse_seeds
    from ov3d_perception.evaluation.tables import load_table, to_markdown
    from ov3d_perception.paths import shipped
    from ov3d_perception.recipes.load import load_recipe
    from ov3d_perception.recipes.method_specs import load_module
    from ov3d_perception.training.ablate import ablate as repeat

    for one in module or ():
        load_module(one)
    numbers = parse_seeds(seeds)
    chosen = load_table(Path(shipped(tables)), table)
    loaded = load_recipe(recipe, override or [])
    print(to_markdown(repeat(loaded, chosen, out, numbers, row or (), split or (), fold or ())))


def evaluate(
    checkpoint: CheckpointPath,
    dataset: Annotated[
        str, typer.Option(help="A name of docs/datasets.md, such as bag; default: what the recipe validates on")
    ] = "",
    root: Annotated[str, typer.Option(help="Folder of the data set, or the bag")] = "",
    labelset: Annotated[str, typer.Option(help="Classes and prompts; default: the checkpoint's own")] = "",
    text: Annotated[str, typer.Option(help="Text bank (.npz) or model with a text tower; default: the recipe's")] = "",
    teacher: Annotated[bool, typer.Option(help="Score the image teacher's projection on the same points")] = True,
    module: Modules = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", "--option", "-o", help="Data set option, name=value in YAML")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for evaluation.json, evaluation.md and pictures")] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Draw truth and answer of so many frames into --out")] = 0,
) -> None:
    """mIoU, mAcc and per-class IoU of a checkpoint: 3D only, in view and all points, its teacher beside it."""
    from ov3d_perception.datasets.registry import parse_options
    from ov3d_perception.evaluation.checkpoint import evaluate_checkpoint
    from ov3d_perception.recipes.method_specs import load_module

    for one in module or ():
        load_module(one)
    options = parse_options(option or [])
    drawn = (out / "pictures", pictures) if out is not None and pictures > 0 else None
    result = evaluate_checkpoint(
        checkpoint, dataset, root, options, labelset=labelset, text=text, with_teacher=teacher, pictures=drawn
    )
    print(result.to_markdown())
    if out is not None:
        result.write(out)


def teacher(
    recipe: Recipe,
    dataset: Annotated[
        str, typer.Option(help="A name of docs/datasets.md; default: the recipe's training source")
    ] = "",
    root: Annotated[str, typer.Option(help="Folder of the data set, or the bag")] = "",
    rows: Annotated[Path | None, typer.Option(help="YAML of teachers to compare: name: {field: value}")] = None,
    row: Annotated[list[str] | None, typer.Option(help="Only this row, by name; may be given several times")] = None,
    override: Overrides = None,
    option: Annotated[list[str] | None, typer.Option("--option", "-o", help="Data set option, name=value")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for teachers.json, teachers.md and pictures")] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Draw so many images of each teacher into --out")] = 3,
) -> None:
    """What the recipe's image teacher, or several, see on labelled frames or a bag, before anything is trained."""
    from ov3d_perception.datasets.registry import parse_options
    from ov3d_perception.evaluation.teacher_run import compare
    from ov3d_perception.recipes.load import load_recipe
    from ov3d_perception.recipes.specs import SourceSpec

    loaded = load_recipe(recipe, override or [])
    options = parse_options(option or [])
    source = SourceSpec(dataset, root, options) if dataset else None
    print(compare(loaded, source, options, rows, row or (), out, pictures))
