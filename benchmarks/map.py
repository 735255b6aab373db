"""Speed, size and ranking loss of the semantic map: ``python benchmarks/map.py [--voxels 5000000] [--out FILE.md]``.

A made-up town fills the map: a road between houses, with trees and parked cars, driven along a serpentine. Its features
have the statistics of trained networks. Those of two networks of 48 channels distilled from CLIP (ViT-B/16), on 20
scans of SemanticKITTI, lie in a cone: their mean has a length of 0.96 and the direction of the head's first singular
vector. The standard deviations along their principal axes fall as ``FALL`` says. From view to view, a voxel's feature
varies by 0.27 of their spread (the shipped network on simulated drives). Networks of 96 channels are assumed to fall on
alike, along the singular vectors of their heads. Then are timed, for 48 and for 96 channels:

* integration of scans of 20,000 voxels where the map is full, free space cleared and not;
* a one-word query against 59 rivals, and the part of it that scores every voxel;
* how many voxels it takes for sure, or does not, otherwise than a softmax of all voxels' own bytes would;
* numpy: the same softmax of the same voxels with 512 float32 channels a voxel, in the same run (as many as fit in
  ``--wide`` rows, the time scaled to all);
* resident memory of the process per voxel, beside what the map says of itself;
* average precision of each word's ranking of a street's voxels in the full map: exact float32 means, the map's bytes, a
  query (hits by their own features or sure codes, the others by code), the codes alone.

Beside other work the fastest and the processors' time are nearer to what the machine can do than the median.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ov3d_perception.geometry.voxels import voxel_keys
from ov3d_perception.language.vocabulary import TextBank
from ov3d_perception.mapping.query import TextQuery, ask, question
from ov3d_perception.mapping.scoring import Scorer, probability_of
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.types import EncoderIdentity

DIM, SCAN, VOXEL, WORDS = 512, 20_000, 0.2, 60
ROAD, HOUSE, TREE, CAR, PATH = range(5)
FALL = ((0, 1, 8, 16, 32, 47), (1.0, 0.52, 0.19, 0.094, 0.052, 0.033))  # axes, and their standard deviations
CONE, VIEWS = 0.96, 0.27  # length of the mean of unit features; a view's share of what they vary
STEP, ROW, LENGTH = 4.0, 90.0, 900.0  # metres between scans, between the serpentine's rows, and their length
ASIDE = np.array([0.0, -500.0, 0.0])  # metres: where the street is whose voxels are ranked


@dataclass
class Town:
    """What is where, and what a network would say of it. words: unit (60, 512), the first five those of the town."""

    words: np.ndarray
    classes: np.ndarray
    head: np.ndarray
    inverse: np.ndarray
    things: np.ndarray
    noise: np.ndarray

    @classmethod
    def build(cls, channels: int, rng: np.random.Generator) -> Town:
        """Words as CLIP's lie, cosines about 0.8, what tells them apart being what tells the classes apart."""
        axes = np.linalg.qr(rng.normal(size=(DIM, channels + 2)))[0].T
        head = np.geomspace(5.0, 0.64, channels)[:, None] * axes[:channels]
        number = np.arange(channels) - 1.0  # the strongest axis of the head is that of the mean, and hardly varies
        fall = np.exp(np.interp(number, FALL[0], np.log(FALL[1]))) * np.where(number < 0, 0.1, 1)
        fall *= (FALL[1][-1] / FALL[1][-2]) ** (np.maximum(number - FALL[0][-1], 0) / 15)
        fall *= np.sqrt(1 - CONE**2) / np.linalg.norm(fall)

        def varied(count: int, share: float) -> np.ndarray:
            """What comes on top of the mean, with so much of the spread."""
            return share * fall * rng.normal(size=(count, channels)) @ axes[:channels]

        mean = axes[:1]
        classes = varied(WORDS, 0.65)
        words = _unit(
            0.9 * axes[-1] + 0.45 * _unit(classes - (classes @ mean.T) * mean)
        )  # none likelier from the start
        noise = VIEWS * fall[:, None] * axes[:channels]
        inverse = np.linalg.pinv(head)
        things = varied(997, np.sqrt(1 - 0.65**2 - VIEWS**2))
        parts = words, CONE * mean + classes[:5], head, inverse, things, noise
        return cls(*(each.astype(np.float32) for each in parts))

    def scan(self, place: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Centres of about ``count`` voxels within 40 m of a place of the road along x, and their classes."""
        kind = rng.choice(5, count, p=[0.4, 0.25, 0.2, 0.05, 0.1])
        side = np.where(rng.random(count) < 0.5, -1.0, 1.0)
        along = rng.uniform(-38, 38, count) + place[0]
        across, height = rng.uniform(-8, 8, count), np.zeros(count)
        house, tree, car, path = (kind == number for number in (HOUSE, TREE, CAR, PATH))
        across[house], height[house] = side[house] * 15, rng.uniform(0, 8, house.sum())
        along[tree] = np.round(along[tree] / 12) * 12 + rng.normal(0, 1, tree.sum())
        across[tree], height[tree] = side[tree] * 11 + rng.normal(0, 1, tree.sum()), rng.uniform(2, 6, tree.sum())
        along[car] = np.round(along[car] / 20) * 20 + rng.uniform(-2.2, 2.2, car.sum())
        across[car], height[car] = side[car] * 6 + rng.uniform(-0.9, 0.9, car.sum()), rng.uniform(0.3, 1.6, car.sum())
        across[path] = side[path] * rng.uniform(8, 15, path.sum())
        centres = np.stack([along, across + place[1], height], 1)
        return ((np.floor(centres / VOXEL) + 0.5) * VOXEL).astype(np.float32), kind

    def features(self, centres: np.ndarray, kind: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Point features: the class, a direction of the thing (cells of 8 m), and noise a view."""
        cell = (np.floor(centres[:, :2] / 8).astype(np.int64) @ [31, 17] + kind) % len(self.things)
        mixed = rng.normal(size=(len(kind), len(self.noise))).astype(np.float32) @ (self.noise @ self.inverse)
        return mixed + (self.classes @ self.inverse)[kind] + (self.things @ self.inverse)[cell]


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def places() -> Iterator[np.ndarray]:
    """Along the serpentine, for ever on."""
    for row in range(10**6):
        for x in np.arange(0, LENGTH, STEP):
            yield np.array([x if row % 2 == 0 else LENGTH - x, ROW * row, 0.0])


def timed(work: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """Median and least wall time of a call, and the median of the processors' time, in milliseconds."""
    wall, busy = [], []
    for _ in range(repeats):
        start, began = time.perf_counter(), time.process_time()
        work()
        wall.append((time.perf_counter() - start) * 1e3)
        busy.append((time.process_time() - began) * 1e3)
    return float(np.median(wall)), min(wall), float(np.median(busy))


def resident() -> int:
    """Bytes of this process that are in memory, after what is free has been given back to the system."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fill(town: Town, wanted: int, rng: np.random.Generator) -> tuple[SemanticMap, np.ndarray, float]:
    """A map of so many voxels, the last place, and the resident bytes a voxel that it took."""
    identity = EncoderIdentity("made-up", "none", DIM)
    centres, kind = town.scan(np.zeros(3), SCAN, rng)
    warm = SemanticMap(VOXEL, town.head, identity, max_voxels=SCAN)  # what libraries and threads take at first
    warm.integrate(centres, town.features(centres, kind, rng), 1, np.zeros(3))
    before = resident()
    semantic_map = SemanticMap(VOXEL, town.head, identity, max_voxels=int(wanted * 1.02) + 2 * SCAN)
    for stamp, place in enumerate(places()):
        centres, kind = town.scan(place, 2 * SCAN, rng)
        semantic_map.integrate(centres, town.features(centres, kind, rng), stamp + 1)
        if len(semantic_map) >= wanted:
            break
    return semantic_map, place, (resident() - before) / len(semantic_map)


def integration(town: Town, semantic_map: SemanticMap, place: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Rows of the table: scans every metre from the end of what is mapped, cleared and not."""
    rows = []
    for name, height in (
        ("integrate 20k voxels, free space cleared", 1.8),
        ("integrate 20k voxels, not cleared", None),
    ):
        scans = []
        for number in range(24):
            here = place + np.array([number - 12, 0, 0])
            centres, kind = town.scan(here, SCAN, rng)
            sensor = None if height is None else here + np.array([0, 0, height])
            scans.append((centres, town.features(centres, kind, rng), semantic_map.newest + 1 + number, sensor))
        turn = iter(scans)
        rows.append(_row(name, *timed(lambda turn=turn: semantic_map.integrate(*next(turn)), len(scans)), "25"))
    return rows


def queries(town: Town, semantic_map: SemanticMap, wide: int, rng: np.random.Generator) -> list[str]:
    """Rows of the table: the query, its scoring, and numpy's."""
    names = [f"word {number}" for number in range(WORDS)]
    bank = TextBank(tuple(names), town.words, semantic_map.identity, logit_scale=semantic_map.logit_scale)
    query = TextQuery([names[CAR]], background={name: [name] for name in names}, min_observations=1)
    asked = question(names[CAR], query, bank)
    found = ask(semantic_map, query, bank)
    score = timed(lambda: Scorer(semantic_map, asked).probabilities(), 9)
    key = Scorer(semantic_map, asked).hits(query.threshold, lambda chunk: chunk.weight >= 1).key
    rows, keys = semantic_map.occupied()
    truth = keys[Scorer(semantic_map, asked).exact(rows) >= query.threshold]
    wrong = len(np.setxor1d(key, truth)) / max(len(truth), 1)
    features = _unit(rng.normal(size=(wide, DIM))).astype(np.float32)

    def plain() -> np.ndarray:
        logits = np.float32(semantic_map.logit_scale) * (features @ asked.embeddings.T)
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return odds[:, 0] / odds.sum(1)

    whole = tuple(value * len(semantic_map) / wide for value in timed(plain, 3))
    number = len(asked.embeddings) - 1
    ratios = " | ".join(f"{plainly / mine:.0f}" for plainly, mine in zip(whole, score, strict=True))
    return [
        _row(f"score every voxel against {number} rivals", *score, "20"),
        _row(
            f"one-word query: {sum(match.count for match in found)} voxels in {len(found)} things",
            *timed(lambda: ask(semantic_map, query, bank), 9),
            "60",
        ),
        _row(f"numpy float32 {DIM}-d scores of as many ({wide} timed)", *whole, ""),
        f"| numpy / map, scores | {ratios} | |",
        f"| sure voxels ({len(truth)}): decided otherwise than by their own bytes | {wrong:.1%} | | | |",
    ]


def together(town: Town, semantic_map: SemanticMap, place: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Rows of the table: scans at 10 Hz, while two threads ask without a pause and a third reads all voxels again."""
    names = [f"word {number}" for number in range(WORDS)]
    bank = TextBank(tuple(names), town.words, semantic_map.identity, logit_scale=semantic_map.logit_scale)
    query = TextQuery([names[CAR]], background={name: [name] for name in names}, min_observations=1)
    done, asked, waited = threading.Event(), [], []

    def repeat(work: Callable[[], object], spent: list[float]) -> None:
        while not done.is_set():
            start = time.perf_counter()
            work()
            spent.append((time.perf_counter() - start) * 1e3)

    works = [lambda: ask(semantic_map, query, bank)] * 2 + [lambda: sum(map(len, semantic_map.records()))]
    threads = [
        threading.Thread(target=repeat, args=(work, asked if number < 2 else [])) for number, work in enumerate(works)
    ]
    for thread in threads:
        thread.start()
    for number in range(30):
        centres, kind = town.scan(place + np.array([number - 15, 0, 0]), SCAN, rng)
        features, start = town.features(centres, kind, rng), time.perf_counter()
        semantic_map.integrate(centres, features, semantic_map.newest + 1, place + np.array([number - 15, 0, 1.8]))
        waited.append((time.perf_counter() - start) * 1e3)
        time.sleep(max(0.0, 0.1 - waited[-1] / 1e3))
    done.set()
    for thread in threads:
        thread.join()
    named = (("integrate and clear", waited), ("query", asked))
    return [
        f"| {name}, beside two queries and a save | {np.median(spent):.1f} ms | worst {max(spent):.1f} ms | | |"
        for name, spent in named
    ]


def ranking(town: Town, semantic_map: SemanticMap, rng: np.random.Generator) -> list[str]:
    """Rows of the table: average precision of each of the town's words in a street that is seen eight times at last, by
    exact means, by bytes, as a query ranks, and by codes."""
    centres, kind = town.scan(ASIDE, 60_000, rng)
    _, first = np.unique(np.floor(centres / VOXEL), axis=0, return_index=True)
    centres, kind, exact = centres[first], kind[first], np.zeros((len(first), DIM), np.float64)
    for _ in range(8):
        features = town.features(centres, kind, rng)
        exact += _unit((features @ town.head).astype(np.float64))
        semantic_map.integrate(centres, features, semantic_map.newest + 1)
    rows, keys = semantic_map.occupied()
    order, mine = np.argsort(keys), voxel_keys(centres, VOXEL)
    by_key = np.argsort(mine)
    keys, rows = mine[by_key], rows[order][np.searchsorted(keys[order], mine[by_key])]
    means = semantic_map.take(rows).features
    losses: dict[str, list[float]] = {"exact": [], "bytes": [], "query": [], "codes": []}
    names = [f"word {number}" for number in range(WORDS)]
    bank = TextBank(tuple(names), town.words, semantic_map.identity)
    least = np.float32(TextQuery.threshold * TextQuery.extent)
    for number in range(5):
        asked = question(names[number], TextQuery([names[number]], negatives=names), bank)
        rivals = asked.embeddings[1:] - asked.embeddings[0]
        truth = kind[by_key] == number
        scorer = Scorer(semantic_map, asked)
        hits, codes = scorer.hits(least, lambda chunk: chunk.weight > 0), scorer.probabilities()[rows]
        answered, own = np.minimum(codes, np.nextafter(least, np.float32(0))), np.isin(hits.key, keys)
        answered[np.searchsorted(keys, hits.key[own])] = hits.probability[own]
        scores = {
            "exact": probability_of(exact[by_key].astype(np.float32), rivals, semantic_map.logit_scale),
            "bytes": probability_of(means, rivals @ semantic_map.basis.T, semantic_map.logit_scale),
            "query": answered,
            "codes": codes,
        }
        for name, score in scores.items():
            losses[name].append(average_precision(score, truth))
    values = {name: 100 * float(np.mean(found)) for name, found in losses.items()}
    return [
        f"| mean AP of 5 words, exact float32 | {values['exact']:.2f} | | | |",
        f"| the same, the map's bytes | {values['bytes']:.2f} | | | |",
        f"| the same, as a query ranks them | {values['query']:.2f} | | | {values['exact'] - 1:.2f} |",
        f"| the same, codes alone | {values['codes']:.2f} | | | |",
    ]


def average_precision(score: np.ndarray, truth: np.ndarray) -> float:
    """Mean of the precision at each true row, best first; equal scores stand in the order of a fixed shuffle."""
    shuffle = np.random.default_rng(0).permutation(len(score))
    hit = truth[shuffle][np.argsort(-score[shuffle], kind="stable")]
    return float((np.cumsum(hit) / np.arange(1, len(hit) + 1))[hit].mean())


def _row(name: str, median: float, least: float, busy: float, target: str) -> str:
    return f"| {name} | {median:.1f} ms | {least:.1f} ms | {busy:.1f} ms | {target} |"


def report(channels: int, wanted: int, wide: int) -> str:
    """A table for a head of so many channels."""
    rng = np.random.default_rng(0)
    town = Town.build(channels, rng)
    semantic_map, place, taken = fill(town, wanted, rng)
    own = semantic_map.nbytes / len(semantic_map)
    lines = [
        f"\n{channels} channels, {len(semantic_map)} voxels, {int(semantic_map.codes().vectors.any(1).sum())} codes\n",
        "| | median | least | processor time | wanted |",
        "|---|---|---|---|---|",
        *integration(town, semantic_map, place, rng),
        *queries(town, semantic_map, wide, rng),
        *together(town, semantic_map, place, rng),
        f"| bytes a voxel, resident (the map's own count: {own:.1f}) | {taken:.1f} | | | 100 |",
        *ranking(town, semantic_map, rng),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill, time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=int, default=5_000_000)
    parser.add_argument("--channels", type=int, nargs="+", default=[48, 96])
    parser.add_argument("--wide", type=int, default=200_000, help="rows that numpy scores")
    parser.add_argument("--out", type=Path, help="Markdown file to write the tables to")
    options = parser.parse_args(arguments)
    command = " ".join(["python benchmarks/map.py", *(sys.argv[1:] if arguments is None else arguments)])
    head = f"`{command}`\n\n{os.cpu_count()} cores ({platform.processor() or platform.machine()}), "
    head += f"load {os.getloadavg()[0]:.1f} at the start"
    tables = [head, *(report(channels, options.voxels, options.wide) for channels in options.channels)]
    print("\n".join(tables))
    if options.out:
        options.out.write_text("\n".join(tables) + "\n")


if __name__ == "__main__":
    main()
