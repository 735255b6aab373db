"""One map, its network and its words: made, filled, asked, replaced and saved; from several threads at once."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from ov3d_perception.errors import IdentityError, MapFileError, UnknownWordError
from ov3d_perception.language.bank import TextBank
from ov3d_perception.mapping import session as session_module
from ov3d_perception.mapping.basis import Basis
from ov3d_perception.mapping.map_words import MapWords
from ov3d_perception.mapping.query import TextQuery
from ov3d_perception.mapping.session import MapSession, MapSettings, place
from ov3d_perception.types import UNLABELLED, EncoderIdentity

IDENTITY = EncoderIdentity("tiny", "test", 3)
BANK = TextBank(["car", "tree", "road"], np.eye(3, dtype=np.float32), IDENTITY, 10.0)
WORDS = MapWords.of(BANK, {"vehicle": ["car"], "plant": ["tree"], "ground": ["road"]})
BASIS = Basis(np.eye(3, dtype=np.float32), IDENTITY, 10.0)
OTHER = Basis(np.diag([1, 1, 2]).astype(np.float32), IDENTITY, 10.0)
BLIND = Basis(np.eye(3, dtype=np.float32)[1:], IDENTITY, 10.0)
"""Of a network whose features cannot lie in the direction of a car."""
CAR = (np.indices((5, 5, 5)).reshape(3, -1).T * 0.2 + 0.1).astype(np.float32)  # 1 m, its centre at 0.5, 0.5, 0.5


def session(scans: int = 2, words: MapWords | None = WORDS) -> MapSession:
    """A map of one car, seen in so many scans."""
    result = MapSession(MapSettings(), words)
    result.basis = BASIS
    for stamp in range(scans):
        integrate(result, stamp)
    return result


def integrate(target: MapSession, stamp: int, basis: Basis = BASIS) -> bool:
    features = np.tile(np.float32([1, 0, 0]), (len(CAR), 1))
    return target.integrate(basis.basis_id, 0.2, CAR, features, stamp)


def test_features_without_their_basis_make_no_map() -> None:
    waiting = MapSession(words=WORDS)
    assert not integrate(waiting, 1) and waiting.map is None
    waiting.basis = OTHER
    assert not integrate(waiting, 1) and waiting.map is None, "the basis of another network"
    waiting.basis = BASIS
    assert integrate(waiting, 1) and len(waiting.map or ()) == 125


def test_a_map_survives_another_network_of_its_encoder() -> None:
    site = session()
    site.basis = OTHER
    assert integrate(site, 3, OTHER) and site.map is not None and site.map.basis_id == OTHER.basis_id
    assert site.realigned == pytest.approx(0.0, abs=1e-6) and site.former == {BASIS.basis_id}
    assert len(site.map) == 125 and len(site.ask("car").matches) == 1
    with pytest.raises(IdentityError, match="another network"):
        integrate(site, 4, BASIS)  # which does not run any more


def test_a_map_refuses_a_network_that_would_cost_too_much_until_it_is_cleared() -> None:
    site = session()
    site.basis, before = BLIND, site.map
    features = np.tile(np.float32([1, 0]), (len(CAR), 1))
    with pytest.raises(IdentityError, match=r"another network.* 100 % of what its voxels know would be lost"):
        site.integrate(BLIND.basis_id, 0.2, CAR, features, 3)
    assert site.map is before
    assert site.clear() == 125 and site.clear() == 0
    assert site.integrate(BLIND.basis_id, 0.2, CAR, features, 3)


def test_voxels_that_are_too_old_go() -> None:
    site = session(1)
    far = np.float32([[50, 0, 0]])
    features = np.float32([[1, 0, 0]])
    site.integrate(BASIS.basis_id, 0.2, far, features, 10 * 10**9, max_age=20.0)
    assert len(site.map or ()) == 126
    site.integrate(BASIS.basis_id, 0.2, far, features, 15 * 10**9, max_age=10.0)
    assert len(site.map or ()) == 1


def test_what_is_seen_after_the_clock_was_set_back_stays() -> None:
    """A simulation begins anew: its scans are older than all there is."""
    site = session(1)
    features = np.float32([[1, 0, 0]])
    site.integrate(BASIS.basis_id, 0.2, np.float32([[50, 0, 0]]), features, 1000 * 10**9, max_age=10.0)
    for second, x in ((1, 60), (2, 70), (30, 80)):
        site.integrate(BASIS.basis_id, 0.2, np.float32([[x, 0, 0]]), features, second * 10**9, max_age=10.0)
        assert site.map is not None and np.isclose(site.map.centres(site.map.occupied()[1])[:, 0], x, atol=0.2).any()
    assert len(site.map or ()) == 2, "what the former pass saw last, and what this one saw within ten seconds"


def test_an_answer_in_a_line() -> None:
    answer = session().ask(["car", "tree", "flurb", "a Car"])
    assert answer.words == ["car", "tree", "flurb"] and list(answer.unknown) == ["flurb"]
    assert [match.word for match in answer.matches] == ["car"]
    first, absent, unknown = str(answer).split("; ")
    assert first.startswith("car: 1, best ") and first.endswith("at (0.5, 0.5, 0.5) in map")
    assert absent == "tree: nothing above the threshold" and unknown.startswith("flurb: unknown to the text bank")


def test_distances_say_from_where() -> None:
    """The nearest centre to (3.9, 0.5, 0.5) is at x = 0.9."""
    query = TextQuery(["car"], position=np.array([3.9, 0.5, 0.5]))
    assert str(session().ask(query)).endswith("in map, 3.0 m from (3.9, 0.5, 0.5) in map")
    assert str(session().ask(query, "the origin of base_link")).endswith("3.0 m from the origin of base_link")
    assert place((0.0, 0.0, 0.0), "base_link") == "the origin of base_link"


def test_no_word_known_no_words_no_map() -> None:
    with pytest.raises(UnknownWordError, match="flurb"):
        session().ask("flurb")
    with pytest.raises(UnknownWordError, match="no text source"):
        session(words=None).ask("car")
    empty = session(0)
    assert str(empty.ask("car")) == "car: nothing above the threshold. Nothing has been mapped yet."
    assert empty.labelled() is None and empty.shortage(2) == ""


def test_a_map_of_one_scan_says_why_it_does_not_answer() -> None:
    once = session(1)
    answer = once.ask("car")
    assert not answer.matches and "None of the map's 125 voxels has been seen in 2 scans" in str(answer)
    assert [match.count for match in once.ask(TextQuery(["car"], min_observations=1)).matches] == [125]
    assert session(2).ask("car").note == ""


def test_a_map_that_forgets_before_it_sees_again_is_told_to_be_too_small() -> None:
    small = MapSession(MapSettings(max_voxels=125), WORDS)
    small.basis = BASIS
    for stamp, remedy in enumerate(("Send more scans", "It holds 125 at most and has forgotten 125: raise max_voxels")):
        small.integrate(BASIS.basis_id, 0.2, CAR + np.float32(10 * stamp), np.ones((125, 3), np.float32), stamp)
        assert f"(min_observations). {remedy}, or ask with" in str(small.ask("car"))


def test_labels_follow_map_and_words() -> None:
    site = session()
    found = site.labelled()
    assert found is not None
    semantic_map, labelled, names = found
    assert semantic_map is site.map and names == ("vehicle", "plant", "ground") and set(labelled.label) == {0}
    site.words = MapWords.of(BANK, {"ground": ["road"], "vehicle": ["car"]})
    found = site.labelled()
    assert found is not None and found[2] == ("ground", "vehicle") and set(found[1].label) == {1}


def test_few_words_compete_with_those_of_the_network_in_the_map_and_in_its_file(tmp_path: Path) -> None:
    """A map of a car, labelled in "tree" alone: the network's other words fit better, and "tree" is not found."""
    network = {"vehicle": ["car"], "plant": ["tree"], "ground": ["road"]}
    site = session(words=MapWords.of(BANK, {"wood": ["tree"]}, network))
    site.save(tmp_path / "site.ov3dmap")
    for asked in (site, MapSession.open(tmp_path / "site.ov3dmap")):
        found = asked.labelled()
        assert found is not None and found[2] == ("wood",) and set(found[1].label) == {UNLABELLED}
        assert not asked.ask("tree").matches and len(asked.ask("car").matches) == 1
    many = {f"class {number}": ["car"] for number in range(5)}
    assert MapWords.of(BANK, many, network).competing == many


