"""``ov3d checkpoint``: networks in files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ov3d_perception.cli.common import FILES, CheckpointPath, Settings, finish

group = typer.Typer(no_args_is_help=True, help="Networks in files: what they are, and weights of other releases.")


def register(app: typer.Typer) -> None:
    """Add the group to ``ov3d``."""
    app.add_typer(group, name="checkpoint", rich_help_panel=FILES)


@group.command("info")
def info(checkpoint: CheckpointPath) -> None:
    """What a checkpoint says of itself: network, inputs, encoder, recipe, figures."""
    import json

    from ov3d_perception.networks.checkpoint_info import load_info

    print(json.dumps(json.loads(load_info(checkpoint).to_json()), indent=2))


@group.command("import")
def import_(
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
    intensity_scale: Annotated[
        float, typer.Option(min=1e-6, help="Largest intensity in its training: 255 for nuScenes")
    ] = 1.0,
    arch: Annotated[str, typer.Option(help="Default: what the tensors' names and shapes say")] = "",
    prefix: Annotated[str | None, typer.Option(help="Which network, where the file holds several")] = None,
    partial: Annotated[bool, typer.Option(help="Take what fits and say what does not")] = False,
    trust: Annotated[bool, typer.Option(help="Unpickle any class: runs code of the file's maker")] = False,
) -> None:
    """Make a checkpoint of ours from another release's weights; whatever does not fit is named."""
    from ov3d_perception.language.identity import find_identity
    from ov3d_perception.networks.importing import ImportSpec, import_checkpoint

    identity, logit_scale = find_identity(encoder, text)
    names = tuple(name.strip() for name in inputs.split(","))
    spec = ImportSpec(identity, names, voxel_size, logit_scale, arch, intensity_scale, prefix, trust, partial)
    print(import_checkpoint(file, out, spec).to_text())


@group.command("adapt")
def adapt_(
    checkpoint: CheckpointPath,
    root: Annotated[Path, typer.Argument(help="A bag with scans of the LiDAR to adapt to, or a data set's folder")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors checkpoint to write")],
    dataset: Annotated[str, typer.Option(help="A name of docs/datasets.md")] = "bag",
    scans: Annotated[int, typer.Option(min=1, help="How many, spread over the source")] = 50,
    settings: Settings = None,
) -> None:
    """Adapt a network to another LiDAR or site by its scans alone: no images, no labels, a second a scan."""
    from ov3d_perception.datasets.registry import parse_options
    from ov3d_perception.training.adapt import adapt

    count = adapt(checkpoint, dataset, root, out, parse_options(settings or []), scans)
    print(f"{out}: normalised by {count} scan{'s' * (count > 1)} of {root}")


@group.command("calibrate")
def calibrate_(
    checkpoint: CheckpointPath,
    root: Annotated[Path, typer.Argument(help="A bag with scans, or a data set's folder")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors checkpoint to write")],
    dataset: Annotated[str, typer.Option(help="A name of docs/datasets.md")] = "bag",
    scans: Annotated[int, typer.Option(min=2, help="How many, spread over the source")] = 20,
    settings: Settings = None,
) -> None:
    """Measure a network's layers on scans, so that it can run in int8; refuse where that changes its labels."""
    from ov3d_perception.datasets.registry import parse_options
    from ov3d_perception.training.calibrate import calibrate

    found = calibrate(checkpoint, dataset, root, out, parse_options(settings or []), scans)
    print(
        f"{out}: calibrated by {found.scans} scan{'s' * (found.scans > 1)} of {root}; on others, {found.agreement:.2%} "
        "of the labels in int8 are float32's"
    )


@group.command("load")
def load(
    checkpoint: Annotated[
        str, typer.Argument(help="A .safetensors file, or a site's folder; default: the node's")
    ] = "",
    shadow: Annotated[
        int, typer.Option(min=0, help="Compare on so many scans first; refuse where they agree too little")
    ] = 0,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.0, help="Seconds to wait for the LiDAR node")] = 300.0,
) -> None:
    """Swap the running node's network between two scans; its words stay."""
    from ov3d_perception.ros.tools.client import load_checkpoint

    finish(load_checkpoint(checkpoint, shadow, timeout_s))


@group.command("rollback")
def rollback(
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.0, help="Seconds to wait for the LiDAR node")] = 30.0,
) -> None:
    """Bring back the network that the running node had before."""
    from ov3d_perception.ros.tools.client import roll_back

    finish(roll_back(timeout_s))
