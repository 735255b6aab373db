"""``ov3d bank``: words in files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ov3d_perception.cli.common import FILES, Settings
from ov3d_perception.cli.lists import TakesLists

group = typer.Typer(no_args_is_help=True, help="Text banks: embeddings of words, stored for robots without a CLIP.")


def register(app: typer.Typer) -> None:
    """Add the group to ``ov3d``."""
    app.add_typer(group, name="bank", rich_help_panel=FILES)


@group.command("make")
def make(
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


@group.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="An .npz of words and embeddings, as published by others")],
    key: Annotated[str, typer.Argument(help="Which embeddings, such as cocostuff171_multi")],
    out: Annotated[Path, typer.Argument(help="The bank to write")],
) -> None:
    """Make a bank of text embeddings that somebody else computed (with OpenAI's CLIP ViT-B/16)."""
    from ov3d_perception.language.vocabulary import TextBank

    bank = TextBank.load(path, key=key)
    bank.save(out)
    print(f"{out}: {len(bank.words)} words of {bank.identity}")


@group.command("merge")
def merge(
    out: Annotated[Path, typer.Argument(help="The bank to write")],
    banks: Annotated[list[Path], typer.Argument(help="Banks of one encoder")],
) -> None:
    """Gather the words of several banks; a word that several hold gets the mean of its embeddings."""
    from ov3d_perception.language.vocabulary import TextBank

    bank = TextBank.merged([TextBank.load(path) for path in banks])
    if out.exists() and (lost := [word for word in TextBank.load(out).words if word not in bank]):
        raise typer.BadParameter(
            f"The bank to write comes first, and {out} holds words that the others lack ({', '.join(lost[:5])}): name "
            "another, or name it once more to keep them"
        )
    bank.save(out)
    print(f"{out}: {len(bank.words)} words of {bank.identity}")


@group.command("teach", cls=TakesLists)
def teach(
    word: Annotated[str, typer.Argument(help="What the examples show, as it will be asked for")],
    pictures: Annotated[
        list[str] | None,
        typer.Argument(help="PNG or JPEG files; FILE@left,top,right,bottom is a box in a larger image, in pixels"),
    ] = None,
    bank: Annotated[Path | None, typer.Option(help="Text bank (.npz) to add the word to; default: the shipped")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the bank with the word goes; default: --bank")] = None,
    negatives: Annotated[
        list[str] | None, typer.Option("--not", help="Pictures of other things alone; takes several")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Folder of masks (same names, .png): the thing is where they are not zero")
    ] = None,
    from_map: Annotated[
        tuple[Path, float, float, float] | None,
        typer.Option(help="Learn from a place of a saved map: FILE X Y Z, metres in its frame"),
    ] = None,
    radius: Annotated[float, typer.Option(min=0.0, help="Of the place in the map, metres")] = 0.5,
    box: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Edges of the place in the map, instead of a radius: length width height, metres"),
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="Encode pictures as the image teacher of this checkpoint does")
    ] = None,
    model: Annotated[str, typer.Option(help="Image encoder, where it is not the bank's by name")] = "",
    pretrained: Annotated[str | None, typer.Option(help="Its weights: an open_clip tag, FILE, or TAG:FILE")] = None,
    loudness: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="More finds more, and takes more from other words; 0: 1.5 for pictures and a published CLIP, 0.6 for "
            "another encoder, 0.75 for a map",
        ),
    ] = 0.0,
    replace: Annotated[bool, typer.Option(help="Take the place of what the word means now")] = False,
) -> None:
    """Teach a word by a few pictures of the thing, or by a place of a map; no text tower is needed."""
    from ov3d_perception.language.origin import describe_origin
    from ov3d_perception.language.vocabulary import TextBank
    from ov3d_perception.mapping.place import Place
    from ov3d_perception.models import shipped_bank
    from ov3d_perception.teach_tool import teach_from_map, teach_from_pictures, teacher_spec

    if (from_map is None) == (not pictures):
        raise typer.BadParameter("Give pictures, or --from-map FILE X Y Z")
    written = out or bank
    if written is None:
        raise typer.BadParameter("The shipped bank stays as it is: say where the bank with the word goes, --out")
    known = TextBank.load(bank or shipped_bank())
    if from_map is not None:
        lesson = teach_from_map(known, word, from_map[0], Place(from_map[1:], radius, box), loudness, replace)
    else:
        spec = teacher_spec(known, like, model, pretrained)
        lesson = teach_from_pictures(known, word, pictures or [], spec, negatives or (), masks, loudness, replace)
    lesson.bank.save(written)
    print(f"{written}: {len(lesson.bank)} words\n{describe_origin(word, lesson.bank.origins[word])}\n{lesson}")


@group.command("fit")
def fit(
    recipe: Annotated[Path, typer.Argument(help="Names the image teacher, the classes and words, and the frames")],
    out: Annotated[Path, typer.Argument(help="The bank to write")],
    dataset: Annotated[
        str, typer.Option(help="Other frames: a name of docs/datasets.md; default: the recipe's training source")
    ] = "",
    root: Annotated[str, typer.Option(help="Folder of the data set, or the bag")] = "",
    option: Annotated[list[str] | None, typer.Option("--option", "-o", help="Data set option, name=value")] = None,
    override: Settings = None,
    strength: Annotated[float, typer.Option(min=0.0, help="How far words move; 0 is not at all")] = 0.6,
) -> None:
    """Move the words of a recipe's classes to where its frames show them; no labels are used."""
    from ov3d_perception.datasets.registry import parse_options
    from ov3d_perception.lifting.fit_words import fitted_bank
    from ov3d_perception.recipes.load import load_recipe
    from ov3d_perception.recipes.specs import SourceSpec

    source = SourceSpec(dataset, root, parse_options(option or [])) if dataset else None
    bank, report = fitted_bank(load_recipe(recipe, override or []), source, strength)
    bank.save(out)
    print(f"{report}\n\n{out}: {len(bank)} words of {bank.identity}")


@group.command("info")
def info(path: Annotated[Path, typer.Argument(help="A text bank (.npz)")]) -> None:
    """Which words a bank knows, whose embeddings they are, and what taught words were taught by."""
    from ov3d_perception.language.origin import describe_origin
    from ov3d_perception.language.vocabulary import TextBank

    bank = TextBank.load(path)
    print(f"{bank.identity}: {', '.join(bank.words)}")
    for word, origin in bank.origins.items():
        print(describe_origin(word, origin))
