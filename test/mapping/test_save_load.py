"""Map files: the same answers after a round trip; whatever is wrong with a file is said and changes nothing."""

from __future__ import annotations

import json
import os
import stat
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from map_files import BANK, HEAD, IDENTITY, answers, assert_same_answers, content, empty, town

from ov3d_perception.errors import IdentityError, MapFileError, WriteError
from ov3d_perception.geometry.voxels import voxel_keys
from ov3d_perception.mapping import map_file
from ov3d_perception.mapping.save_load import load_map, merge_into, merge_maps, read_info, save_map
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.types import EncoderIdentity


@pytest.fixture
def site() -> SemanticMap:
    return town()


@pytest.fixture
def path(site: SemanticMap, tmp_path: Path) -> Path:
    save_map(site, tmp_path / "site.ov3dmap")
    return tmp_path / "site.ov3dmap"


def test_a_round_trip_answers_the_same_and_goes_on_the_same(site: SemanticMap, path: Path) -> None:
    again = load_map(path)
    assert_same_answers(site, again)
    mine, other = site.state(), again.state()
    np.testing.assert_array_equal(mine.head, other.head)
    assert replace(mine, head=other.head) == other  # arrays have no single truth value
    assert_equal_content(site, again, 0.0)
    for each in (site, again):
        each.integrate(np.float32([[500, 0, 0]]), np.ones((1, 4), np.float32), 99 * 10**9)
    assert len(site) == len(again) and site.newest == again.newest


def test_an_empty_map_is_a_map(tmp_path: Path) -> None:
    save_map(empty(), tmp_path / "empty.ov3dmap")
    again = load_map(tmp_path / "empty.ov3dmap")
    assert len(again) == 0 and answers(again) == []


def test_the_file_says_what_it_is(site: SemanticMap, path: Path) -> None:
    info = read_info(path)
    assert (info.voxels, info.voxel_size, info.frame_id, info.identity) == (len(site), 0.2, "map", IDENTITY)
    assert info.newest == 6 * 10**9 and info.size == path.stat().st_size
    assert info.size < 76 * len(site) + 300_000, "4 + 23 bytes a voxel here, and the codebook"
    for text in ("tiny/test/6", f"{len(site)} voxels", "1970-01-01 00:00:06"):
        assert text in str(info)


def test_the_layout_is_the_one_that_is_written_down(site: SemanticMap, path: Path) -> None:
    """docs/maps.md, read by hand."""
    data = path.read_bytes()
    magic, version, length = struct.unpack("<12sIQ", data[:24])
    assert (magic, version) == (b"\x89OV3DMAP\r\n\x1a\n", 1)
    header, payload = json.loads(data[56 : 56 + length]), data[56 + length :]
    arrays = {name: np.frombuffer(payload, kind, int(np.prod(shape)), at) for name, kind, shape, at in header["arrays"]}
    np.testing.assert_array_equal(arrays["head"].reshape(HEAD.shape), HEAD)
    at = header["blocks_at"]
    (count,) = struct.unpack_from("<I", payload, at)
    assert header["blocks"] == 1 and count == len(site) == header["voxels"]
    keys = np.frombuffer(payload, "<i8", count, at + 4)
    assert sorted(keys) == sorted(content(site))


def test_saving_follows_links_and_obeys_the_umask(site: SemanticMap, tmp_path: Path) -> None:
    real, link = tmp_path / "disk" / "real.ov3dmap", tmp_path / "link.ov3dmap"
    link.symlink_to(real)
    before = os.umask(0o027)
    try:
        save_map(site, link)
    finally:
        os.umask(before)
    assert link.is_symlink() and len(load_map(real)) == len(site)
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert os.listdir(real.parent) == ["real.ov3dmap"]


# -- what may be wrong with a file --------------------------------------------------------------------------------


def refused(path: Path, match: str) -> None:
    """Reading, loading and merging all say it, and a map in use stays as it was."""
    running = town(seed=5)
    before = content(running).keys()
    for work in (lambda: load_map(path), lambda: merge_into(running, path), lambda: merge_maps([path], f"{path}.out")):
        with pytest.raises(MapFileError, match=match):
            work()
    assert content(running).keys() == before and not Path(f"{path}.out").exists()


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "There is no map file")
    (tmp_path / "x").write_bytes(b"")
    refused(tmp_path / "x", "empty .0 bytes.")
    (tmp_path / "x").write_bytes(b"ply\nformat ascii 1.0\n" * 100)
    refused(tmp_path / "x", "is not a map file")
    refused(tmp_path, "cannot be read")


