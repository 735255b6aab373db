"""The ledger of a site: what is in force, what a rollback brings back, and that nothing is lost when a writer dies."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ov3d_perception.errors import LedgerError, WriteError
from ov3d_perception.ledger import ACCEPTED, REJECTED, Site, file_hash, resolve


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with two networks, none of them in force."""
    site = Site(tmp_path / "site")
    site.begin()
    for number in (1, 2):
        candidate = tmp_path / f"candidate{number}"
        candidate.write_bytes(b"network %d" % number)
        site.add(candidate, ["monday", "tuesday"], ACCEPTED, ["better"], {"agreement": 0.7})
    return site


def test_versions_say_where_they_come_from(site: Site, tmp_path: Path) -> None:
    first, second = site.read().versions
    assert (first.number, second.number, second.checkpoint) == (1, 2, "networks/0002.safetensors")
    assert second.sha256 == file_hash(tmp_path / "candidate2") == file_hash(site.folder / second.checkpoint)
    assert second.bags == ("monday", "tuesday") and second.verdict == ACCEPTED and second.figures == {"agreement": 0.7}
    assert "@" in second.by and second.made.endswith("Z")


def test_the_shipped_network_is_in_force_until_another_is(site: Site) -> None:
    assert site.checkpoint() is None and resolve(site.folder, Path("shipped")) == Path("shipped")
    site.put_in_force(2, "the gate accepted it")
    assert resolve(site.folder, Path("shipped")).read_bytes() == b"network 2"
    assert resolve("", Path("shipped")) == Path("shipped") and resolve("a.b", Path("shipped")) == Path("a.b")


def test_rollbacks_go_back_step_by_step(site: Site) -> None:
    for number in (1, 2):
        site.put_in_force(number, "accepted")
    assert site.read().previous == 1
    assert site.roll_back("it failed").in_force == 1
    assert site.roll_back("this one, too").in_force == 0
    with pytest.raises(LedgerError, match="nothing to roll back"):
        site.roll_back("once more")
    assert [(c.before, c.to, c.rollback) for c in site.read().changes] == [
        (0, 1, False), (1, 2, False), (2, 1, True), (1, 0, True),
    ]  # fmt: skip


def test_a_rollback_of_what_is_not_in_force_changes_nothing(site: Site) -> None:
    site.put_in_force(1, "accepted")
    assert site.roll_back("late news of network 2", number=2).in_force == 1


def test_the_same_file_is_one_version(site: Site, tmp_path: Path) -> None:
    again = site.add(tmp_path / "candidate2", ["monday"], REJECTED, ["worse on old places"])
    assert again.number == 2 and len(site.read().versions) == 2 and site.read().version(2).verdict == REJECTED


def test_a_network_knows_its_site(site: Site, tmp_path: Path) -> None:
    found = Site.around(site.folder / "networks" / "0001.safetensors")
    assert found is not None and found.folder == site.folder
    assert Site.around(tmp_path / "candidate1") is None


def test_a_spoiled_network_is_not_used(site: Site) -> None:
    site.put_in_force(1, "accepted")
    path = site.folder / "networks" / "0001.safetensors"
    path.write_bytes(b"spoiled")
    with pytest.raises(LedgerError, match="is not the file that was handed over"):
        site.checkpoint()
    path.unlink()
    with pytest.raises(LedgerError, match="is gone"):
        site.checkpoint()


@pytest.mark.parametrize(
    "text", ["", "no: ledger", "[1, 2", "began: ''\nin_force: 7\nversions: []\nchanges: []\n", "\xff\xfe"]
)
def test_a_ledger_that_makes_no_sense_is_an_error(site: Site, text: str) -> None:
    site.path.write_text(text, encoding="latin-1")
    with pytest.raises(LedgerError):
        site.read()
    with pytest.raises(LedgerError):
        site.put_in_force(1, "accepted")
    assert site.path.read_text(encoding="latin-1") == text, "what a person may repair is not written over"


def test_a_folder_that_is_no_site_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="is no site"):
        resolve(tmp_path, Path("shipped"))


def test_a_rollback_of_what_is_no_site_makes_none(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="is no site"):
        Site(tmp_path / "misspelt").roll_back("asked for by hand")
    assert not list(tmp_path.iterdir())


def test_networks_of_a_lost_ledger_are_not_written_over(site: Site, tmp_path: Path) -> None:
    site.path.unlink()
    site.begin()
    (tmp_path / "another").write_bytes(b"another network")
    assert site.add(tmp_path / "another", ["wednesday"], ACCEPTED).number == 3
    assert (site.folder / "networks" / "0001.safetensors").read_bytes() == b"network 1"


def test_a_network_whose_file_is_gone_is_not_put_in_force(site: Site, tmp_path: Path) -> None:
    path = site.folder / site.read().version(2).checkpoint
    path.unlink()
    with pytest.raises(LedgerError, match=r"Network 2 of .* is gone"):
        site.put_in_force(2, "test")
    other = Site(tmp_path / "other")
    other.begin(str(tmp_path / "gone.safetensors"))
    with pytest.raises(LedgerError, match=r"began with is gone .*gone\.safetensors"):
        other.put_in_force(0, "test")
    assert not other.read().changes


