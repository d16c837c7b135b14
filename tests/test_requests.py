"""What results are called, that none replaces another net's, and that what was measured is not measured again."""

import re
import shutil
from functools import partial

import pytest
import tiny
import torch
import typer.testing

from kdviz.analysis.landscape.compare import Statistics
from kdviz.base.check import KdvizError
from kdviz.base.files import read_dataset, sha256
from kdviz.checkpoints import load_checkpoint, save_checkpoint
from kdviz.checkpoints.naming import is_generic, names_of
from kdviz.cli.app import app
from kdviz.cli.requests import LONGEST, Request, several
from kdviz.models import build

SMALL = ("--steps", "3", "--samples", "24", "--format", "png")


def run(*words):
    found = typer.testing.CliRunner().invoke(app, [*map(str, words)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


def net(path, seed, method="kd"):
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"name": "resnet8", "classes": tiny.CLASSES, "data": "tiny", "method": method, "seed": seed, "epoch": 1}
    model = build("resnet8", classes=tiny.CLASSES, seed=seed)
    return save_checkpoint(path, model=model, recipe={}, metrics={}, **facts)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two runs of one name in different folders, and two files of one name."""
    folder = tmp_path_factory.mktemp("files")
    for number, place in enumerate(("a/run", "b/run")):
        net(folder / place / "last.pt", number)
        net(folder / place / "best.pt", 10 + number)
        (folder / place / "journal.jsonl").touch()
        net(folder / place.partition("/")[0] / "student_best.pt", 20 + number)
    return folder


def named(folder, *places):
    return names_of([load_checkpoint(folder / place) for place in places])


def test_a_name_says_which_net_it_is(files):
    assert named(files, "a/run") == named(files, "a/run/last.pt") == ["run"]
    assert named(files, "a/run/last.pt", "a/run/best.pt") == ["run", "run_best"]
    assert named(files, "a/student_best.pt", "b/student_best.pt") == ["a_student_best", "b_student_best"]
    assert named(files, "a/run", "b/run") == ["a_run", "b_run"]
    assert named(files, "a/run", "a/run/last.pt") == ["run", "run"], "the same net twice is one subject"


def test_names_that_no_folder_tells_apart_have_their_digest(files, tmp_path):
    """Two nets under one path at different times: a checkpoint opened before its file was replaced."""
    path = tmp_path / "one.pt"
    shutil.copy(files / "a/run/last.pt", path)
    first = load_checkpoint(path)
    shutil.copy(files / "b/run/last.pt", path)
    second = load_checkpoint(path)
    names = names_of([first, second])
    assert [name[-9:] for name in names] == [f"-{first.sha256[:8]}", f"-{second.sha256[:8]}"]


def test_shipped_checkpoints_keep_their_names():
    shipped = ("resnet8_ce", "resnet8_kd", "resnet8_kd+rk", "resnet8_dist", "resnet8_pld", "resnet20_teacher")
    assert not any(map(is_generic, shipped))


def test_many_names_make_a_folder_name_of_bounded_length():
    long, other = several("tau", ["net"] * 90), several("tau", ["net"] * 91)
    assert len(long) == len(other) == LONGEST
    assert long != other


def test_two_nets_of_one_name_have_two_folders(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("a/run", "b/run"):
        run("landscape", files / place, *SMALL, "--one-d")
    second = sha256(files / "b/run/last.pt")
    found = {path.parent.name: read_dataset(path).attrs["checkpoint_sha256"] for path in tmp_path.rglob("*.nc")}
    assert found == {"landscape_run_line": sha256(files / "a/run/last.pt"), f"landscape_run_line-{second[:8]}": second}


def test_a_named_folder_is_replaced_only_when_that_is_said(files, tmp_path):
    words = ("landscape", *SMALL, "--one-d", "-o", tmp_path)
    run(*words, files / "a/run")
    with pytest.raises(KdvizError, match=r"landscape\.nc: holds the result of another net; .* --overwrite"):
        run(*words, files / "b/run")
    assert read_dataset(tmp_path / "landscape.nc").attrs["subject"] == sha256(files / "a/run/last.pt")
    run(*words, files / "b/run", "--overwrite")
    assert read_dataset(tmp_path / "landscape.nc").attrs["subject"] == sha256(files / "b/run/last.pt")
    run(*words, files / "b/run", "--seed", "1")  # the same net otherwise: its result is replaced


def test_students_of_one_file_name_are_both_kept(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    students = [files / place / "student_best.pt" for place in "ab"]
    run("tau", *students, "--teacher", files / "a/run", "--format", "png", "--no-smooth")
    found = {path.name: read_dataset(path) for path in (tmp_path / "reports").glob("tau_*/*.nc")}
    assert set(found) == {"tau_a_student_best.nc", "tau_b_student_best.nc"}
    assert {one.attrs["student_sha256"] for one in found.values()} == {*map(sha256, students)}
    assert not any("smooth_mean" in one for one in found.values())


def test_what_was_measured_is_drawn_again(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("landscape", files / "a/run", *SMALL, "--one-d", "-o", "out")
    run(*words)
    before = (tmp_path / "out" / "landscape.nc").read_bytes()
    (tmp_path / "out" / "profile.png").unlink()
    with monkeypatch.context() as patched:
        patched.setattr("kdviz.analysis.landscape.nets.around_net", None)  # a second sweep would fail
        assert "measured before" in run(*words)
        assert (tmp_path / "out" / "profile.png").is_file()
        assert (tmp_path / "out" / "landscape.nc").read_bytes() == before
        for change in (["--fresh"], ["--seed", "1"], ["--samples", "25"], ["--losses", "pld"], ["--split", "val"]):
            with pytest.raises(TypeError):
                run(*words, *change)
    assert "measured before" not in run(*words, "--fresh")


@pytest.mark.parametrize(("command", "measure"), [("path", "between_nets"), ("compare", "compare_nets")])
def test_paths_and_comparisons_too(files, tmp_path, monkeypatch, command, measure):
    without = partial(Statistics, eigenvalues=0)  # the Hessian takes a minute
    monkeypatch.setattr("kdviz.analysis.landscape.compare.Statistics", without)
    places = [files / place / "student_best.pt" for place in "ab"]
    words = (command, *places, *SMALL, *(("--planes", "1") if command == "compare" else ()), "-o", tmp_path)
    first = run(*words)
    monkeypatch.setattr(f"kdviz.analysis.landscape.nets.{measure}", None)
    again = run(*words)
    assert "measured before" in again
    new = {line for line in first.splitlines() if ": about " not in line} - set(again.splitlines())
    assert new == {str(path) for path in tmp_path.glob("*.nc")}, "all else is written and printed again"


@pytest.mark.parametrize(
    ("command", "measure"),
    [
        ("histogram", "kdviz.analysis.histogram.histogram"),
        ("tau", "kdviz.analysis.ranks.tau"),
        ("suboptimal", "kdviz.analysis.suboptimal.mine_samples"),
    ],
)
def test_logits_too_are_measured_once(files, tmp_path, monkeypatch, command, measure):
    words = (command, files / "a/run", "--teacher", files / "b/run", "--format", "png", "-o", tmp_path)
    run(*words)
    monkeypatch.setattr(measure, None)
    monkeypatch.setattr("kdviz.collect_logits", None)
    assert "measured before" in run(*words)
    with pytest.raises(TypeError):
        run(*words, "--fresh")


@pytest.mark.parametrize("words", [("surface", "--losses", "ce", "--steps", "5", "--classes", "4"), ("suboptimal",)])
def test_examples_too_are_computed_once(tmp_path, monkeypatch, words):
    run(*words, "--format", "png", "-o", tmp_path)
    monkeypatch.setattr("kdviz.analysis.surfaces.surface", None)
    monkeypatch.setattr("kdviz.analysis.suboptimal.toy", None)
    assert "measured before" in run(*words, "--format", "png", "-o", tmp_path)


def test_a_fingerprint_is_of_everything():
    base = Request("tau", "abc", {"shares": [0.1, 1.0]})
    same = Request("tau", "abc", {"shares": [0.1, 1.0]})
    others = [Request("histogram", "abc", {"shares": [0.1, 1.0]}), Request("tau", "abd", {"shares": [0.1, 1.0]})]
    assert base.fingerprint == same.fingerprint
    assert len({one.fingerprint for one in (base, *others, Request("tau", "abc", {"shares": [0.1]}))}) == 4


def test_a_figure_has_its_caption_beside_it(files, tmp_path):
    run("landscape", files / "a/run", *SMALL, "--one-d", "-o", tmp_path)
    text = (tmp_path / "profile.tex").read_text()
    assert re.fullmatch(r"\\caption\{kd: ce over 24 of 96 images of tiny .*\}\n\\label\{fig:[\w.+-]+\}\n", text)


def test_html_without_plotly_is_said_before_anything_is_opened(monkeypatch):
    monkeypatch.setattr("kdviz.cli.landscape_output.find_spec", lambda name: None)
    with pytest.raises(KdvizError, match="--html needs plotly: pip install"):
        run("landscape", "not-there.pt", "--html")


def test_device_and_batch_change_no_number(files, tmp_path):
    words = ("tau", files / "a/run", "--teacher", files / "b/run", "--no-smooth", "--format", "png")
    run(*words, "-o", tmp_path / "one")
    run(*words, "--device", "cpu", "--batch", "7", "-o", tmp_path / "two")
    one, two = (read_dataset(tmp_path / name / "logits.nc") for name in ("one", "two"))
    torch.testing.assert_close(*(torch.from_numpy(each["logits_student"].values) for each in (one, two)))
    with pytest.raises(KdvizError, match="device 'abacus' is not available"):
        run(*words, "--device", "abacus", "-o", tmp_path / "three")
