"""Reports: self-contained, honest about what a file says, unharmed by odd names."""

import base64
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr

from kdviz.base.check import KdvizError
from kdviz.base.files import sha256, write_dataset
from kdviz.checkpoints import save_checkpoint
from kdviz.models import build
from kdviz.report import gather, measured, page
from kdviz.report.tables import flat, table

EVIL = '<script>alert("x")</script>&"\''


class Reader(HTMLParser):
    """Elements, attributes and text of a page; refuses unbalanced markup."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def checkpoint(path, *, method="kd", top1=0.8125, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "name": "resnet8",
        "classes": 10,
        "data": "glyphs100",
        "method": method,
        "seed": 3,
        "epoch": 2,
        "recipe": {"lr": 0.1, "method": method, "settings": {"kd.temperature": 4.0}},
        "metrics": {"best": {"epoch": 1, "top1": 0.83, "loss": 0.6}, "last": {"epoch": 2, "top1": top1, "loss": 0.7}},
        "teacher": {"path": "t.pt", "sha256": "0" * 64, "name": "resnet20"},
        **changes,
    }
    return save_checkpoint(path, model=build("resnet8", classes=facts["classes"], seed=0), **facts)


def run_folder(folder, **changes):
    checkpoint(folder / "last.pt", **changes)
    lines = [{"event": "start"}]
    for epoch, top1 in ((1, 0.5), (2, 0.75)):
        terms = {"ce": 1.0 / epoch, "kd": 2.0 / epoch, "total": 3.0 / epoch}
        lines.append({"event": "epoch", "epoch": epoch, "train": terms, "val": {"top1": top1, "loss": 1.0}})
    (folder / "journal.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


def landscape(path, sha256, steps=5):
    a = np.linspace(-1, 1, steps)
    values = 1 + a[:, None] ** 2 + a**2
    attrs = {"kind": "landscape", "label": "kd", "student_sha256": sha256, "caption": "A bowl."}
    write_dataset(xr.Dataset({"ce": (("alpha", "beta"), values)}, {"alpha": a, "beta": a}, attrs), path)


def test_the_journal_becomes_curves(tmp_path):
    (subject,) = gather([run_folder(tmp_path / "run")])
    assert subject.label == "run"
    training = subject.training
    np.testing.assert_allclose(training["total"], [3.0, 1.5])
    np.testing.assert_allclose(training["val_top1"], [0.5, 0.75])
    assert training["epoch"].values.tolist() == [1, 2]


def test_a_detectors_run_is_told_by_its_average_precision(tmp_path):
    for seed, ap in ((0, 0.25), (1, 0.75)):
        scores = {"epoch": 2, "ap": ap, "ap50": 0.875, "ap75": 0.125, "val_ap50": 0.375}
        folder = run_folder(tmp_path / f"run{seed}", seed=seed, metrics={"best": scores, "last": scores})
        text = (folder / "journal.jsonl").read_text().replace("top1", "ap")
        (folder / "journal.jsonl").write_text(text)
    subjects = gather([tmp_path / "run0", tmp_path / "run1"])
    np.testing.assert_allclose(subjects[0].training["val_ap"], [0.5, 0.75])
    text = page(subjects)
    for said in ("AP, best", "AP, last", "25.00 %", "50.00 %", "35.36"):  # mean and deviation of 25 and 75
        assert said in text
    assert "top-1" not in text
    assert "AP50 87.50 %" in (told := subjects[0].checkpoint._repr_html_())
    assert "val AP50 37.50 %" in told


def test_results_are_found_by_the_checkpoints_sha256(tmp_path):
    run = run_folder(tmp_path / "run")
    landscape(tmp_path / "results" / "mine.nc", sha256(run / "last.pt"))
    landscape(tmp_path / "results" / "other.nc", "f" * 64)
    epoch = checkpoint(run / "epochs" / "epoch_0001.pt", top1=0.5)
    landscape(tmp_path / "results" / "way.nc", sha256(epoch))
    (tmp_path / "results" / "broken.nc").write_text("not netCDF")
    (subject,) = gather([run], results=[tmp_path / "results"])
    assert [one.attrs["student_sha256"] for one in subject.results] == [sha256(run / "last.pt"), sha256(epoch)]
    assert "A bowl." in page([subject])


def test_shared_measurements_stand_side_by_side(tmp_path):
    paths = [checkpoint(tmp_path / f"{name}.pt", method=name) for name in ("kd", "pld")]
    for path in paths:
        landscape(tmp_path / f"{path.stem}.nc", sha256(path))
    text = page(gather(paths, results=[tmp_path]))
    assert "Side by side" in text
    assert text.count("<img") == 2  # contours and profiles together, and none of them again


def test_a_plane_through_several_subjects_is_shown_once(tmp_path):
    paths = [checkpoint(tmp_path / f"{name}.pt", method=name) for name in ("kd", "pld")]
    landscape(tmp_path / "plane.nc", f"{sha256(paths[0])} {sha256(paths[1])}")
    subjects = gather(paths, results=[tmp_path])
    assert [len(subject.results) for subject in subjects] == [1, 1]
    assert page(subjects).count("<img") == page(subjects[:1]).count("<img") == 2  # a contour and a profile


def test_a_page_holds_everything_it_shows(tmp_path):
    runs = [run_folder(tmp_path / "a"), run_folder(tmp_path / "b", method="kd+rk", top1=0.84)]
    text = page(gather(runs))
    found = Reader(text)
    assert not {"script", "link", "iframe", "object", "base"} & set(found.tags)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", re.sub(r"base64,[^\"]*", "", text))
    sources = [value for name, value in found.attributes if name in ("src", "href", "srcset", "data", "poster")]
    ids = {value for name, value in found.attributes if name == "id"}
    links = [value for value in sources if value.startswith("#")]
    assert links
    assert {link[1:] for link in links} == ids
    sources = [value for value in sources if value not in links]
    assert sources
    for source in sources:
        kind, _, data = source.partition(";base64,")
        assert kind in ("data:image/svg+xml", "data:image/png")
        assert base64.b64decode(data, validate=True)[:8] == b"\x89PNG\r\n\x1a\n" or b"<svg" in base64.b64decode(data)
    assert {"81.25 %", "84.00 %", "83.00 %"} <= set(re.findall(r">([\d.]+ %)<", text))
    assert "Settings that differ" in found.text


def test_the_same_run_gives_the_same_page(tmp_path):
    run = run_folder(tmp_path / "run")
    assert page(gather([run])) == page(gather([run]))


def test_names_are_text_and_never_markup(tmp_path):
    path = checkpoint(
        tmp_path / "plain.pt", method=EVIL, data=EVIL, recipe={EVIL: EVIL}, teacher={"path": EVIL, "name": EVIL}
    )
    found = Reader(page(gather([path]), title=EVIL))
    assert "script" not in found.tags
    assert EVIL in found.text


def test_a_name_in_a_figure_is_text_too(tmp_path):
    run = run_folder(tmp_path / "run$x_{")
    other = run_folder(tmp_path / "<b>&")
    assert "b" not in Reader(page(gather([run, other]))).tags


def test_a_file_that_says_nothing_shows_dashes(tmp_path):
    path = checkpoint(
        tmp_path / "bare.pt", method=None, data=None, recipe={}, metrics={}, teacher=None, seed=None, epoch=None
    )
    text = Reader(page(gather([path]))).text
    assert "–" in text
    assert "Training" not in text


def test_two_runs_of_the_same_name_keep_apart(tmp_path):
    subjects = gather([run_folder(tmp_path / "a" / "run"), run_folder(tmp_path / "b" / "run")])
    assert len({subject.label for subject in subjects}) == 2


@pytest.mark.parametrize(("make", "message"), [(False, "not found"), (True, r"no last\.pt yet")])
def test_what_is_not_there_is_told(tmp_path, make, message):
    if make:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "journal.jsonl").write_text('{"event": "start"}\n')
    with pytest.raises(KdvizError, match=message):
        gather([tmp_path / "run"])


def test_seeds_of_one_setting_are_averaged(tmp_path):
    tops = {0: 0.80, 1: 0.83, 2: 0.89}
    paths = [checkpoint(tmp_path / f"{seed}.pt", seed=seed, top1=top1) for seed, top1 in tops.items()]
    other = checkpoint(tmp_path / "other.pt", seed=1, recipe={"lr": 0.2})
    text = page(gather([*paths, other]))
    row = re.search(r"Over seeds.*?<tr><td>(kd.*?)</tr>", text).group(1)
    # mean 84, std sqrt((16 + 1 + 25) / 2)
    assert re.findall(r">([\d.]+)(?: %)?<", row) == ["3", "84.00", "4.58"]


def test_the_highest_of_a_column_is_marked():
    text = table(["", "top-1"], [["a", "9.50 %"], ["b", "81.00 %"], ["c", "–"]], numbers=1, top=(1,))
    assert re.findall(r'<td class="number top">([^<]*)</td>', text) == ["81.00 %"]
    assert flat({"a": {"b": 1}, "c": [2]}) == {"a.b": "1", "c": "[2]"}


def test_the_command_line_writes_one_page(tmp_path):
    run_folder(tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-m", "kdviz", "report", "run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "reports/run/report.html"
    assert (tmp_path / "reports/run/report.html").read_text().startswith("<!doctype html>")


def test_zero_warm_ups_set_no_runs_apart(tmp_path):
    bare, told = {"settings": {"kd.weight": 0.9}}, {"settings": {"kd.weight": 0.9, "kd.warmup": 0.0}}
    paths = [checkpoint(tmp_path / f"{seed}.pt", seed=seed, recipe=one) for seed, one in enumerate((bare, told))]
    text = page(gather(paths))
    assert "Over seeds" in text
    assert "warmup" not in text
    late = checkpoint(tmp_path / "late.pt", recipe={"settings": {"kd.weight": 0.9, "kd.warmup": 20}})
    assert "settings.kd.warmup" in page(gather([*paths, late]))


def test_a_run_without_results_is_measured_beside_its_teacher(tmp_path):
    """A student that is its own teacher ranks all channels as that one does: every tau and overlap is 1."""
    path = checkpoint(tmp_path / "teacher.pt", classes=100, method=None, teacher=None)
    student = {"path": "teacher.pt", "sha256": sha256(path), "name": "resnet8"}
    run = run_folder(tmp_path / "run", classes=100, teacher={**student, "path": str(path)})
    (subject,) = (measured(one, samples=100) for one in gather([run]))
    assert subject.unmeasured == ""
    assert [one.attrs["kind"] for one in subject.results] == ["histogram", "tau"]
    assert np.allclose(subject.results[1]["mean"], 1)
    text = page([subject])
    assert ">1.000<" in text
    assert "Kendall" in text


def test_a_run_that_cannot_be_measured_says_why(tmp_path):
    (subject,) = gather([run_folder(tmp_path / "run")])  # of 10 classes, where glyphs100 has 100
    subject = measured(subject)
    assert subject.results == ()
    assert "10 classes but glyphs100 has 100" in Reader(page([subject])).text


def test_a_result_without_a_caption_says_what_it_is():
    from kdviz.report.figures import _caption

    facts = {"kind": "landscape", "samples": 250, "data": "glyphs100", "split": "test"}
    assert _caption(xr.Dataset(attrs=facts)) == "Landscape over 250 images of glyphs100 (test)."
    assert _caption(xr.Dataset(attrs={"kind": "tau", "caption": "Mine."})) == "Mine."
    assert _caption(xr.Dataset(attrs={"kind": "surface"})) == "Surface."


def test_a_runs_folder_stands_for_its_last_epoch(tmp_path):
    from kdviz.checkpoints import checkpoint_file

    run = run_folder(tmp_path / "run")
    assert checkpoint_file(run) == run / "last.pt"
    assert checkpoint_file(run / "last.pt") == run / "last.pt"
