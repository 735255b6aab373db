"""What was learned, for people: ``report.md``, ``report.html`` (one file, pictures inside), and ``places.json``."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ov3d_perception import stopwatch
from ov3d_perception.evaluation.compare import Comparison
from ov3d_perception.files import replacing, write_text
from ov3d_perception.geometry.upright import upright_points
from ov3d_perception.inference import LiveModel
from ov3d_perception.learning.order import Run
from ov3d_perception.types import Frame
from ov3d_perception.viz.bev import Annotations, Canvas, bird_eye

NONE_OLD = "No older place was examined, so nothing tells what was forgotten (docs/learning.md, The gate)."
_PLACES = "places.json"
_REACH, _SIZE = 30.0, 560  # metres, pixels


def write_places(folder: Path, places: Sequence[Comparison]) -> None:
    """Keep the comparisons of all places."""
    write_text(folder / _PLACES, json.dumps([asdict(place) for place in places], indent=1))


def write(
    run: Run,
    bags: Sequence[Mapping[str, Any]],
    verdict: Mapping[str, Any],
    running: Path,
    models: Sequence[LiveModel],
    frames: Sequence[Frame],
) -> None:
    """The report of a run. models: the running network and the candidate; frames: to draw, of the new place."""
    folder = run.folder
    places = json.loads((folder / _PLACES).read_text())
    pictures = []
    for number, frame in enumerate(frames):
        path = folder / f"frame{number}.png"
        with replacing(path) as file:
            Image.fromarray(_picture(frame, models)).save(file, "PNG")
        pictures.append(path)
    sections = _sections(run, bags, verdict, running, places)
    write_text(folder / "report.md", _markdown(sections, pictures))
    write_text(folder / "report.html", _html(sections, pictures))


Table = list[list[str]]
Section = tuple[str, list[str], Table]  # title, lines, table with its head first


def _sections(
    run: Run,
    bags: Sequence[Mapping[str, Any]],
    verdict: Mapping[str, Any],
    running: Path,
    places: Sequence[Mapping[str, Any]],
) -> list[Section]:
    what = {"accepted": "Accepted", "rejected": "Rejected", "ask": "A person has to decide"}[verdict["verdict"]]
    lines = [f"Compared with {running}."]
    found: list[Section] = [(what, [*verdict["reasons"], *lines], [])]
    table = [["bag", "scans", "points a scan", "images a scan", "scans with images", "poses"]]
    table += [
        [
            str(b["bag"]),
            str(b["scans"]),
            str(b["points"]),
            f"{b['views']:.1f}",
            f"{100 * b['with images']:.0f} %",
            b["poses"],
        ]
        for b in bags
    ]
    notes = [f"Found, or not to be told: {note}." for bag in bags for note in bag["notes"]]
    found.append(("What it learned from", notes, table))
    table = [["place", "frames", "measure", "before", "after", "change"]]
    for place in places:
        for name, before, after, better in _measures(place):
            change = f"{100 * (after - before):+.1f}"
            table.append(
                [place["name"], str(place["frames"]), f"{name} ({better})", f"{before:.3f}", f"{after:.3f}", change]
            )
    missing = [] if any(not place["new"] for place in places) else [NONE_OLD]
    found.append(("Places", [*missing, "Changes are in points (hundredths)."], table))
    for place in places:
        if place["new"]:
            note = (
                "IoU against the teacher where it is sure, or against labels where there are some; share of all points."
            )
            found.append((f"Words, {place['name']}", [note], _words(place)))
    found.append(_time(run))
    return found


def _time(run: Run) -> Section:
    """Minutes of each stage so far."""
    table = [["stage", "minutes", "of these in the network", "in the teacher"]]
    for name, seconds in run.seconds.items():
        spent = [run.spent[name].get(part, 0.0) for part in (stopwatch.NETWORK, stopwatch.TEACHER)]
        table.append([name, *(f"{value / 60:.1f}" for value in (seconds, *spent))])
    return "Time", [f"{100 * run.used():.0f} % of the time went to the network and the teacher."], table


def _measures(place: Mapping[str, Any]) -> list[tuple[str, float, float, str]]:
    before, after = place["before"], place["after"]
    rows = []
    if before["labels"] and after["labels"]:
        rows.append(("mIoU by labels", before["labels"]["miou"], after["labels"]["miou"], "more is better"))
    if after["agreement"]["points"]:
        name = "agreement with the sure teacher, mIoU"
        rows.append((name, before["agreement"]["miou"], after["agreement"]["miou"], "more is better"))
        name = "agreement with the sure teacher, points"
        rows.append((name, before["agreement"]["accuracy"], after["agreement"]["accuracy"], "more is better"))
    rows.append(("agreement with itself over passes", before["passes"], after["passes"], "more is better"))
    rows.append(("absent things found", before["absent"], after["absent"], "less is better"))
    rows.append(("calibration error", before["calibration"], after["calibration"], "less is better"))
    return [row for row in rows if not (np.isnan(row[1]) or np.isnan(row[2]))]


def _words(place: Mapping[str, Any]) -> Table:
    kind = "labels" if place["after"]["labels"] else "agreement"
    before, after = place["before"][kind]["iou"], place["after"][kind]["iou"]
    table = [["word", "IoU before", "IoU after", "change", "share before", "share after"]]
    for name in sorted(after, key=lambda one: before.get(one, 0.0) - after[one]):
        shares = [f"{100 * place[when]['share'].get(name, 0.0):.1f} %" for when in ("before", "after")]
        was = before.get(name, 0.0)
        table.append([name, f"{was:.3f}", f"{after[name]:.3f}", f"{100 * (after[name] - was):+.1f}", *shares])
    return table


def _markdown(sections: Sequence[Section], pictures: Sequence[Path]) -> str:
    parts = ["# What the site has learned"]
    for title, lines, table in sections:
        parts.append(f"## {title}")
        parts += lines
        if table:
            rows = ["| " + " | ".join(row) + " |" for row in table]
            parts.append("\n".join([rows[0], "|" + "---|" * len(table[0]), *rows[1:]]))
    parts += [f"![before and after]({path.name})" for path in pictures]
    return "\n\n".join(parts) + "\n"


_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:#1c2430}"
    "table{border-collapse:collapse;margin:.6em 0}"
    "td,th{padding:.2em .7em;border-bottom:1px solid #dde2ea;text-align:left}"
    "img{max-width:100%;border-radius:6px;margin:.4em 0}"
)


def _html(sections: Sequence[Section], pictures: Sequence[Path]) -> str:
    parts = [f"<!doctype html><meta charset=utf-8><title>What the site has learned</title><style>{_STYLE}</style>"]
    parts.append("<h1>What the site has learned</h1>")
    for title, lines, table in sections:
        parts.append(f"<h2>{html.escape(title)}</h2>")
        parts += [f"<p>{html.escape(line)}</p>" for line in lines]
        if table:
            head, *rows = (("".join(f"<td>{html.escape(cell)}</td>" for cell in row)) for row in table)
            body = "".join(f"<tr>{row}</tr>" for row in rows)
            parts.append(f"<table><tr>{head.replace('td>', 'th>')}</tr>{body}</table>")
        if title.startswith("What it learned"):
            for path in pictures:
                data = base64.b64encode(path.read_bytes()).decode()
                parts.append(f'<p><img alt="before and after" src="data:image/png;base64,{data}"></p>')
    return "\n".join(parts) + "\n"


def _picture(frame: Frame, models: Sequence[LiveModel]) -> np.ndarray:
    """The frame's labels before and after, from above, over its images."""
    xyz = upright_points(frame.sweeps[0].scan)
    canvas = Canvas(_SIZE, _SIZE, (0.0, 0.0), _SIZE / (2 * _REACH))
    panels = []
    for model, title in zip(models, ("before", "after"), strict=True):
        label = model(frame.sweeps).label
        notes = Annotations(title=f"{title}: {frame.name}")
        panels.append(bird_eye(xyz, label, model.vocabulary.names, canvas=canvas, notes=notes))
    top = np.hstack(panels)
    if not frame.views:
        return top
    width = top.shape[1] // len(frame.views)
    images = [cv2.resize(v.image, (width, round(width * v.image.shape[0] / v.image.shape[1]))) for v in frame.views]
    height = min(image.shape[0] for image in images)
    strip = np.hstack([image[:height] for image in images])
    return np.vstack([top, np.pad(strip, ((0, 0), (0, top.shape[1] - strip.shape[1]), (0, 0)))])


def step_seconds(folder: Path) -> float:
    """Seconds of a training step of the run in a folder."""
    epochs = [entry for path in sorted(folder.glob("**/times.json")) for entry in json.loads(path.read_text())]
    return sum(entry["data"] + entry["teacher"] + entry["network"] for entry in epochs) / len(epochs)
