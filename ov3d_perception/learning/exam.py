"""The gate's exam: which frames the candidate and the running network are both asked, and more where it is not sure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ov3d_perception.datasets.kept import Kept
from ov3d_perception.evaluation.compare import Comparison, Contest, change_together
from ov3d_perception.evaluation.gate import GateSpec, Verdict, judge
from ov3d_perception.learning.bags import HELD, open_bag_frames, with_images
from ov3d_perception.learning.site_recipe import streets_of
from ov3d_perception.lifting.sources import FrameSubset, open_source
from ov3d_perception.recipes.specs import Recipe
from ov3d_perception.types import Frame

NEW = "new place"
LOOKS = 3
"""How often the gate may ask for more. Each look may be wrong by chance once in 40 times (on the side that matters)."""
FRAMES, OLD_FRAMES = 25, 20
"""Of the new recording, and of each older place, in one look."""
Look = list[Sequence[Frame]]


def looks_of(bags: Sequence[Mapping[str, Any]], memory: Path, first: Recipe) -> dict[str, list[Look]]:
    """The frames of each place, by look. bags: as ``bags.look`` tells, the new recording first. first: of the network
    that the site began with."""
    places: dict[str, list[Look]] = {}
    for number, about in enumerate(bags):
        held = open_bag_frames(Path(about["bag"]), about["options"], stretch=HELD)
        name, most = (NEW, FRAMES) if number == 0 else (f"older bag {number}", OLD_FRAMES)
        places[name] = _in_looks(with_images(held, LOOKS * most), most)
    if any(memory.glob("*.npz")):
        kept = Kept(memory, "exam")
        places["kept frames"] = _in_looks(FrameSubset(kept, range(len(kept))), OLD_FRAMES)
    if streets := streets_of(first):
        pictured, bare, *others = map(open_source, streets)
        places["simulated streets"] = [[pictured, bare], *([source] for source in others)]
    return {name: looks for name, looks in places.items() if looks}


def _in_looks(frames: FrameSubset, most: int) -> list[Look]:
    """At most :data:`LOOKS` looks of about ``most`` frames, each spread over all of them."""
    count = min(LOOKS, -(-len(frames) // most))
    return [[FrameSubset(frames.source, frames.indices[number::count])] for number in range(count)]


def hold(
    places: Mapping[str, list[Look]],
    contest: Callable[[str], Contest],
    spec: GateSpec,
    changed: Mapping[str, float],
    say: Callable[[str], None],
    doubts: Sequence[str] = (),
) -> tuple[Verdict, list[Comparison]]:
    """The verdict, after as many looks as it takes.

    contest: opens a place by its name. changed: words that the candidate means otherwise (``gate.changed_words``).
    doubts: about the recordings, for a person to answer.
    Raises DatasetError where no frame of a place can be read.
    """
    contests = {name: contest(name) for name in places}
    left = {name: list(looks) for name, looks in places.items()}
    asked = list(places)
    while True:
        for name in asked:
            look = left[name].pop(0)
            say(f"  {name}: {sum(map(len, look))} frames")
            for frames in look:
                contests[name].look(frames)
        found = [one.comparison() for one in contests.values()]
        verdict = judge(found, spec, changed, change_together(list(contests.values())), doubts)
        asked = [name for name in verdict.unsure if left[name]]
        if not asked:
            return verdict, found
        say(f"  Not sure yet: {'; '.join(verdict.reasons)}")