def test_unknown_numbers_are_refused(site: Site) -> None:
    with pytest.raises(LedgerError, match="no network 3"):
        site.put_in_force(3, "typo")


WRITER = """
import itertools, sys
from pathlib import Path
from ov3d_perception.ledger import Site
site = Site(sys.argv[1])
for number in itertools.count():
    candidate = Path(sys.argv[2]) / "growing"
    candidate.write_bytes(b"x" * 100_000 + str(number).encode())
    site.put_in_force(site.add(candidate, ["bag"], "accepted").number, "accepted")
    print(number, flush=True)
"""


@pytest.mark.parametrize("wait", [1, 2, 5])
def test_a_writer_that_is_killed_leaves_a_whole_ledger(site: Site, tmp_path: Path, wait: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(site.folder), str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(wait):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    ledger = site.read()
    assert len(ledger.versions) >= 2 + wait
    for version in ledger.versions:
        assert file_hash(site.folder / version.checkpoint) == version.sha256
    site.put_in_force(1, "the lock ended with the process")


def test_a_full_disk_leaves_everything_as_it_was(site: Site, tmp_path: Path) -> None:
    site.put_in_force(2, "accepted")
    before = site.path.read_bytes()
    (tmp_path / "large").write_bytes(b"x" * 5_000_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(WriteError, match="Free some space"):
            site.add(tmp_path / "large", ["bag"], ACCEPTED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, former)
    assert site.path.read_bytes() == before
    assert sorted(path.name for path in (site.folder / "networks").iterdir()) == [
        "0001.safetensors",
        "0002.safetensors",
    ]


class Disk:
    """What is left of the files after a power cut: contents that were flushed, and renames whose folder was flushed.

    A rename whose folder was not may be there or not; a content that was not flushed is gone. states: after each
    flush and rename, without, with all and with one of such renames: content by path.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._kept = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        self._flushed: dict[int, bytes] = {}
        self._renamed: list[tuple[Path, int]] = []
        self.states: list[dict[Path, bytes]] = []
        fsync, rename = os.fsync, os.replace

        def flush(handle: int) -> None:
            fsync(handle)
            about = os.fstat(handle)
            if stat.S_ISDIR(about.st_mode):
                folder = Path(f"/proc/self/fd/{handle}").resolve()
                self._keep(folder)
            else:
                self._flushed[about.st_ino] = os.pread(handle, about.st_size, 0)
            self._note()

        def replace(source: Path, target: Path) -> None:
            self._renamed.append((Path(target), os.stat(source).st_ino))
            rename(source, target)
            self._note()

        monkeypatch.setattr(os, "fsync", flush)
        monkeypatch.setattr(os, "replace", replace)

    def _keep(self, folder: Path) -> None:
        self._kept |= {path: self._flushed.get(inode, b"") for path, inode in self._renamed if path.parent == folder}
        self._renamed = [(path, inode) for path, inode in self._renamed if path.parent != folder]

    def _note(self) -> None:
        luck = {path: self._flushed.get(inode, b"") for path, inode in self._renamed}
        self.states += [dict(self._kept), self._kept | luck, *(self._kept | {path: luck[path]} for path in luck)]


def test_a_power_cut_leaves_a_ledger_whose_networks_are_there(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each moment while a network is added, put in force and rolled back."""
    site.put_in_force(2, "accepted")
    disk, candidate = Disk(site.folder, monkeypatch), tmp_path / "candidate3"
    candidate.write_bytes(b"network 3")
    site.add(candidate, ["wednesday"], ACCEPTED)
    site.put_in_force(3, "accepted")
    site.roll_back("worse")
    monkeypatch.undo()
    seen = set()
    for number, state in enumerate(disk.states):
        left = Site(tmp_path / f"cut{number}")
        for path, content in state.items():
            there = left.folder / path.relative_to(site.folder)
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(content)
        ledger = left.read()
        for version in ledger.versions:
            assert file_hash(left.folder / version.checkpoint) == version.sha256
        assert left.checkpoint() == left.folder / ledger.version(ledger.in_force).checkpoint
        seen.add((len(ledger.versions), ledger.in_force, len(ledger.changes)))
    assert seen == {(2, 2, 1), (3, 2, 1), (3, 3, 2), (3, 2, 3)}
    assert disk.states[-1][site.path] == site.path.read_bytes(), "what is said to be done is done"


def test_people_see_what_is_in_force_and_why(site: Site) -> None:
    site.put_in_force(2, "the gate accepted it")
    text = site.read().to_text()
    assert "* 2 accepted" in text and "  0 the network shipped" in text and "0 -> 2: the gate accepted it" in text
    assert "agreement 0.7" not in text and "agreement 0.7" in site.read().to_text(figures=True)


def test_the_ledger_is_plain_yaml(site: Site) -> None:
    assert yaml.safe_load(site.path.read_text())["versions"][0]["figures"] == {"agreement": 0.7}
