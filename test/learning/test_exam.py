"""How often the gate looks, and at what."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from ov3d_perception.datasets.kept import Kept, describe
from ov3d_perception.evaluation.gate import GateSpec, Verdict
from ov3d_perception.learning import exam
from ov3d_perception.learning.site_recipe import streets_of
from ov3d_perception.ledger import ACCEPTED, ASK
from ov3d_perception.recipes.load import load_recipe
from ov3d_perception.recipes.specs import Recipe, SourceSpec, TeacherSpec
from ov3d_perception.types import Preparation

OTHER = Recipe("other", SourceSpec("bag", "somewhere"), TeacherSpec(""))


class Counted:
    """Stands for a contest: knows only how many frames it was shown."""

    def __init__(self, name: str) -> None:
        self.name, self.frames = name, 0

    def look(self, frames: range) -> None:
        self.frames += len(frames)

    def comparison(self) -> tuple[str, int]:
        return self.name, self.frames


def test_the_gate_looks_again_where_it_is_not_sure_until_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The street must be seen in 60 frames; the new place is never sure and has 30."""

    def judge(found: list[Any], *_: Any) -> Verdict:
        unsure = tuple(name for name, frames in found if name == "new place" or frames < 60)
        return Verdict(ASK if unsure else ACCEPTED, ("not sure",), {}, unsure)

    monkeypatch.setattr(exam, "judge", judge)
    monkeypatch.setattr(exam, "change_together", lambda _: None)
    places: Any = {"new place": [[range(20)], [range(10)]], "street": [[range(8), range(30)]] + [[range(30)]] * 4}
    said: list[str] = []
    verdict, found = exam.hold(places, Counted, GateSpec(), {}, said.append)  # type: ignore[arg-type]
    assert verdict.verdict == ASK and found == [("new place", 30), ("street", 68)]
    assert said == [
        "  new place: 20 frames",
        "  street: 38 frames",
        "  Not sure yet: not sure",
        "  new place: 10 frames",
        "  street: 30 frames",
    ]
    assert list(map(len, places.values())) == [2, 5], "what was given is left as it was"


def test_streets_of_the_gate_are_none_that_anything_was_chosen_or_trained_on(tmp_path: Path) -> None:
    own = load_recipe(Path("config/train/openscene_street.yaml"))
    assert own.train.options["seeds"] == "0-23"
    (tmp_path / "replay").mkdir()
    looks = exam.looks_of([], tmp_path / "replay", own)["simulated streets"]
    worlds = [int(seed) for look in looks for source in look for seed in source.sequences]  # type: ignore[attr-defined]
    assert len(worlds) == len(set(worlds)) == 68 and min(worlds) >= 1020 and max(worlds) < 1100
    assert [sum(map(len, look)) for look in looks] == [68, 60, 60]
    assert not looks[0][1]._options.cameras and looks[0][0]._options.cameras  # type: ignore[attr-defined]
    assert streets_of(OTHER) == ()


def test_looks_share_out_what_is_there(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"exam_{number:02d}.npz").write_bytes(b"")
    (tmp_path / "00.npz").write_bytes(b"")
    describe(tmp_path, None, Preparation())
    looks = exam.looks_of([], tmp_path, OTHER)["kept frames"]
    indices = [list(frames.indices) for look in looks for frames in look]  # type: ignore[attr-defined]
    assert [len(one) for one in indices] == [17, 17, 16] and sorted(chain(*indices)) == list(range(50))
    assert indices[0][:3] == [0, 3, 6] and len(Kept(tmp_path, "train")) == 1
