"""`kdviz landscape`, `path` and `compare` as their users run them: on checkpoints, killed and resumed, misused."""

import json
import os
import re
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

from kdviz.analysis.landscape.rebasin import permute_randomly
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
    named = {"path": teacher.name, "sha256": sha256_of(teacher), "name": "resnet8"}
    return checkpoint(folder / "student_kd.pt", 2, "kd", named), checkpoint(folder / "student_ce.pt", 3, "ce"), teacher


def true_loss(path, data):
    """Cross-entropy of a checkpoint, in float64 by one plain forward."""
    with torch.no_grad():
        logits = load_checkpoint(path).model.double()(data.normalize(data.images).double()).logits.numpy()
    return -scipy.special.log_softmax(logits, axis=1)[np.arange(len(data)), data.labels].mean()


def run(*words, command="landscape"):
    found = typer.testing.CliRunner().invoke(app, [command, *map(str, words)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


def test_rebasin_of_a_permuted_copy_has_no_barrier_and_of_another_net_two_lines(nets, tmp_path):
    torch.manual_seed(0)
    net = load_checkpoint(nets[1]).model
    copy = checkpoint(tmp_path / "permuted.pt", 3, "kd")
    held = torch.load(copy, weights_only=True)
    torch.save({**held, "state_dict": permute_randomly(net, seed=4)}, copy)
    printed = run(nets[1], copy, *SMALL, "--rebasin", "--bn", "frozen", "-o", tmp_path / "out", command="path")
    before, after = (read_dataset(tmp_path / "out" / f"{stem}.nc") for stem in ("path", "path_rebasin"))
    assert (before.attrs["rebasin"], after.attrs["rebasin"]) == (0, 1)
    assert before.attrs["distance"] > 1
    assert after["ce"].attrs["barrier"] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(after["ce"], after["ce"][0], rtol=1e-6)
    np.testing.assert_allclose(before["mark_loss"], after["mark_loss"], rtol=1e-5)  # the same functions
    assert (after.attrs["distance"], after.attrs["bn"]) == (0, "frozen")
    assert "ce after re-basin: barrier 0.0000" in printed


def test_two_nets_reach_to_the_same_rise_of_the_loss(nets, tmp_path):
    printed = run(*nets[:2], *SMALL, "--span-by", "loss", "--span", "0.1", "-o", tmp_path)
    found = [read_dataset(tmp_path / f"student_{name}.nc") for name in ("kd", "ce")]
    for one in found:
        middles = [float(one["ce"][place]) for place in ((0, 1), (2, 1), (1, 0), (1, 2))]
        assert np.mean(middles) == pytest.approx(1.1 * float(one["ce"][1, 1]), rel=0.02)
    assert found[0].attrs["reach"] != found[1].attrs["reach"]
    assert f"in weight space, {found[0].attrs['reach']:g} lengths of the directions" in printed


def test_the_spectral_density_of_two_nets_is_drawn_on_one_axis(nets, tmp_path):
    words = (*nets[:2], "--samples", "12", "--probes", "2", "--iterations", "3", "--format", "png", "-o", tmp_path)
    printed = run(*words, command="spectrum")
    first, second = (read_dataset(tmp_path / f"student_{name}_density.nc") for name in ("kd", "ce"))
    np.testing.assert_array_equal(first["eigenvalue"], second["eigenvalue"])
    assert [one.attrs["label"] for one in (first, second)] == ["kd", "ce"]
    assert first["node"].shape == (2, 3)
    assert re.search(r"^kd: eigenvalues .* trace .* ± .*, share below -", printed, re.MULTILINE)
    assert (tmp_path / "density.png").is_file()
    assert "measured before" in run(*words, command="spectrum")


def test_the_topology_of_a_landscape_is_drawn_beside_it(nets, tmp_path):
    printed = run(*nets[:2], *SMALL, "-o", tmp_path, "--topology", "--losses", "ce")
    assert len(re.findall(r"^(?:kd|ce): ce has \d of \d local minima, \d at the border", printed, re.MULTILINE)) == 2
    for stem in ("student_kd", "student_ce"):
        found = read_dataset(tmp_path / f"{stem}_topology_ce.nc")
        assert float(found["birth"][0]) == float(read_dataset(tmp_path / f"{stem}.nc")["ce"].min())
    assert (tmp_path / "tree.png").is_file()


def test_one_checkpoint_needs_nothing_else(nets, tmp_path):
    student = nets[0]
    printed = run(student, *SMALL, "-o", tmp_path, "--html", "--export", "npz,csv")
    made = {
        "landscape.nc",
        *(f"{name}.{suffix}" for name in ("contour", "surface", "profile") for suffix in ("png", "tex")),
        "landscape.html",
        "landscape.npz",
        "landscape.csv",
    }
    assert {path.name for path in tmp_path.iterdir()} == made, "and no journal is left"
    assert all(str(tmp_path / name) in printed for name in made)
    found = read_dataset(tmp_path / "landscape.nc")
    truth = true_loss(student, tiny.load("test").subset(24, seed=0))
    assert float(found.ce.sel(alpha=0, beta=0)) == pytest.approx(truth, rel=1e-6)
    assert (found.attrs["checkpoint"], found.attrs["checkpoint_sha256"]) == ("student_kd.pt", sha256_of(student))
    assert found.attrs["data_sha256"] == tiny.load("test").sha256
    assert (found.attrs["label"], found.attrs["seed"], found.attrs["samples"]) == ("kd", 0, 24)
    assert "torch" in json.loads(found.attrs["versions"])


def test_several_checkpoints_share_everything_and_one_names_the_teacher(nets, tmp_path):
    run(nets[1], nets[0], *SMALL, "--losses", "ce,kd,agreement", "--set", "kd.temperature=2", "-o", tmp_path)
    one, other = (read_dataset(tmp_path / f"student_{name}.nc") for name in ("ce", "kd"))
    assert {"contour.png", "surface.png", "profile.png"} <= {path.name for path in tmp_path.iterdir()}
    for name in ("seed", "span", "steps", "samples", "data_sha256", "teacher_sha256", "settings"):
        assert one.attrs[name] == other.attrs[name]
    assert json.loads(one.attrs["settings"]) == {"kd.temperature": 2}
    assert one.attrs["teacher_sha256"] == sha256_of(nets[2])
    assert set(one.data_vars) >= {"ce", "kd", "agreement", "accuracy", "ce_halfwidth", "kd_halfwidth"}
    assert not np.allclose(one.ce, other.ce)


def test_lines_and_one_line(nets, tmp_path):
    run(nets[0], nets[1], *SMALL, "--lines", "2", "-o", tmp_path / "lines")
    lines = read_dataset(tmp_path / "lines" / "student_kd.nc")
    assert dict(lines.sizes) == {"seed": 2, "alpha": 3}
    assert (tmp_path / "lines" / "profile.png").is_file()
    run(nets[0], *SMALL, "--one-d", "--seed", "1", "-o", tmp_path / "line")
    line = read_dataset(tmp_path / "line" / "landscape.nc")
    assert dict(line.sizes) == {"alpha": 3}
    assert not list(tmp_path.glob("*/.*"))


def test_a_path_between_two_nets_and_a_plane_through_three(nets, tmp_path):
    whole = ("--samples", "0", "--steps", "3", "--format", "png")
    printed = run(nets[1], nets[0], *whole, "-o", tmp_path / "path", command="path")
    assert "barrier" in printed
    path = read_dataset(tmp_path / "path" / "path.nc")
    assert float(path.ce.sel(alpha=1)) == pytest.approx(true_loss(nets[0], tiny.load("test")), rel=1e-5)
    drawn = {}
    for seed in ("0", "3"):
        run(*nets[:2], *SMALL, "--seed", seed, "-o", tmp_path / seed, command="path")
        drawn[seed] = read_dataset(tmp_path / seed / "path.nc").ce
    assert (drawn["0"] != drawn["3"]).all(), "another seed draws other images"
    printed = run(*nets, *whole, "-o", tmp_path / "plane", command="path")
    plane = read_dataset(tmp_path / "plane" / "path.nc")
    assert plane.attrs["checkpoint_sha256"].split() == [sha256_of(net) for net in nets]
    for net in nets:
        assert f"{net.stem}: ce {true_loss(net, tiny.load('test')):.4f}, accuracy" in printed
    assert not list(tmp_path.glob("*/.*"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run's folder as the trainer leaves it, with three kept epochs and its last one."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    (folder / "epochs").mkdir(parents=True)
    for epoch in range(3):
        checkpoint(folder / "epochs" / f"epoch_{epoch:04d}.pt", 10 + epoch, "ce")
    checkpoint(folder / "last.pt", 12, "ce")
    return folder


def test_a_run_works_like_its_last_checkpoint_and_has_a_path(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(trained, *SMALL)
    run(trained / "last.pt", *SMALL, "-o", tmp_path / "last")
    found = read_dataset(tmp_path / "reports" / "landscape_mine" / "landscape.nc")
    xr.testing.assert_allclose(found, read_dataset(tmp_path / "last" / "landscape.nc"))
    printed = run(trained, *SMALL, "--animate", command="path")
    assert str(Path("reports") / "path_mine" / "trajectory.gif") in printed
    path = read_dataset(tmp_path / "reports" / "path_mine" / "path.nc")
    assert path.attrs["kind"] == "trajectory"
    assert path.attrs["label"] == "mine"
    data = tiny.load("test").subset(24, seed=0)
    truth = [true_loss(trained / "epochs" / f"epoch_{epoch:04d}.pt", data) for epoch in range(3)]
    np.testing.assert_allclose(path.trajectory_loss, truth, rtol=1e-5)


def test_options_of_a_help_page_stand_in_titled_groups():
    page = run("--help")
    titles = [line for line in page.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Arguments:", "What is measured:", "Where:", "Nets and data:", "Output:", "Options:"]
    groups = dict(zip(titles, re.split("|".join(map(re.escape, titles)), page)[1:], strict=True))
    assert "--precision" in groups["What is measured:"]
    assert "--span" in groups["Where:"]
    assert "--teacher" in groups["Nets and data:"]
    assert "--venue" in groups["Output:"]
    assert "--between" not in page


def test_one_kind_of_landscape_does_not_replace_another(nets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in ([], ["--one-d"], ["--lines", "2"], ["--directions", "hessian"]):
        run(nets[1], *words, *SMALL)
    run(nets[1], nets[0], *SMALL, command="path")
    kinds = {path.parent.name: read_dataset(path).attrs["kind"] for path in tmp_path.rglob("*.nc")}
    assert kinds == {
        "landscape_student_ce": "landscape",
        "landscape_student_ce_line": "profile",
        "landscape_student_ce_lines": "profile",
        "landscape_student_ce_hessian": "landscape",
        "path_student_ce_student_kd": "path",
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
    printed = run(nets[0], *SMALL, "--steps", "9", "--adaptive", "-o", tmp_path)
    found = read_dataset(tmp_path / "landscape.nc")
    assert found.measured.sum() == found.attrs["points_done"] <= 27
    assert np.isfinite(found.ce).all()
    assert "measured" not in printed


def test_the_table_of_a_comparison(nets, tmp_path):
    printed = run(nets[1], nets[0], *SMALL, "--samples", "12", "--planes", "2", "-o", tmp_path, command="compare")
    found = read_dataset(tmp_path / "comparison.nc")
    assert found.attrs["checkpoint_sha256"].split() == [sha256_of(net) for net in nets[1::-1]]
    assert found.sizes["net"] == 2
    plane = read_dataset(tmp_path / "student_kd.nc")
    assert float(found.centre.sel(net="kd", loss="ce")[0]) == pytest.approx(float(plane.ce.sel(alpha=0, beta=0)))
    assert "top eigenvalue" in printed
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
    output = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert not (tmp_path / "landscape.nc").exists()
    assert "Traceback" not in output[1]
    kept = journal.read_text().splitlines()
    assert 4 <= len(kept) < 122
    if sign == signal.SIGINT:
        assert output[1] == "kdviz: interrupted; what was done is kept\n"
        return
    again = start(*words, "-o", tmp_path)
    output = again.communicate(timeout=400)
    assert again.returncode == 0, output
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
        (["{kd}", "{ce}", "--between"], "moved to another command: kdviz path CKPT CKPT"),
        (["{kd}", "--trajectory"], "moved to another command: kdviz path RUN"),
        (["{kd}", "{ce}", "--compare"], "moved to another command: kdviz compare CKPT"),
        (["{kd}", "{ce}", "--planes", "3"], "moved to another command: kdviz compare CKPT"),
        (["{kd}", "--one-d", "--html"], "--html draws planes"),
        (["{kd}", "--lines", "2", "--directions", "hessian"], "hessian goes with a plane or --one-d"),
        (["{kd}", "--lines", "2", "--topology"], "--topology goes with a plane"),
        (["{kd}", "--export", "vtk"], "did you mean 'vtp'"),
        (["{kd}", "--one-d", "--export", "vtp"], "needs a plane, not a line"),
        (["{kd}", "--lines", "2", "--export", "csv"], "one line or plane, not --lines"),
        (["{kd}", "--losses", "agreement"], "agreement is no loss"),
        (["{kd}", "--directions", "gradient"], "directions must be one of random, hessian"),
        (["{kd}", "--precision", "fp8", "--steps", "3"], "precision must be one of"),
        (["{kd}", "--samples", "100000", "--steps", "3"], "100000"),
        (["{kd}", "--set", "temperature", "--steps", "3"], "expected KEY=VALUE"),
        (["{kd}", "--data", "nothing"], "unknown data set"),
        (["{kd}", "--span", "0"], "span must be"),
        (["{kd}", "--span-by", "weight"], "span_by must be one of direction, distance, loss"),
        (["{kd}", "--span-by", "loss", "--directions", "hessian"], "goes with random directions"),
    ],
)
def test_wrong_input_is_one_clear_line(nets, tmp_path, words, says):
    places = {"{kd}": str(nets[0]), "{ce}": str(nets[1])}
    with pytest.raises(KdvizError, match=says) as error:
        run(*(places.get(word, word) for word in words), "-o", tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*.nc"))


@pytest.mark.parametrize(
    ("command", "words", "says"),
    [
        ("path", ["{folder}"], "needs three or more kept epochs"),
        ("path", ["{kd}"], "two nets span a line"),
        ("path", ["{kd}", "{ce}", "{kd}", "{ce}"], "three a plane.*got 4"),
        ("path", ["{kd}", "{ce}", "--html"], "--html draws planes"),
        ("path", ["{kd}", "{ce}", "--bn", "train"], "bn must be one of interpolate"),
        ("path", ["{kd}", "{ce}", "--margin", "-1"], "margin must be 0 or more"),
        ("path", ["{kd}", "{ce}", "--animate"], "go with a run's folder"),
        ("path", ["{kd}", "{ce}", "{kd}", "--rebasin"], "--rebasin goes with two checkpoints"),
        ("spectrum", ["{kd}", "--losses", "ce,kd"], "one loss at a time"),
        ("spectrum", ["{kd}", "--probes", "0"], "probes must be"),
        ("spectrum", ["{kd}", "--width", "0"], "width must be"),
        ("compare", ["{kd}", "--planes", "0"], "at least one net and one plane"),
        ("compare", ["{kd}", "--steps", "4"], "compare: --steps must be odd"),
    ],
)
def test_wrong_input_of_paths_and_comparisons_too(nets, tmp_path, command, words, says):
    places = {"{kd}": str(nets[0]), "{ce}": str(nets[1]), "{folder}": str(nets[0].parent)}
    with pytest.raises(KdvizError, match=says) as error:
        run(*(places.get(word, word) for word in words), "-o", tmp_path, command=command)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*.nc"))
