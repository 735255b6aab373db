"""Every ``ov3d ...`` and ``ros2 launch ...`` line of the README and the docs is one that the program takes."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from ov3d_perception.cli import app
from ov3d_perception.ros.tools.systems import SHORT

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "models").glob("*.md")])

LAUNCH = "ros2 launch ov3d_perception "
_FENCED = re.compile(r"^```(?:sh|bash|console)?\n(.*?)^```", re.M | re.S)
_INLINE = re.compile(r"`((?:ov3d|ros2 launch ov3d_perception) [^`]+)`")


def commands(text: str) -> Iterator[str]:
    """``ov3d`` and ``ros2 launch`` command lines without comments and line continuations.

    A name alone in backticks (`ov3d bag`), a placeholder (...) and alternatives in braces are prose, not commands.
    """
    blocks = [block.replace("\\\n", " ") for block in _FENCED.findall(text)]
    lines = [line for block in blocks for line in block.splitlines()]
    lines += [line.rpartition("# or: ")[2] for line in lines if "# or: " in line]
    inline = [" ".join(found.split()) for found in _INLINE.findall(re.sub(_FENCED, "", text))]
    lines += [line for line in inline if " -" in line or ".launch.py" in line]
    for line in lines:
        line = re.sub(r"\s+#.*$", "", line).strip().removeprefix("$ ").removesuffix("&").strip()
        line = re.sub(r"^(?:[A-Z_0-9]+=\S+ )*(?:\.venv/bin/)?", "", line)
        if line.startswith(("ov3d ", LAUNCH)) and "..." not in line and "{" not in line and "|" not in line:
            yield line


def documented() -> list[tuple[str, str]]:
    return [(page.name, line) for page in PAGES for line in commands(page.read_text())]


def take(line: str) -> None:
    """Parse a command line as ``ov3d`` would, without running the command. Raises ValueError where it would refuse.

    Typer brings a click of its own in some versions, so groups and refusals are known by what they have.
    """
    if line.startswith(LAUNCH):
        return take_launch(*shlex.split(line.removeprefix(LAUNCH)))
    command, name, words = get_command(app), "ov3d", shlex.split(line)[1:]
    while hasattr(command, "commands"):
        if not words or words[0] not in command.commands:
            raise ValueError(f"{name} has no command {words[:1]}")
        command, name, words = command.commands[words[0]], f"{name} {words[0]}", words[1:]
    try:
        values = command.make_context(name, words).params.values()
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        raise ValueError(f"{line}: {error.format_message()}") from error
    shipped = [str(value) for value in values if str(value).startswith(("config/", "models/"))]
    if missing := [path for path in shipped if not (ROOT / path).exists()]:
        raise ValueError(f"{line}: {missing}, given or by default, is not shipped")


def take_launch(file: str, *settings: str) -> None:
    """The launch file exists, declares each argument that is set, and every argument it requires is set."""
    tree = ast.parse((ROOT / "launch" / file).read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    declared = {
        call.args[0].value: any(keyword.arg == "default_value" for keyword in call.keywords)
        for call in calls
        if call.func.id == "DeclareLaunchArgument" and isinstance(call.args[0], ast.Constant)
    }
    known = {"points", *SHORT, *declared}
    given = {setting.partition(":=")[0] for setting in settings}
    if unknown := {name for name in given - known if "." not in name}:
        raise ValueError(f"{file} has no argument {sorted(unknown)}")
    if missing := {name for name, optional in declared.items() if not optional} - given:
        raise ValueError(f"{file} requires {sorted(missing)}")


@pytest.mark.parametrize(("page", "line"), documented(), ids=[f"{page}: {line}" for page, line in documented()])
def test_the_program_takes_what_the_page_says(page: str, line: str) -> None:
    take(line)


def test_pages_are_read() -> None:
    pages = {page for page, _ in documented()}
    assert {"README.md", "training.md", "bags.md", "maps.md", "nodes.md"} <= pages


@pytest.mark.parametrize(
    "line",
    [
        "ov3d bag record",
        "ov3d bag repeat drive",
        "ov3d query car --nearset",
        "ov3d show models/street.safetensors",
        "ov3d train config/train/street.yaml --out runs/street",
        f"{LAUNCH}record.launch.py",
        f"{LAUNCH}lidar.launch.py cloud:=/points",
    ],
)
def test_a_wrong_line_is_noticed(line: str) -> None:
    with pytest.raises(ValueError):
        take(line)
