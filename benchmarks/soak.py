"""Half an hour of driving through the map: ``python benchmarks/soak.py [--minutes 30] [--out docs/images/soak.png]``.

A simulated drive of ``--section`` seconds is looped at 10 Hz, without ROS and as fast as the machine can: each section
is driven twice, then the world goes on where it ended, so that new ground comes all the time and the map's bound is
reached and kept by eviction. Free space is cleared as in the node. Every 20 scans the map is asked a word, every minute
of the drive it is saved. Every 10 seconds of the drive the process' resident memory is read, after what is free has
been given back to the system; the scan that comes then, which has to fetch that again, is left out of the times. The
picture has memory, voxels and latencies over the drive's time; the JSON beside it has the same in numbers, and what
grew after the bound was reached.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ov3d_perception.geometry.poses import transform
from ov3d_perception.geometry.voxels import voxel_centres, voxel_keys
from ov3d_perception.language.vocabulary import TextBank
from ov3d_perception.mapping.query import TextQuery, ask
from ov3d_perception.mapping.save_load import save_map
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.models import shipped_bank
from ov3d_perception.sim.classes import NAMES
from ov3d_perception.sim.drive import simulate

VOXEL, RATE, CHANNELS, NOISE = 0.2, 10, 96, 0.35
ASKS, READS, SAVES = 20, 100, 600  # scans from one query, reading of the memory or save to the next


@dataclass(frozen=True)
class Section:
    """Scans of a drive: voxel centres in the world, point features, sensor positions; and how far it goes (metres)."""

    centres: list[np.ndarray]
    features: list[np.ndarray]
    sensors: np.ndarray
    advance: np.ndarray

    def save(self, path: Path) -> None:
        """Keep it in a file (.npz)."""
        stops = np.cumsum([len(centres) for centres in self.centres])
        parts = {"centres": np.concatenate(self.centres), "features": np.concatenate(self.features), "stops": stops}
        np.savez(path, **parts, sensors=self.sensors, advance=self.advance)

    @classmethod
    def load(cls, path: Path) -> Section:
        """What was kept."""
        with np.load(path) as kept:
            centres, features = (np.split(kept[name], kept["stops"][:-1]) for name in ("centres", "features"))
            return cls(centres, features, kept["sensors"], kept["advance"])


@dataclass
class Log:
    """Series over the drive, each row begun by the drive's seconds. Then, in milliseconds, wall and processors' time of
    a scan's integration, wall time of a query or a save; memory: resident MB and allocated MB more than before the
    first scan, voxels, MB by the map's own count."""

    scan: np.ndarray  # (scans, 3), made beforehand; NaN where something else was measured, too
    query: list[tuple[float, float]] = field(default_factory=list)
    save: list[tuple[float, float]] = field(default_factory=list)
    memory: list[tuple[float, float, float, int, float]] = field(default_factory=list)


def simulated(seed: int, seconds: float, head: np.ndarray, words: np.ndarray) -> Section:
    """One drive through the simulator, its classes' embeddings with noise for features."""
    rng, inverse = np.random.default_rng(seed), np.linalg.pinv(head)
    centres, features, sensors = [], [], []
    for frame in simulate(seed, seconds, cameras=False):
        world = transform(frame.T_world_lidar, frame.scan.xyz)
        keys, first = np.unique(voxel_keys(world, VOXEL), return_index=True)
        wide = words[np.clip(frame.labels[first], 0, len(words) - 1)]
        mixed = wide + NOISE / np.sqrt(CHANNELS) * rng.normal(size=(len(keys), CHANNELS)) @ head
        centres.append(voxel_centres(keys, VOXEL).astype(np.float32))
        features.append((mixed @ inverse).astype(np.float32))
        sensors.append(frame.T_world_lidar[:3, 3])
    travelled = sensors[-1] - sensors[0]
    advance = np.round(travelled / VOXEL) * VOXEL * [1, 1, 0]
    return Section(centres, features, np.array(sensors), advance)


def vocabulary() -> tuple[TextBank, np.ndarray, np.ndarray]:
    """The shipped bank, a head of orthonormal rows that can say its classes' words, and those words."""
    bank = TextBank.load(shipped_bank())
    words = bank.embed([name.replace("_", " ") if name.replace("_", " ") in bank else "object" for name in NAMES])
    rest = np.random.default_rng(0).normal(size=(CHANNELS - len(words), words.shape[1]))
    head = np.linalg.qr(np.concatenate([words, rest]).T)[0].T.astype(np.float32)
    return bank, head, words


