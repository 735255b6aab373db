"""What docs/sparse.md says of its nine voxels is so."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from ov3d_perception.sparse.coordinates import CoordinateManager

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/sparse.md").read_text(encoding="utf-8")
VOXELS = [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (3, 0), (4, 0), (4, 1), (5, 1)]


def test_the_code_prints_what_its_comment_says() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    scope: dict[str, object] = {}
    exec(code, scope)
    (said,) = re.findall(r"# .* = (\d+)$", code, re.MULTILINE)
    assert scope["out"].feats[5].item() == float(said) == 5 * 1 + 2 * 10 + 7 * 100  # type: ignore[attr-defined]


def test_the_pairs_of_the_picture() -> None:
    manager = CoordinateManager(torch.tensor([(0, x, 0, z) for x, z in VOXELS]))
    convolution = manager.kernel_map(1, 1, 3)
    pairs = dict(zip(convolution.slots, convolution.pairs(), strict=True))
    left_above = 0 + 3 * (1 + 3 * 2)  # (-1, 0, +1)
    assert [rows.tolist() for rows in pairs[left_above]] == [[3], [5]]
    assert [rows.tolist() for rows in pairs[26 - left_above]] == [[5], [3]]
    halving = manager.kernel_map(1, 2, 2)
    parents = {int(i): int(o) for ins, outs in halving.pairs() for i, o in zip(ins, outs, strict=True)}
    assert [parents[row] for row in range(9)] == [0, 0, 1, 1, 2, 1, 3, 3, 3]


def test_files_it_names_are_all_there_are() -> None:
    table = PAGE[PAGE.index("## Reading order") : PAGE.index("Then the networks")]
    named = {name for name in re.findall(r"`(\w+\.py)`", table)}
    there = {path.name for path in (ROOT / "ov3d_perception/sparse").rglob("*.py")} - {"__init__.py"}
    assert named == there
