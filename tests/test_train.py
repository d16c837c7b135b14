"""The training loop: learns, says what it did, refuses what does not fit, and resumes to the same bits."""

import json
import os
import random
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
from kdviz.base.lock import locked
from kdviz.checkpoints import RunFolder
from kdviz.train import evaluate, load_recipe, train
from kdviz.train.batches import Batches, batches_of
from kdviz.train.setup import prepare
from kdviz.train.step import Step
from kdviz.train.teach import fill_table
from kdviz.train.teacher_table import TeacherTable

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
    assert metrics["last"]["top1"] > 0.5  # chance is 1/6
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


def test_runs_share_the_teachers_logits_whatever_their_method_batch_and_seed(teacher, tmp_path, monkeypatch):
    """A run that reads the table gives the bits of the run that filled it; with all views known no teacher runs."""
    shared = {"teacher": teacher[2], "device": "cpu", "teacher_cache": tmp_path / "table"}
    for name in ("fills", "reads"):
        train(recipe(method="kd", epochs=2), out=tmp_path / name, **shared)
    assert same(weights(tmp_path / "fills" / "last.pt"), weights(tmp_path / "reads" / "last.pt"))
    train(recipe(method="dist", epochs=1, batch=16, seed=4), out=tmp_path / "other", **shared)
    assert len(list((tmp_path / "table").iterdir())) == 1
    monkeypatch.setattr(Step, "teach", lambda *_, **__: pytest.fail("the teacher ran although its logits are known"))
    train(recipe(method="kd+rk", epochs=2), out=tmp_path / "known", **shared)


def test_a_table_filled_ahead_serves_a_run_without_the_teacher(teacher, tmp_path, monkeypatch):
    table = fill_table(recipe(batch=96), teacher[2], tmp_path / "table", device="cpu")
    assert table.share == 1.0
    assert table.shape == (192, 81, CLASSES)  # tiny is never mirrored
    monkeypatch.setattr(Step, "teach", lambda *_, **__: pytest.fail("the teacher ran although its logits are known"))
    known = {"teacher": teacher[2], "device": "cpu", "teacher_cache": tmp_path / "table"}
    train(recipe(method="kd", epochs=1), out=tmp_path / "known", **known)
    fill_table(recipe(batch=96), teacher[2], tmp_path / "table", device="cpu")  # nothing is left to do


def test_the_teachers_logits_are_rounded_by_no_more_than_float16_does(teacher, tmp_path):
    images, _ = next(load("train").batches(192))
    with torch.no_grad():
        exact = teacher[2].model(images).logits
    key = {"teacher_sha256": "t", "data_sha256": "d", "precision": "fp32", "padding": 0, "device": torch.device("cpu")}
    table = TeacherTable(tmp_path, shape=(192, 1, CLASSES), **key)
    ids, views = torch.randperm(192), torch.zeros(192, dtype=torch.int64)
    put = table.put(ids, views, exact[ids])
    assert table.get(ids, views) is None  # nothing counts as known before it is on the disk
    table.flush()
    again = TeacherTable(tmp_path, shape=(192, 1, CLASSES), **key)
    assert torch.equal(again.get(ids, views), put)
    assert torch.equal(again.get(ids.flip(0), views), put.flip(0))
    bound = 2.0**-11 * exact.abs().clamp_min(2.0**-14)
    assert ((again.get(torch.arange(192), views) - exact).abs() <= bound).all()
    assert again.share == 1.0
    for fact in ("teacher_sha256", "data_sha256", "precision"):
        other = TeacherTable(tmp_path, shape=(192, 1, CLASSES), **{**key, fact: "other"})
        assert other.get(ids, views) is None
    (again.path / "logits.f16").write_bytes(b"torn")
    with pytest.raises(KdvizError, match="damaged teacher table"):
        TeacherTable(tmp_path, shape=(192, 1, CLASSES), **key)


