"""Who waits for whom in a large map: ``python benchmarks/map_concurrency.py [--voxels 5000000] [--out FILE.md]``.

The made-up town of ``benchmarks/map.py`` fills a map. Then, in three stages of ``--seconds`` each, scans of 20,000
voxels are integrated at 10 Hz: alone, beside two threads that ask without a pause, and with a third that saves without
a pause to ``--folder``. Printed are, for each, the longest call, and the longest that a thread waited for the map's
lock and held it. A call's time has all that the processors' other work and the interpreter's lock do to it; what the
map itself makes others wait is the time its lock is held.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from map import CAR, SCAN, WORDS, Town, fill

from ov3d_perception.language.vocabulary import TextBank
from ov3d_perception.mapping.query import TextQuery, ask
from ov3d_perception.mapping.save_load import load_map, save_map
from ov3d_perception.mapping.semantic_map import SemanticMap

Work = Callable[[], object]


class WatchedLock:
    """A re-entrant lock that notes how long each thread waited for it and held it, in milliseconds by thread name."""

    def __init__(self) -> None:
        self._lock, self._depth, self._since = threading.RLock(), 0, 0.0
        self.waited: dict[str, list[float]] = {}
        self.held: dict[str, list[float]] = {}

    def __enter__(self) -> None:
        start = time.perf_counter()
        self._lock.acquire()
        self._depth += 1
        if self._depth == 1:
            self._since = time.perf_counter()
            self._note(self.waited, self._since - start)

    def __exit__(self, *_: object) -> None:
        if self._depth == 1:
            self._note(self.held, time.perf_counter() - self._since)
        self._depth -= 1
        self._lock.release()

    @staticmethod
    def _note(table: dict[str, list[float]], seconds: float) -> None:
        name = threading.current_thread().name
        pools = {"queries": "2 queries", "writer": "scan"}  # the map's own threads, and for whom they work
        table.setdefault(pools.get(re.split("[-_]", name)[0], name), []).append(seconds * 1e3)


def stage(
    semantic_map: SemanticMap,
    works: Sequence[tuple[str, Callable[[], object]]],
    scan: Callable[[], object],
    long: float,
) -> list[str]:
    """Rows of the table: the works repeated in threads of their own, the scan at 10 Hz."""
    lock, done, calls = WatchedLock(), threading.Event(), {name: [] for name, _ in (*works, ("scan", scan))}
    semantic_map._lock = lock

    def repeat(name: str, work: Work, period: float) -> None:
        while not done.is_set():
            start = time.perf_counter()
            work()
            calls[name].append((time.perf_counter() - start) * 1e3)
            time.sleep(max(0.0, period - calls[name][-1] / 1e3))

    threads = [threading.Thread(target=repeat, args=(*work, 0.0), name=work[0]) for work in works]
    threads.append(threading.Thread(target=repeat, args=("scan", scan, 0.1), name="scan"))
    for thread in threads:
        thread.start()
    time.sleep(long)
    done.set()
    for thread in threads:
        thread.join()
    beside = " + ".join(calls)
    return [
        f"| {beside} | {name} | {len(spent)} | {np.median(spent):.1f} | {max(spent):.1f} | "
        f"{max(lock.waited.get(name, [0.0])):.1f} | {max(lock.held.get(name, [0.0])):.1f} |"
        for name, spent in calls.items()
    ]


def scans(town: Town, semantic_map: SemanticMap, place: np.ndarray, rng: np.random.Generator) -> Work:
    """Integrates the next of some prepared scans, round and round."""
    prepared = []
    for number in range(20):
        here = place + np.array([number - 10.0, 0.0, 0.0])
        centres, kind = town.scan(here, SCAN, rng)
        prepared.append((centres, town.features(centres, kind, rng), here + np.array([0.0, 0.0, 1.8])))
    count = iter(range(10**9))

    def scan() -> None:
        number = next(count)
        centres, features, sensor = prepared[number % len(prepared)]
        semantic_map.integrate(centres, features, semantic_map.newest + 1, sensor)

    return scan


def report(voxels: int, channels: int, seconds: float, folder: Path) -> str:
    """The table."""
    rng = np.random.default_rng(0)
    town = Town.build(channels, rng)
    semantic_map, place, _ = fill(town, voxels, rng)
    names = [f"word {number}" for number in range(WORDS)]
    bank = TextBank(tuple(names), town.words, semantic_map.identity, logit_scale=semantic_map.logit_scale)
    query = TextQuery([names[CAR]], background={name: [name] for name in names}, min_observations=1)
    scan, path = scans(town, semantic_map, place, rng), folder / "benchmark.ov3dmap"
    works = [("2 queries", lambda: ask(semantic_map, query, bank))] * 2 + [
        ("save", lambda: save_map(semantic_map, path))
    ]
    lines = [
        f"\n{len(semantic_map)} voxels, {channels} channels; milliseconds\n",
        "| at once | | calls | median | longest | longest wait for the map | longest hold of it |",
        "|---|---|---|---|---|---|---|",
    ]
    for number in (0, 2, 3):
        lines += stage(semantic_map, works[:number], scan, seconds)
    size, start = path.stat().st_size, time.perf_counter()
    loaded = len(load_map(path))
    lines.append(f"\nFile {size / 1e6:.0f} MB; loaded, {loaded} voxels, in {time.perf_counter() - start:.1f} s")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=int, default=5_000_000)
    parser.add_argument("--channels", type=int, default=96)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each stage")
    parser.add_argument("--folder", type=Path, help="where the map is saved to; default: the system's temporary folder")
    parser.add_argument("--out", type=Path, help="Markdown file to write the table to")
    options = parser.parse_args(arguments)
    command = " ".join(["python benchmarks/map_concurrency.py", *(sys.argv[1:] if arguments is None else arguments)])
    head = f"`{command}`\n\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start"
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        text = head + "\n" + report(options.voxels, options.channels, options.seconds, Path(folder))
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
