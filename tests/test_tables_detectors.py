"""Tables of detectors: small plans on glyphboxes, and a tiny table trained, recorded and written with its AP; backbones
from files."""

import csv
import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_detection import SIDE, pytestmark, squares  # noqa: F401 - registers its nets and data, runs without operators
from tiny_detector import Small
from typer.testing import CliRunner

from kdviz.base.check import KdvizError
from kdviz.base.files import sha256
from kdviz.checkpoints import load_checkpoint
from kdviz.cli.app import app
from kdviz.data import load_boxes
from kdviz.tables import write
from kdviz.tables.collect import collect
from kdviz.tables.declare import from_file
from kdviz.tables.job import images_of
from kdviz.tables.plan import plan
from kdviz.tables.published import from_paper
from kdviz.tables.queue import DONE, Queue
from kdviz.tables.worker import work

HERE = Path(__file__).parent
RECIPE = f"""
data = "squares"
student = "fasterrcnn_small"
method = "detector"
epochs = 1
batch = 4
lr = 0.02
warmup = 0
augment = "none"
clip_grad = 1.0
precision = "fp32"
image_size = {SIDE}
"""
TABLE = """
recipe = "recipe.toml"
metric = "average precision, %"
seeds = 2
columns = [
  { label = "AP", measure = "ap", teacher = "fasterrcnn_wide", student = "fasterrcnn_small" },
  { label = "AP75", measure = "ap75", teacher = "fasterrcnn_wide", student = "fasterrcnn_small" },
]
rows = [{ name = "KD", method = "roi_kd" }, { name = "KD+RK", method = "roi_kd+rk" }]
"""


def test_the_small_form_of_rkkds_detectors(tmp_path):
    found = plan(from_paper("rkkd", "tab5", scale="small"), runs=tmp_path, teacher_cache=tmp_path / "cache")
    teachers = [job for job in found.jobs.values() if job.after is None]
    assert len(found.jobs) == 1 + 4 * 5  # three columns show one run
    assert [(job.recipe.student, job.recipe.method) for job in teachers] == [("fasterrcnn_resnet18_fpn", "detector")]
    for row in ("KD", "FitNet", "FGFI", "KD+RKKD"):
        assert found.cells[row, "AP"] == found.cells[row, "AP50"] == found.cells[row, "AP75"]
    job = found.cells["KD+RKKD", "AP"][2]
    recipe = job.recipe
    assert (recipe.data, recipe.limit, recipe.epochs, recipe.image_size, recipe.seed) == ("glyphboxes", 300, 4, 128, 2)
    assert (teachers[0].recipe.limit, teachers[0].recipe.optimizer) == (300, "adamw")
    assert (job.teacher, job.teacher_cache) == (teachers[0].folder / "last.pt", None)
    assert images_of(job) == (300, load_boxes("glyphboxes", split="train").subset(300, seed=2).sha256)
    measured = [found.declaration.cells["FGFI", column].measure for column in ("AP", "AP50", "AP75")]
    assert measured == ["ap", "ap50", "ap75"]
    assert dict(found.declaration.against) == {"FitNet": "KD", "FGFI": "KD", "KD+RKKD": "KD"}


