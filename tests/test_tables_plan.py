"""Plans: every declared table becomes runs of known recipes, and every command is the run that it stands for."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kdviz.base.check import KdvizError
from kdviz.base.statistics import difference
from kdviz.checkpoints import RunFolder
from kdviz.cli.app import app
from kdviz.papers import PAPERS, published
from kdviz.tables import write
from kdviz.tables.collect import collect
from kdviz.tables.declare import COLUMN, KEYS, PASSED, ROW, differences, from_file
from kdviz.tables.plan import plan
from kdviz.tables.published import from_paper
from kdviz.tables.records import Outcome

EVERY = [(paper, name) for paper in PAPERS for name in published.tables(paper)]
NO_SMALL_FORM = {("rkkd", "tab4")}
MINE = """
title = "mine"
recipe = "glyphs100"
seeds = [3, 4]
imports = ["tiny"]
data = "tiny"
teacher_recipe = "glyphs100"
columns = [{ teacher = "resnet14", student = "resnet8" }]
rows = [
  { name = "CE", method = "ce", values = [50.0] },
  { name = "KD", method = "kd", values = [60.0], set = { "kd.temperature" = [2.0, 4.0] } },
  { name = "long", method = "kd", changes = { epochs = 9 } },
  { name = "unknown", values = [70.0] },
]
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    return path


def test_the_estimate_is_by_runs_of_the_same_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = (
        'title = "t"\nrecipe = "glyphs100"\nseeds = [0, 1]\nchanges = { limit = 4000, epochs = 5, holdout = "none" }\n'
    )
    table += 'columns = [{ student = "resnet8" }]\nrows = [{ name = "CE", method = "ce" }]\n'
    Path("t.toml").write_text(table)

    def plan_after(data, *more):
        run = RunFolder(tmp_path / "runs" / data)
        run.log("start", name="resnet8", method="ce", teacher=None, data=data)
        run.log("epoch", epoch=1, images_per_second=200)
        result = CliRunner().invoke(app, ["table", "t.toml", "--plan", *more])
        assert result.exit_code == 0, result.output
        return result.output.splitlines()[-1]

    told = "2 runs to train (0 of them teachers), 0 finished; "
    assert plan_after("cifar100") == told + "no earlier run shows how long that takes"
    # 2 runs of 5 epochs of 4000 images, 200 a second
    assert plan_after("glyphs100", "--workers", "1") == told + "about 3 min with 1 worker by the pace of earlier runs"
    assert "about 2 min with 2 workers" in plan_after("glyphs100", "--workers", "8")


@pytest.mark.parametrize("scale", ["full", "small"])
@pytest.mark.parametrize(("paper", "name"), EVERY)
def test_every_table_is_a_plan(paper, name, scale, tmp_path):
    if scale == "small" and (paper, name) in NO_SMALL_FORM:
        with pytest.raises(KdvizError, match="no form at small scale"):
            from_paper(paper, name, scale=scale)
        return
    table = from_paper(paper, name, scale=scale)
    assert ("Small scale" in table.note and "synthetic" in table.title) == (scale == "small")
    found = plan(table, runs=tmp_path)
    trained = [cell for cell in table.cells.values() if cell.trainable and cell.method != "teacher"]
    assert sum(len(jobs) for jobs in found.cells.values()) >= len(trained) * len(table.seeds)
    assert all(job.after is None or job.after.id in found.jobs for job in found.jobs.values())
    assert len(found.left) == len(found.jobs)


@pytest.mark.parametrize(("paper", "name"), EVERY)
def test_every_cell_of_the_papers_can_be_trained(paper, name):
    from kdviz.models import MODELS
    from kdviz.models.detection import DETECTORS

    table = from_paper(paper, name)
    for key, whole in table.cells.items():
        assert whole.trainable, key
        for cell in whole.parts or (whole,):
            nets = {cell.teacher, cell.student}
            assert all(net in {*MODELS, *DETECTORS} or net.startswith("timm:") for net in nets), key
    assert table.against.keys() >= {row for row in table.rows if "RKKD" in row or row in ("PLD", "PLD T 4", "ListMLE")}


