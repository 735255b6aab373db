"""The command line: every command has help, known errors are one line, and the ROS-free ones run without rclpy."""

from __future__ import annotations

import inspect
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import typer.models
import typer.testing
from typer.main import get_command

from ov3d_perception import __version__
from ov3d_perception.cli import app
from ov3d_perception.cli.former import FORMER, renewed
from ov3d_perception.language.vocabulary import TextBank
from ov3d_perception.models import shipped_checkpoint
from ov3d_perception.types import EncoderIdentity


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


def numbers(name: tuple[str, ...]) -> dict[str, typer.models.ParameterInfo]:
    """What is said of each number that a command takes, but for coordinates, which come in threes."""
    hints = get_type_hints(inspect.unwrap(ALL[name].callback), include_extras=True)
    found = {}
    for parameter, hint in hints.items():
        kind, *extra = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if {int, float} & {kind, *(get_args(kind) if get_origin(kind) is not tuple else ())}:
            found[parameter] = next(one for one in extra if isinstance(one, typer.models.ParameterInfo))
    return found


@pytest.mark.parametrize("name", [name for name in ALL if ALL[name].callback and name], ids=" ".join)
def test_every_number_has_a_least_value(name: tuple[str, ...]) -> None:
    """No count, length, speed or share of ours is negative: a typing error is told before the work begins."""
    assert [parameter for parameter, info in numbers(name).items() if info.min is None] == []


def test_a_number_below_it_is_refused() -> None:
    assert numbers(("map", "query"))["threshold"].max == 1.0 and len(numbers(("map", "query"))) == 2
    for arguments in (
        ("doctor", "drive", "--frames", "-1"),
        ("map", "merge", "a", "b", "--out", "c", "--max-voxels", "-5"),
        ("map", "from-images", "drive", "--map", "a", "--voxel", "0"),
        ("map", "query", "a", "car", "--limit", "-3"),
        ("map", "query", "a", "car", "--threshold", "2"),
    ):
        result = typer.testing.CliRunner().invoke(app, arguments)
        assert result.exit_code == 2 and f"Invalid value for '{arguments[-2]}'" in result.output, arguments


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


def test_a_file_where_a_folder_is_needed_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    recipe = "config/train/openscene_demo.yaml"
    result = run("train", recipe, "--out", str(tmp_path / "run"), "--set", f"train.root={tmp_path}")
    assert result.returncode == 2 and "run cannot be used here (File exists)" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_path_that_the_file_system_refuses_is_one_line(tmp_path: Path) -> None:
    for command in (("train", "config/train/openscene_demo.yaml", "--out"), ("learn", "--bag", "drive")):
        result = run(*command, f"{tmp_path}/{'n' * 300}")
        assert result.returncode == 2 and "cannot be used here (File name too long)" in result.stderr, result.stderr
        assert "Traceback" not in result.stderr


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """Also where files are written in place: those of a data set, whose tables come last."""
    command = [sys.executable, "-m", "ov3d_perception.cli", "simulate", str(tmp_path / "street")]
    result = subprocess.run(
        [*command, "--nuscenes", "0", "1000", "--seconds", "0.5"],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
    )
    assert result.returncode == 2 and "could not be written (File too large). Free some space" in result.stderr
    assert "Traceback" not in result.stderr


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


def test_what_the_shipped_checkpoint_says() -> None:
    result = run("checkpoint", "info", str(shipped_checkpoint()))
    assert result.returncode == 0, result.stderr
    about = json.loads(result.stdout)
    assert about["arch"] == "MinkUNet14A" and "car" in about["bank"] and len(about["largest_outputs"]) == 25


def test_option_without_equals_is_refused(tmp_path: Path) -> None:
    result = run("evaluate", str(tmp_path / "x"), "--dataset", "bag", "--set", "sweeps")
    assert result.returncode == 2
    assert "name=value" in result.stderr


def test_a_merge_without_a_bank_to_write_does_not_take_the_first_for_it(tmp_path: Path) -> None:
    identity = EncoderIdentity("m", "p", 2)
    site, other = tmp_path / "site.npz", tmp_path / "other.npz"
    TextBank(["car", "our cart"], np.eye(2, dtype=np.float32), identity).save(site)
    TextBank(["car"], np.eye(1, 2, dtype=np.float32), identity).save(other)
    runner = typer.testing.CliRunner()
    assert runner.invoke(app, ["bank", "merge", str(site), str(other)]).exit_code == 2
    assert TextBank.load(site).words == ("car", "our cart")
    for _ in range(2):
        assert runner.invoke(app, ["bank", "merge", str(site), str(site), str(other)]).exit_code == 0
        assert TextBank.load(site).words == ("car", "our cart")