def test_a_setting_reaches_the_loss_and_the_record(teacher, tmp_path):
    for steep in (1.0, 8.0):
        chosen = recipe(method="kd+rk", epochs=1, settings={"rank_kendall.steepness": steep})
        train(chosen, out=tmp_path / str(steep), teacher=teacher[2], device="cpu")
    one, eight = (kdviz.load_checkpoint(tmp_path / name / "last.pt") for name in ("1.0", "8.0"))
    assert eight.recipe["settings"]["rank_kendall.steepness"] == 8.0
    assert not same(one.model.state_dict(), eight.model.state_dict())


def start(out, *words):
    """The script as a process of its own, once its run has begun or gone on."""
    events = len(RunFolder(out).events())
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(out), *map(str, words)])
    deadline = time.monotonic() + 90
    while len(RunFolder(out).events()) == events and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return process


def resumed_equals_uninterrupted(whole, killed):
    assert same(weights(whole / "last.pt"), weights(killed / "last.pt"))
    assert same(weights(whole / "best.pt"), weights(killed / "best.pt"))
    a, b = (RunFolder(out).epochs() for out in (whole, killed))
    assert [(line["epoch"], line["train"], line["val"]) for line in a] == [
        (line["epoch"], line["train"], line["val"]) for line in b
    ]
    assert not list(killed.rglob("*.part"))


def test_a_run_killed_at_random_moments_resumes_to_the_same_bits(teacher, tmp_path):
    """Five kills, wherever they fall: within an epoch, while a state or a checkpoint is written, before the first."""
    last = teacher[0] / "last.pt"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    began = time.monotonic()
    train(recipe(method="kd"), out=whole, teacher=kdviz.load_checkpoint(last), device="cpu")
    span = time.monotonic() - began  # of a run on this machine under its present load
    moments, kills, finished = random.Random(7), 0, False
    while not finished and kills < 12 and (kills < 5 or not RunFolder(killed).events("resume")):
        process = start(killed, "kd", last)
        time.sleep(moments.uniform(0, span / 2))
        process.kill()
        finished, kills = process.wait(60) == 0, kills + 1
    assert RunFolder(killed).events("resume"), "no killed run was resumed: its state was not there yet"
    train(recipe(method="kd"), out=killed, teacher=kdviz.load_checkpoint(last), device="cpu")
    resumed_equals_uninterrupted(whole, killed)