def test_the_small_form_of_plds_detectors(tmp_path):
    table = from_paper("pld", "tab7", scale="small")
    (column,) = table.columns
    assert column == "fasterrcnn_resnet18_fpn > fasterrcnn_mobilenet_v2_fpn"
    assert [table.cells[row, column].published for row in ("DKD", "PLD")] == [29.24, 28.91]
    assert dict(table.against) == {"PLD": "DKD"}
    teachers = [
        {name for name, job in plan(one, runs=tmp_path).jobs.items() if job.after is None}
        for one in (table, from_paper("rkkd", "tab5", scale="small"))
    ]
    assert teachers[0] == teachers[1] != set()  # one teacher for both papers


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of detectors, trained by one worker."""
    folder = tmp_path_factory.mktemp("detectors")
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "mine.toml").write_text(TABLE)
    queue = Queue(folder / "runs" / "queue.sqlite")
    queue.put("mine", [(job.id, job.payload, job.after and job.after.id) for job in planned(folder).left])
    assert work(queue.path, "mine", device="cpu") == 5
    assert {entry.state for entry in queue.entries("mine")} == {DONE}
    return folder


def planned(folder, **options):
    return plan(from_file(folder / "mine.toml"), runs=folder / "runs", **options)


def test_a_finished_run_is_the_cell_here_and_by_its_record(table, tmp_path):
    here = planned(table)
    assert (len(here.finished), here.left, dict(here.other)) == (5, [], {})
    job = here.cells["KD", "AP"][0]
    outcome = here.outcomes[job.id]
    assert outcome.facts["data_sha256"] == squares("train").sha256
    assert {"ap", "ap50", "ap75"} <= set(outcome.metrics["last"])
    write.keep_records(here, tmp_path / "records")
    there = plan(from_file(table / "mine.toml"), runs=tmp_path / "runs", records=tmp_path / "records")
    assert (there.finished, there.left) == (here.finished, [])
    assert dict(there.outcomes[job.id].metrics) == dict(outcome.metrics)


def test_every_form_has_ap_with_its_spread_and_seeds_alone_are_drawn(table, tmp_path):
    """Of metrics that are set by hand: KD .30 and .34, KD+RK .37 and .39 (gains .07 and .05)."""
    found, numbers = planned(table), {"KD": (0.30, 0.34), "KD+RK": (0.37, 0.39)}
    outcomes = dict(found.outcomes)
    for row, values in numbers.items():
        for job, value in zip(found.cells[row, "AP"], values, strict=True):
            last = {"epoch": 1, "ap": value, "ap50": 0.9, "ap75": value / 2}
            outcomes[job.id] = replace(outcomes[job.id], metrics={"last": last, "best": last})
    found = replace(found, outcomes=outcomes)
    result = collect(found, resamples=400)
    at = result.sel(row="KD+RK")
    assert at["measured"].values.tolist() == pytest.approx([38.0, 19.0])
    assert float(at["std"][0]) == pytest.approx(2 / np.sqrt(2))
    assert float(at["gain"][0]) == pytest.approx(6.0)
    # Student's interval of 7 and 5: 6 -+ 12.7062 * 1
    assert [float(at[name][0]) for name in ("t_low", "t_high")] == pytest.approx([-6.7062, 18.7062], abs=1e-3)
    assert at["images"].values.tolist() == [0, 0]
    assert result["measured"].attrs["long_name"] == "mean average precision of the last epoch"
    write.write(found, result, tmp_path, command="kdviz table mine.toml")
    text = (tmp_path / "table.txt").read_text()
    assert "KD+RK  38.00 ± 1.41~  19.00 ± 0.71~" in text
    assert "by bootstrap over seeds or by Student's t over seeds" in text
    assert "average precision is no mean over them" in text
    assert "in points of average precision" in result.attrs["caption"]
    assert "by bootstrap over seeds, thin bars" in result.attrs["caption"]
    assert "diamonds" not in result.attrs["caption"]  # nothing was printed
    assert r"38.00\,$\pm$\,1.41" in (tmp_path / "table.tex").read_text()
    assert "*38.00 ± 1.41~*" in (tmp_path / "table.md").read_text()
    lines = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert [(line["column"], line["seed_1"]) for line in lines if line["row"] == "KD"] == [("AP", "34"), ("AP75", "17")]


ALONE = """
recipe = "recipe.toml"
name = "alone"
imports = ["tiny_detector"]
seeds = 1
columns = [{ student = "fasterrcnn_small", label = "AP", measure = "ap", teacher = "fasterrcnn_wide" }]
rows = [{ name = "labels alone", method = "detector" }]
"""


def test_a_backbones_file_is_part_of_the_cell(tmp_path, monkeypatch):
    """By the command: a run from a fresh backbone, one from a file, one from another file are three."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))))
    (tmp_path / "recipe.toml").write_text(f"{RECIPE}frozen_bn = true\nlimit = 8\n")
    (tmp_path / "alone.toml").write_text(ALONE)
    net = Small()
    for name in ("one.pt", "two.pt"):
        net.conv1[0].weight.data += 1
        torch.save(net.state_dict(), name)

    def table(*words):
        done = CliRunner().invoke(app, ["table", "alone.toml", *words])
        assert done.exit_code == 0, done.output or done.exception
        return " ".join(done.output.split())

    def run():
        table(*words, "--workers", "1", "--device", "cpu")
        manifest = json.loads((tmp_path / "reports/tables/alone/manifest.json").read_text())
        assert [one["finished"] for one in manifest["runs"]] == [True]
        return manifest, load_checkpoint(tmp_path / "runs/tables" / manifest["runs"][0]["id"])

    fresh = "fasterrcnn_small: the backbone starts fresh, the recipe's source from ImageNet's weights"
    words = ()
    assert f"{fresh}; --backbone fasterrcnn_small=FILE" in table("--plan")
    manifest, checkpoint = run()
    first = manifest["runs"][0]["id"]
    assert manifest["given_backbones"] == {}
    assert "backbone_sha256" not in checkpoint.recipe
    assert "1 finished" in table("--plan")
    words = ("--backbone", "fasterrcnn_small=one.pt")
    told = table("--plan", *words)
    assert "1 runs to train" in told
    assert "fresh" not in told
    assert " --backbone one.pt " in table("--print-commands", *words)
    manifest, checkpoint = run()
    assert manifest["given_backbones"] == {"fasterrcnn_small": {"path": "one.pt", "sha256": sha256("one.pt")}}
    stated = {key: checkpoint.recipe[key] for key in ("backbone_sha256", "trainable_layers", "frozen_bn")}
    assert stated == {"backbone_sha256": sha256("one.pt"), "trainable_layers": 3, "frozen_bn": True}
    (entry,) = Queue(tmp_path / "runs/tables/queue.sqlite").entries(str(tmp_path / "reports/tables/alone"))
    assert entry.payload["recipe"]["backbone"] == str(tmp_path / "one.pt")  # wherever a worker runs
    given = torch.load("one.pt")["conv1.0.weight"]  # of a stage that is not trained
    assert torch.equal(checkpoint.model.state_dict()["backbone.body.conv1.0.weight"], given)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "one.pt").rename(tmp_path / "elsewhere" / "one.pt")
    assert "1 finished" in table("--plan", "--backbone", "fasterrcnn_small=elsewhere/one.pt")
    assert "0 finished" in table("--plan", "--backbone", "fasterrcnn_small=two.pt")
    assert "1 finished" in table("--plan")  # the fresh one
    runs = tmp_path / "runs/tables"
    (runs / first).rename(tmp_path / "aside")
    (runs / manifest["runs"][0]["id"]).rename(runs / first)  # as though it had been trained there with --backbone
    shutil.rmtree(tmp_path / "reports")
    told = table("--plan")
    assert f"backbone_sha256 is {sha256('elsewhere/one.pt')[:37]}... there, None in the table" in told
    assert "0 finished" in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backbone", "fasterrcnn_smal=here.pt"], "did you mean 'fasterrcnn_small'"),
        (["--backbone", "fasterrcnn_wide=here.pt"], "unknown detector of mine 'fasterrcnn_wide'"),  # given, not trained
        (["--backbone", "fasterrcnn_small"], "--backbone: expected NET=FILE, got 'fasterrcnn_small'"),
        (["--backbone", "fasterrcnn_small=gone.pt"], "--backbone: no file gone.pt"),
        (["--teacher", "fasterrcnn_wid=here.pt"], "unknown teacher of mine 'fasterrcnn_wid'"),
    ],
)
def test_a_file_for_a_net_that_the_table_does_not_have_is_refused(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "mine.toml").write_text(TABLE)
    (tmp_path / "here.pt").write_bytes(b"")
    given = ["--teacher", "fasterrcnn_wide=here.pt", *words]
    done = CliRunner().invoke(app, ["table", "mine.toml", "--plan", *given])
    assert isinstance(done.exception, KdvizError)
    assert message in str(done.exception)
