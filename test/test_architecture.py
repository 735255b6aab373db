"""The arrows between the rooms: the contracts in pyproject.toml hold, and they would notice if they did not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="import-linter is a development tool: pip install '.[dev]'")

ROOT = Path(__file__).resolve().parents[1]


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the package below ``root``."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and its contracts that a test may spoil."""
    root = tmp_path_factory.mktemp("tree")
    ignore = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(ROOT / "ov3d_perception", root / "ov3d_perception", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def test_all_contracts_hold(tree: Path) -> None:
    result = lint_imports(tree)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("geometry/poses.py", "import rclpy", "ROS is known in ros/ alone"),
        ("lifting/pairs.py", "    from sensor_msgs.msg import PointCloud2", "ROS is known in ros/ alone"),
        ("geometry/poses.py", "import ov3d_perception.sparse", "Users of sparse"),
        ("sim/world.py", "import ov3d_perception.networks", "Users of networks"),
        ("types.py", "import ov3d_perception.geometry", "Rooms know only the rooms below them"),
        ("mapping/semantic_map.py", "import ov3d_perception.language.encoder", "The map knows of language"),
    ],
)
def test_a_forbidden_import_is_noticed(tree: Path, module: str, line: str, contract: str) -> None:
    path = tree / "ov3d_perception" / module
    original = path.read_text()
    try:
        guard = "\ndef _spoil():\n" if line.startswith(" ") else "\n"
        path.write_text(original + guard + line + "\n")
        result = lint_imports(tree)
    finally:
        path.write_text(original)
    broken = [row for row in result.stdout.splitlines() if row.endswith("BROKEN")]
    assert result.returncode != 0
    assert any(row.startswith(contract) for row in broken), result.stdout


def test_a_room_without_a_place_is_noticed(tree: Path) -> None:
    room = tree / "ov3d_perception" / "attic"
    room.mkdir()
    try:
        (room / "__init__.py").write_text("")
        result = lint_imports(tree)
    finally:
        shutil.rmtree(room)
    assert result.returncode != 0
    assert "attic" in result.stdout + result.stderr
