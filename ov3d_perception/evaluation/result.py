"""The figures of an evaluation, as JSON and as Markdown."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ov3d_perception.evaluation.metrics import Scores
from ov3d_perception.evaluation.unlabelled import Measures
from ov3d_perception.files import write_text


@dataclass(frozen=True)
class Result:
    """Scores of each mode over one source, and what they were computed from (``about``).

    confusion: points by true class (rows) and predicted class (columns, the last for none), of each mode; classes:
    their names; unlabelled: what can be said of a source without labels.
    """

    modes: dict[str, Scores]
    about: dict[str, Any]
    classes: tuple[str, ...] = ()
    confusion: dict[str, list[list[int]]] = field(default_factory=dict)
    unlabelled: Measures | None = None

    def to_json(self) -> str:
        """All figures and their origin."""
        figures = {"modes": {k: asdict(v) for k, v in self.modes.items()}, "about": self.about}
        if self.unlabelled is not None:
            figures["unlabelled"] = asdict(self.unlabelled)
        return json.dumps({**figures, "classes": self.classes, "confusion": self.confusion}, indent=2)

    def to_markdown(self) -> str:
        """The same as tables, as far as there is something to put in, and a list."""
        lines = ["| mode | mIoU | mAcc | accuracy | points |", "|---|---|---|---|---|"] if self.modes else []
        lines += [
            f"| {name} | {s.miou:.3f} | {s.macc:.3f} | {s.accuracy:.3f} | {s.points} |"
            for name, s in self.modes.items()
        ]
        classes = list(dict.fromkeys(c for scores in self.modes.values() for c in scores.iou))
        if classes:
            lines += ["", "| IoU | " + " | ".join(self.modes) + " |", "|---" * (len(self.modes) + 1) + "|"]
        for name in classes:
            cells = [f"{s.iou[name]:.3f}" if name in s.iou else "absent" for s in self.modes.values()]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        if (found := self.unlabelled) is not None:
            lines += ["", f"No labels in {found.frames} frames; mean confidence {found.mean_confidence:.3f}.", ""]
            lines += ["| class | share of points | mean confidence |", "|---|---|---|"]
            shares = sorted(found.share.items(), key=lambda entry: -entry[1])
            lines += [f"| {name} | {share:.3f} | {found.confidence[name]:.3f} |" for name, share in shares]
        lines += ["", *(f"- {key}: {value}" for key, value in self.about.items())]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> None:
        """``evaluation.json`` and ``evaluation.md`` under ``folder``."""
        write_text(folder / "evaluation.json", self.to_json())
        write_text(folder / "evaluation.md", self.to_markdown())
