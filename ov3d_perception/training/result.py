"""The figures of an evaluation, as JSON and as Markdown."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ov3d_perception.training.metrics import Scores


@dataclass(frozen=True)
class Result:
    """Scores of each mode over one source, and what they were computed from (``about``)."""

    modes: dict[str, Scores]
    about: dict[str, Any]

    def to_json(self) -> str:
        """All figures and their origin."""
        return json.dumps({"modes": {k: asdict(v) for k, v in self.modes.items()}, "about": self.about}, indent=2)

    def to_markdown(self) -> str:
        """The same as two tables and a list."""
        lines = ["| mode | mIoU | mAcc | accuracy | points |", "|---|---|---|---|---|"]
        lines += [
            f"| {name} | {s.miou:.3f} | {s.macc:.3f} | {s.accuracy:.3f} | {s.points} |"
            for name, s in self.modes.items()
        ]
        classes = list(dict.fromkeys(c for scores in self.modes.values() for c in scores.iou))
        lines += ["", "| IoU | " + " | ".join(self.modes) + " |", "|---" * (len(self.modes) + 1) + "|"]
        for name in classes:
            cells = [f"{s.iou[name]:.3f}" if name in s.iou else "absent" for s in self.modes.values()]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines += ["", *(f"- {key}: {value}" for key, value in self.about.items())]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> None:
        """``evaluation.json`` and ``evaluation.md`` under ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "evaluation.json").write_text(self.to_json())
        (folder / "evaluation.md").write_text(self.to_markdown())
