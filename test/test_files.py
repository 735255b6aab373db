"""Atomic writing: the old file or the new one, never a part, from any number of processes."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from ov3d_perception import files
from ov3d_perception.errors import WriteError
from ov3d_perception.files import replacing, replacing_folder


def write(path: Path, content: bytes, durable: bool = True) -> None:
    with replacing(path, durable) as file:
        file.write(content)


@pytest.mark.parametrize("durable", [True, False])
def test_the_new_file_appears_whole_when_the_block_ends(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "new" / "file"
    write(path, b"old", durable)
    with replacing(path, durable) as file:
        file.write(b"new content")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new content" and os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("durable", [True, False])
def test_an_error_in_the_block_leaves_the_old_file_alone(tmp_path: Path, durable: bool) -> None:
    write(tmp_path / "file", b"old")
    with pytest.raises(KeyError), replacing(tmp_path / "file", durable) as file:
        file.write(b"half")
        raise KeyError("stop")
    assert (tmp_path / "file").read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_a_file_removed_before_it_is_locked_is_created_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer looks for leftovers between the creation of our temporary file and its lock, and takes it."""
    lock, others = fcntl.flock, []

    def look_for_leftovers_first(*arguments: Any) -> None:
        if not others:
            monkeypatch.setattr(fcntl, "flock", lock)
            files._remove_leftovers(tmp_path / "file")
            others.append(os.listdir(tmp_path))
            monkeypatch.setattr(fcntl, "flock", look_for_leftovers_first)
        lock(*arguments)

    monkeypatch.setattr(fcntl, "flock", look_for_leftovers_first)
    write(tmp_path / "file", b"content")
    assert others == [[]], "the temporary file was there and was taken"
    assert (tmp_path / "file").read_bytes() == b"content" and os.listdir(tmp_path) == ["file"]


def test_a_writer_waits_for_one_that_looks_at_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer holds the lock of our temporary file for a moment: the write succeeds all the same."""
    lock, others = fcntl.flock, []

    def lock_after_another(file: Any, flags: int) -> None:
        if not others:
            (leftover,) = tmp_path.iterdir()
            others.append(leftover.open("rb"))
            lock(others[0], fcntl.LOCK_EX)
            with pytest.raises(BlockingIOError):
                lock(file, flags | fcntl.LOCK_NB)
            assert not flags & fcntl.LOCK_NB, "a writer that does not wait fails here"
            others[0].close()
        lock(file, flags)

    monkeypatch.setattr(fcntl, "flock", lock_after_another)
    write(tmp_path / "file", b"content")
    assert len(others) == 1 and (tmp_path / "file").read_bytes() == b"content"


def test_leftovers_of_ended_writers_go_and_files_of_others_stay(tmp_path: Path) -> None:
    for name in (".file.0a.tmp", ".file.0b.tmp", ".other.0a.tmp"):
        (tmp_path / name).touch()
    with (tmp_path / ".file.0b.tmp").open("wb") as being_written:
        fcntl.flock(being_written, fcntl.LOCK_EX)
        write(tmp_path / "file", b"content")
    assert sorted(os.listdir(tmp_path)) == [".file.0b.tmp", ".other.0a.tmp", "file"]


def test_a_refusal_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"file/below could not be written \(.*\)\. Choose a folder that exists"):
        write(tmp_path / "file" / "below", b"")
    with pytest.raises(WriteError, match=r"could not be written \(Is a directory\)"):
        write(tmp_path, b"")


def fill(path: Path, *names: str) -> None:
    with replacing_folder(path) as folder:
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name)


def test_a_folder_appears_whole_and_takes_the_former_ones_place(tmp_path: Path) -> None:
    path = tmp_path / "new" / "bag"
    fill(path, "one", "two")
    with replacing_folder(path) as folder:
        folder.mkdir()
        (folder / "three").touch()
        assert folder.name == "bag" and sorted(os.listdir(path)) == ["one", "two"]
    assert os.listdir(path) == ["three"] and os.listdir(path.parent) == ["bag"]


@pytest.mark.parametrize("stop", [KeyError, KeyboardInterrupt, FileNotFoundError])
def test_an_error_in_the_block_leaves_the_old_folder_alone(tmp_path: Path, stop: type[BaseException]) -> None:
    fill(tmp_path / "bag", "old")
    with pytest.raises(stop), replacing_folder(tmp_path / "bag") as folder:
        folder.mkdir()
        raise stop
    assert os.listdir(tmp_path) == ["bag"] and os.listdir(tmp_path / "bag") == ["old"]


def test_folders_that_ended_writers_left_go_and_those_being_written_stay(tmp_path: Path) -> None:
    for name in (".bag.0a.tmp", ".bag.0b.tmp", ".other.0a.tmp"):
        (tmp_path / name / "bag").mkdir(parents=True)
        (tmp_path / name / "lock").touch()
    with (tmp_path / ".bag.0b.tmp" / "lock").open("wb") as being_written:
        fcntl.flock(being_written, fcntl.LOCK_EX)
        fill(tmp_path / "bag", "new")
    assert sorted(os.listdir(tmp_path)) == [".bag.0b.tmp", ".other.0a.tmp", "bag"]


def test_a_refused_folder_names_its_place_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"file/bag could not be written \(.*\)\. Choose a folder that exists"):
        fill(tmp_path / "file" / "bag")
