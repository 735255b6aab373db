"""A save that is killed, or that the disk has no room for, loses nothing; and nobody waits for one that goes well."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from map_files import BANK, WORDS, C, empty, town

from ov3d_perception.errors import WriteError
from ov3d_perception.mapping.query import TextQuery, ask
from ov3d_perception.mapping.save_load import load_map, save_map
from ov3d_perception.mapping.semantic_map import SemanticMap

SAVER = """
import itertools, sys
sys.path.insert(0, sys.argv[1])
from map_files import town
from ov3d_perception.mapping.save_load import save_map

maps = town(seed=1, scans=3), town(seed=2, scans=6)
print("ready", flush=True)
for number in itertools.count():
    save_map(maps[number % 2], sys.argv[2])
    print("saved", flush=True)
"""


@pytest.fixture
def saver(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that saves two maps to one file in turn, for ever."""
    command = [sys.executable, "-c", SAVER, str(Path(__file__).parent), str(tmp_path / "site.ov3dmap")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("seed", range(4))
def test_killed_while_saving(saver: subprocess.Popen[str], tmp_path: Path, seed: int) -> None:
    """Stopped at many random moments the file is whole each time, and so it is after the last, deadly one."""
    path, random = tmp_path / "site.ov3dmap", np.random.default_rng(seed)
    sizes = {len(town(seed=1, scans=3)), len(town(seed=2, scans=6))}
    assert saver.stdout is not None and saver.stdout.readline() == "saved\n"
    moments, seen = 15, set()
    for _ in range(moments):
        time.sleep(random.uniform(0, 0.03))
        saver.send_signal(signal.SIGSTOP)  # what is on the disk now is what a kill would leave
        seen.add(len(load_map(path)))
        saver.send_signal(signal.SIGCONT)
    time.sleep(random.uniform(0, 0.03))
    saver.send_signal(signal.SIGKILL)
    assert saver.wait() == -signal.SIGKILL
    assert seen | {len(load_map(path))} <= sizes
    assert len(os.listdir(tmp_path)) <= 2, "the map and at most one leftover"
    save_map(empty(), path)
    assert os.listdir(tmp_path) == ["site.ov3dmap"], "which the next save removes"


def test_what_another_process_is_writing_is_no_leftover(saver: subprocess.Popen[str], tmp_path: Path) -> None:
    """Two that save to one file at once: each save succeeds, and the file is one of theirs."""
    for _ in range(10):
        save_map(town(seed=3, scans=1), tmp_path / "site.ov3dmap")
    assert saver.poll() is None and len(load_map(tmp_path / "site.ov3dmap")) > 0


def keeps_the_old_file(folder: Path, match: str) -> None:
    """A map that is too large for the folder is refused and leaves no trace."""
    path = folder / "site.ov3dmap"
    save_map(town(scans=1), path)
    before = path.read_bytes()
    with pytest.raises(WriteError, match=match):
        save_map(town(scans=40), path)
    assert os.listdir(folder) == ["site.ov3dmap"] and path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_full_disk(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "none", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        keeps_the_old_file(tmp_path, r"No space left on device.*Free some space")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_no_room_for_so_large_a_file(tmp_path: Path) -> None:
    """The same without a mount: the system refuses to let the file grow."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, limits[1]))
    try:
        keeps_the_old_file(tmp_path, r"File too large.*Free some space")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def concurrent_works(path: Path) -> tuple[SemanticMap, dict[str, Callable[[], object]]]:
    """A map of many voxels, and what is done with it at once."""
    rng, semantic_map = np.random.default_rng(0), empty(max_voxels=400_000)

    def scan() -> None:
        centres = rng.uniform((0, 0, 0), (90, 90, 12), (20_000, 3)).astype(np.float32)
        semantic_map.integrate(centres, rng.normal(size=(20_000, C)).astype(np.float32), time.time_ns())

    while len(semantic_map) < 310_000:
        scan()
    query = TextQuery(WORDS[:1], negatives=WORDS, min_observations=1)
    works = {
        "query 1": lambda: ask(semantic_map, query, BANK),
        "query 2": lambda: ask(semantic_map, query, BANK),
        "save": lambda: save_map(semantic_map, path),
        "scan": scan,
    }
    return semantic_map, works


def test_two_queries_a_save_and_the_integration_at_once(tmp_path: Path) -> None:
    """All go on beside each other, and every file saved on the way is sound; benchmarks/map_concurrency.py times it."""
    path = tmp_path / "site.ov3dmap"
    _, works = concurrent_works(path)
    finished: dict[str, int] = dict.fromkeys(works, 0)
    faults: list[Exception] = []

    def repeat(name: str) -> None:
        try:
            while min(finished.values()) < 5 and not faults:
                works[name]()
                finished[name] += 1
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=repeat, args=(name,)) for name in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert len(load_map(path)) > 300_000


def test_nobody_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk takes its time over a save, scans come in and questions are answered."""
    semantic_map, works = concurrent_works(tmp_path / "site.ov3dmap")
    writing, written = threading.Event(), threading.Event()

    def slow(_: int) -> None:
        writing.set()
        written.wait()

    monkeypatch.setattr("ov3d_perception.files.os.fsync", slow)
    save = threading.Thread(target=works["save"])
    save.start()
    writing.wait()
    others = [threading.Thread(target=works[name], daemon=True) for name in ("query 1", "scan")]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join(60.0)
    waiting = [thread for thread in others if thread.is_alive()]
    written.set()
    save.join()
    assert not waiting and len(semantic_map) > 310_000