def test_truncated_anywhere(path: Path) -> None:
    whole = path.read_bytes()
    for length in (5, 40, 56, 500, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path, "is damaged: it (ends|has)")
    path.write_bytes(whole + b"\0")
    refused(path, "is damaged: it has")


def test_a_flipped_bit_anywhere(path: Path) -> None:
    """At random places, and in each part: magic, version, length, checksum, header, first and last of the payload."""
    whole = path.read_bytes()
    places = np.random.default_rng(0).integers(0, len(whole), 60).tolist()
    for place in [0, 11, 12, 15, 16, 23, 24, 55, 56, 100, 1500, len(whole) - 1, *places]:
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << (place % 8)
        path.write_bytes(spoilt)
        with pytest.raises(MapFileError):
            load_map(path)
    path.write_bytes(whole)
    load_map(path)


def test_a_newer_version(path: Path) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 12, 2)
    path.write_bytes(data)
    refused(path, "map format 2, this program reads up to 1.*Update")


def test_a_header_that_makes_no_sense(path: Path) -> None:
    data = path.read_bytes()
    for header in (b"{}", b"[]", b"nonsense", b'{"payload": {"bytes": "many"}}'):
        digest = map_file._header_digest(1, header)
        path.write_bytes(struct.pack("<12sIQ32s", data[:12], 1, len(header), digest) + header)
        refused(path, "its header makes no sense")


