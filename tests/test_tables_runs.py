"""A small table really trained: workers killed at random, statistics against the checkpoints, every written form."""

import csv
import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import load
from typer.testing import CliRunner

import kdviz
from kdviz.base.check import KdvizError
from kdviz.base.files import read_dataset, sha256
from kdviz.checkpoints import RunFolder
from kdviz.cli.app import app
from kdviz.tables import write
from kdviz.tables.collect import collect
from kdviz.tables.declare import from_file
from kdviz.tables.hits import hits
from kdviz.tables.plan import plan
from kdviz.tables.queue import Queue
from kdviz.tables.worker import perform, work
from kdviz.train import train

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
KILLS = 6
TABLE = """
recipe = "recipe.toml"
title = "50 % of {mine}"
imports = ["tiny"]
seeds = 3
columns = [{ teacher = "resnet8", student = "resnet8" }]
rows = [
  { name = "Teacher", values = [90.0] },
  { name = "CE", method = "ce", values = [80.0] },
  { name = "KD_1", method = "kd", values = [85.5] },
  { name = "other", values = [70.0] },
]
"""
RECIPE = 'data = "tiny"\nstudent = "resnet8"\nmethod = "ce"\nepochs = 2\nbatch = 48\nlr = 0.05\n'
COLUMN = "resnet8 > resnet8"


def planned(folder, **options):
    return plan(from_file(folder / "mine.toml"), runs=folder / "runs", **options)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The folder of a table that two workers trained, while they were killed with -9 again and again.

    Test processes that run beside each other share it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "killed"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            make(folder)
            (folder / "made").touch()
    return folder


