"""``ov3d bank``: words in files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ov3d_perception.cli.common import FILES

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
    bank.save(out)
    print(f"{out}: {len(bank.words)} words of {bank.identity}")


@group.command("info")
def info(path: Annotated[Path, typer.Argument(help="A text bank (.npz)")]) -> None:
    """Which words a bank knows, and whose embeddings they are."""
    from ov3d_perception.language.vocabulary import TextBank

    bank = TextBank.load(path)
    print(f"{bank.identity}: {', '.join(bank.words)}")