def test_a_file_is_asked_in_the_words_saved_with_it(tmp_path: Path) -> None:
    info, semantic_map, revision = session().save(tmp_path / "site.ov3dmap")
    assert info.voxels == len(semantic_map) == 125 and revision == semantic_map.revision
    again = MapSession.open(tmp_path / "site.ov3dmap")
    assert str(again.ask("car")) == str(session().ask("car"))
    assert again.words is not None and again.words.classes == {
        "vehicle": ["car"],
        "plant": ["tree"],
        "ground": ["road"],
    }
    session(words=None).save(tmp_path / "plain.ov3dmap")
    with pytest.raises(MapFileError, match="without words"):
        MapSession.open(tmp_path / "plain.ov3dmap")
    foreign = TextBank(BANK.words, BANK.embeddings, EncoderIdentity("other", "test", 3), 10.0)
    with pytest.raises(IdentityError, match="other/test"):
        MapSession.open(tmp_path / "plain.ov3dmap", MapWords.of(foreign, WORDS.classes))


def test_what_cannot_be_loaded_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(MapFileError, match="Nothing has been mapped"):
        session(0).save(tmp_path / "none.ov3dmap")
    session().save(tmp_path / "site.ov3dmap")
    elsewhere = MapSession(MapSettings(frame_id="odom"), WORDS)
    with pytest.raises(MapFileError, match=r"'map'.*'odom'"):
        elsewhere.load(tmp_path / "site.ov3dmap")
    other = MapSession(words=WORDS)
    other.basis = BLIND
    with pytest.raises(IdentityError, match="another network"):
        other.load(tmp_path / "site.ov3dmap")
    assert elsewhere.map is other.map is None


