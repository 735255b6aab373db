"""``ov3d``: one command for the whole project. Every subcommand is a thin call into the room that does the work.

Imports are inside the commands, so that ``ov3d --help`` needs neither PyTorch nor ROS.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from typing import Annotated

import typer

from ov3d_perception import __version__
from ov3d_perception.cli import (
    bag,
    bank,
    checkpoint,
    doctor,
    fields,
    former,
    learning,
    live,
    maps,
    offline,
    site,
    training,
)
from ov3d_perception.cli.common import Entered
from ov3d_perception.errors import Ov3dError
from ov3d_perception.files import FULL, refused

_UNUSABLE = (
    *(errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM),
    *(errno.EROFS, errno.ENAMETOOLONG),
)
"""Of an OSError about a path that a person gave."""

app = typer.Typer(
    no_args_is_help=True,
    help="Label LiDAR scans live in words, remember them in a map, and train the network on your own bags.",
    pretty_exceptions_enable=False,
)
for group in (live, offline, training, learning):
    group.register(app)
bag.register(app)
doctor.register(app)
maps.register(app)
bank.register(app)
checkpoint.register(app)
site.register(app)
fields.register(app)


def _version(asked: bool) -> None:
    if asked:
        print(f"ov3d_perception {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    robot: Annotated[str, typer.Option(help="Namespace of the robot to start or to talk to", envvar="OV3D_ROBOT")] = "",
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit")
    ] = False,
) -> None:
    """Options of ``ov3d`` itself."""
    if robot:
        os.environ["OV3D_ROBOT"] = robot  # where ros.names looks, also in the programs that a command starts


def main() -> None:
    """Entry point: known errors, full disks, and paths that cannot be what they should be, are a line on stderr; exit
    status 2."""
    Entered.as_process = True
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        app(args=former.renewed(sys.argv[1:]))
    except Ov3dError as error:
        print(f"ov3d: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno in _UNUSABLE:
            print(f"ov3d: {error.filename} cannot be used here ({error.strerror}). Name another path.", file=sys.stderr)
            sys.exit(2)
        if error.errno not in FULL:
            raise
        print(f"ov3d: {refused(error.filename or 'A file', error)}", file=sys.stderr)
        sys.exit(2)
