"""Whole orders on the tiny scene: what is accepted and refused, what is left, and that an ended run goes on."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from colour_scene import ColourEncoder, Walls, bank, walls_recipe

from ov3d_perception.datasets.kept import Kept
from ov3d_perception.datasets.registry import SOURCES
from ov3d_perception.errors import DatasetError, IdentityError, PointCloudError, ResourceError
from ov3d_perception.evaluation.gate import GateSpec
from ov3d_perception.inference import Segmenter
from ov3d_perception.language.bank import TextBank
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.learning import exam
from ov3d_perception.learning import learn as module
from ov3d_perception.learning.bags import Advice
from ov3d_perception.learning.learn import learn
from ov3d_perception.learning.order import Order, Run
from ov3d_perception.learning.site_recipe import own_recipe
from ov3d_perception.ledger import ACCEPTED, REJECTED, Site, file_hash
from ov3d_perception.lifting.sources import open_source
from ov3d_perception.models import shipped_checkpoint
from ov3d_perception.networks.checkpoint_info import load_info, words_of_checkpoint
from ov3d_perception.recipes.method_specs import OpenSceneSpec
from ov3d_perception.recipes.specs import OptimiserSpec, Recipe, SourceSpec
from ov3d_perception.training.run import train
from ov3d_perception.types import UNLABELLED, Frame

FRAMES = 40


class Drive(Walls):
    """Stands for a bag: walls along a drive, without labels. A folder named "dark" has black images, one named "seldom"
    images at each fourth scan, one named "ended" none at the last ten. In one named "torn" the first cannot be read.
    """

    def __init__(self, root: Path, stretch: Any = (0.0, 1.0), every: int = 1, **_: Any) -> None:
        super().__init__(root, FRAMES)
        self.taken = range(round(stretch[0] * FRAMES), round(stretch[1] * FRAMES))[::every]
        self.labelset = None

    def __len__(self) -> int:
        return len(self.taken)

    def frame(self, index: int) -> Frame:
        number = self.taken[index]
        frame = replace(super().frame(number), labels=None)
        if self.root.name == "torn" and number == 0:
            raise PointCloudError("It has no points", "Leave it out")
        if (self.root.name == "seldom" and number % 4) or (self.root.name == "ended" and number >= FRAMES - 10):
            return replace(frame, views=())
        if self.root.name != "dark":
            return frame
        return replace(frame, views=tuple(replace(view, image=np.zeros_like(view.image)) for view in frame.views))


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    """A site whose network has learned next to nothing, and a drive."""
    recipe = replace(
        walls_recipe(tmp_path, monkeypatch),
        train=SourceSpec("walls", "", {"frames": 2}),
        validation=None,
        optimiser=OptimiserSpec(epochs=1, batch=1, learning_rate=1e-6),
        method=OpenSceneSpec(),
        repeat=1,
    )
    monkeypatch.setitem(SOURCES, "bag", ("test_learn_drive", "Drive"))
    monkeypatch.setitem(__import__("sys").modules, "test_learn_drive", __import__("types").SimpleNamespace(Drive=Drive))
    monkeypatch.setattr(module, "load_encoder", lambda *_: ColourEncoder())
    monkeypatch.setattr("ov3d_perception.learning.budget.MOST_EPOCHS", 2)
    monkeypatch.setattr(exam, "FRAMES", 4)
    monkeypatch.setattr(module, "consult", lambda *_: Advice())
    train(recipe, tmp_path / "poor", device="cpu")
    (tmp_path / "drive").mkdir()
    site, began = tmp_path / "site", str(tmp_path / "poor" / "student.safetensors")
    changes = ("optimiser.learning_rate=0.01", "optimiser.frozen_norm=0.0")
    return Order(site, (tmp_path / "drive",), began, recipe=changes, hours=0.5, frames=6, replay=4)


@pytest.mark.slow
def test_a_better_network_is_in_force_and_what_it_learned_from_is_remembered(
    order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ov3d_perception.learning.budget.MOST_EPOCHS", 4)
    order, said = replace(order, frames=10), list[str]()
    outcome = learn(order, said.append)
    assert outcome.verdict.verdict == ACCEPTED, outcome.verdict.reasons
    site = Site(order.site)
    checkpoint, ledger = site.checkpoint(), site.read()
    assert checkpoint is not None and ledger.in_force == outcome.number == 1
    assert ledger.version(1).bags == (str(tmp_path / "drive"),)
    assert ledger.version(1).figures["new place: agreement mIoU, after"] > 0.8
    assert 1 <= len(list((order.site / "replay").glob("*.npz"))) <= order.replay
    text = (outcome.report / "report.md").read_text()
    assert "% of the time went to the network and the teacher" in text and "| train |" in text
    assert module.report.NONE_OLD in text, "there were too few frames of the first training"
    assert "## Accepted" in text and "| red |" in text and "agreement with the sure teacher" in text
    page = (outcome.report / "report.html").read_text()
    assert "data:image/png;base64," in page and "</table>" in page
    assert [line for line in said if line.startswith("[")] == [
        f"[{n}/8] {name}" for n, name in enumerate(module.STAGES, 1)
    ]

    again = learn(order, said.append)
    assert again == outcome and len(site.read().versions) == 1 and len(site.read().changes) == 1


@pytest.mark.slow
def test_an_order_that_is_killed_in_any_stage_goes_on_there(order: Order, tmp_path: Path) -> None:
    """Each process is killed when the work of its stage is done and not yet written down: the worst moment."""
    poor = file_hash(tmp_path / "poor" / "student.safetensors")
    for stage in ("begin", *module.STAGES):
        said = _killed_after(order, stage, tmp_path / "said")
        assert said.endswith("" if stage == "begin" else f"[{module.STAGES.index(stage) + 1}/8] {stage}")
        site = Site(order.site)
        assert site.read().in_force == 0 or stage in ("hand over", "remember")
        assert file_hash(site.checkpoint() or Path()) == (
            site.read().version(1).sha256 if site.read().in_force else poor
        )
    said_last: list[str] = []
    outcome = learn(order, said_last.append)
    assert [line.rpartition(": ")[2] for line in said_last if line.startswith("[")] == ["done before"] * 7 + [
        "[8/8] remember"
    ]
    assert len(site.read().versions) == 1 and site.read().in_force == outcome.number == 1
    assert len(site.read().changes) == 1, "it was put in force once"


def _killed_after(order: Order, last: str, out: Path) -> str:
    """What a process said that was ended by SIGKILL after the work of a stage."""
    child = os.fork()
    if not child:
        real = Run.stage

        def stage(run: Run, name: str, work: Callable[[], Any]) -> Any:
            if name == last:
                work()
                os.kill(os.getpid(), signal.SIGKILL)
            return real(run, name, work)

        try:
            Run.stage = stage  # type: ignore[method-assign]
            with out.open("w") as file:
                try:
                    learn(order, lambda line: print(line, file=file, flush=True))
                except BaseException:
                    traceback.print_exc(file=file)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, out.read_text()
    return "\n".join(line for line in out.read_text().splitlines() if line.startswith("["))


@pytest.mark.slow
def test_mixed_up_words_never_get_through_the_two_phases_of_ggsd(order: Order, tmp_path: Path) -> None:
    """The bank that teaches calls red green and green red: the candidate's words are not the running network's."""
    swapped = TextBank(list(bank().words), bank().embeddings[[1, 0, 2]], bank().identity)
    swapped.save(tmp_path / "bank.npz")
    with pytest.raises(
        IdentityError, match=r"would teach other words than .*: green \(cosine 0.00\), red \(cosine 0.00\)"
    ):
        learn(replace(order, method="ggsd"), lambda _: None)
    outcome = learn(replace(order, method="ggsd", trust=True), lambda _: None)
    recipe = yaml.safe_load((outcome.report / "train" / "recipe.yaml").read_text())
    assert recipe["method"]["name"] == "ggsd" and (outcome.report / "train" / "phase2" / "last.ckpt").is_file()
    assert [phase["optimiser.epochs"] for phase in recipe["phases"]] == [1, 1]
    assert outcome.verdict.verdict == REJECTED
    assert any("Its words are not those of the running network" in reason for reason in outcome.verdict.reasons)
    site = Site(order.site)
    assert site.read().in_force == 0 and site.read().version(1).verdict == REJECTED
    assert site.checkpoint() == tmp_path / "poor" / "student.safetensors"
    assert len(list((order.site / "replay").glob("*.npz"))) == 2, (
        "of the first training; what misleads is not remembered"
    )

    poor, walls = site.checkpoint(), Walls(tmp_path, FRAMES)
    assert poor is not None
    before = _right(poor, walls)
    site.put_in_force(1, "the gate is overruled")
    misled = site.checkpoint()
    assert misled is not None and _right(misled, walls) < before - 0.2, "red walls are called green"
    site.roll_back("it calls red green")
    assert site.checkpoint() == poor and _right(poor, walls) == before


def _right(checkpoint: Path, walls: Walls) -> float:
    """Share of labelled points that a network names rightly in its own words, as a node would that starts with it."""
    segmenter = Segmenter.load(checkpoint, device="cpu")
    vocabulary = Vocabulary.from_words(segmenter.info.vocabulary, words_of_checkpoint(segmenter.info, checkpoint))
    found = [(segmenter(frame.sweeps[0].scan, vocabulary).label, frame.labels) for frame in (walls[0], walls[9])]
    return float(np.mean([(label == truth)[truth != UNLABELLED].mean() for label, truth in found if truth is not None]))


def test_a_dark_camera_is_named_before_anything_is_trained(order: Order, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "dark").mkdir()
    monkeypatch.setattr(module, "train", lambda *_, **__: pytest.fail("nothing is trained on black images"))
    with pytest.raises(DatasetError, match=r"Most images of front in .* show nothing"):
        learn(replace(order, bags=(tmp_path / "dark",)), lambda _: None)


def test_what_the_doctor_calls_wrong_is_not_learned_from(order: Order, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "consult", lambda *_: Advice(("front: turned by 3 degrees. Calibrate it",)))
    with pytest.raises(DatasetError, match=r"turned by 3 degrees.*--trust"):
        learn(order)
    with pytest.raises(ResourceError):  # the next stage
        learn(replace(order, trust=True, hours=1e-6))


def test_too_little_time_is_said_before_the_training(order: Order) -> None:
    with pytest.raises(ResourceError, match="The time does not suffice"):
        learn(replace(order, hours=1e-4), lambda _: None)
    assert Site(order.site).read().versions == ()


@pytest.mark.parametrize("there", [True, False])
def test_a_site_begins_with_what_its_first_network_learned_from_where_that_is_there(
    order: Order, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """Two walls of its own training; measured and planned are then twice as many frames an epoch."""
    real, said = module.open_source, list[str]()

    def opened(spec: SourceSpec) -> Any:
        if spec.dataset == "walls" and not there:
            raise DatasetError("There are no walls", "Build some")
        return real(spec)

    monkeypatch.setattr(module, "open_source", opened)
    with pytest.raises(ResourceError, match="The time does not suffice"):
        learn(replace(order, hours=1e-4), said.append)
    kept = Kept(order.site / "replay") if there else []
    assert len(kept) == 2 * there
    found = "Keeping 2 frames of what student.safetensors learned from"
    gone = "What student.safetensors learned from is not here, so nothing keeps it known: There are no walls"
    assert f"  {found if there else gone}" in said
    if there:
        assert kept[0].labels is not None and kept[0].views


@pytest.mark.parametrize(("frames", "asked"), [(60, 9), (400, 24), (40, 0)])
def test_the_gate_keeps_frames_of_what_the_first_network_learned_from_where_there_are_enough(
    order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int, asked: int
) -> None:
    """The last 15 % of its drive, which the memory does not teach; of 40 frames those are six, too few to ask."""
    taught: list[str] = []
    monkeypatch.setattr(module, "remember", lambda _, chosen, *more: taught.extend(_names(chosen, more[-1])) or 0)
    site = Site(order.site)
    site.begin(order.began)
    learning = module._Learning(order, site, Run(tmp_path / "run"), lambda _: None, GateSpec())
    learning.own = replace(learning.own, train=SourceSpec("walls", "", {"frames": frames}))
    learning._begin_memory()
    exam = [int(name.removeprefix("exam a/")) for name in taught if name.startswith("exam")]
    train = [int(name.removeprefix("train a/")) for name in taught if name.startswith("train")]
    assert len(train) == 4 and len(exam) == asked
    assert not exam or (
        min(exam) == round(0.85 * frames) and max(train) < 0.8 * frames and max(exam) > 0.98 * frames - 3
    )


def _names(frames: Any, exam: bool) -> list[str]:
    return [f"{'exam' if exam else 'train'} {frame.name}" for frame in frames]


def test_the_shipped_network_is_remembered_by_four_frames_of_twelve_of_its_streets() -> None:
    """Its recipe takes every second frame of 24 drives of 15: that part must still be known to be of 24 drives."""
    recipe = own_recipe(load_info(shipped_checkpoint()), shipped_checkpoint())
    chosen = module._of_drives(source := open_source(recipe.train), *module.PAST)
    assert (len(source), recipe.train.every, len(chosen)) == (180, 2, 48)
    drives = [2 * index // 15 for index in chosen.indices]
    assert [drives.count(drive) for drive in sorted(set(drives))] == [4] * 12


def test_every_night_is_asked_what_the_first_network_knew(order: Order, tmp_path: Path) -> None:
    """Also when the network in force comes from another order, whose recipe names bags."""
    site = Site(order.site)
    site.begin("")
    site.add(Path(order.began), ["drive"], ACCEPTED)
    site.put_in_force(1, "test")
    learning = module._Learning(order, site, Run(tmp_path / "run"), lambda _: None, GateSpec())
    assert learning.own.train.dataset == "walls"
    assert learning._first_recipe().train.dataset == "simulated"
    assert "simulated streets" in exam.looks_of([], tmp_path, learning._first_recipe())
    gone = Site(tmp_path / "other")
    gone.begin(str(tmp_path / "gone.safetensors"))
    learning.site = gone
    assert learning._first_recipe() == learning.own


def test_one_epoch_is_measured_whatever_the_recipe_says(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Recipe] = []
    monkeypatch.setattr(module, "train", lambda recipe, _: trained.append(recipe))
    monkeypatch.setattr(module.report, "step_seconds", lambda _: 1.0)
    with pytest.raises(ResourceError, match=r"a step 1\.00 s"):
        learn(replace(order, recipe=(*order.recipe, "optimiser.epochs=7"), hours=1e-4), lambda _: None)
    assert [recipe.optimiser.epochs for recipe in trained] == [1]


@pytest.mark.parametrize(
    ("window", "memory", "frames"), [(0, False, 8), (0, True, 8 + 6), (5, False, 32), (5, True, 32 + 6)]
)
def test_the_frames_of_an_epoch(
    order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int, memory: bool, frames: int
) -> None:
    """32 of 40 scans teach, 8 have images, which is not twice the 6 ordered: all are taken. Where images of other
    moments teach, so do all 32. Two remembered frames are shown three times (6 / 2).
    """
    planned: list[tuple[int, int]] = []

    def plan(_: Any, images: int, frames: int, *__: Any) -> Any:
        planned.append((images, frames))
        raise ResourceError("planned", "")

    real = module.open_source
    for name, other in (("plan", plan), ("window_of", lambda *_: window), ("train", lambda *_: None)):
        monkeypatch.setattr(module, name, other)
    if not memory:
        monkeypatch.setattr(module._Learning, "_begin_memory", lambda _: {})
    monkeypatch.setattr(module.report, "step_seconds", lambda _: 1.0)
    monkeypatch.setattr(module, "open_source", lambda spec: taken.append(real(spec)) or taken[-1])
    taken: list[Any] = []
    (tmp_path / "seldom").mkdir()
    with pytest.raises(ResourceError, match="planned"):
        learn(replace(order, bags=(tmp_path / "seldom",)), lambda _: None)
    assert planned == [(8 + 2 * memory, frames)]
    source = next(one for one in taken if len(one) > 2)
    assert frames == (len(source) if window else sum(bool(frame.views) for frame in source)), "as the training has it"


def test_a_bag_whose_images_end_before_the_gates_part_is_named_before_the_training(
    order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Recipe] = []
    monkeypatch.setattr(module, "train", lambda recipe, _: trained.append(recipe))
    monkeypatch.setattr(module.report, "step_seconds", lambda _: 1.0)
    (tmp_path / "ended").mkdir()
    with pytest.raises(DatasetError, match=r"None of the last 15 % of the scans of .*ended, which the gate looks at"):
        learn(replace(order, bags=(tmp_path / "ended",)), lambda _: None)
    assert len(trained) == 1, "to measure a step"


def test_a_first_scan_that_cannot_be_read_ends_no_order(order: Order, tmp_path: Path) -> None:
    (tmp_path / "torn").mkdir()
    with pytest.raises(ResourceError, match="The time does not suffice"):
        learn(replace(order, bags=(tmp_path / "torn",), hours=1e-4), lambda _: None)


def test_the_running_network_is_never_written_to(order: Order, tmp_path: Path) -> None:
    before = file_hash(tmp_path / "poor" / "student.safetensors")
    with pytest.raises(ResourceError):
        learn(replace(order, disk_gb=1e-9), lambda _: None)
    assert file_hash(tmp_path / "poor" / "student.safetensors") == before