def test_a_folder_that_is_a_file_or_a_map_that_is_a_folder(site: SemanticMap, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteError, match=r"could not be written.*Choose a folder"):
        save_map(site, tmp_path / "file" / "site.ov3dmap")
    with pytest.raises(WriteError, match="could not be written"):
        save_map(site, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_coordinates_of_another_linear_algebra_library(
    site: SemanticMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signs of a singular value decomposition are arbitrary: a map from another machine is turned."""
    import ov3d_perception.mapping.quantisation as compact

    original = np.linalg.svd

    def flipped(*args: Any, **options: Any) -> Any:
        left, singular, right = original(*args, **options)
        signs = np.where(np.arange(len(singular)) % 2, -1, 1)
        return left * signs, singular, right * signs[:, None]

    monkeypatch.setattr(compact.np.linalg, "svd", flipped)
    theirs = town()
    save_map(theirs, tmp_path / "theirs.ov3dmap")
    monkeypatch.undo()
    assert not np.allclose(theirs.basis, site.basis)
    assert_equal_content(theirs, load_map(tmp_path / "theirs.ov3dmap"), 0.03)
    merge_into(site, tmp_path / "theirs.ov3dmap")
    assert_equal_content(theirs, site, 0.05, weights=False)


def test_a_file_that_keeps_fewer_coordinates(
    site: SemanticMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is loaded with all that it has; one that keeps more than is kept here is refused."""
    monkeypatch.setattr("ov3d_perception.mapping.quantisation.CHANNELS", 3)
    narrow = town()
    save_map(narrow, tmp_path / "narrow.ov3dmap")
    monkeypatch.undo()
    loaded = load_map(tmp_path / "narrow.ov3dmap")
    assert len(narrow.basis) == 3 < len(loaded.basis) == len(site.basis)
    assert_equal_content(narrow, loaded, 0.03)
    save_map(site, tmp_path / "wide.ov3dmap")
    monkeypatch.setattr("ov3d_perception.mapping.quantisation.CHANNELS", 3)
    with pytest.raises(MapFileError, match="Save the map anew"):
        load_map(tmp_path / "wide.ov3dmap")


# -- bound and merging --------------------------------------------------------------------------------


def assert_equal_content(one: SemanticMap, other: SemanticMap, tolerance: float, weights: bool = True) -> None:
    mine, theirs = content(one), content(other)
    assert mine.keys() == theirs.keys()
    for key, (mean, weight, seen) in mine.items():
        np.testing.assert_allclose(mean, theirs[key][0], atol=tolerance)
        assert seen == theirs[key][2] and (weight == theirs[key][1] or not weights)


def test_a_smaller_bound_keeps_what_was_seen_last(site: SemanticMap, path: Path) -> None:
    small = load_map(path, max_voxels=5000, eviction="farthest")
    kept, all_of_it = content(small), content(site)
    assert len(kept) == 5000 == small.max_voxels and small.eviction == "farthest"
    stamps = sorted((seen for _, _, seen in all_of_it.values()), reverse=True)
    assert sorted((seen for _, _, seen in kept.values()), reverse=True) == stamps[:5000]


def test_merged_means_by_hand(tmp_path: Path) -> None:
    """3 sightings of one kind at a place in one map, 1 of another in the other; a place that only the other knows."""
    one, other = empty(), empty()
    place, a, b = np.zeros((1, 3), np.float32), *np.eye(4, dtype=np.float32)[:2, None]
    for stamp in (10, 20, 30):
        one.integrate(place, a, stamp)
    other.integrate(place, b, 25)
    other.integrate(place + 7, b, 5)
    save_map(one, tmp_path / "one")
    save_map(other, tmp_path / "other")
    unit = [(each @ HEAD)[0] / np.linalg.norm(each @ HEAD) for each in (a, b)]
    for order in (("one", "other"), ("other", "one")):
        info = merge_maps([tmp_path / name for name in order], tmp_path / "both")
        found = content(load_map(tmp_path / "both"))
        assert info.voxels == len(found) == 2 and info.newest == 30
        mean, weight, seen = found[int(voxel_keys(place, 0.2)[0])]
        np.testing.assert_allclose(mean, (3 * unit[0] + unit[1]) / 4, atol=0.03)
        assert (weight, seen) == (4, 30)
        assert found[int(voxel_keys(place + 7, 0.2)[0])][1:] == (1, 5)


@pytest.mark.parametrize("bound", [0, 9000])
def test_merging_does_not_depend_on_the_order(tmp_path: Path, bound: int) -> None:
    for number in range(3):
        save_map(town(seed=number, scans=3, east=5.0 * number), tmp_path / str(number))
    paths = [tmp_path / str(number) for number in range(3)]
    merge_maps(paths, tmp_path / "ahead", bound)
    merge_maps(paths[::-1], tmp_path / "back", bound)
    ahead, back = load_map(tmp_path / "ahead"), load_map(tmp_path / "back")
    assert_equal_content(ahead, back, 0.05)
    every = set().union(*(content(load_map(path)) for path in paths))
    assert len(ahead) == (bound or len(every)) and ahead.max_voxels == (bound or 100_000)
    # Codes depend on what came first; what is in doubt by them may make or break a group of some twenty voxels.
    one, other = ([(m.word, m.count) for m in answers(each) if m.count > 100] for each in (ahead, back))
    assert [word for word, _ in one] == [word for word, _ in other] and len(one) >= 3
    np.testing.assert_allclose([count for _, count in one], [count for _, count in other], rtol=0.05)


def test_merging_into_a_map_in_use(site: SemanticMap, tmp_path: Path) -> None:
    other = town(seed=9, east=30.0)
    save_map(other, tmp_path / "other")
    union = content(site).keys() | content(other).keys()
    merge_into(site, tmp_path / "other")
    assert content(site).keys() == union
    small = town(max_voxels=13_000)
    merge_into(small, tmp_path / "other")
    assert len(small) <= 13_000 and small.evicted > 0


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"identity": EncoderIdentity("other", "test", 6)}, IdentityError, r"other/test/6.*tiny/test/6"),
        ({"identity": replace(IDENTITY, sha256="ab"), "head": 2 * HEAD}, IdentityError, "another network"),
        ({"voxel_size": 0.1}, MapFileError, "0.1 m in 'map'.*0.2 m in 'map'"),
        ({"frame_id": "odom"}, MapFileError, "in 'odom'.*in 'map'"),
    ],
)
def test_what_cannot_be_merged(
    site: SemanticMap, path: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    save_map(town(**options), tmp_path / "other")
    before = content(site).keys()
    with pytest.raises(error, match=words):
        merge_into(site, tmp_path / "other")
    with pytest.raises(error, match=words):
        merge_maps([path, tmp_path / "other"], tmp_path / "both")
    assert content(site).keys() == before and not (tmp_path / "both").exists()


def test_a_map_and_its_copy_are_not_merged(path: Path, tmp_path: Path) -> None:
    """Places seen in one scan would pass for places seen in two, which answer."""
    (tmp_path / "copy").write_bytes(path.read_bytes())
    for again in (path, tmp_path / "copy"):
        with pytest.raises(MapFileError, match=r"hold the same map.*Leave one out"):
            merge_maps([path, again], tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_the_text_of_another_encoder_is_refused_after_loading(path: Path) -> None:
    assert BANK.identity == IDENTITY
    with pytest.raises(IdentityError):
        load_map(path).require(EncoderIdentity("other", "test", 6), "words")