class Stops:
    """Notices that the process was stopped and went on (SIGSTOP, SIGCONT): such a scan's wall time says nothing."""

    def __init__(self) -> None:
        self.count = 0
        signal.signal(signal.SIGCONT, self._went_on)

    def _went_on(self, *_: object) -> None:
        self.count += 1


def drive(section: Section, semantic_map: SemanticMap, query: TextQuery, bank: TextBank, scans: int) -> Log:
    """Integrate so many scans; ask and save on the way."""
    log, length, stops = Log(np.full((scans, 3), np.nan)), len(section.centres), Stops()
    before = resident(), allocated()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(scans):
            place, at = number % length, number / RATE
            shift = section.advance * (number // length // 2)
            centres, sensor = section.centres[place] + shift.astype(np.float32), section.sensors[place] + shift
            start, began, stopped = time.perf_counter(), time.process_time(), stops.count
            semantic_map.integrate(centres, section.features[place], (number + 1) * 10**8, sensor)
            wall, busy = (time.perf_counter() - start) * 1e3, (time.process_time() - began) * 1e3
            if stops.count == stopped and number % READS:
                log.scan[number] = at, wall, busy
            if number % ASKS == ASKS - 1:
                start, stopped = time.perf_counter(), stops.count
                ask(semantic_map, query, bank)
                if stops.count == stopped:
                    log.query.append((at, (time.perf_counter() - start) * 1e3))
            if number % READS == READS - 1:
                grown = ((now - then) / 1e6 for now, then in zip((resident(), allocated()), before, strict=True))
                log.memory.append((at, *grown, len(semantic_map), semantic_map.nbytes / 1e6))
            if number % SAVES == SAVES - 1:
                start = time.perf_counter()
                save_map(semantic_map, Path(folder) / "soak.ov3dmap")
                log.save.append((at, (time.perf_counter() - start) * 1e3))
    return log


def timed(log: Log) -> np.ndarray:
    """The scans whose times were measured."""
    return log.scan[~np.isnan(log.scan[:, 0])]


def resident() -> int:
    """Bytes of this process that are in memory, after what is free has been given back to the system."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class _MallocInfo(ctypes.Structure):
    """What glibc's mallinfo2 returns."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = tuple((name, ctypes.c_size_t) for name in _names)


def allocated() -> float:
    """Bytes that the process has asked the C library for and not given back; NaN where it does not tell.

    What is resident beyond that are the holes between them: it goes up and down.
    """
    inform = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if inform is None:
        return float("nan")
    inform.restype = _MallocInfo
    found = inform()
    return float(found.uordblks + found.hblkhd)


def summary(log: Log, semantic_map: SemanticMap, section: Section, wall: float) -> dict[str, object]:
    """Figures; from when the bound was reached (98 % of it) to the end, what grew a minute of the drive."""
    memory, scans = np.array(log.memory), len(log.scan)
    loop = float(np.linalg.norm(np.diff(section.sensors, axis=0), axis=1).sum())
    seen = memory[[0, memory[:, 1].argmax(), -1], 1]
    full = memory[:, 3] >= 0.98 * semantic_map.max_voxels
    since = float(memory[np.argmax(full), 0]) if full.any() else float("inf")
    result: dict[str, object] = {
        "scans": scans,
        "of these left out of the times": int(np.isnan(log.scan[:, 0]).sum()),
        "seconds of driving": scans / RATE,
        "seconds it took": round(wall, 1),
        "metres": round(loop * scans / len(section.centres)),
        "voxels a scan": round(float(np.mean([len(centres) for centres in section.centres]))),
        "bound": semantic_map.max_voxels,
        "most voxels": int(memory[:, 3].max()),
        "evicted": semantic_map.evicted,
        "bound reached after [s]": since,
        "resident beyond the start [MB]: at first, most, at last": np.round(seen, 1).tolist(),
    }
    scan = timed(log)
    measured = {"resident beyond the start [MB]": memory[:, :2], "allocated beyond the start [MB]": memory[:, [0, 2]]}
    measured |= {"integration [ms]": scan[:, :2]}
    measured |= {"integration, processors' time [ms]": scan[:, [0, 2]], "query [ms]": np.array(log.query)}
    for name, series in measured.items():
        later = np.array([row for row in series if row[0] >= since])
        if len(later) < 10:
            continue
        thirds = np.array_split(later[:, 1], 3)
        result[name] = {
            "median of the first third": round(float(np.median(thirds[0])), 2),
            "median of the last third": round(float(np.median(thirds[-1])), 2),
            "99 %": round(float(np.percentile(later[:, 1], 99)), 2),
            "longest": round(float(later[:, 1].max()), 2),
            "slope a minute": round(float(np.polyfit(later[:, 0] / 60, later[:, 1], 1)[0]), 4),
        }
    return result


def series(log: Log) -> dict[str, list[float]]:
    """What the picture shows: a value for each reading of the memory, of times the median or the longest till then."""
    memory, scan, query = np.array(log.memory), timed(log), np.array(log.query)
    result = {"at [s]": memory[:, 0], "resident beyond the start [MB]": memory[:, 1]}
    result |= {"allocated beyond the start [MB]": memory[:, 2], "the map's own count [MB]": memory[:, 4]}
    result |= {"voxels [millions]": memory[:, 3] / 1e6}
    for name, rows, column, of in (
        ("integration, median [ms]", scan, 1, np.median),
        ("integration, longest [ms]", scan, 1, np.max),
        ("integration, processors' time, median [ms]", scan, 2, np.median),
        ("query, median [ms]", query, 1, np.median),
    ):
        parts = np.split(rows[:, column], np.searchsorted(rows[:, 0], memory[:-1, 0], side="right"))
        result[name] = np.array([of(part) if len(part) else np.nan for part in parts])
    return {name: np.round(values, 2).tolist() for name, values in result.items()}


def draw(shown: Mapping[str, list[float]], figures: Mapping[str, Any], path: Path) -> None:
    """Three panels over the minutes of the drive: memory, voxels, latencies."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(3, 1, figsize=(13, 8), sharex=True, constrained_layout=True)
    minutes, since = np.array(shown["at [s]"]) / 60, figures["bound reached after [s]"] / 60
    for panel, unit in zip(panels, ("MB", "millions", "ms"), strict=True):
        for name, values in shown.items():
            if name.endswith(f"[{unit}]"):
                panel.plot(minutes, values, label=name, linewidth=0.7 if "longest" in name else 1.5)
        if np.isfinite(since):
            panel.axvline(since, color="grey", linewidth=0.8, label="bound reached")
        panel.set(ylabel=unit, ylim=(0, None))
        panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small")
        panel.grid(alpha=0.3)
    panels[1].axhline(figures["bound"] / 1e6, color="black", linestyle=":")
    panels[2].set(xlabel="minutes of driving at 10 Hz")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, drive, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--max-voxels", type=int, default=1_000_000)
    parser.add_argument("--section", type=float, default=40.0, help="seconds of the drive that is looped")
    parser.add_argument("--seed", type=int, default=2000, help="which simulated world")
    parser.add_argument("--cache", type=Path, help="file (.npz) to keep the simulated section in, or to take it from")
    parser.add_argument("--eviction", default="oldest", choices=("oldest", "farthest"))
    parser.add_argument("--out", type=Path, default=Path("docs/images/soak.png"), help="JSON goes beside it")
    options = parser.parse_args(arguments)
    bank, head, words = vocabulary()
    if options.cache and options.cache.exists():
        section = Section.load(options.cache)
    else:
        section = simulated(options.seed, options.section, head, words)
        if options.cache:
            section.save(options.cache)
    semantic_map = SemanticMap(
        VOXEL, head, bank.identity, bank.logit_scale, options.max_voxels, eviction=options.eviction
    )
    query = TextQuery(["car"], background={name: [name] for name in bank.words})
    start = time.perf_counter()
    scans = round(options.minutes * 60 * RATE)
    log = drive(section, semantic_map, query, bank, scans)
    command = " ".join(["python benchmarks/soak.py", *(sys.argv[1:] if arguments is None else arguments)])
    figures = {"command": command, **summary(log, semantic_map, section, time.perf_counter() - start)}
    print(json.dumps(figures, indent=2))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    shown = series(log)
    options.out.with_suffix(".json").write_text(json.dumps({"figures": figures, "series": shown}) + "\n")
    draw(shown, figures, options.out)


if __name__ == "__main__":
    main()