def test_teachers_on_imagenet_are_trained_by_its_recipe_and_the_labels_at_full_weight(tmp_path):
    for name, teacher in (("tab3", "resnet50_imagenet"), ("tab4", "resnet56")):
        (job,) = [job for job in plan(from_paper("rkkd", name), runs=tmp_path).jobs.values() if "teacher_" in job.id]
        assert (job.recipe.student, job.recipe.method, job.recipe.settings) == (teacher, "ce", {})
        assert job.recipe.data == from_paper("rkkd", name).data
    untaught = plan(from_paper("rkkd", "tab4"), runs=tmp_path).cells["Student", "PVT-Ti"][0].recipe
    assert (untaught.settings, untaught.student_size, untaught.lr) == ({}, 224, 5e-4)


def test_cells_of_another_library_and_of_two_lengths(tmp_path):
    vit = plan(from_paper("pld", "tab2"), runs=tmp_path).cells["KD", "ViT-L > ViT-S"][0]
    assert (vit.recipe.teacher_normalization, vit.recipe.settings["ce.weight"]) == ("own", 0.1)
    words = shlex.split(vit.command)
    assert words[words.index("--teacher-model") + 1] == "timm:vit_large_patch16_224" == vit.payload["teacher_model"]
    assert "teacher_normalization=own" in words
    long = plan(from_paper("pld", "tab4"), runs=tmp_path)
    assert [long.cells["PLD", f"{epochs} epochs"][0].recipe.epochs for epochs in (100, 300)] == [100, 300]
    assert len([job for job in long.jobs if "teacher_" in job]) == 1


MEAN = """
recipe = "glyphs100"
seeds = 2
[[columns]]
label = "two"
pairs = [{ teacher = "resnet14", student = "resnet8" }, { teacher = "resnet20", student = "resnet8" }]
[[rows]]
name = "KD"
method = "kd"
[[rows]]
name = "DKD"
method = "dkd"
values = [70.0]
"""


def test_a_column_may_be_the_mean_over_pairs_of_nets(tmp_path):
    (tmp_path / "mine.toml").write_text(f'axis = "pairs"\n{MEAN}')
    planned = plan(from_file(tmp_path / "mine.toml"), runs=tmp_path)
    assert [len(jobs) for jobs in planned.cells.values()] == [4, 4]
    assert {job.teacher_net for job in planned.cells["KD", "two"]} == {"resnet14", "resnet20"}
    generator, target = np.random.default_rng(0), np.arange(50) % 5
    right = {job.id: generator.random(50) < 0.7 for jobs in planned.cells.values() for job in jobs}
    outcomes = {
        name: Outcome(
            {}, {which: {"top1": found.mean()} for which in ("last", "best")}, {}, {"last": found, "target": target}
        )
        for name, found in right.items()
    }
    result = collect(replace(planned, outcomes=outcomes), resamples=200).sel(column="two")
    runs = {
        row: [(job.recipe.seed, right[job.id].mean()) for job in planned.cells[row, "two"]] for row in ("KD", "DKD")
    }
    by_seed = {
        row: [100 * np.mean([top1 for seed, top1 in found if seed == s]) for s in (0, 1)] for row, found in runs.items()
    }
    np.testing.assert_allclose(result["last_by_seed"].sel(row="DKD"), by_seed["DKD"])
    assert float(result["measured"].sel(row="KD")) == pytest.approx(np.mean(by_seed["KD"]))
    assert float(result["gain"].sel(row="DKD")) == pytest.approx(np.mean(by_seed["DKD"]) - np.mean(by_seed["KD"]))
    assert (int(result["images"].sel(row="DKD")), float(result["published"].sel(row="DKD"))) == (50, 70.0)
    shares = {
        row: [
            np.mean([right[job.id] for job in planned.cells[row, "two"] if job.recipe.seed == s], axis=0)
            for s in (0, 1)
        ]
        for row in ("KD", "DKD")
    }
    fractions = {row: np.array(found) / 100 for row, found in by_seed.items()}
    hits = {"base_hits": np.stack(shares["KD"]), "other_hits": np.stack(shares["DKD"]), "target": target}
    told = difference(fractions["KD"], fractions["DKD"], **hits, resamples=200)
    ends = [float(result[end].sel(row="DKD")) for end in ("low", "high")]
    np.testing.assert_allclose(ends, [100 * told.low, 100 * told.high])
    whole = collect(replace(planned, outcomes=outcomes), resamples=50)
    assert "\n| pairs | two |\n" in write.markdown(whole)
    assert "\npairs & two \\\\\n" in write.latex(whole)
    assert re.search(r"^pairs +two", write.terminal(whole), re.MULTILINE)
    lost = planned.cells["DKD", "two"][0]
    partial = collect(replace(planned, outcomes={name: one for name, one in outcomes.items() if name != lost.id}))
    assert np.isfinite(partial["last_by_seed"].sel(row="DKD", column="two")).values.tolist() == [False, True]


