"""The command line: every command has help, known errors are one line, and the ROS-free ones run without rclpy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer.testing
from typer.main import get_command

from ov3d_perception import __version__
from ov3d_perception.cli import app
from ov3d_perception.cli.former import FORMER, renewed


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ov3d_perception.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd)


def commands(command, name: tuple[str, ...] = ()):  # type: ignore[no-untyped-def]
    """(name, command) of all commands, groups included."""
    yield name, command
    for child, nested in getattr(command, "commands", {}).items():
        yield from commands(nested, (*name, child))


ALL = dict(commands(get_command(app)))


@pytest.mark.parametrize("name", list(ALL), ids=" ".join)
def test_every_command_explains_itself_and_each_of_its_options(name: tuple[str, ...]) -> None:
    command = ALL[name]
    assert command.help and command.help.strip().endswith((".", "?")), "a sentence that says what it does"
    assert [parameter.name for parameter in command.params if not getattr(parameter, "help", None)] == []
    result = typer.testing.CliRunner().invoke(app, [*name, "--help"])
    assert result.exit_code == 0
    assert command.help.split()[0] in result.output


def test_groups_tell_what_a_file_holds_by_one_word() -> None:
    groups = [name for name, command in ALL.items() if hasattr(command, "commands") and name]
    assert {("bag",), ("map",), ("bank",), ("checkpoint",)} <= set(groups)
    assert all((*group, "info") in ALL for group in groups if group[0] in ("bag", "map", "bank", "checkpoint"))


@pytest.mark.parametrize(("before", "now"), FORMER.items(), ids=lambda words: " ".join(words))
def test_a_former_name_works_and_says_the_new_one(
    before: tuple[str, ...], now: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert before not in ALL and now in ALL
    assert renewed([*before, "a.yaml", "--out", "b"]) == [*now, "a.yaml", "--out", "b"]
    assert f"`ov3d {' '.join(before)}` is now `ov3d {' '.join(now)}`" in capsys.readouterr().err
    assert renewed([*now, "a.yaml"]) == [*now, "a.yaml"] and not capsys.readouterr().err


def test_a_former_name_from_the_shell(tmp_path: Path) -> None:
    before, now = (run(*name, str(tmp_path / "none")) for name in (("show",), ("checkpoint", "info")))
    assert before.returncode == now.returncode == 2
    assert before.stderr.splitlines()[1:] == now.stderr.splitlines()


def test_version() -> None:
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"ov3d_perception {__version__}\n")


def test_help_needs_neither_torch_nor_ros() -> None:
    code = "import sys, ov3d_perception.cli; print({'torch', 'rclpy', 'cv2'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"


def test_a_known_error_is_one_line_with_its_remedy(tmp_path: Path) -> None:
    result = run("bag", "info", str(tmp_path / "nowhere"))
    assert result.returncode == 2
    assert result.stderr.startswith("ov3d: There is no bag at")
    assert "Traceback" not in result.stderr


def test_a_checkpoint_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    result = run("checkpoint", "info", str(tmp_path / "x.safetensors"))
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "x.safetensors" in result.stderr


def test_option_without_equals_is_refused(tmp_path: Path) -> None:
    result = run("evaluate", str(tmp_path / "x"), "--dataset", "bag", "--set", "sweeps")
    assert result.returncode == 2
    assert "name=value" in result.stderr
