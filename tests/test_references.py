"""FILE@MODEL, a teacher inside its student's file, a run that remembers where its data are."""

import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
import typer.testing

from kdviz.base.check import KdvizError
from kdviz.checkpoints import RunFolder, load_checkpoint
from kdviz.checkpoints.references import split_reference
from kdviz.checkpoints.related import load_data_of, load_teacher, load_teacher_of
from kdviz.checkpoints.run_folder import root_of
from kdviz.cli.app import COMMANDS, app
from kdviz.losses.own import OWN
from kdviz.models import build

NETS = """
import torch


def net(classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, classes))
"""


def run(*words):
    found = typer.testing.CliRunner().invoke(app, [*map(str, words)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A net of the user's own code, and a bare state_dict of it that says nothing."""
    (tmp_path / "mynets_at.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.manual_seed(0)
    weights = torch.nn.Linear(3 * 32 * 32, tiny.CLASSES)
    torch.save({"1.weight": weights.weight.detach(), "1.bias": weights.bias.detach()}, tmp_path / "foreign.pth")
    return tmp_path / "foreign.pth"


@pytest.fixture
def both(tmp_path):
    """mdistiller's `best`: student and teacher in one file."""
    nets = {"student": build("resnet8", classes=tiny.CLASSES, seed=0)}
    nets["teacher"] = build("resnet20", classes=tiny.CLASSES, seed=1)
    state = {f"module.{part}.{key}": value for part, net in nets.items() for key, value in net.state_dict().items()}
    file = tmp_path / "kd_run" / "best"
    file.parent.mkdir()
    torch.save({"epoch": 3, "model": state, "optimizer": {}, "best_acc": 50.0}, file)
    return file, nets


def test_a_file_says_its_own_net(foreign):
    with pytest.raises(KdvizError, match=r"fits no known net .* FILE@timm:NAME"):
        load_checkpoint(foreign)
    opened = load_checkpoint(f"{foreign}@mynets_at:net")
    assert (opened.name, opened.path, opened.classes) == ("mynets_at:net", foreign, tiny.CLASSES)
    with pytest.raises(KdvizError, match=r"gone\.pth$"):
        load_checkpoint("gone.pth@mynets_at:net")
    with pytest.raises(KdvizError, match="expected FILE@NET"):
        split_reference("net.pth@")


def test_a_path_with_the_sign_in_it_still_opens(tmp_path):
    net = build("resnet8", classes=tiny.CLASSES, seed=0)
    folder = tmp_path / "me@home"
    folder.mkdir()
    for name in ("net@2.pth", "best@teacher"):
        torch.save(net.state_dict(), folder / name)
        assert load_checkpoint(folder / name).name == "resnet8"
    assert load_checkpoint(f"{folder}/net@2.pth@resnet8").path == folder / "net@2.pth"


def test_a_file_of_both_is_a_student_and_serves_as_a_teacher(both):
    file, nets = both
    student = load_checkpoint(file)
    inside, brought = load_teacher_of(student), load_teacher(file)
    for found, part in ((student, "student"), (inside, "teacher"), (brought, "teacher")):
        for key, value in nets[part].state_dict().items():
            torch.testing.assert_close(found.model.state_dict()[key], value, rtol=0, atol=0)
    assert inside.sha256 != student.sha256, "caches and folders must tell the two apart"
    assert load_teacher(f"{file}@student").name == "resnet8"
    assert load_checkpoint(f"{file}@teacher").name == "resnet20"


def test_a_file_of_no_teacher_says_so(tmp_path):
    torch.save(build("resnet8", classes=tiny.CLASSES, seed=0).state_dict(), tmp_path / "one.pt")
    with pytest.raises(KdvizError, match="holds no teacher's weights"):
        load_checkpoint(f"{tmp_path / 'one.pt'}@teacher")
    assert load_teacher_of(load_checkpoint(tmp_path / "one.pt")) is None


def test_commands_find_the_teacher_inside_and_take_models_of_each_file(both, foreign, tmp_path):
    data = ("--data", "tiny", "--format", "png")
    assert "kd_run_best: mean tau-b" in run("tau", both[0], *data, "--no-smooth")
    assert (tmp_path / "reports" / "kd_run_best" / "tau.nc").is_file()
    few = ("--samples", "24", "--steps", "3", "--one-d", "--losses", "kd")
    for words in ((f"{foreign}@mynets_at:net",), (foreign, "--teacher-model", "mynets_at:net")):
        printed = run("landscape", both[0], "--teacher", *words, *data, *few, "-o", "out", "--fresh")
        assert "profile.png" in printed


def test_train_takes_a_foreign_teacher(foreign, tmp_path):
    recipe = ("train", "--method", "kd", "--student", "resnet8", "--data", "tiny", "--epochs", "1", "--limit", "32")
    with pytest.raises(KdvizError, match="FILE@timm:NAME") as error:
        run(*recipe, "--batch", "16", "--teacher", foreign, "-o", "one")
    assert "--model" not in str(error.value), "train has no such option"
    run(*recipe, "--batch", "16", "--teacher", f"{foreign}@mynets_at:net", "-o", "one", "--root", tmp_path)
    run(*recipe, "--batch", "16", "--teacher", foreign, "--teacher-model", "mynets_at:net", "-o", "two")
    assert RunFolder(tmp_path / "one").root == tmp_path
    assert RunFolder(tmp_path / "two").root is None
    assert str(tmp_path).encode() not in (tmp_path / "two" / "last.pt").read_bytes().replace(str(foreign).encode(), b"")


def test_a_run_remembers_where_its_data_are(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "kdviz.checkpoints.related.load_data", lambda name, **options: seen.append(options) or tiny.load("test")
    )
    net = build("resnet8", classes=tiny.CLASSES, seed=0)
    folder = RunFolder(tmp_path / "run")
    (tmp_path / "run" / "epochs").mkdir(parents=True)
    for file in (folder.last, folder.epoch_file(1), tmp_path / "alone.pt"):
        torch.save(net.state_dict(), file)
    places = [tmp_path / name for name in ("first", "second", "third")]
    for place in places[:2]:
        place.mkdir()
        folder.log("start", root=str(place))
    last, epoch, alone = (load_checkpoint(one) for one in (folder.last, folder.epoch_file(1), tmp_path / "alone.pt"))
    last = replace(last, data="tiny")
    load_data_of(last)
    load_data_of(last, root=places[0])
    load_data_of(last, "tiny")
    assert [one["root"] for one in seen] == [places[1], places[0], None], "another data set has another place"
    assert (root_of(epoch.path), root_of(alone.path)) == (places[1], None)
    folder.log("resume", root=str(places[2]))
    assert root_of(last.path) is None, "a place that is gone is not used"
    assert json.loads(folder.journal.read_text().splitlines()[-1])["root"] == str(places[2])


OWN_LOSSES = """
import torch


def squared(logits_student, logits_teacher, *, scale=1.0, reduction="mean"):
    each = scale * (logits_student - logits_teacher).square().sum(1)
    return each if reduction == "none" else each.mean()


def kd(logits_student, logits_teacher):
    return (logits_student - logits_teacher).square().mean()


def unnamed(a, b):
    return a.mean()


def needs(logits_student, *, scale):
    return logits_student.mean()


def broken(logits_student):
    raise LookupError("nothing there")


def vector(logits_student):
    return logits_student.mean(0)
"""


@pytest.fixture
def losses(tmp_path, monkeypatch):
    (tmp_path / "mylosses.py").write_text(OWN_LOSSES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mylosses", raising=False)
    yield
    sys.modules.pop("mylosses", None)
    OWN.clear()


def test_an_own_loss_is_what_the_function_says(losses):
    from kdviz.losses import loss_value, resolve

    student, teacher = torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    name = "mylosses:squared"
    truth = 2 * np.square(student.numpy() - teacher.numpy()).sum(1)
    each = loss_value(name, student, teacher, settings={"scale": 2.0}, reduction="none")
    np.testing.assert_allclose(each.numpy(), truth)
    assert (resolve(name).name, resolve("squared").unit) == ("squared", "1")
    assert float(loss_value("squared", student, teacher)) == pytest.approx(truth.mean() / 2)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing_here:f", r"cannot import nothing_here \(ModuleNotFoundError"),
        ("mylosses:squard", "did you mean 'squared'"),
        ("mylosses:kd", "kdviz has a loss called kd; give yours another name"),
        ("mylosses:unnamed", r"takes \(a, b\); expected \(logits_student, logits_teacher, target\)"),
        ("mylosses:needs", "each with a default"),
        ("mylosses:broken", "broken: failed on logits .* with LookupError: nothing there"),
        ("mylosses:vector", r"must return a real tensor of shape \(\), got \(4,\)"),
    ],
)
def test_an_own_loss_that_is_none_gets_one_clear_line(losses, tmp_path, name, says):
    with pytest.raises(KdvizError, match=says) as error:
        run("surface", "--losses", name, "--steps", "5", "--classes", "4", "-o", tmp_path / "out")
    assert "\n" not in str(error.value)


def test_an_own_loss_stands_beside_the_others_in_every_command(losses, both, tmp_path):
    name = "mylosses:squared"
    small = ("--data", "tiny", "--samples", "24", "--steps", "3", "--format", "png", "-o", "out")
    printed = run("landscape", both[0], "--losses", f"ce,{name}", "--set", "squared.scale=2", *small)
    assert "squared" in printed
    again = ("surface", "--losses", f"{name},kd", "--steps", "5", "--classes", "4", "--format", "png", "-o", "logits")
    run(*again)
    assert "measured before" in run(*again)
    (tmp_path / "mylosses.py").write_text(OWN_LOSSES + "\n")
    assert "measured before" not in run(*again), "the function's file has changed"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_page_fits_80_columns(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    page = run(command, "--help")
    assert [line for line in page.splitlines() if len(line) > 80] == []
    assert not re.search(r"--loss\b", page), "one name for one thing"


@pytest.mark.parametrize(
    ("words", "begun", "expected"),
    [
        ("landscape --losses", "ce,kend", {"ce,kendall_tau"}),
        ("surface --losses", "di", {"dist", "diff_kendall"}),
        ("tau --venue", "n", {"neurips"}),
        ("tau --data", "cifar", {"cifar10", "cifar100"}),
        ("tau --model", "resnet8", {"resnet8", "resnet8x4"}),
        ("train --method", "kd+norm", {"kd+normkd"}),
        ("train", "fash", {"fashion-mnist"}),
        ("list", "m", {"methods", "models"}),
    ],
)
def test_the_shell_completes_values(monkeypatch, words, begun, expected):
    line = f"kdviz {words} {begun}"
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    monkeypatch.setenv("_KDVIZ_COMPLETE", "complete_bash")
    done = typer.testing.CliRunner().invoke(app, [], prog_name="kdviz")
    assert expected <= set(done.output.split()), done.output
    assert all(one.startswith(begun) for one in done.output.split())