@pytest.mark.parametrize(
    ("change", "says"),
    [(('label = "two"', ""), "needs a label"), (('teacher = "resnet14"', 'teachers = "resnet14"'), "key of a pair")],
)
def test_mistakes_in_pairs_are_one_line(tmp_path, change, says):
    (tmp_path / "mine.toml").write_text(MEAN.replace(*change))
    with pytest.raises(KdvizError, match=says):
        from_file(tmp_path / "mine.toml")


def test_the_numbers_beside_a_small_column_are_those_of_the_pair_that_it_stands_for():
    table = from_paper("rkkd", "tab1", scale="small")
    assert table.columns == ("resnet20 > wrn_16_1", "resnet32 > wrn_16_1", "wrn_16_2 > resnet8")
    assert [table.cells["KD", column].published for column in table.columns] == [74.45, 67.35, 74.83]
    notes = [from_paper("pld", name, scale="small").note for name in ("tab4", "tab6")]
    assert notes[0].endswith("as in Table 2. resnet20 > resnet8 in 5 epochs, 15 epochs.")
    assert notes[1].endswith("resnet20 > resnet8 stands for resnet152 > resnet50 in top-1.")
    note = table.only(columns=["resnet32 > wrn_16_1"]).note
    assert note.endswith("resnet32 > wrn_16_1 stands for ResNet50 > MobileNetV2.")


def test_equal_runs_of_two_tables_are_one(tmp_path):
    jobs = [set(plan(from_paper("rkkd", name, scale="small"), runs=tmp_path).jobs) for name in ("tab2", "tab7")]
    assert any("_kd_of_resnet20" in job for job in jobs[0] & jobs[1])
    assert any(job.startswith("glyphs100/teacher_resnet20") for job in jobs[0] & jobs[1])


def test_a_users_table(mine, tmp_path):
    found = plan(from_file(mine), runs=tmp_path)
    assert [len(found.cells[row, "resnet14 > resnet8"]) for row in ("CE", "KD", "long", "unknown")] == [2, 2, 2, 0]
    kd, long = found.cells["KD", "resnet14 > resnet8"][0], found.cells["long", "resnet14 > resnet8"][1]
    assert (kd.recipe.seed, kd.recipe.data, kd.recipe.settings["kd.temperature"]) == (3, "tiny", [2.0, 4.0])
    assert (long.recipe.seed, long.recipe.epochs, long.after.recipe.epochs) == (4, 9, 5)
    assert kd.after is long.after
    assert kd.teacher == kd.after.folder / "last.pt"
    assert found.declaration.against == {"KD": "CE", "long": "KD"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("rows = [", "row = ["), "unknown key 'row'; did you mean 'rows'?"),
        (('method = "ce"', 'methods = "ce"'), "did you mean 'method'?"),
        (('name = "KD"', 'name = "CE"'), "two rows are called CE"),
        (("seeds = [3, 4]", "seeds = []"), "seeds must be"),
        (("seeds = [3, 4]", "seeds = ["), "not TOML"),
        (("values = [50.0]", "values = []"), None),
        (('method = "ce"', 'method = "cee"'), "unknown method 'cee'; did you mean 'ce'?"),
        (('["tiny"]', '["tiny_that_is_not_there"]'), "imports: tiny_that_is_not_there cannot be imported"),
        (("epochs = 9", "momentun = 0.5"), "unknown recipe setting in changes 'momentun'; did you mean 'momentum'?"),
        (("epochs = 9", "settings = 0.5"), "unknown recipe setting in changes 'settings'"),
        (("epochs = 9", "seed = 9"), "unknown recipe setting in changes 'seed'"),
        (('teacher = "resnet14", ', ""), "needs a teacher"),
    ],
)
def test_mistakes_in_a_users_table_are_one_line(mine, tmp_path, change, says):
    mine.write_text(MINE.replace(*change))
    if says is None:
        plan(from_file(mine), runs=tmp_path)
        return
    with pytest.raises(KdvizError, match=says.replace("?", r"\?")):
        plan(from_file(mine), runs=tmp_path)


