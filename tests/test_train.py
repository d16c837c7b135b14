"""The training loop: learns, says what it did, refuses what does not fit, and resumes to the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny import CLASSES, load

import kdviz
from kdviz.base.check import KdvizError
from kdviz.checkpoints import RunFolder
from kdviz.train import evaluate, load_recipe, train

SCRIPT = Path(__file__).with_name("tiny.py")


def recipe(**changes):
    settings = {"student": "resnet8", "data": "tiny", "epochs": 3, "batch": 32, "lr": 0.05, "seed": 3, **changes}
    return load_recipe(**settings)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher")
    metrics = train(recipe(student="resnet14", keep_epochs=2, epochs=4), out=out, device="cpu")
    return out, metrics, kdviz.load_checkpoint(out / "last.pt")


def weights(path):
    return kdviz.load_checkpoint(path).model.state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_learns_and_records_itself(teacher):
    out, metrics, checkpoint = teacher
    assert metrics["last"]["top1"] > 0.8  # chance is 1/6
    assert (checkpoint.name, checkpoint.classes, checkpoint.data, checkpoint.method) == ("resnet14", 6, "tiny", "ce")
    assert checkpoint.recipe["normalization"] == {"mean": [0.3] * 3, "std": [0.2] * 3}
    lines = RunFolder(out).epochs()
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["train"]["total"] < lines[0]["train"]["total"]
    assert sorted(path.name for path in (out / "epochs").iterdir()) == ["epoch_0002.pt", "epoch_0004.pt"]
    assert same(weights(out / "epochs" / "epoch_0004.pt"), weights(out / "last.pt"))


def test_best_is_chosen_on_val_and_both_are_measured_on_test(teacher):
    out, metrics, _ = teacher
    lines = RunFolder(out).epochs()
    tops = [line["val"]["top1"] for line in lines]
    assert metrics["best"]["epoch"] == 1 + tops.index(max(tops))
    for which in ("best", "last"):
        model = kdviz.load_checkpoint(out / f"{which}.pt").model
        images, labels = next(load("test").batches(96))
        with torch.no_grad():
            top1 = float((model(images).logits.argmax(1) == labels).double().mean())
        assert metrics[which]["top1"] == pytest.approx(top1)


def test_evaluate_restores_the_mode(teacher):
    model = teacher[2].model.train()
    evaluate(model, load("val"))
    assert model.training
    model.eval()


@pytest.mark.parametrize("method", ["kd", "kd+rk", "dist", "pld", "ctkd", "mlkd"])
def test_methods_train(teacher, tmp_path, method):
    metrics = train(recipe(method=method, epochs=2, warmup=0), out=tmp_path, teacher=teacher[2], device="cpu")
    student = kdviz.load_checkpoint(tmp_path / "last.pt")
    assert student.method == method
    assert student.teacher["sha256"] == teacher[2].sha256
    first, *_, last = RunFolder(tmp_path).epochs()
    assert last["train"]["total"] < first["train"]["total"]
    assert metrics["last"]["top1"] >= 0


def test_training_is_repeatable_and_leaves_the_global_generator_alone(teacher, tmp_path):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    for name in "ab":
        train(recipe(epochs=1), out=tmp_path / name, device="cpu")
    assert torch.equal(before, torch.random.get_rng_state())
    assert same(weights(tmp_path / "a" / "last.pt"), weights(tmp_path / "b" / "last.pt"))


def test_the_teacher_cache_changes_nothing(teacher, tmp_path):
    for name, cache in (("plain", None), ("fills", tmp_path / "cache"), ("reads", tmp_path / "cache")):
        train(recipe(method="kd", epochs=2), out=tmp_path / name, teacher=teacher[2], device="cpu", teacher_cache=cache)
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 2
    plain = weights(tmp_path / "plain" / "last.pt")
    assert same(plain, weights(tmp_path / "fills" / "last.pt"))
    assert same(plain, weights(tmp_path / "reads" / "last.pt"))


def test_a_setting_reaches_the_loss_and_the_record(teacher, tmp_path):
    for steep in (1.0, 8.0):
        chosen = recipe(method="kd+rk", epochs=1, settings={"rank_kendall.steepness": steep})
        train(chosen, out=tmp_path / str(steep), teacher=teacher[2], device="cpu")
    one, eight = (kdviz.load_checkpoint(tmp_path / name / "last.pt") for name in ("1.0", "8.0"))
    assert eight.recipe["settings"]["rank_kendall.steepness"] == 8.0
    assert not same(one.model.state_dict(), eight.model.state_dict())


def start(out, *words, until):
    """The script as a process of its own, stopped by the caller once `until()` holds."""
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(out), *map(str, words)])
    deadline = time.monotonic() + 60
    while not until() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return process


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_resumes_to_the_same_bits(teacher, tmp_path, how):
    last = teacher[0] / "last.pt"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(recipe(method="kd"), out=whole, teacher=kdviz.load_checkpoint(last), device="cpu")
    process = start(killed, "kd", last, until=lambda: len(RunFolder(killed).epochs()) >= 1)
    os.kill(process.pid, how)
    assert process.wait(60) != 0
    done = len(RunFolder(killed).epochs())
    assert 1 <= done < 3
    train(recipe(method="kd"), out=killed, teacher=kdviz.load_checkpoint(last), device="cpu")
    assert same(weights(whole / "last.pt"), weights(killed / "last.pt"))
    a, b = (RunFolder(out).epochs() for out in (whole, killed))
    assert [line["train"] for line in a] == [line["train"] for line in b]
    assert not list(killed.rglob("*.part"))


def test_another_recipe_in_the_folder_is_refused_by_what_differs(tmp_path):
    train(recipe(epochs=1), out=tmp_path, device="cpu")
    with pytest.raises(KdvizError, match=r"another recipe \(lr: 0.05 there, 0.01 now\)"):
        train(recipe(epochs=1, lr=0.01), out=tmp_path, device="cpu")
    train(recipe(epochs=1, lr=0.01), out=tmp_path, device="cpu", fresh=True)
    assert kdviz.load_checkpoint(tmp_path / "last.pt").recipe["lr"] == 0.01
    (tmp_path / "state.pt").write_bytes(b"torn")
    with pytest.raises(KdvizError, match="--fresh begins anew"):
        train(recipe(epochs=1, lr=0.01), out=tmp_path, device="cpu")


def test_a_loss_that_is_no_longer_finite_stops_and_keeps_what_was(tmp_path):
    with pytest.raises(KdvizError, match=r"the loss is .* in epoch 1; .* smaller lr"):
        train(recipe(lr=1e12, warmup=0, epochs=1), out=tmp_path, device="cpu")


def test_teachers_that_do_not_fit_are_refused_before_the_first_step(teacher, tmp_path):
    with pytest.raises(KdvizError, match="needs a teacher"):
        train(recipe(method="kd"), out=tmp_path, device="cpu")
    model = kdviz.models.build("resnet8", classes=10, seed=0)
    about = {"data": "tiny", "method": "ce", "seed": 0, "epoch": 1, "metrics": {}}
    path = tmp_path / "ten.pt"
    kdviz.checkpoints.save_checkpoint(path, model=model, name="resnet8", classes=10, recipe={}, **about)
    with pytest.raises(KdvizError, match=f"has 10 classes but tiny has {CLASSES}"):
        train(recipe(method="kd"), out=tmp_path / "run", teacher=kdviz.load_checkpoint(path), device="cpu")
    model = kdviz.models.build("resnet8", classes=CLASSES, seed=0)
    other = {"normalization": {"mean": [0.5] * 3, "std": [0.2] * 3}}
    kdviz.checkpoints.save_checkpoint(path, model=model, name="resnet8", classes=CLASSES, recipe=other, **about)
    with pytest.raises(KdvizError, match="the two must agree"):
        train(recipe(method="kd"), out=tmp_path / "run", teacher=kdviz.load_checkpoint(path), device="cpu")
    assert not (tmp_path / "run" / "last.pt").exists()


def test_holdout_false_trains_on_val_too_and_calls_the_last_epoch_best(tmp_path):
    metrics = train(recipe(holdout=False, epochs=2), out=tmp_path, device="cpu")
    assert metrics["best"]["epoch"] == metrics["last"]["epoch"] == 2
    start_line = RunFolder(tmp_path).events("start")[0]
    assert json.loads(json.dumps(start_line))["recipe"]["holdout"] is False


def test_a_device_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(KdvizError, match="device 'cuda:99' is not available"):
        train(recipe(), out=tmp_path, device="cuda:99")


@pytest.mark.gpu
def test_a_gpu_run_learns(tmp_path):
    assert train(recipe(epochs=4), out=tmp_path, device="cuda")["last"]["top1"] > 0.8
