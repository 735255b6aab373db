"""``ov3d learn``: bags in, a checked and compared network out. Each stage is done once, whatever ends the process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ov3d_perception.datasets.kept import Kept
from ov3d_perception.errors import DatasetError, IdentityError, Ov3dError, ResourceError
from ov3d_perception.evaluation.compare import Contest
from ov3d_perception.evaluation.gate import GateSpec, Verdict, changed_words, listed
from ov3d_perception.inference import LiveModel, Segmenter
from ov3d_perception.language.encoder import load_encoder
from ov3d_perception.language.vocabulary import Vocabulary
from ov3d_perception.learning import ahead, exam, report
from ov3d_perception.learning.bags import (
    HELD,
    TAUGHT,
    consult,
    every_of,
    look,
    open_bag_frames,
    taught_of,
    window_of,
    with_images,
)
from ov3d_perception.learning.budget import Costs, plan
from ov3d_perception.learning.order import Order, Run, alone
from ov3d_perception.learning.replay import FOLDER, remember
from ov3d_perception.learning.site_recipe import own_recipe, site_recipe, streets_of
from ov3d_perception.ledger import ACCEPTED, Site, file_hash
from ov3d_perception.lifting.image_teacher import ImageTeacher
from ov3d_perception.lifting.sources import FrameSubset, bank_of, drives_in, open_source
from ov3d_perception.models import shipped_checkpoint
from ov3d_perception.networks.checkpoint_info import load_info, words_of_checkpoint
from ov3d_perception.paths import cache_dir
from ov3d_perception.recipes.load import changed
from ov3d_perception.recipes.specs import Recipe, TeacherSpec
from ov3d_perception.training.run import train
from ov3d_perception.types import Frame, WordEmbeddings

PAST = (12, 4)  # drives of the running network's own training, and frames of each: a new site's first memory
PAST_EXAM = (8, 24)  # frames of these drives' ends that the gate asks: with fewer it asks none; at most
STAGES = ("bags", "memory", "measure", "train", "gate", "report", "hand over", "remember")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """number: the network's in the site's ledger. report: the folder with report.md and report.html."""

    verdict: Verdict
    number: int
    report: Path


def learn(order: Order, say: Say = print, gate: GateSpec | None = None, again: bool = False) -> Outcome:
    """Learn a site from its bags; the network is in force in the site's ledger if the gate accepts it.

    An order that was begun before goes on where it was ended; one that is done is done (``again``: from the beginning).

    Raises:
        LedgerError: another process learns the site, or its ledger makes no sense.
        BagError, DatasetError, RecipeError: what was ordered cannot be read or trained on, or would teach wrong things.
        IdentityError: the words that would teach are not those of the running network.
        ResourceError: the time or the disk does not suffice.
    """
    with alone(order.site):
        site = Site(order.site)
        site.begin(order.began)
        folder = order.site / "learned" / order.key("")
        if again:
            shutil.rmtree(folder, ignore_errors=True)
        return _Learning(order, site, Run(folder), say, gate or GateSpec()).work()


class _Learning:
    def __init__(self, order: Order, site: Site, run: Run, say: Say, gate: GateSpec) -> None:
        self.order, self.site, self.run, self.say, self.gate = order, site, run, say, gate
        self._teacher: ImageTeacher | None = None
        begun = run.stage("begin", self._begin)
        self.running, self.number = Path(begun["checkpoint"]), int(begun["number"])
        self.info = load_info(self.running)
        self.own = own_recipe(self.info, self.running)
        self.text = words_of_checkpoint(self.info, self.running)
        self.classes = self.info.vocabulary
        self.memory = order.site / FOLDER

    def work(self) -> Outcome:
        """All stages, in their order; streets that are simulated for them meanwhile."""
        with ahead.reading(self._streets_to_come()):
            return self._work()

    def _work(self) -> Outcome:
        bags = self._stage("bags", self._bags)
        self._stage("memory", self._begin_memory)
        planned = self._stage("measure", lambda: self._measure(bags))
        self._tell_plan(planned)
        self._stage("train", lambda: self._train(bags, planned["epochs"]))
        candidate = self.run.folder / "train" / "student.safetensors"
        verdict = self._stage("gate", lambda: self._gate(bags, candidate))
        self._stage("report", lambda: self._report(bags, candidate, verdict))
        handed = self._stage("hand over", lambda: self._hand_over(candidate, verdict))
        self._stage("remember", lambda: self._remember(bags, candidate, verdict))
        minutes, used = sum(self.run.seconds.values()) / 60, 100 * self.run.used()
        self.say(f"{minutes:.1f} min, {used:.0f} % of them in the network and the teacher")
        reasons, figures = tuple(verdict["reasons"]), verdict["figures"]
        return Outcome(Verdict(verdict["verdict"], reasons, figures), handed["number"], self.run.folder)

    def _stage(self, name: str, work: Callable[[], Any]) -> Any:
        place = f"[{STAGES.index(name) + 1}/{len(STAGES)}] {name}"
        if self.run.done(name):
            self.say(f"{place}: done before")
            return self.run.result(name)
        self.say(place)
        return self.run.stage(name, work)

    # -- stages ------------------------------------------------------------------------------------------------------

    def _begin(self) -> dict[str, Any]:
        """Which network the candidate starts from and is compared with."""
        path = (self.site.checkpoint() or shipped_checkpoint()).resolve()
        return {"checkpoint": str(path), "sha256": file_hash(path), "number": self.site.read().in_force}

    def _check_words(self) -> None:
        """Raise IdentityError where the bank that would teach means other things by the running network's words."""
        recipe = site_recipe(self.own, self.running, [], 1, self.order.method, self.order.recipe)
        bank = bank_of(recipe.vocabulary) if recipe.vocabulary is not None else None
        teaches = None if bank is None else WordEmbeddings(bank.words, bank.embeddings)
        if changed := changed_words(self.info.bank, teaches):
            assert recipe.vocabulary is not None
            raise IdentityError(
                f"{recipe.vocabulary.text} would teach other words than {self.running} knows: {listed(changed)}",
                "Give the bank that it was trained with: --recipe vocabulary.text=FILE",
            )

    def _bags(self) -> list[dict[str, Any]]:
        found = []
        if not self.order.trust:
            self._check_words()
        for number, bag in enumerate(self.order.bags):
            options = dict(self.order.options)
            if self.order.labelset:
                options["labelset"] = self.order.labelset
            about = look(bag, options, self.run.folder / f"odometry{number}")
            self.say(
                f"  {bag}: {about['scans']} scans of about {about['points']} points, {about['views']:.1f} images at "
                f"{100 * about['with images']:.0f} % of them; poses by {about['poses']}"
            )
            if about["dark"]:
                raise DatasetError(
                    f"Most images of {', '.join(about['dark'])} in {bag} show nothing (they are of one colour)",
                    "Uncover or repair the camera, or name the others: --set cameras=[/cam_front, ...]",
                )
            advice = consult(bag, about["options"])
            for line in (*advice.errors, *advice.doubts, *advice.notes):
                self.say(f"  {bag}: {line}")
            if advice.errors and not self.order.trust:
                raise DatasetError(
                    f"{bag} would teach wrong things: {'; '.join(advice.errors)}",
                    "Correct it, name the good cameras (--set cameras=[/cam_front]), or learn all the same: --trust",
                )
            about["doubts"] = [f"{bag.name}: {line}" for line in advice.doubts]
            about["notes"] = [f"{bag.name}: {line}" for line in (*advice.errors, *advice.doubts, *advice.notes)]
            found.append(about)
        return found

    def _begin_memory(self) -> dict[str, Any]:
        """A new site remembers what its first network learned from, where that can still be had: the simulated street,
        or a data set that lies where the network's recipe says."""
        if any(self.memory.glob("*.npz")):
            return {"frames": len(list(self.memory.glob("*.npz")))}
        past = self.own.train
        try:
            source = open_source(past)
            asked = [] if streets_of(self._first_recipe()) else _asked_of(source)
            chosen = _of_drives(source, *PAST, TAUGHT if asked else (0.0, 1.0))
        except Ov3dError as error:
            self.say(f"  What {self.running.name} learned from is not here, so nothing keeps it known: {error.cause}")
            return {"frames": 0}
        more = f", {len(asked)} more for the gate" if asked else ""
        self.say(f"  Keeping {len(chosen)} frames of what {self.running.name} learned from{more}")
        name = f"{past.dataset} {past.root} {past.options}"
        count = self._remember_frames(chosen, name, 2 * len(chosen))
        if asked:
            self._remember_frames(asked, name, 2 * len(asked), exam_alone=True)
        return {"frames": count}

    def _measure(self, bags: list[dict[str, Any]]) -> dict[str, Any]:
        """A few images and steps, timed; then what fits into the time."""
        recipe = self._recipe(bags, 1)
        frames = open_source(recipe.train)
        if not (pictured := with_images(frames, 1)):
            raise DatasetError("None of the scans that would teach has an image near it", "Record images all the way")
        first = pictured[0]
        self._image_teacher().encode(first.views[0].image)  # the first one loads things, too
        start = time.perf_counter()
        for view in first.views[:2]:
            self._image_teacher().encode(view.image)
        image = (time.perf_counter() - start) / min(2, len(first.views))
        one = {"train.every": max(1, len(frames) // 10), "optimiser.epochs": 1, "optimiser.frozen_norm": 0.0}
        short = changed(recipe, one)
        folder = self.run.folder / "measure"
        shutil.rmtree(folder, ignore_errors=True)
        train(short, folder)
        step = report.step_seconds(folder)
        shutil.rmtree(folder, ignore_errors=True)
        segmenter = Segmenter.load(self.running)
        start = time.perf_counter()
        LiveModel.of(segmenter, self._vocabulary())(first.sweeps)
        costs = Costs(image, step, 3 * (time.perf_counter() - start) + len(first.views) * image)
        taught, (kept, repeat) = sum(taught_of(about, self.order.frames) for about in bags), self._kept(bags)
        images = round(taught * max(about["views"] for about in bags) + kept * len(first.views))
        # Where images of other moments teach, scans without one of their own are used, too.
        epoch = len(frames) if recipe.pairs.view_window else round(taught + kept * repeat)
        left = self.order.hours * 3600 - sum(self.run.seconds.values())
        exams = exam.looks_of(bags, self.memory, self._first_recipe())
        if exam.NEW not in exams:
            raise DatasetError(
                f"None of the last {100 * (HELD[1] - HELD[0]):.0f} % of the scans of {bags[0]['bag']}, which the gate "
                "looks at, has an image near it",
                "Cut the bag where its images end, or give another",
            )
        asked = sum(len(frames) for looks in exams.values() for frames in looks[0])
        budget = plan(costs, images, epoch, asked, left)
        self._require_disk(images, first)
        return {
            "epochs": budget.epochs,
            "frames": epoch,
            "seconds": budget.seconds,
            "parts": {"teacher": budget.teacher, "training": budget.training, "gate": budget.gate},
            "costs": {"image": image, "step": step},
        }

    def _train(self, bags: list[dict[str, Any]], epochs: int) -> dict[str, Any]:
        out = self.run.folder / "train"
        train(self._recipe(bags, epochs), out, resume=True)
        return {"sha256": file_hash(out / "student.safetensors")}

    def _gate(self, bags: list[dict[str, Any]], candidate: Path) -> dict[str, Any]:
        before, after = Segmenter.load(self.running), Segmenter.load(candidate)
        teacher, pairs, sure = self._image_teacher(), self.own.pairs, self.gate.sure_of

        def contest(place: str) -> Contest:
            return Contest(place, before, after, self.text, self.classes, pairs, teacher, sure, new=place == exam.NEW)

        words = changed_words(self.info.bank, load_info(candidate).bank)
        places = exam.looks_of(bags, self.memory, self._first_recipe())
        if set(places) == {exam.NEW}:
            self.say(f"  {report.NONE_OLD}")
        doubts = [] if self.order.trust else [line for about in bags for line in about["doubts"]]
        found, compared = exam.hold(places, contest, self.gate, words, self.say, doubts)
        report.write_places(self.run.folder, compared)
        return {"verdict": found.verdict, "reasons": list(found.reasons), "figures": found.figures}

    def _report(self, bags: list[dict[str, Any]], candidate: Path, verdict: dict[str, Any]) -> dict[str, Any]:
        held = open_bag_frames(Path(bags[0]["bag"]), bags[0]["options"], stretch=HELD)
        models = [LiveModel.of(Segmenter.load(path), self._vocabulary()) for path in (self.running, candidate)]
        report.write(self.run, bags, verdict, self.running, models, with_images(held, 3))
        return {}

    def _hand_over(self, candidate: Path, verdict: dict[str, Any]) -> dict[str, Any]:
        names = [str(bag) for bag in self.order.bags]
        version = self.site.add(candidate, names, verdict["verdict"], verdict["reasons"], verdict["figures"])
        if verdict["verdict"] == ACCEPTED and self.site.read().in_force == self.number:
            self.site.put_in_force(version.number, "the gate accepted it")
        return {"number": version.number}

    def _remember(self, bags: list[dict[str, Any]], candidate: Path, verdict: dict[str, Any]) -> dict[str, Any]:
        """What was learned becomes memory for the next time; of a network that was not accepted, nothing."""
        if verdict["verdict"] != ACCEPTED:
            return {"frames": len(list(self.memory.glob("*.npz")))}
        most = self.order.replay // 4
        for about in bags:
            every, path = every_of(about, self.order.frames), Path(about["bag"])
            taught = open_bag_frames(path, about["options"], stretch=TAUGHT, every=every)
            held = open_bag_frames(path, about["options"], stretch=HELD)
            self._remember_frames(with_images(taught, self.order.replay), about["bag"], self.order.replay - most)
            self._remember_frames(with_images(held, self.order.replay), about["bag"], most, exam_alone=True)
        return {"frames": len(list(self.memory.glob("*.npz")))}

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _streets_to_come(self) -> list[ahead.Passage]:
        """Frames of the simulator that stages to come will read, in their order."""
        if self.run.done("gate"):
            return []
        exams = [(spec, range(len(open_source(spec)))) for spec in streets_of(self._first_recipe())]
        past = self.own.train
        if past.dataset != "simulated" or any(self.memory.glob("*.npz")):
            return [*exams]
        return [(past, _of_drives(open_source(past), *PAST).indices), *exams]

    def _recipe(self, bags: list[dict[str, Any]], epochs: int) -> Recipe:
        sources: list[dict[str, Any]] = []
        for about in bags:
            options = {**about["options"], "stretch": list(TAUGHT), "every": every_of(about, self.order.frames)}
            sources.append({"dataset": "bag", "root": str(Path(about["bag"]).resolve()), "options": options})
        kept, repeat = self._kept(bags)
        if kept:
            old = {"dataset": "kept", "root": str(self.memory.resolve()), "options": {"part": "train"}}
            sources.append({**old, "repeat": repeat})
        cache = max(self.order.disk_gb * 0.8, 0.1)
        window = min(window_of(about, self.order.frames) for about in bags)
        return site_recipe(self.own, self.running, sources, epochs, self.order.method, self.order.recipe, cache, window)

    def _kept(self, bags: list[dict[str, Any]]) -> tuple[int, int]:
        """How many remembered frames teach, and how often in an epoch: about half of it, so that they stay known."""
        kept = len(Kept(self.memory, "train")) if self.memory.is_dir() else 0
        new = sum(min(self.order.frames, about["scans"] * about["with images"]) for about in bags)
        return kept, max(1, round(new / max(kept, 1)))

    def _first_recipe(self) -> Recipe:
        """Of the network that the site began with: what that knew is asked every night, not on the first one alone.
        The running network's own, where that file is gone."""
        first = (self.site.checkpoint(0) or shipped_checkpoint()).resolve()
        return own_recipe(load_info(first), first) if first.is_file() else self.own

    def _vocabulary(self) -> Vocabulary:
        return Vocabulary.from_words(self.classes, self.text)

    def _image_teacher(self) -> ImageTeacher:
        if self._teacher is None:
            spec: TeacherSpec = self.own.teacher
            encoder = load_encoder(spec.model, spec.pretrained, "auto", spec.precision)
            self._teacher = ImageTeacher(encoder, spec, cache_dir() / "teacher")
        return self._teacher

    def _remember_frames(self, frames: Sequence[Frame], source: str, most: int, exam_alone: bool = False) -> int:
        model = LiveModel.of(Segmenter.load(self.running), self._vocabulary())
        labelset = self.own.vocabulary.labelset if self.own.vocabulary is not None else None
        return remember(self.memory, frames, source, model, most, labelset, self.info.preparation, exam_alone)

    def _require_disk(self, images: int, example: Frame) -> None:
        """Raise ResourceError where the teacher's features exceed the budget or what is free."""
        folder = self._image_teacher().folder
        each = (folder / self._image_teacher().store(example.views[0].image)).stat().st_size
        need, free = images * each / 1e9, shutil.disk_usage(folder).free / 1e9
        if need > min(self.order.disk_gb, free):
            raise ResourceError(
                f"The teacher's features of {images} images take {need:.1f} GB; {self.order.disk_gb:.1f} GB are "
                f"allowed and {free:.1f} GB free in {folder}",
                "Allow more (--disk), free some, or take fewer frames (--frames)",
            )

    def _tell_plan(self, planned: dict[str, Any]) -> None:
        parts = ", ".join(f"{name} {seconds / 60:.1f} min" for name, seconds in planned["parts"].items())
        self.say(
            f"  Planned: {planned['epochs']} epochs of {planned['frames']} frames; about "
            f"{planned['seconds'] / 60:.0f} min of {self.order.hours * 60:.0f} ({parts})"
        )


def _of_drives(
    source: Sequence[Frame], drives: int, frames: int, stretch: tuple[float, float] = (0.0, 1.0)
) -> FrameSubset:
    """Some frames of a stretch of some drives of a source. Drives are taken to be of one length; where they are not,
    the frames are still spread over all of it. Few drives, since a world that is simulated takes time."""
    count = min(drives_in(source), len(source))
    firsts = [-(-number * len(source) // count) for number in range(count)]  # of each drive: the first whole frame
    begin, end = (round(share * (len(source) // count)) for share in stretch)
    within = [begin + frame for frame in _spread(end - begin, frames)]
    return FrameSubset(source, [firsts[n] + frame for n in _spread(count, drives) for frame in within])


def _asked_of(source: Sequence[Frame]) -> Sequence[Frame]:
    """Frames with images of the last 15 % of the drives that a site remembers first; none where they are too few."""
    least, most = PAST_EXAM
    found = with_images(_of_drives(source, PAST[0], len(source), HELD), most)
    return found if len(found) >= least else []


def _spread(count: int, most: int) -> list[int]:
    """Indices of at most ``most`` of ``count`` things, evenly spread."""
    return [index * count // min(count, most) for index in range(min(count, most))]