def test_a_given_teacher_is_not_trained(mine, tmp_path):
    found = plan(from_file(mine), runs=tmp_path, teachers={"resnet14": tmp_path / "mine.pt"})
    assert not [job for job in found.jobs if "teacher_" in job]
    assert found.cells["KD", "resnet14 > resnet8"][0].teacher == tmp_path / "mine.pt"


def test_rows_and_columns_are_chosen_by_name():
    table = from_paper("rkkd", "tab2").only(["KD", "KD+RKKD"], ["vgg13 > vgg8"])
    assert (table.rows, table.columns, dict(table.against)) == (("KD", "KD+RKKD"), ("vgg13 > vgg8",), {"KD+RKKD": "KD"})
    with pytest.raises(KdvizError, match="did you mean 'KD'"):
        table.only(["KDD"])


def test_what_a_row_is_compared_with():
    assert differences({"a": "pld", "b": "kd", "c": "teacher", "d": None}) == {"a": "b"}
    assert differences({"a": "kd"}) == {}


def test_a_command_trains_the_run_that_it_stands_for(mine, tmp_path, monkeypatch):
    trained = []

    def train(recipe, **options):
        trained.append((recipe, options))
        return {which: {"epoch": 1, "top1": 0.5, "loss": 1.0} for which in ("best", "last")}

    monkeypatch.setattr("kdviz.train.loop.train", train)
    monkeypatch.setattr("kdviz.checkpoints.related.load_teacher", lambda path, *_: Path(path))
    tables = (from_paper("pld", "tab8", scale="small"), from_paper("rkkd", "tab8"), from_paper("pld", "tab1"))
    jobs = [job for table in tables for job in plan(table, runs=tmp_path, changes={"limit": 9}).jobs.values()]
    changes = {"momentum": 0.8, "milestones": [2.5], "features_at": ["fc"], "teacher_normalization": "own", "limit": 9}
    changed = replace(from_file(mine), imports=(), changes=changes)
    own = plan(changed, runs=tmp_path, teacher_cache=tmp_path / "cache")
    for job in [*jobs[::7], *own.jobs.values()]:
        program, *words = shlex.split(job.command)
        assert program == "kdviz"
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, (job.command, result.output)
        recipe, options = trained.pop()
        assert recipe.model_copy(update={"teacher": None}) == job.recipe, job.command
        assert (options["out"], options["teacher"]) == (job.folder, job.teacher)
        assert options["teacher_cache"] == job.teacher_cache


def test_a_command_of_own_modules_imports_them(mine, tmp_path):
    command = plan(from_file(mine), runs=tmp_path).cells["CE", "resnet14 > resnet8"][0].command
    assert command.startswith("python -c 'import tiny; from kdviz.cli.app import main; main()' train glyphs100")


def test_the_page_about_tables_names_every_key_and_its_example_is_a_table(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "tables.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \| (the table|a row|a column) \|", page, re.MULTILINE)
    named = {of: [key for keys, kind in rows if kind == of for key in re.findall(r"`(\w+)`", keys)] for _, of in rows}
    assert sorted(named["the table"]) == sorted({*KEYS, *PASSED} - {"rows", "columns"})
    assert sorted(named["a row"]) == sorted(ROW)
    assert sorted(named["a column"]) == sorted(COLUMN)
    (tmp_path / "mine.toml").write_text(re.search(r"```toml\n(.+?)```", page, re.DOTALL)[1])
    planned = plan(from_file(tmp_path / "mine.toml"), runs=tmp_path)
    assert planned.declaration.against == {"T 4": "labels alone", "T 8": "T 4", "DIST": "T 4"}
    epochs = {column: jobs[0].recipe.epochs for (row, column), jobs in planned.cells.items() if row == "T 8"}
    assert epochs == {"resnet20 > resnet8": 5, "wider": 8}
    # two columns of four trained rows under three seeds, and one teacher, which both columns share
    assert len(planned.jobs) == 2 * 4 * 3 + 1
