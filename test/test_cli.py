"""The command line: every command has help, known errors are one line, and the ROS-free ones run without rclpy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer.testing
from typer.main import get_command

from ov3d_perception.cli import app


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ov3d_perception.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd)


def commands(command, name: tuple[str, ...] = ()):  # type: ignore[no-untyped-def]
    """Names of all commands, groups included."""
    yield name
    for child, nested in getattr(command, "commands", {}).items():
        yield from commands(nested, (*name, child))


@pytest.mark.parametrize("name", list(commands(get_command(app))), ids=" ".join)
def test_every_command_explains_itself(name: tuple[str, ...]) -> None:
    result = typer.testing.CliRunner().invoke(app, [*name, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


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
    result = run("show", str(tmp_path / "x.safetensors"))
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "x.safetensors" in result.stderr


def test_option_without_equals_is_refused(tmp_path: Path) -> None:
    result = run("evaluate", str(tmp_path / "x"), "--dataset", "bag", "-o", "sweeps")
    assert result.returncode == 2
    assert "name=value" in result.stderr