@pytest.mark.slow
def test_fifty_kills_lose_at_most_the_step_in_hand(tmp_path):
    chosen = recipe(epochs=30)
    train(chosen, out=tmp_path / "whole", device="cpu")
    command = [sys.executable, str(SCRIPT), str(tmp_path / "killed"), "50"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stderr
    kills, resumes = map(int, found.stdout.split()[-2:])
    assert kills >= 50
    assert resumes >= 40  # the others came before the run went on
    resumed_equals_uninterrupted(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_the_step_in_hand(teacher, tmp_path, number):
    last = teacher[0] / "last.pt"
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(recipe(method="kd"), out=whole, teacher=kdviz.load_checkpoint(last), device="cpu")
    process = start(stopped, "kd", last)
    os.kill(process.pid, number)
    assert process.wait(60) != 0
    state = torch.load(stopped / "state.pt", weights_only=True)
    assert tuple(state["position"][:2]) != (0, 0)
    train(recipe(method="kd"), out=stopped, teacher=kdviz.load_checkpoint(last), device="cpu")
    resumed_equals_uninterrupted(whole, stopped)


def test_a_kill_between_state_and_journal_loses_neither(tmp_path, monkeypatch):
    """The journal's line of an epoch is written again on resuming when the kill came before it."""
    train(recipe(), out=tmp_path / "whole", device="cpu")
    log = RunFolder.log
    with monkeypatch.context() as patch:
        patch.setattr(
            RunFolder, "log", lambda run, event, **fields: _die() if event == "epoch" else log(run, event, **fields)
        )
        with pytest.raises(ZeroDivisionError):
            train(recipe(), out=tmp_path / "killed", device="cpu")
    assert RunFolder(tmp_path / "killed").epochs() == []
    train(recipe(), out=tmp_path / "killed", device="cpu")
    resumed_equals_uninterrupted(tmp_path / "whole", tmp_path / "killed")


def _die():
    raise ZeroDivisionError


def test_a_finished_run_is_left_alone(tmp_path, monkeypatch):
    metrics = train(recipe(epochs=1), out=tmp_path, device="cpu")
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert train(recipe(epochs=1), out=tmp_path, device="cpu") == metrics
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_the_teacher_is_in_eval_mode_and_left_as_it_was(teacher, tmp_path):
    checkpoint = kdviz.load_checkpoint(teacher[0] / "last.pt")
    checkpoint.model.train()
    before = {name: value.clone() for name, value in checkpoint.model.state_dict().items()}
    train(recipe(method="kd", epochs=1), out=tmp_path / "a", teacher=checkpoint, device="cpu")
    assert same(before, checkpoint.model.state_dict())
    train(recipe(method="kd", epochs=1), out=tmp_path / "b", teacher=teacher[2], device="cpu")
    assert same(weights(tmp_path / "a" / "last.pt"), weights(tmp_path / "b" / "last.pt"))


def test_every_epoch_has_an_order_and_crops_of_its_own():
    batches = batches_of(recipe(), load("train"), torch.device("cpu"))
    first, second = batches.plan(0), batches.plan(1)
    assert not torch.equal(first.order, second.order)
    assert not torch.equal(first.views, second.views)
    for plan in (first, second):
        assert sorted(plan.order.tolist()) == list(range(192))
        ids = torch.cat([batches.get(plan, step).ids for step in range(batches.steps)])
        assert sorted(ids.tolist()) == list(range(192))
    assert torch.equal(batches.plan(1).order, second.order)
    other = batches_of(recipe(seed=4), load("train"), torch.device("cpu"))
    assert not torch.equal(other.plan(0).order, first.order)


def test_a_batch_is_the_images_labels_and_crops_of_its_ids():
    batches = batches_of(recipe(), load("train"), torch.device("cpu"))
    batch = batches.get(batches.plan(2), 3)
    data = load("train")
    assert torch.equal(batch.labels, data.labels[batch.ids])
    for image, place, view in zip(batch.images, batch.ids.tolist(), batch.views.tolist(), strict=True):
        down, right = divmod(view, 9)  # tiny is never mirrored
        padded = torch.nn.functional.pad(data.images[place], (4, 4, 4, 4))
        crop = padded[:, down : down + 32, right : right + 32]
        torch.testing.assert_close(image, (crop.float() / 255 - 0.3) / 0.2)


def test_the_best_epoch_is_the_first_of_the_highest_on_val(tmp_path, monkeypatch):
    tops = iter([0.5, 0.7, 0.7, 0.6, *[0.1] * 4])
    monkeypatch.setattr("kdviz.train.measure._scores", lambda run, net, data: {"top1": next(tops), "loss": 1.0})
    metrics = train(recipe(epochs=4, keep_epochs=1), out=tmp_path, device="cpu")
    assert (metrics["best"]["epoch"], metrics["best"]["val_top1"]) == (2, 0.7)
    assert (metrics["last"]["epoch"], metrics["last"]["val_top1"]) == (4, 0.6)
    run = RunFolder(tmp_path)
    assert same(weights(run.best), weights(run.epoch_file(2)))
    assert same(weights(run.last), weights(run.epoch_file(4)))
    assert not same(weights(run.best), weights(run.last))
    best, last = kdviz.load_checkpoint(run.best), kdviz.load_checkpoint(run.last)
    assert (best.epoch, best.which, last.epoch, last.which) == (2, "best", 4, "last")


def test_the_test_split_is_scored_every_n_epochs_and_chooses_nothing(tmp_path):
    plain = train(recipe(), out=tmp_path / "plain", device="cpu")
    metrics = train(recipe(score_every=2), out=tmp_path / "scored", device="cpu")
    assert {key: metrics[key] for key in ("best", "last")} == plain
    scored = [entry.get("test") for entry in RunFolder(tmp_path / "scored").epochs()]
    assert [entry is not None for entry in scored] == [False, True, True]
    assert scored[-1]["top1"] == metrics["last"]["top1"]
    assert metrics["best_test"]["top1"] == max(entry["top1"] for entry in scored if entry)
    assert kdviz.load_checkpoint(tmp_path / "scored").metrics["best_test"] == metrics["best_test"]


def test_another_recipe_in_the_folder_is_refused_by_what_differs(tmp_path):
    train(recipe(epochs=1), out=tmp_path, device="cpu")
    with pytest.raises(KdvizError, match=r"another recipe \(lr: 0.05 there, 0.01 now\)"):
        train(recipe(epochs=1, lr=0.01), out=tmp_path, device="cpu")
    train(recipe(epochs=1, lr=0.01), out=tmp_path, device="cpu", fresh=True)
    assert kdviz.load_checkpoint(tmp_path / "last.pt").recipe["lr"] == 0.01
    (tmp_path / "state.pt").write_bytes(b"torn")
    with pytest.raises(KdvizError, match="--fresh begins anew"):
        train(recipe(epochs=1, lr=0.01), out=tmp_path, device="cpu")


def test_a_loss_that_is_no_longer_finite_stops_with_its_step_and_images(tmp_path, monkeypatch):
    """The third batch of the second epoch gets an image that is not a number."""
    poisoned, get = [], Batches.get

    def poison(batches, plan, step):
        batch = get(batches, plan, step)
        if (plan.epoch, step) == (1, 2):
            poisoned[:] = batch.ids.tolist()
            return batch._replace(images=batch.images.clone().fill_(float("nan")))
        return batch

    monkeypatch.setattr(Batches, "get", poison)
    with pytest.raises(KdvizError) as refused:
        train(recipe(), out=tmp_path, device="cpu")
    shown = ", ".join(map(str, poisoned[:8]))
    assert f"not finite in epoch 2, step 3 of 6 (training images {shown}, ...)" in str(refused.value)
    assert kdviz.load_checkpoint(tmp_path / "last.pt").epoch == 1
    monkeypatch.setattr(Batches, "get", get)
    train(recipe(), out=tmp_path, device="cpu")
    train(recipe(), out=tmp_path / "whole", device="cpu")
    assert same(weights(tmp_path / "last.pt"), weights(tmp_path / "whole" / "last.pt"))


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


def test_two_processes_never_train_into_one_folder(tmp_path):
    with locked(tmp_path / "run"):
        run = subprocess.run([sys.executable, str(SCRIPT), str(tmp_path / "run"), "ce"], capture_output=True, text=True)
    assert run.returncode != 0
    assert f"process {os.getpid()}" in run.stderr or str(os.getpid()) in run.stderr
    assert not (tmp_path / "run" / "journal.jsonl").exists()


def test_a_full_disk_keeps_the_old_state_and_says_so_in_a_line(teacher, tmp_path):
    """A file-size limit below the state's size stands in for a full disk; the run goes on once it is lifted."""
    train(recipe(), out=tmp_path / "whole", device="cpu")
    limited = (
        "import resource, sys; from pathlib import Path; sys.path.insert(0, str(Path(sys.argv[1]).parent));"
        "import tiny; from kdviz.base.check import KdvizError; from kdviz.train import load_recipe, train;"
        "recipe = load_recipe(student='resnet8', data='tiny', epochs=3, batch=32, lr=0.05, seed=3);"
        "report = lambda entry: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY));"
        "\ntry: train(recipe, out=sys.argv[2], device='cpu', report=report)"
        "\nexcept KdvizError as error: print(error); sys.exit(1)"
    )
    words = [sys.executable, "-c", limited, str(SCRIPT), str(tmp_path / "run")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert len(done.stdout.strip().splitlines()) == 1
    assert "cannot write" in done.stdout
    assert [entry["epoch"] for entry in RunFolder(tmp_path / "run").epochs()] == [1]
    train(recipe(), out=tmp_path / "run", device="cpu")
    resumed_equals_uninterrupted(tmp_path / "whole", tmp_path / "run")


def test_features_of_named_modules_serve_methods_of_features(teacher, tmp_path):
    named = {"features_at": ("layer1", "layer2", "layer3"), "teacher_features_at": ("layer1", "layer2", "layer3")}
    own, by_name = tmp_path / "own", tmp_path / "by_name"
    for out, settings in ((own, {}), (by_name, named)):
        train(recipe(method="at", epochs=1, **settings), out=out, teacher=teacher[2], device="cpu")
    assert same(weights(own / "last.pt"), weights(by_name / "last.pt"))
    with pytest.raises(KdvizError, match="unknown module 'layer4'; did you mean"):
        train(recipe(method="at", features_at=("layer4",)), out=tmp_path / "no", teacher=teacher[2], device="cpu")


@pytest.mark.parametrize("method", ["crd", "vid", "fitnet+rk"])
def test_weights_and_memory_of_a_method_are_resumed_and_never_in_the_student(teacher, tmp_path, method, monkeypatch):
    chosen = recipe(method=method, epochs=2, settings={"crd.negatives": 16} if method == "crd" else {})
    shared = {"teacher": teacher[2], "device": "cpu", "save_minutes": 0.0}
    train(chosen, out=tmp_path / "whole", **shared)
    count, log = iter(range(100)), Step.__call__
    with monkeypatch.context() as patch:
        patch.setattr(Step, "__call__", lambda *args, **given: _die() if next(count) == 4 else log(*args, **given))
        with pytest.raises(ZeroDivisionError):
            train(chosen, out=tmp_path / "killed", **shared)
    train(chosen, out=tmp_path / "killed", **shared)
    resumed_equals_uninterrupted(tmp_path / "whole", tmp_path / "killed")
    states = [torch.load(tmp_path / name / "state.pt", weights_only=True)["objective"] for name in ("whole", "killed")]
    assert same(*states)
    assert states[0]
    student = kdviz.models.build("resnet8", classes=CLASSES).state_dict()
    assert weights(tmp_path / "whole").keys() == student.keys()


def test_probing_the_nets_leaves_the_student_at_its_initial_weights_and_statistics(teacher, tmp_path):
    run = prepare(recipe(method="at"), RunFolder(tmp_path), teacher=teacher[2], device="cpu")
    fresh = kdviz.models.build("resnet8", classes=CLASSES, seed=3)
    assert same(run.student.state_dict(), fresh.state_dict())
    assert run.student.training


def test_the_optimizer_is_the_recipes(tmp_path):
    for nesterov in (True, False):
        run = prepare(recipe(nesterov=nesterov, momentum=0.75), RunFolder(tmp_path), teacher=None, device="cpu")
        (group, *_) = run.optimizer.param_groups
        assert (group["nesterov"], group["momentum"], group["weight_decay"]) == (nesterov, 0.75, 5e-4)


def test_terms_see_the_epoch_as_a_fraction(tmp_path, monkeypatch):
    seen, call = [], Step.__call__
    monkeypatch.setattr(
        Step,
        "__call__",
        lambda step, batch, taught, *, epoch: seen.append(epoch) or call(step, batch, taught, epoch=epoch),
    )
    train(recipe(epochs=2), out=tmp_path, device="cpu")
    assert seen == pytest.approx([step / 6 for step in range(12)])


def test_a_run_whose_checkpoint_was_changed_is_not_taken_as_finished(tmp_path):
    train(recipe(epochs=1), out=tmp_path, device="cpu")
    assert RunFolder(tmp_path).result() is not None
    with (tmp_path / "last.pt").open("ab") as stream:
        stream.write(b"x")
    assert RunFolder(tmp_path).result() is None
