"""``ov3d map`` on files: a made-up street in the shipped bank's words, asked, exported, drawn and merged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ov3d_perception.language.labelset import LabelSet
from ov3d_perception.language.vocabulary import TextBank
from ov3d_perception.map_tool import export_file, query_file
from ov3d_perception.mapping.map_words import MapWords
from ov3d_perception.mapping.query import Match, TextQuery
from ov3d_perception.mapping.save_load import load_map, read_info, save_map
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.models import shipped_bank
from ov3d_perception.types import EncoderIdentity
from ov3d_perception.viz.palette import colour

BANK = TextBank.load(shipped_bank())
THINGS = {"car": ((0, 0, 0), (20, 9, 7)), "tree": ((8, 4, 0), (5, 5, 15)), "road": ((-10, -5, -0.2), (80, 30, 1))}


def ov3d(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ov3d_perception.cli", "map", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def block(corner: tuple[float, ...], shape: tuple[int, ...]) -> np.ndarray:
    return ((np.indices(shape).reshape(3, -1).T + 0.5) * 0.2 + corner).astype(np.float32)


def write(path: Path, shift: float = 0.0, identity: EncoderIdentity = BANK.identity) -> Path:
    """Things that look exactly as their words; W has the words as rows."""
    head = BANK.embed(list(THINGS))
    semantic_map = SemanticMap(0.2, head, identity, BANK.logit_scale)
    for stamp in (1, 2):
        for number, thing in enumerate(THINGS.values()):
            centres = block(*thing) + np.float32([shift, 0, 0])
            semantic_map.integrate(centres, np.tile(np.eye(3, dtype=np.float32)[number], (len(centres), 1)), stamp)
    save_map(semantic_map, path)
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("site") / "site.ov3dmap")


def asked(path: Path, words: list[str], **options: Any) -> Sequence[Match]:
    return query_file(path, TextQuery(words, **options)).matches


def test_info(site: Path) -> None:
    result = ov3d("info", site)
    assert result.returncode == 0
    assert (
        str(BANK.identity) in result.stdout and f"{20 * 9 * 7 + 375 + 2400} voxels of 0.2 m in 'map'" in result.stdout
    )


def test_query(site: Path) -> None:
    result = ov3d("query", site, "car")
    best, match = result.stdout.splitlines()
    assert best.startswith("car: 1, best ") and "at (2.0, 0.9, 0.7) in map, 0.2 m from the origin of map" in best
    assert match.startswith("  car: score ") and "at (2.0, 0.9, 0.7) m" in match and "1260 voxels" in match
    absent = ov3d("query", site, "person")
    assert absent.returncode == 1 and absent.stdout == "person: nothing above the threshold\n"


def test_a_query_says_from_where_its_metres_are_and_which_words_are_unknown(site: Path) -> None:
    """From (10, 0.9, 0.7), the car's nearest voxel has its centre at x = 3.9: 6.1 m."""
    result = ov3d("query", site, "car", "flurb", "--position", "10", "0.9", "0.7", "--nearest")
    assert result.returncode == 0, result.stderr
    line = result.stdout.splitlines()[0]
    assert "in map, 6.1 m from (10, 0.9, 0.7) in map; flurb: unknown to the text bank" in line


def test_a_map_is_asked_in_the_words_saved_with_it(tmp_path: Path) -> None:
    """A bank of another encoder than the one shipped: its word "sedan" lies where "car" does."""
    other = EncoderIdentity("other", "test", BANK.identity.dim)
    semantic_map = load_map(write(tmp_path / "site.ov3dmap", identity=other))
    bank = TextBank(["sedan", "oak", "asphalt"], BANK.embed(list(THINGS)), other, BANK.logit_scale)
    words = MapWords.of(bank, {"vehicle": ["sedan"], "plant": ["oak"], "ground": ["asphalt"]})
    save_map(semantic_map, tmp_path / "own.ov3dmap", words)
    (match,) = asked(tmp_path / "own.ov3dmap", ["sedan"])
    assert match.count == 1260
    export_file(tmp_path / "own.ov3dmap", tmp_path / "own.ply")
    assert b"comment label 0 vehicle\n" in (tmp_path / "own.ply").read_bytes()
    result = ov3d("merge", tmp_path / "own.ov3dmap", tmp_path / "site.ov3dmap", "--out", tmp_path / "both")
    assert result.returncode == 0 and [m.count for m in asked(tmp_path / "both", ["sedan"])] == [1260]


