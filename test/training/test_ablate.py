"""Tables: their rows, what a run of them leaves, and their arithmetic."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from colour_scene import walls_recipe
from safetensors.torch import load_file

from ov3d_perception.errors import RecipeError
from ov3d_perception.evaluation.tables import Figure, Row, Table, load_table, summarise, to_markdown
from ov3d_perception.recipes.load import changed, folds_of, load_recipe, phases_of
from ov3d_perception.training import ablate as tables
from ov3d_perception.training.ablate import ablate

FOLDER = Path(__file__).parents[2] / "config" / "train"
SHIPPED = FOLDER / "clip2scene_tables.yaml"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    split = {"dataset": "walls", "root": "", "options": {"frames": 2}}
    settings = {
        "finetune.splits": {"walls": split, "more": split},
        "finetune.epochs": 1,
        "optimiser.epochs": 1,
        "repeat": 1,
    }
    return changed(walls_recipe(tmp_path, monkeypatch), settings)


@pytest.mark.parametrize("name", ["street", "nuscenes", "semantickitti"])
@pytest.mark.parametrize("table", ["table1", "table2"])
def test_shipped_rows_are_recipes(name, table, monkeypatch):
    for variable in ("SEMANTICKITTI", "CLIP_VITB16", "COCO_STUFF_BANK", "STREET_WORDS", "NUSCENES"):
        monkeypatch.setenv(variable, variable.lower())
    base = load_recipe(FOLDER / f"clip2scene_{name}.yaml")
    assert base.method.name == "clip2scene"
    loaded = load_table(SHIPPED, table)
    assert len({json.dumps(changed(base, row.set).to_dict()) for row in loaded.rows}) >= len(loaded.rows) - 3
    assert any(row.paper for row in loaded.rows)


def test_ggsds_rows_are_recipes_that_leave_out_what_they_say(monkeypatch):
    for variable in ("SEMANTICKITTI", "CLIP_VITB16", "COCO_STUFF_BANK", "STREET_WORDS"):
        monkeypatch.setenv(variable, variable.lower())
    base = load_recipe(FOLDER / "ggsd_semantickitti.yaml")
    rows = {row.name: row for row in load_table(FOLDER / "ggsd_tables.yaml", "table4").rows}
    weights = {
        name: [(p.method.superpoint, p.method.self_distillation) for p in phases_of(changed(base, row.set))]
        for name, row in rows.items()
    }
    assert weights == {
        "pixel-point": [(0, 0), (0, 0)],
        "geometry-guided": [(1, 0), (1, 0)],
        "self-distillation": [(0, 0), (0, 1)],
        "GGSD": [(1, 0), (1, 1)],
    }
    assert [row.paper["all points"] for row in rows.values()] == [52.9, 53.5, 56.1, 56.5]


def test_table_1_says_what_the_paper_says():
    rows = {row.name: row for row in load_table(SHIPPED, "table1").rows}
    assert rows["CLIP2Scene"].set == {}
    assert [rows[name].paper["all points"] for name in ("baseline", "w/o S3", "ST", "merged")] == [
        15.1,
        18.8,
        10.1,
        18.6,
    ]


def test_rows_of_one_setting_share_a_run_and_done_runs_are_not_repeated(recipe, tmp_path, monkeypatch):
    rows = (
        Row("full", paper={"all points": 20.8}),
        Row("same", set={"method.sweeps": 3}),
        Row("kl", set={"method.name": "kl"}),
    )
    table, made, real = Table("Test", rows), [], tables.train
    monkeypatch.setattr(tables, "train", lambda *a, **k: (made.append(a[1]), real(*a, **k)))
    summary = ablate(recipe, table, tmp_path / "out", [1, 2], device="cpu")
    assert len(made) == 4
    full, same = summary["rows"]["full"]["all points"], summary["rows"]["same"]["all points"]
    assert full["values"] == same["values"]
    assert len(full["values"]) == 2
    assert full["paper"] == 20.8
    ablate(recipe, table, tmp_path / "out", [1, 2], rows=["kl"], device="cpu")
    assert len(made) == 4
    written = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert written["rows"] == summary["rows"]
    assert written["recipe"]["name"] == "walls"
    assert "| full |" in (tmp_path / "out" / "ablation.md").read_text()


def test_rows_that_begin_alike_share_their_first_phases(recipe, tmp_path, monkeypatch):
    """And end as they would have by themselves."""
    phases = [{"optimiser.learning_rate": 0.003}, {"optimiser.learning_rate": 0.001}]
    last = {"phases": [phases[0], {"optimiser.learning_rate": 0.002}]}
    table = Table("Test", (Row("short", set={"phases": phases}), Row("long", set=last)))
    apart = ablate(recipe, table, tmp_path / "apart", [1], rows=["long"], device="cpu")
    seen, real = [], tables.train
    monkeypatch.setattr(tables, "train", lambda *a, **k: (seen.append((a[1] / "phase1").exists()), real(*a, **k)))
    together = ablate(recipe, table, tmp_path / "together", [1], device="cpu")
    assert seen == [False, True]
    assert together["rows"]["long"] == apart["rows"]["long"]
    name = next((tmp_path / "apart" / "runs").iterdir()).name
    one, other = (load_file(tmp_path / out / "runs" / name / "student.safetensors") for out in ("apart", "together"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_fine_tuned_rows(recipe, tmp_path):
    table = Table("Test", (Row("random", pretrain=False), Row("pre")), finetune=True)
    summary = ablate(recipe, table, tmp_path / "out", [1], splits=["walls"], device="cpu")
    assert set(summary["rows"]["random"]) == set(summary["rows"]["pre"]) == {"walls"}
    runs = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("evaluation.json")]
    starts = [run["about"]["training frames"].get("from") for run in runs]
    assert starts.count("random") == 1
    assert sum(str(start).endswith("student.safetensors") for start in starts) == 1


def test_mean_and_spread_by_hand():
    rows = [Row("a", "g", paper={"x": 20.8}), Row("b")]
    found = {
        "a": {"x": [Figure(value, {"": value}) for value in (0.2, 0.3, 0.4)]},
        "b": {"y": [Figure(0.5, {"": 0.5})]},
    }
    summary = summarise(Table("T", tuple(rows)), rows, found, [1, 2, 3])
    a = summary["rows"]["a"]["x"]
    assert (a["mean"], a["std"]) == (pytest.approx(0.3), pytest.approx(0.1))
    assert "folds" not in a
    assert to_markdown(summary).splitlines()[2:] == [
        "| | row | x | y |",
        "|---|---|---|---|",
        "| g | a | 30.0 ± 10.0 (20.8) |  |",
        "|  | b |  | 50.0, 1 of 3 seeds |",
    ]


def test_folds_are_scored_together(recipe, tmp_path, monkeypatch):
    """Fold "one" has 8 of 10 points of class 0 right, "two" 1 of 5 and both of class 1; together IoU 9/15 and 2/8."""
    confusion = {"one": [[8, 2, 0], [0, 0, 0]], "two": [[1, 4, 0], [0, 2, 0]]}
    folded = changed(recipe, {"folds": {"one": {"repeat": 1}, "two": {"repeat": 2}}})

    def pretend(planned, folder, **_):
        assert planned.folds == {}
        said = {mode: confusion["one" if planned.repeat == 1 else "two"] for mode in tables.MODES.values()}
        folder.mkdir(parents=True)
        figures = {"modes": dict.fromkeys(said), "confusion": said, "classes": ["a", "b"]}
        (folder / "evaluation.json").write_text(json.dumps(figures))

    monkeypatch.setattr(tables, "train", pretend)
    figures = ablate(folded, Table("T", (Row("full"),)), tmp_path / "out", [1])["rows"]["full"]["in view"]
    assert figures["mean"] == pytest.approx((9 / 15 + 2 / 8) / 2)
    assert figures["folds"] == [{"one": pytest.approx(0.8), "two": pytest.approx((1 / 5 + 2 / 6) / 2)}]
    alone = ablate(folded, Table("T", (Row("full"),)), tmp_path / "out", [1], folds=["one"])
    assert alone["rows"]["full"]["in view"]["mean"] == pytest.approx(0.8)
    with pytest.raises(RecipeError, match="no fold"):
        ablate(folded, Table("T", (Row("full"),)), tmp_path / "out", [1], folds=["three"])


def test_the_folds_of_semantickitti_leave_out_what_they_test_on(monkeypatch):
    for variable in ("SEMANTICKITTI", "CLIP_VITB16", "COCO_STUFF_BANK", "STREET_WORDS"):
        monkeypatch.setenv(variable, variable.lower())
    folds = folds_of(load_recipe(FOLDER / "clip2scene_semantickitti.yaml"))
    tested = [sequence for fold in folds.values() for sequence in fold.validation.options["sequences"]]
    assert sorted(tested) == ["00", "01", "02", "03", "05", "06", "09", "10"]
    for fold in folds.values():
        labelled = [split.options["sequences"] for split in fold.finetune.splits.values()]
        for trained in (fold.train.options["sequences"], *labelled):
            assert sorted(trained + fold.validation.options["sequences"]) == sorted(tested)


def test_mistakes_are_named(recipe, tmp_path):
    with pytest.raises(RecipeError, match="no row"):
        ablate(recipe, Table("T", (Row("a"),)), tmp_path, [1], ["b"])
    unread = Table("T", (Row("a", set={"method.name": "openscene", "method.tau": 0.1}),))
    with pytest.raises(RecipeError, match=r"Row 'a' of the table: recipe\.method has no field \['tau'\]"):
        ablate(recipe, unread, tmp_path, [1])
    labels = Table("T", (Row("a"),), finetune=True)
    with pytest.raises(RecipeError, match="no split '2%'"):
        ablate(recipe, labels, tmp_path, [1], splits=["2%"])
    with pytest.raises(RecipeError, match="no split to fine-tune on"):
        ablate(changed(recipe, {"finetune.splits": {}}), labels, tmp_path, [1])
    with pytest.raises(RecipeError, match="table9"):
        load_table(SHIPPED, "table9")
    with pytest.raises(RecipeError, match="nowhere"):
        load_table(tmp_path / "nowhere.yaml", "table1")
    bad = tmp_path / "bad.yaml"
    bad.write_text(yaml.safe_dump({"t": {"title": "x", "rows": {"a": {"colour": 1}}}}))
    with pytest.raises(RecipeError, match="colour"):
        load_table(bad, "t")
