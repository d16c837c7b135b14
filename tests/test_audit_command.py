"""`kdviz audit`: what it writes, what it finds by itself, and what it says of bad input."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from test_report import Reader

from kdviz.base.files import read_dataset, sha256
from kdviz.checkpoints import load_checkpoint, save_checkpoint
from kdviz.checkpoints.related import load_untaught_of
from kdviz.cli.app import main
from kdviz.models import build


def save(path, *, seed, method, teacher=None, classes=tiny.CLASSES, name="resnet8", change=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    net = build(name, classes=classes, seed=seed)
    if change:
        change(net)
    named = teacher and {"path": teacher.name, "sha256": sha256(teacher), "name": name}
    facts = {"data": "tiny", "seed": seed, "epoch": 1, "recipe": {}, "metrics": {}, "teacher": named}
    return save_checkpoint(path, model=net, name=name, classes=classes, method=method, **facts)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    teacher = save(folder / "teacher.pt", seed=0, method="ce", name="resnet14")
    save(folder / "small_kd.pt", seed=1, method="kd", teacher=teacher)
    save(folder / "small_ce.pt", seed=2, method="ce")
    save(folder / "other.pt", seed=3, method="ce", classes=7)
    return folder


@pytest.fixture
def run(files, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def command(*words):
        """(exit code, stdout, stderr) of the command line."""
        monkeypatch.setattr(sys, "argv", ["kdviz", "audit", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as ending:
            code = ending.code or 0
        return code, *capsys.readouterr()

    return command


QUICK = ("--parts", "fidelity,cells,cka", "--net-samples", "40", "--format", "png")


def test_a_students_audit_is_written_and_reused(run, files, tmp_path):
    code, out, err = run(files / "small_kd.pt", *QUICK)
    assert code == 0, err
    place = tmp_path / "reports" / "small_kd"
    assert "small_ce.pt: taken as the student without teacher" in out
    assert out.rstrip().endswith("audit.html")
    parts = ("fidelity", "cells", "cka", "samples")
    results = {name: read_dataset(place / f"{name}.nc") for name in parts}
    for name in parts[:-1]:
        assert {"student", "without_teacher", "random_teacher"} <= set(results[name]["compared"].values)
        assert np.isfinite(results[name]["value"].sel(compared="student")).any()
    assert results["samples"].sizes == {"sample": 96, "rank": 5, "channel": 6}
    assert results["cells"]["image"].dtype == np.uint8
    assert results["cka"]["cka_student"].shape == (6, 6)
    assert (place / "cells_flips.png").is_file()
    text = (place / "audit.html").read_text()
    page = Reader(text)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?:|url\(|@import", re.sub(r"base64,[^\"]*", "", text))
    for name in parts[:-1]:
        assert results[name].attrs["finding"] in page.text
    agreement = 100 * float(results["fidelity"]["value"].sel(measure="agreement", compared="student"))
    assert f"names its teacher's class for {agreement:.1f} %" in page.text

    again = run(files / "small_kd.pt", "--parts", "fidelity", *QUICK[2:])
    assert "2 of 2 results in reports/small_kd were measured before" in again[1]
    assert (place / "audit.html").read_text() != text


def test_the_control_can_be_left_out(run, files):
    code, _, err = run(
        files / "small_kd.pt", "--against", "none", "--parts", "fidelity", "--format", "png", "-o", "out"
    )
    assert code == 0, err
    assert "without_teacher" not in read_dataset("out/fidelity.nc")["compared"].values
    assert "name one with --against FILE" in Reader(Path("out/audit.html").read_text()).text


def test_own_logits_give_the_parts_that_need_no_net(run, tmp_path):
    draw = np.random.default_rng(0)
    teacher = draw.standard_normal((60, 5))
    np.savez(tmp_path / "mine.npz", logits_student=teacher + 1, logits_teacher=teacher, target=teacher.argmax(1))
    code, out, err = run("--logits", "mine.npz", "--format", "png", "-o", "out", "--parts", "fidelity,confusion")
    assert code == 0, err
    assert "100.0 %" in out  # a shift changes no softmax: the student is its teacher
    found = read_dataset("out/fidelity.nc")["value"].sel(compared="student")
    assert float(found.sel(measure="tau")) == pytest.approx(1)
    assert float(found.sel(measure="kl")) == pytest.approx(0, abs=1e-6)


def test_a_part_that_cannot_be_measured_is_left_out_unless_it_was_named(run, tmp_path, monkeypatch):
    from kdviz.analysis import audit
    from kdviz.analysis.audit import correlation

    draw = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", logits_student=draw.random((30, 5)), logits_teacher=draw.random((30, 5)))
    monkeypatch.setattr(correlation, "LARGEST", 4)
    monkeypatch.setattr(audit.parts, "PARTS", {name: audit.PARTS[name] for name in ("fidelity", "correlation")})
    words = ("--logits", "mine.npz", "--format", "png", "-o", "out")
    code, _, err = run(*words, "--parts", "correlation")
    assert (code, err.count("\n")) == (1, 1)
    assert "at most 4 classes, got 5" in err
    code, _, err = run(*words)
    assert code == 0
    assert "kdviz: not measured: correlation: class_correlation: compares matrices of at most 4 classes" in err
    assert "at most 4 classes, got 5" in Reader((tmp_path / "out" / "audit.html").read_text()).text


def bad(net):
    torch.nn.init.constant_(net.fc.bias, float("nan"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("teacher.pt",), "names no teacher; name its checkpoint with --teacher"),
        (("small_kd.pt", "--teacher", "other.pt"), "has 6 classes but its teacher"),
        (("small_kd.pt", "--against", "other.pt"), "has 6 classes but the student without teacher at"),
        (("nan.pt",), "is not finite"),
        (("gone.pt",), "not found"),
        (("small_kd.pt", "--parts", "calibrated"), "unknown part of an audit 'calibrated'; did you mean 'calibration'"),
        (("small_kd.pt", "--logits", "mine.npz"), "name one student, or its logits"),
        (("small_kd.pt", "--net-samples", "3"), "--net-samples: 40 or more"),
    ],
)
def test_bad_input_is_one_line_before_long_work(run, files, words, line):
    save(files / "nan.pt", seed=1, method="kd", change=bad)
    named = [files / word if word.endswith(".pt") else word for word in words]
    code, _, err = run(*named)
    assert code == 1
    assert line in err
    assert err.count("\n") == 1


def test_the_student_without_teacher_is_found_by_its_name_and_only_if_it_fits(tmp_path):
    def untaught(path):
        found = load_untaught_of(load_checkpoint(path))
        return found and found.path

    student = save(tmp_path / "a" / "net_kd+rk.pt", seed=1, method="kd+rk")
    assert untaught(student) is None
    wrong = save(tmp_path / "a" / "net_ce.pt", seed=2, method="ce", name="resnet14")
    assert untaught(student) is None  # of another architecture
    wrong.unlink()
    right = save(tmp_path / "a" / "net_ce.pt", seed=2, method="ce")
    assert untaught(student) == right
    assert untaught(right) is None
    run = save(tmp_path / "runs" / "kd_seed0" / "last.pt", seed=1, method="kd")
    beside = save(tmp_path / "runs" / "ce_seed0" / "last.pt", seed=1, method="ce")
    assert untaught(run) == beside


def test_the_command_names_every_part():
    from kdviz.analysis import audit
    from kdviz.cli.audit import PARTS

    assert tuple(audit.PARTS) == PARTS