def test_a_query_has_limits_and_negatives(site: Path) -> None:
    assert [match.word for match in asked(site, ["tree", "car"])] == ["tree", "car"]
    (match,) = asked(site, ["car"], negatives=["tree", "road"], threshold=0.5)
    assert match.count == 1260
    assert not asked(site, ["car"], negatives=["tree", "road"], threshold=1.0)


def test_known_errors_are_one_line(site: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(site.read_bytes()[:-5])
    for command in (("info", tmp_path / "x"), ("query", tmp_path / "x", "car"), ("export", tmp_path / "x", "a.ply")):
        result = ov3d(*command)
        assert result.returncode == 2 and result.stderr.startswith(f"ov3d: {tmp_path / 'x'} is damaged")
        assert result.stderr.count("\n") == 1
    other = write(tmp_path / "other", identity=EncoderIdentity("other", "test", BANK.identity.dim))
    result = ov3d("query", other, "car")
    assert result.returncode == 2 and "other/test" in result.stderr and str(BANK.identity) in result.stderr


def test_any_taught_word_is_a_plain_column(site: Path, tmp_path: Path) -> None:
    plyfile = pytest.importorskip("plyfile")
    bank = BANK.with_word("Müllwagen (our's)", BANK.embed(["truck"])[0], {})
    bank.save(tmp_path / "bank.npz")
    export_file(site, tmp_path / "site.ply", ["Müllwagen (our's)", "car"], str(tmp_path / "bank.npz"))
    names = plyfile.PlyData.read(str(tmp_path / "site.ply"))["vertex"].data.dtype.names
    assert names[-2:] == ("p_Mu00fcllwagen_our_s", "p_car")


def test_export_to_a_cloud(site: Path, tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed: pip install '.[sim]'")
    result = ov3d("export", site, tmp_path / "site.ply", "--word", "car")
    assert result.returncode == 0 and "4035 voxels" in result.stdout and "p_car" in result.stdout, result.stderr
    cloud = trimesh.load(tmp_path / "site.ply")
    data = cloud.metadata["_ply_raw"]["vertex"]["data"]
    on_car = (cloud.vertices > 0).all(1) & (cloud.vertices < (4, 1.8, 1.4)).all(1)
    assert on_car.sum() == 1260
    assert data["p_car"][on_car].min() > 0.25 > data["p_car"][~on_car].max()
    names = list(LabelSet.load("street").prompts)
    (label,) = set(data["label"][on_car].tolist())
    assert "car" in LabelSet.load("street").prompts[names[label]]
    assert (np.asarray(cloud.colors)[on_car, :3] == colour(names[label])).all()
    assert set(data["observations"].tolist()) == {2}
    assert f"comment label {label} {names[label]}\n".encode() in (tmp_path / "site.ply").read_bytes()


def test_export_to_pcd_and_picture(site: Path, tmp_path: Path) -> None:
    assert export_file(site, tmp_path / "site.pcd")[0] == 4035
    assert b"FIELDS x y z rgb label probability observations\n" in (tmp_path / "site.pcd").read_bytes()[:2000]
    assert ov3d("export", site, tmp_path / "site.png").returncode == 0
    picture = np.asarray(Image.open(tmp_path / "site.png"))
    assert picture.shape == (900, 1600, 3)
    road = np.abs(picture.astype(int) - colour("road")).sum(2) < 120
    assert road.mean() > 0.1, "the ground is seen from above"


def test_merge(site: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", shift=40.0)
    result = ov3d("merge", site, other, "--out", tmp_path / "both.ov3dmap")
    assert result.returncode == 0 and "8070 voxels" in result.stdout, result.stderr
    assert read_info(tmp_path / "both.ov3dmap").voxels == len(load_map(tmp_path / "both.ov3dmap")) == 8070
    assert len(asked(tmp_path / "both.ov3dmap", ["car"])) == 2
    refused = ov3d(
        "merge", site, write(tmp_path / "x", identity=EncoderIdentity("o", "t", 512)), "--out", tmp_path / "y"
    )
    assert refused.returncode == 2 and "one encoder" in refused.stderr and not (tmp_path / "y").exists()
