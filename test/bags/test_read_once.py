"""What was read of a bag is found again while its files stay as they are, and is read anew when they do not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ov3d_perception.bags import messages
from ov3d_perception.bags.read_once import read_once, state_of
from ov3d_perception.bags.reader import Bag, open_bag
from ov3d_perception.bags.streams import read_stream
from ov3d_perception.bags.writer import BagWriter

S = 1_000_000_000


def write(path: Path, metres: float) -> None:
    with BagWriter(path) as bag:
        for second in (1, 2):
            T = np.eye(4)
            T[0, 3] = metres * second
            bag.write("/tf", messages.tf_message([("odom", "base_link", second * S, T)]), second * S)
            cloud = messages.point_cloud({name: np.zeros(1, np.float32) for name in "xyz"}, second * S, "base_link")
            bag.write("/points", cloud, second * S)


def passes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The topics of each pass over a bag from now on."""
    asked: list[object] = []
    real = Bag.messages

    def messages_of(self: Bag, topics: object = None, *stretch: int) -> object:
        asked.append(topics)
        return real(self, topics, *stretch)  # type: ignore[arg-type]

    monkeypatch.setattr(Bag, "messages", messages_of)
    return asked


def test_a_second_look_at_a_bag_reads_neither_transforms_nor_stamps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "drive", 1.0)
    asked = passes(monkeypatch)
    found = []
    for _ in range(2):
        with open_bag(tmp_path / "drive") as bag:
            tree = bag.transforms(of="/points")
            found.append((tree.lookup("odom", "base_link", 2 * S)[0, 3], read_stream(bag, "/points").stamps.tolist()))
            tree.add("odom", "base_link", 2 * S, np.eye(4))  # one's own, not the other's
    assert found == [(2.0, [S, 2 * S])] * 2
    assert len(asked) == 2


def test_a_bag_that_was_recorded_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "drive"
    for metres in (1.0, 3.0):
        if path.exists():
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        write(path, metres)
        with open_bag(path) as bag:
            assert bag.transforms().lookup("odom", "base_link", 2 * S)[0, 3] == 2 * metres


def test_a_changed_file_is_another_state(tmp_path: Path) -> None:
    file = tmp_path / "bag.mcap"
    file.write_bytes(b"1")
    states = [state_of([file])]
    os.utime(file, ns=(0, 5))
    states.append(state_of([file]))
    file.write_bytes(b"12")
    os.utime(file, ns=(0, 5))
    states.append(state_of([file]))
    assert len({*states}) == 3
    assert [read_once(state, "size", lambda n=n: n) for n, state in enumerate(states)] == [0, 1, 2]
    assert read_once(states[1], "size", lambda: 9) == 1


def test_what_fails_is_not_kept(tmp_path: Path) -> None:
    state = state_of([])

    def fails() -> int:
        raise OSError

    with pytest.raises(OSError):
        read_once(state, "x", fails)
    assert read_once(state, "x", lambda: 7) == 7