def make(folder):
    (folder / "mine.toml").write_text(TABLE)
    (folder / "recipe.toml").write_text(RECIPE)
    found, queue = planned(folder), Queue(folder / "runs" / "queue.sqlite")
    queue.put("mine", [(job.id, job.payload, job.after and job.after.id) for job in found.left])
    words = [sys.executable, str(HERE / "tiny_workers.py"), str(queue.path), "mine", str(KILLS), "5"]
    paths = os.pathsep.join([str(HERE), str(Path(kdviz.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr


def test_no_run_is_lost_or_finished_twice(table):
    queue = Queue(table / "runs" / "queue.sqlite")
    happened = queue.events()
    jobs = [entry.id for entry in queue.entries("mine")]
    assert len(jobs) == 7
    for job in jobs:
        mine = [what for name, what in happened if name == job]
        assert mine[-1] == "done"
        assert mine.count("done") == 1
        assert mine.count("taken") == mine.count("died") + 1
    assert [what for _, what in happened].count("died") >= KILLS


def test_no_epoch_of_a_killed_run_is_repeated(table):
    for job in planned(table).jobs.values():
        events = RunFolder(job.folder).events()
        assert [event["epoch"] for event in events if event["event"] == "epoch"] == [1, 2]
        assert sum(event["event"] == "end" for event in events) == 1


def test_killed_runs_end_as_undisturbed_ones(table, tmp_path):
    job = planned(table).cells["KD_1", COLUMN][2]
    train(job.recipe, out=tmp_path, teacher=kdviz.load_checkpoint(job.teacher), device="cpu")
    assert sha256(tmp_path / "last.pt") == sha256(job.folder / "last.pt")


def test_finished_cells_are_skipped(table):
    found = planned(table)
    assert found.finished == set(found.jobs)
    assert found.left == []
    assert found.other == {}


def recorded(folder, records):
    """The same table planned in an empty folder, with records alone."""
    for name, text in {"mine.toml": TABLE, "recipe.toml": RECIPE}.items():
        (folder / name).write_text(text)
    return planned(folder, records=records)


def test_records_stand_for_runs_that_are_elsewhere(table, tmp_path):
    here = planned(table)
    write.keep_records(here, tmp_path / "records")
    files = sorted(path for path in (tmp_path / "records").rglob("*.npz"))
    assert len(files) == 7
    assert max(path.stat().st_size for path in files) < 5000
    there = recorded(tmp_path, tmp_path / "records")
    assert there.finished == here.finished
    assert there.left == []
    mine, theirs = collect(here, resamples=50), collect(there, resamples=50)
    assert mine.drop_vars("command").identical(theirs.drop_vars("command"))
    assert str(table) not in "".join(str(np.load(path)["record"]) for path in files)


def test_a_teacher_of_which_there_is_a_record_alone_is_trained_for_a_student_that_is_not(table, tmp_path):
    here = planned(table)
    write.keep_records(here, tmp_path / "records")
    lost = here.cells["KD_1", COLUMN][1]
    (tmp_path / "records" / f"{lost.id}.npz").unlink()
    there = recorded(tmp_path, tmp_path / "records")
    assert [job.id for job in there.left] == [lost.after.id, lost.id]


def test_records_of_another_recipe_do_not_count_and_damaged_ones_are_refused(table, tmp_path):
    here = planned(table)
    write.keep_records(here, tmp_path / "records")
    first, second = (here.cells["CE", COLUMN][seed].id for seed in (0, 1))
    (tmp_path / "records" / f"{first}.npz").write_bytes((tmp_path / "records" / f"{second}.npz").read_bytes())
    there = recorded(tmp_path, tmp_path / "records")  # the file of seed 1 under the name of seed 0
    assert [job.id for job in there.left] == [first]
    (tmp_path / "records" / f"{first}.npz").write_bytes(b"PK no")
    with pytest.raises(KdvizError, match="is no record of a run"):
        recorded(tmp_path, tmp_path / "records")


def test_a_run_of_another_recipe_teacher_or_data_is_not_the_cell(table, tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text(TABLE.replace("seeds = 3", "seeds = 1"))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    jobs = planned(tmp_path).jobs
    for name in jobs:
        (tmp_path / "runs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / name).symlink_to(table / "runs" / name)
    assert planned(tmp_path).finished == set(jobs)
    monkeypatch.setattr("kdviz.tables.plan.images_of", lambda job: (192, "0" * 64))
    assert all("data_sha256 is" in why for why in planned(tmp_path).other.values())
    monkeypatch.undo()
    monkeypatch.setattr("kdviz.tables.job.digest_of", lambda path: "0" * 64)
    (why,) = planned(tmp_path).other.values()
    assert "teacher is" in why
    monkeypatch.undo()
    monkeypatch.setattr("kdviz.tables.job.settings_in_force", lambda recipe, teacher: {"ce.weight": 2.0})
    assert len(planned(tmp_path).other) == 0  # other settings make another folder
    assert planned(tmp_path).finished == frozenset()


def test_the_dataset_is_what_the_checkpoints_do(table):
    result = collect(planned(table), resamples=200)
    images, labels = next(load("test").batches(96))
    right = {}
    for row in ("CE", "KD_1"):
        for seed, job in enumerate(planned(table).cells[row, COLUMN]):
            with torch.no_grad():
                model = kdviz.load_checkpoint(job.folder / "last.pt").model
                right[row, seed] = (model(images).logits.argmax(1) == labels).numpy()
            assert (hits(job.folder)["last"] == right[row, seed]).all()
    means = {row: 100 * np.array([right[row, seed].mean() for seed in range(3)]) for row in ("CE", "KD_1")}
    at = result.sel(column=COLUMN)
    for row, found in means.items():
        assert float(at["measured"].sel(row=row)) == pytest.approx(found.mean())
        assert float(at["std"].sel(row=row)) == pytest.approx(found.std(ddof=1))
    assert float(at["gain"].sel(row="KD_1")) == pytest.approx((means["KD_1"] - means["CE"]).mean())
    assert int(at["images"].sel(row="KD_1")) == 96
    assert list(result["base"].values) == ["", "", "CE", ""]
    assert at["runs"].values.tolist() == [1, 3, 3, 0]
    teacher = planned(table).cells["Teacher", COLUMN][0]
    assert float(at["measured"].sel(row="Teacher")) == pytest.approx(
        100 * kdviz.load_checkpoint(teacher.folder / "last.pt").metrics["last"]["top1"]
    )


def test_hits_of_other_checkpoints_are_not_used(table, tmp_path):
    job = planned(table).cells["CE", COLUMN][0]
    for name in ("last.pt", "best.pt", "hits.npz"):
        (tmp_path / name).write_bytes((job.folder / name).read_bytes())
    assert hits(tmp_path) is not None
    (tmp_path / "last.pt").write_bytes((table / "runs" / "queue.sqlite").read_bytes())
    assert hits(tmp_path) is None
    (tmp_path / "hits.npz").write_bytes(b"PK torn")
    assert hits(tmp_path) is None


@pytest.fixture(scope="module")
def forms(table):
    """Every written form, of a result whose numbers are set by hand."""
    found = planned(table)
    result = collect(found, resamples=200)
    numbers = {"measured": [91.0, 80.25, 84.5, np.nan], "std": [np.nan, 0.5, 0.25, np.nan]}
    for name, values in numbers.items():
        result[name][:, 0] = values
    result["gain"][2, 0], result["clear"][2, 0] = 4.25, 0
    out = table / "out"
    write.write(found, result, out, command="kdviz table mine.toml")
    return result, out


def test_the_terminals_form(forms):
    text = (forms[1] / "table.txt").read_text()
    lines = text.splitlines()
    assert lines[0] == "50 % of {mine}"
    assert lines[3:7] == [
        "Teacher  91.00 (90.00)",
        "CE       80.25 ± 0.50 (80.00)",
        "KD_1     84.50 ± 0.25~ (85.50)",
        "other    – (70.00)",
    ]
    assert "KD_1 against CE, resnet8 > resnet8: +4.25" in text
    assert "inside the noise" in text


def test_grey_goes_to_the_noise_alone(forms):
    text = write.terminal(forms[0], grey=lambda cell: f"<{cell.strip()}>")
    assert [line for line in text.splitlines() if line.endswith(">")] == ["KD_1     <84.50 ± 0.25~ (85.50)>"]
    forms[0]["clear"][2, 0] = 1
    assert "<" not in write.terminal(forms[0], grey=lambda cell: f"<{cell}>").split("\n\n")[0]
    forms[0]["clear"][2, 0] = 0


def test_the_markdown_form(forms):
    lines = (forms[1] / "table.md").read_text().splitlines()
    assert lines[2:4] == ["| | resnet8 > resnet8 |", "|---|---|"]
    assert "| KD_1 | *84.50 ± 0.25~ (85.50)* |" in lines
    assert "| CE | 80.25 ± 0.50 (80.00) |" in lines
    assert "| other | – (70.00) |" in lines


def test_the_latex_form(forms):
    text = (forms[1] / "table.tex").read_text()
    assert r"KD\_1 & \textcolor{gray}{84.50\,$\pm$\,0.25} (85.50) \\" in text
    assert r"CE & 80.25\,$\pm$\,0.50 (80.00) \\" in text
    assert r"other & -- (70.00) \\" in text
    assert r"\caption{50 \% of \{mine\}." in text
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\\{rule}") == 1
    plain = text.replace("\\{", "").replace("\\}", "")
    assert plain.count("{") == plain.count("}")
    assert text.isascii()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs a TeX with booktabs and xcolor")
def test_the_latex_form_compiles(forms, tmp_path):
    packages = r"\usepackage{booktabs,xcolor}"
    text = (forms[1] / "table.tex").read_text()
    (tmp_path / "page.tex").write_text(rf"\documentclass{{article}}{packages}\begin{{document}}{text}\end{{document}}")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_the_csv_form(forms):
    rows = list(csv.DictReader(io.StringIO((forms[1] / "table.csv").read_text())))
    assert [row["row"] for row in rows] == ["Teacher", "CE", "KD_1", "other"]
    kd = rows[2]
    assert (kd["base"], kd["published"], kd["measured"], kd["std"], kd["gain"]) == (
        "CE",
        "85.5",
        "84.5",
        "0.25",
        "4.25",
    )
    assert float(kd["seed_1"]) == pytest.approx(float(forms[0]["last_by_seed"].sel(row="KD_1", seed=1)[0]), abs=1e-3)
    assert rows[3]["measured"] == ""


def test_the_netcdf_form_and_the_manifest(forms, table):
    saved = read_dataset(forms[1] / "table.nc")
    assert saved["gain"].attrs["units"] == "points"
    assert float(saved["measured"].sel(row="CE")[0]) == 80.25
    manifest = json.loads((forms[1] / "manifest.json").read_text())
    assert manifest["command"] == "kdviz table mine.toml"
    assert manifest["versions"]["torch"] == torch.__version__.split("+")[0] or manifest["versions"]["torch"]
    assert len(manifest["runs"]) == 7
    for run in manifest["runs"]:
        assert run["sha256"]["last"] == sha256(table / "runs" / run["id"] / "last.pt")
        assert run["data_sha256"] == load("train").sha256
        assert run["command"].startswith("python -c 'import tiny;")
    script = (forms[1] / "commands.sh").read_text()
    assert script.splitlines()[1:] == ["# other, resnet8 > resnet8: kdviz has no method, net or recipe for it"]


def test_a_missing_cell_has_its_commands(table):
    lines = write.missing(planned(table, changes={"epochs": 7}))
    assert lines[0].startswith("# Teacher")
    assert lines[1].startswith("python -c")
    kd = lines.index("# KD_1, resnet8 > resnet8: 0 of 3 runs are finished")
    assert all("--epochs 7" in line for line in lines[kd + 1 : kd + 4])


def test_the_command_writes_a_finished_table_and_its_status(table, monkeypatch):
    monkeypatch.chdir(table)
    words = ["table", "mine.toml", "--runs", "runs", "--no-teacher-cache", "-o", "report"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "0 runs to train (0 of them teachers), 7 finished" in result.output
    assert (table / "report" / "table.nc").is_file()
    caption = (table / "report" / "gains.tex").read_text()
    assert caption.startswith(
        r"\caption{50 \% of \{mine\}: gain of each row over the row that it is compared with, in points"
    )
    for part in ("means over 3 seeds", "by bootstrap over seeds and test images", "diamonds are printed gains"):
        assert part in caption
    told = CliRunner().invoke(app, [*words, "--status"])
    assert "mine: 7 of 7 runs done, 0 running, 0 waiting" in told.output
    asked = CliRunner().invoke(app, [*words, "--print-commands"])
    assert asked.output == "# other, resnet8 > resnet8: kdviz has no method, net or recipe for it\n"
    more = CliRunner().invoke(app, [*words, "--plan", "--seeds", "4"])
    assert "2 runs to train (0 of them teachers), 7 finished; about" in more.output


def test_a_worker_asked_to_stop_gives_its_job_back(table, tmp_path, monkeypatch):
    queue = Queue(tmp_path / "queue.sqlite")
    job = planned(table).cells["CE", COLUMN][0]
    queue.put("plan", [("one", {**job.payload, "folder": str(tmp_path / "run")}, None)])

    def interrupted(payload, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr("kdviz.tables.worker.perform", interrupted)
    with pytest.raises(KeyboardInterrupt):
        work(queue.path, "plan")
    assert [what for _, what in queue.events()] == ["taken", "released"]


def test_a_bad_job_fails_in_one_line_and_the_others_go_on(table, tmp_path):
    queue = Queue(tmp_path / "queue.sqlite")
    job = planned(table).cells["CE", COLUMN][0]
    bad = {**job.payload, "recipe": {**job.payload["recipe"], "data": "tinny"}, "folder": str(tmp_path / "bad")}
    queue.put("plan", [("bad", bad, None), ("good", job.payload, None)])
    assert work(queue.path, "plan", device="cpu") == 1
    states = {entry.id: (entry.state, entry.line) for entry in queue.entries("plan")}
    assert states["bad"][0] == "failed"
    assert "did you mean 'tiny'?" in states["bad"][1]
    assert states["good"][0] == "done"


def test_a_finished_run_is_not_trained_again(table):
    job = planned(table).cells["CE", COLUMN][1]
    before = sha256(job.folder / "journal.jsonl")
    perform(job.payload, device="cpu")
    assert sha256(job.folder / "journal.jsonl") == before


def test_nets_of_the_users_own_are_trained_and_taught(tmp_path, monkeypatch):
    """No file is believed about code to import, so that the table's own words open its teachers and its students."""
    (tmp_path / "recipe.toml").write_text(RECIPE)
    text = TABLE.replace("seeds = 3", "seeds = 1").replace('"resnet8"', '"tiny:small"')
    (tmp_path / "mine.toml").write_text(text)
    for job in planned(tmp_path).jobs.values():
        perform(job.payload, device="cpu")
    found = planned(tmp_path)
    assert (found.left, len(found.jobs)) == ([], 3)
    shown = collect(found, resamples=50).sel(column="tiny:small > tiny:small")
    assert int(shown["images"].sel(row="KD_1")) == 96  # which images each run gets right was kept
    assert "--teacher-model tiny:small" in found.cells["KD_1", "tiny:small > tiny:small"][0].command
