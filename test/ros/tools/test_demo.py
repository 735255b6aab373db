"""The whole story, small: simulate, drive live, ask, score, draw. Real nodes, shipped weights, an unseen world."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from ov3d_perception.ros.tools.client import ServiceError, ask
from ov3d_perception.ros.tools.demo import QUESTIONS

SECONDS = 3
RATE = 0.25  # a busy machine, too, labels most of the scans


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, monkeymodule: pytest.MonkeyPatch) -> Path:
    """The folder that `ov3d demo` leaves behind."""
    folder = tmp_path_factory.mktemp("demo")
    monkeymodule.setenv("OV3D_CACHE", str(folder / "cache"))
    options = ["--seconds", str(SECONDS), "--rate", str(RATE), "--out", str(folder)]
    command = [sys.executable, "-m", "ov3d_perception.cli", "demo", *options]
    result = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="module")
def monkeymodule():  # type: ignore[no-untyped-def]
    """monkeypatch for a module."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.mark.live
@pytest.mark.slow
def test_the_student_beats_its_teacher_and_one_half(out: Path) -> None:
    summary = json.loads((out / "summary.json").read_text())
    modes = summary["offline"]["modes"]
    student, teacher = modes["student, 3D only, in view"]["miou"], modes["teacher's projection, in view"]["miou"]
    assert student > teacher
    assert student >= 0.5
    assert summary["live"]["miou"] >= 0.5
    assert summary["live"]["points"] > 20000


@pytest.mark.live
@pytest.mark.slow
def test_boxes_hold_what_was_asked_for_and_nothing_answers_to_giraffe(out: Path) -> None:
    summary = json.loads((out / "summary.json").read_text())
    answers = {answer["word"]: answer["boxes"] for answer in summary["answers"]}
    assert answers["giraffe"] == []
    assert answers["car"] and answers["tree"], summary
    assert {box["truth"]["majority"] for box in answers["car"]} == {"car"}
    assert {box["truth"]["majority"] for box in answers["tree"]} == {"vegetation"}


@pytest.mark.live
@pytest.mark.slow
def test_pictures_bag_and_recording_are_there(out: Path) -> None:
    for name in ("scan.png", "map.png", "mask.png", "overlay.png", "demo.rrd", "drive/metadata.yaml"):
        assert (out / name).stat().st_size > 500, name
    about = json.loads((out / "summary.json").read_text())["about"]
    assert re.match(r"[\d.]+ ms .* the worst [\d.]+ ms\)$", about["latency"]), about
    said = about["approach"]
    assert (out / "approach.png").exists() == (" m in front of it" in said), said


def test_the_readme_shows_a_map_that_was_asked_what_the_demo_asks() -> None:
    root = Path(__file__).parents[3]
    caption = re.search(r"asked for ([^]:]+)[^]]*\]\(docs/images/map\.png\)", (root / "README.md").read_text())
    assert caption is not None
    shown = {word.removesuffix("s") for word in re.split(r", | and ", caption[1].removesuffix(" among others"))}
    assert shown and shown <= set(QUESTIONS)
    answers = Image.open(root / "docs" / "images" / "map.png").info["Description"].split(", ")
    assert [answer.partition(":")[0] for answer in answers] == list(QUESTIONS)


@pytest.mark.live
def test_a_service_that_is_not_there_is_named() -> None:
    with pytest.raises(ServiceError, match="/nowhere/query"):
        ask(["car"], timeout=0.5, service="/nowhere/query")
