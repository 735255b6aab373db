"""What the demo prints at the end, and writes as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ov3d_perception.demo.score import BoxTruth
from ov3d_perception.evaluation.metrics import Scores
from ov3d_perception.evaluation.result import Result
from ov3d_perception.geometry.boxes import Box


@dataclass(frozen=True)
class Answer:
    """One word, what the map said, and what really lies in each box."""

    word: str
    message: str
    boxes: tuple[Box, ...]
    truth: tuple[BoxTruth, ...]


@dataclass(frozen=True)
class Summary:
    """Everything the demo found out. about: seed, command, versions; live: scores of the published scans."""

    about: dict[str, Any]
    live: Scores
    offline: Result
    answers: tuple[Answer, ...]
    diagnostics: dict[str, dict[str, str]]

    def to_text(self) -> str:
        """For the terminal."""
        lines = [f"{key}: {value}" for key, value in self.about.items()]
        lines += [
            "",
            f"Published scans, 3D network alone, all points: mIoU {self.live.miou:.3f}, mAcc {self.live.macc:.3f}, "
            f"{self.live.points} points",
            "",
            "The same checkpoint on the drive's key frames, its image teacher on the same points beside it:",
            self.offline.to_markdown(),
        ]
        for answer in self.answers:
            lines.append(f'"{answer.word}": {answer.message}')
            for box, truth in zip(answer.boxes, answer.truth, strict=True):
                x, y, _ = box.centre
                lines.append(
                    f"    {box.text or box.label} at ({x:6.1f}, {y:6.1f}) m, {box.size[0]:.1f} x {box.size[1]:.1f} x "
                    f"{box.size[2]:.1f} m: holds {truth.points} points, {100 * truth.share:.0f}% {truth.majority}"
                )
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """As JSON."""
        answers = [
            {"word": a.word, "message": a.message, "boxes": [_box(b, t) for b, t in zip(a.boxes, a.truth, strict=True)]}
            for a in self.answers
        ]
        content = {
            "about": self.about,
            "live": asdict(self.live),
            "offline": json.loads(self.offline.to_json()),
            "answers": answers,
            "diagnostics": self.diagnostics,
        }
        path.write_text(json.dumps(content, indent=2))


def _box(box: Box, truth: BoxTruth) -> dict[str, Any]:
    return {
        "label": box.label,
        "text": box.text,
        "centre": box.centre.tolist(),
        "size": box.size.tolist(),
        "yaw": box.yaw,
        "truth": asdict(truth),
    }
