"""Speed and size of the semantic map: ``python benchmarks/map.py [--voxels 1000000]``.

Integration of a scan of 20,000 voxels into a full map (with and without clearing of free space), and a one-word query
against the words of a vocabulary of 20. Prints medians; run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from ov3d_perception.language.vocabulary import TextBank
from ov3d_perception.mapping.query import TextQuery, ask
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.types import EncoderIdentity

CHANNELS, DIM, SCAN = 96, 512, 20_000
WORDS = tuple(f"word {number}" for number in range(20))


def milliseconds(work: Callable[[], object], repeats: int = 15) -> str:
    """Median and worst wall time of a call."""
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        spent.append((time.perf_counter() - start) * 1e3)
    return f"{np.median(spent):7.1f} ms, worst {max(spent):7.1f} ms"


def main() -> None:
    """Fill a map, then time it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxels", type=int, default=1_000_000)
    wanted = parser.parse_args().voxels
    rng = np.random.default_rng(0)
    identity = EncoderIdentity("random", "none", DIM)
    basis = rng.normal(size=(CHANNELS, DIM)).astype(np.float32)
    semantic_map = SemanticMap(0.2, basis, identity, max_voxels=wanted + 10 * SCAN)
    directions = rng.normal(size=(CHANNELS // 4, CHANNELS)).astype(np.float32)
    while len(semantic_map) < wanted:
        place = rng.uniform(-500, 500, 3) * [1, 1, 0]
        centres = (rng.uniform((-40, -40, -2), (40, 40, 4), (SCAN, 3)) + place).astype(np.float32)
        features = directions[rng.integers(len(directions), size=SCAN)]
        semantic_map.integrate(centres, features, semantic_map.revision + 1)
    count, size = len(semantic_map), semantic_map.nbytes
    print(f"{count} voxels, {size / 1e6:.0f} MB, {size / count:.0f} bytes each")
    sensor = np.zeros(3)
    scans = [rng.uniform((-40, -40, -2), (40, 40, 4), (SCAN, 3)).astype(np.float32) for _ in range(8)]
    turn = iter(range(10**6))

    def integrate(position: np.ndarray | None) -> None:
        number = next(turn)
        semantic_map.integrate(scans[number % 8], features, semantic_map.revision + 1, position)

    print("integrate 20k voxels      ", milliseconds(lambda: integrate(None)))
    print("integrate and clear       ", milliseconds(lambda: integrate(sensor)))
    bank = TextBank(WORDS, rng.normal(size=(len(WORDS), DIM)).astype(np.float32), identity)
    query = TextQuery(WORDS[:1], background={word: [word] for word in WORDS})
    print("one-word query            ", milliseconds(lambda: ask(semantic_map, query, bank), repeats=5))


if __name__ == "__main__":
    main()