def test_a_file_is_added_or_takes_the_place(tmp_path: Path) -> None:
    session().save(tmp_path / "site.ov3dmap")
    site = session(1)
    before = site.map
    site.merge(tmp_path / "site.ov3dmap")
    assert site.map is before and len(site.map or ()) == 125 and site.ask("car").matches, "seen in three scans now"
    _, loaded = site.load(tmp_path / "site.ov3dmap")
    assert site.map is loaded and loaded is not before


WORKS: dict[str, Callable[[MapSession, Path], object]] = {
    "integrate": lambda site, _: integrate(site, 9),
    "ask": lambda site, _: site.ask("car"),
    "labelled": lambda site, _: site.labelled(),
    "save": lambda site, path: site.save(path.with_suffix(".copy")),
    "merge": lambda site, path: site.merge(path),
    "shortage": lambda site, _: site.shortage(9),
}
EXCHANGES: dict[str, Callable[[MapSession, Path], object]] = {
    "clear": lambda site, _: site.clear(),
    "load": lambda site, path: site.load(path),
}


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("work", WORKS)
def test_clear_and_load_between_any_two_lines_of_another_thread(tmp_path: Path, work: str, exchange: str) -> None:
    """As another thread could: wherever the session's code is while it does not hold the lock of the exchange."""
    path = tmp_path / "site.ov3dmap"
    session().save(path)
    for line in itertools.count():
        site = session()
        site.labelled()
        try:
            if not _interrupted(site, partial(WORKS[work], site, path), partial(EXCHANGES[exchange], site, path), line):
                break
        except MapFileError as error:
            assert "Nothing has been mapped" in str(error)
    assert line > 1


def _interrupted(site: MapSession, work: Callable[[], object], interrupt: Callable[[], object], line: int) -> bool:
    """Do the work, interrupted before the given line that it executes of session.py; False if it has fewer lines."""
    left = line

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename != session_module.__file__:
            return None
        if event == "line" and not site._exchange.locked():
            left -= 1
            if left == -1:
                sys.settrace(None)
                interrupt()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return left < 0
