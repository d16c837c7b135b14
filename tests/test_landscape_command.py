"""`kdviz landscape` as its users run it: on checkpoints, killed and resumed, with wrong words."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import tiny
import torch
import typer.testing
import xarray as xr

from kdviz.base.check import KdvizError
from kdviz.base.files import read_dataset
from kdviz.base.files import sha256 as sha256_of
from kdviz.checkpoints import load_checkpoint, save_checkpoint
from kdviz.cli.app import app
from kdviz.models import build

SMALL = ("--steps", "3", "--samples", "24", "--format", "png")


def checkpoint(path, seed, method, teacher=None):
    save_checkpoint(
        path,
        model=build("resnet8", classes=tiny.CLASSES, seed=seed),
        name="resnet8",
        classes=tiny.CLASSES,
        data="tiny",
        method=method,
        seed=seed,
        epoch=1,
        recipe={},
        metrics={},
        teacher=teacher,
    )
    return path


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """A teacher, a student that names it, and a student without one."""
    folder = tmp_path_factory.mktemp("nets")
    teacher = checkpoint(folder / "teacher.pt", 1, "ce")
    told = {"path": teacher.name, "sha256": sha256_of(teacher), "name": "resnet8"}
    return checkpoint(folder / "student_kd.pt", 2, "kd", told), checkpoint(folder / "student_ce.pt", 3, "ce"), teacher


def true_loss(path, data):
    """Cross-entropy of a checkpoint, in float64 by one plain forward."""
    with torch.no_grad():
        logits = load_checkpoint(path).model.double()(data.normalize(data.images).double()).logits.numpy()
    return -scipy.special.log_softmax(logits, axis=1)[np.arange(len(data)), data.labels].mean()


def run(*words):
    found = typer.testing.CliRunner().invoke(app, ["landscape", *map(str, words)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


def test_one_checkpoint_needs_nothing_else(nets, tmp_path):
    student = nets[0]
    told = run(student, *SMALL, "-o", tmp_path, "--html", "--export", "npz", "csv")
    made = {
        "landscape.nc",
        "contour.png",
        "surface.png",
        "profile.png",
        "landscape.html",
        "landscape.npz",
        "landscape.csv",
    }
    assert {path.name for path in tmp_path.iterdir()} == made, "and no journal is left"
    assert all(str(tmp_path / name) in told for name in made)
    found = read_dataset(tmp_path / "landscape.nc")
    truth = true_loss(student, tiny.load("test").subset(24, seed=0))
    assert float(found.ce.sel(alpha=0, beta=0)) == pytest.approx(truth, rel=1e-6)
    assert (found.attrs["checkpoint"], found.attrs["checkpoint_sha256"]) == ("student_kd.pt", sha256_of(student))
    assert found.attrs["data_sha256"] == tiny.load("test").sha256
    assert (found.attrs["label"], found.attrs["seed"], found.attrs["samples"]) == ("kd", 0, 24)
    assert "torch" in json.loads(found.attrs["versions"])


def test_several_checkpoints_share_everything_and_one_names_the_teacher(nets, tmp_path):
    run(nets[1], nets[0], *SMALL, "--losses", "ce", "kd", "agreement", "--set", "kd.temperature=2", "-o", tmp_path)
    one, other = (read_dataset(tmp_path / f"student_{name}.nc") for name in ("ce", "kd"))
    assert {"contour.png", "surface.png", "profile.png"} <= {path.name for path in tmp_path.iterdir()}
    for name in ("seed", "span", "steps", "samples", "data_sha256", "teacher_sha256", "settings"):
        assert one.attrs[name] == other.attrs[name]
    assert json.loads(one.attrs["settings"]) == {"kd.temperature": 2}
    assert one.attrs["teacher_sha256"] == sha256_of(nets[2])
    assert set(one.data_vars) >= {"ce", "kd", "agreement", "accuracy", "ce_halfwidth", "kd_halfwidth"}
    assert not np.allclose(one.ce, other.ce)


def test_lines_one_line_and_a_path(nets, tmp_path):
    run(nets[0], nets[1], *SMALL, "--lines", "2", "-o", tmp_path / "lines")
    lines = read_dataset(tmp_path / "lines" / "student_kd.nc")
    assert dict(lines.sizes) == {"seed": 2, "alpha": 3}
    assert (tmp_path / "lines" / "profile.png").is_file()
    run(nets[0], *SMALL, "--one-d", "--seed", "1", "-o", tmp_path / "line")
    line = read_dataset(tmp_path / "line" / "landscape.nc")
    assert dict(line.sizes) == {"alpha": 3}
    assert not list(tmp_path.glob("*/.*"))
    told = run(
        nets[1], nets[0], "--samples", "0", "--steps", "3", "--format", "png", "--between", "-o", tmp_path / "path"
    )
    assert "barrier" in told
    path = read_dataset(tmp_path / "path" / "landscape.nc")
    assert float(path.ce.sel(alpha=1)) == pytest.approx(true_loss(nets[0], tiny.load("test")), rel=1e-5)
    drawn = {}
    for seed in ("0", "3"):
        run(*nets[:2], *SMALL, "--between", "--seed", seed, "-o", tmp_path / seed)
        drawn[seed] = read_dataset(tmp_path / seed / "landscape.nc").ce
    assert (drawn["0"] != drawn["3"]).all(), "another seed draws other images"
    told = run(*nets, *SMALL, "--samples", "0", "--between", "-o", tmp_path / "plane")
    plane = read_dataset(tmp_path / "plane" / "landscape.nc")
    assert plane.attrs["checkpoint_sha256"].split() == [sha256_of(net) for net in nets]
    for net in nets:
        assert f"{net.stem}: ce {true_loss(net, tiny.load('test')):.4f}, accuracy" in told


def test_one_kind_of_landscape_does_not_replace_another(nets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in ([], ["--one-d"], ["--lines", "2"], ["--directions", "hessian"], [nets[0], "--between"]):
        run(nets[1], *words, *SMALL)
    kinds = {path.parent.name: read_dataset(path).attrs["kind"] for path in tmp_path.rglob("*.nc")}
    assert kinds == {
        "landscape_student_ce": "landscape",
        "landscape_student_ce_line": "profile",
        "landscape_student_ce_lines": "profile",
        "landscape_student_ce_hessian": "landscape",
        "landscape_student_ce_student_kd_between": "path",
    }


def test_the_plane_of_eigenvectors_is_one_nat_wide(nets, tmp_path):
    run(nets[0], *SMALL, "--directions", "hessian", "-o", tmp_path)
    plane = read_dataset(tmp_path / "landscape.nc")
    # central difference along the top eigenvector at a twentieth of the span, by a finer sweep
    fine = tmp_path / "fine"
    run(nets[0], *SMALL, "--directions", "hessian", "--span", "0.05", "-o", fine)
    near = read_dataset(fine / "landscape.nc").ce.sel(beta=0)
    bend = float(near[0] - 2 * near[1] + near[2]) / float(near.alpha[2]) ** 2
    assert plane.alpha.attrs["units"] == "distance in weight space"
    assert "along the top eigenvectors of the Hessian" in plane.attrs["caption"]
    assert bend * float(plane.alpha[-1]) ** 2 / 2 == pytest.approx(1, rel=0.1)


def test_a_spline_fills_the_plane_and_is_no_loss_itself(nets, tmp_path):
    told = run(nets[0], *SMALL, "--steps", "9", "--adaptive", "-o", tmp_path)
    found = read_dataset(tmp_path / "landscape.nc")
    assert found.measured.sum() == found.attrs["points_done"] <= 27
    assert np.isfinite(found.ce).all()
    assert "measured" not in told


def test_the_table_of_a_comparison(nets, tmp_path):
    told = run(nets[1], nets[0], *SMALL, "--samples", "12", "--compare", "--planes", "2", "-o", tmp_path)
    found = read_dataset(tmp_path / "comparison.nc")
    assert found.attrs["checkpoint_sha256"].split() == [sha256_of(net) for net in nets[1::-1]]
    assert found.sizes["net"] == 2
    plane = read_dataset(tmp_path / "student_kd.nc")
    assert float(found.centre.sel(net="kd", loss="ce")[0]) == pytest.approx(float(plane.ce.sel(alpha=0, beta=0)))
    assert "top eigenvalue" in told
    assert not list(tmp_path.glob(".*"))


# A shell's background jobs ignore Ctrl-C, and so would their children.
MAIN = (
    "import signal, tiny; from kdviz.cli.app import main; "
    "signal.signal(signal.SIGINT, signal.default_int_handler); main()"
)


def start(*words):
    command = [sys.executable, "-c", MAIN, "landscape", *map(str, words)]
    return subprocess.Popen(
        command,
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_killed_or_interrupted_it_goes_on_and_ends_the_same(nets, tmp_path, sign, code):
    words = (nets[0], "--steps", "11", "--samples", "48", "--format", "png")
    journal = tmp_path / ".student_kd.points"
    process = start(*words, "-o", tmp_path)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and (not journal.exists() or journal.read_bytes().count(b"\n") < 4):
        time.sleep(0.02)
    process.send_signal(sign)
    told = process.communicate(timeout=60)
    assert process.returncode == code, told
    assert not (tmp_path / "landscape.nc").exists()
    assert "Traceback" not in told[1]
    kept = journal.read_text().splitlines()
    assert 4 <= len(kept) < 122
    if sign == signal.SIGINT:
        assert told[1] == "kdviz: interrupted; what was done is kept\n"
        return
    again = start(*words, "-o", tmp_path)
    told = again.communicate(timeout=400)
    assert again.returncode == 0, told
    found = read_dataset(tmp_path / "landscape.nc")
    for line in (line for line in kept[1:] if line.endswith("}}")):
        point = json.loads(line)
        assert float(found.ce.values.ravel()[point["point"]]) == point["values"]["ce"]
    run(*words, "-o", tmp_path / "whole")
    xr.testing.assert_allclose(found, read_dataset(tmp_path / "whole" / "landscape.nc"), rtol=1e-5)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["missing.pt"], "missing.pt"),
        (["{kd}", "--steps", "4"], "must be odd.*try 5"),
        (["{kd}", "--losses", "kdd"], "did you mean 'kd'"),
        (["{ce}", "--losses", "kd"], "needs a teacher"),
        (["{kd}", "--one-d", "--lines", "3"], "choose one of"),
        (["{kd}", "--compare", "--one-d"], "--compare goes with"),
        (["{kd}", "--one-d", "--html"], "--html draws planes"),
        (["{kd}", "{ce}", "--between", "--html"], "--html draws planes"),
        (["{kd}", "{ce}", "--between", "--adaptive"], "--adaptive goes without --between"),
        (["{kd}", "--lines", "2", "--directions", "hessian"], "hessian goes with a plane or --one-d"),
        (["{kd}", "--export", "vtk"], "did you mean 'vtp'"),
        (["{kd}", "--one-d", "--export", "vtp"], "wants a plane, not a line"),
        (["{kd}", "--lines", "2", "--export", "csv"], "one line or plane, not --lines"),
        (["{kd}", "--losses", "agreement"], "agreement is no loss"),
        (["{kd}", "--directions", "gradient"], "directions must be one of random, hessian"),
        (["{kd}", "--precision", "fp8", "--steps", "3"], "precision must be one of"),
        (["{kd}", "--samples", "100000", "--steps", "3"], "100000"),
        (["{kd}", "--set", "temperature", "--steps", "3"], "expected KEY=VALUE"),
        (["{kd}", "--trajectory"], "needs three or more kept epochs"),
        (["{kd}", "--between"], "two nets span a line"),
        (["{kd}", "--data", "nothing"], "unknown data set"),
        (["{kd}", "--span", "0"], "span must be"),
    ],
)
def test_wrong_words_are_one_clear_line(nets, tmp_path, words, says):
    places = {"{kd}": str(nets[0]), "{ce}": str(nets[1])}
    with pytest.raises(KdvizError, match=says) as error:
        run(*(places.get(word, word) for word in words), "-o", tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*.nc"))
