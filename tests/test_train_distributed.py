"""Two ranks of torchrun on the CPU train the student of one process, also after one of them was killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import load

import kdviz
from kdviz.base.check import KdvizError
from kdviz.checkpoints import RunFolder
from kdviz.methods import METHODS, Batch, Probe, build
from kdviz.models import Outputs
from kdviz.train import load_recipe, train
from kdviz.train.batches import batches_of
from kdviz.train.distributed import Ranks
from kdviz.train.setup import prepare
from kdviz.train.sync_bn import synchronize

HERE = Path(__file__).parent
CPU = torch.device("cpu")
# Learning rates at which float32's rounding stays below 1e-5 of a weight over three steps, while the weights move by
# thousands of that: a batch of one process with its rows in another order shows the same rounding.
CASES = {
    "ce": {"lr": 0.005, "accumulate": 2, "mixup": 0.4, "ema": 0.5},
    "kd": {"lr": 0.005},
    "dist": {"lr": 1e-5},
    "crd": {"lr": 3e-4, "settings": {"crd.negatives": 16}},
    "mlkd": {"lr": 1e-4},
    "fitnet": {"lr": 1e-5},
}


def recipe(method="ce", **changes):
    base = {"student": "resnet8", "data": "tiny", "epochs": 1, "batch": 32, "limit": 96, "warmup": 0, "seed": 3}
    return {**base, "precision": "fp32", "method": method, "sync_bn": True, **changes}


def torchrun(folder, cases, *, ranks=2, kill=None, restarts=0):
    path = folder / "cases.json"
    path.write_text(json.dumps({**cases, "kill": kill}))
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    words += ["--max-restarts", str(restarts), "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    paths = os.pathsep.join([str(HERE), str(HERE.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    words += [str(HERE / "torchrun_train.py"), str(path)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)


def weights(folder, file="last.pt"):
    return kdviz.load_checkpoint(folder / file).model.state_dict()


def farthest(a, b):
    assert a.keys() == b.keys()
    return max(float((a[key].float() - b[key].float()).abs().max()) for key in a)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher")
    train(load_recipe(**recipe(sync_bn=False, lr=0.05, epochs=2, limit=None)), out=out, device="cpu")
    return out / "last.pt"


@pytest.mark.slow
def test_two_ranks_train_the_student_of_one_process(tmp_path, teacher):
    runs = [{"out": str(tmp_path / "two" / name), "recipe": recipe(name, **CASES[name])} for name in CASES]
    ended = torchrun(tmp_path, {"teacher": str(teacher), "runs": runs})
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ended.stdout == ""
    taught = kdviz.load_checkpoint(teacher)
    for name in CASES:
        found = load_recipe(**recipe(name, **CASES[name]))
        one, two = tmp_path / "one" / name, tmp_path / "two" / name
        train(found, out=one, teacher=None if name == "ce" else taught, device="cpu")
        start = prepare(found, RunFolder(tmp_path), teacher=taught, device="cpu").student.state_dict()
        assert farthest(weights(one), weights(two)) < 1e-5, name
        assert farthest(start, weights(one)) > 1e-3, name
        (alone,), (shared,) = RunFolder(one).epochs(), RunFolder(two).epochs()
        assert shared["train"] == pytest.approx(alone["train"], rel=1e-5)
        assert [event["event"] for event in RunFolder(two).events()] == ["start", "epoch", "end"]
        assert RunFolder(two).events("start")[0]["processes"] == "2"
    assert farthest(weights(tmp_path / "one" / "ce", "ema.pt"), weights(tmp_path / "two" / "ce", "ema.pt")) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_is_started_again_and_the_result_is_the_same(tmp_path, teacher, rank):
    settings = recipe("dist", lr=1e-3, epochs=2, sync_bn=False)
    case = {"recipe": settings, "machine": {"save_minutes": 0}}
    for place, kill in (("whole", None), ("killed", (rank, 5))):
        cases = {"teacher": str(teacher), "runs": [{"out": str(tmp_path / place), **case}]}
        ended = torchrun(tmp_path, cases, kill=kill, restarts=1)
        assert ended.returncode == 0, ended.stderr
    found, wanted = weights(tmp_path / "killed"), weights(tmp_path / "whole")
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    events = [event["event"] for event in RunFolder(tmp_path / "killed").events()]
    events = [event for event in events if event != "failed"]  # what the other rank says of its lost neighbour
    assert events == ["start", "epoch", "resume", "epoch", "end"]


def test_a_batch_that_does_not_divide_is_refused():
    found = load_recipe(**recipe(batch=32, accumulate=2))
    with pytest.raises(KdvizError, match="32 images does not divide over 3 processes times 2 parts"):
        batches_of(found, load("train"), CPU, ranks=Ranks(0, 3))


@pytest.mark.parametrize(
    "changes", [{}, {"accumulate": 2}, {"mixup": 0.4, "random_erasing": 0.5}, {"augment": "resized_crop"}]
)
def test_the_ranks_together_see_what_one_process_sees(changes):
    found = load_recipe(**recipe(**changes))
    whole = batches_of(found, load("train"), CPU)
    shares = [batches_of(found, load("train"), CPU, ranks=Ranks(rank, 4)) for rank in range(4)]
    plan = whole.plan(1)
    for step, batch in enumerate(whole.epoch(plan)):
        parts = batch.parts(found.accumulate)
        of_ranks = [shared.get(plan, step).parts(found.accumulate) for shared in shares]
        for number, part in enumerate(parts):
            for name in ("images", "ids", "labels", "views", "targets"):
                held = [getattr(rank[number], name) for rank in of_ranks]
                assert (held[0] is None) == (getattr(part, name) is None)
                if held[0] is not None:
                    assert torch.equal(torch.cat(held), getattr(part, name)), name


def outputs(n, generator):
    """Made-up outputs of a net, with stage maps (the stem's first), on which every method works."""

    def maps():
        return tuple(torch.randn(n, 4, size, size, generator=generator) for size in (8, 8, 4))

    def logits():
        return 3 * torch.randn(n, 6, generator=generator)

    return Outputs(logits(), maps(), torch.randn(n, 4, generator=generator), maps(), Outputs(logits()))


class Normalised(torch.nn.Module):
    def bn_before_relu(self):
        return [torch.nn.BatchNorm2d(4), torch.nn.BatchNorm2d(4)]


def part(held, rows):
    if isinstance(held, torch.Tensor):
        return held[rows]
    if isinstance(held, tuple):
        found = [part(one, rows) for one in held]
        return type(held)(*found) if hasattr(held, "_fields") else tuple(found)
    return held


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if "boxes" not in method.needs])
def test_a_method_is_a_mean_over_samples_or_says_that_it_couples_them(name):
    generator = torch.Generator().manual_seed(0)
    student, teacher = outputs(12, generator), outputs(12, generator)
    labels = torch.arange(12) % 6
    probe = Probe(part(student, slice(2)), part(teacher, slice(2)), 6, labels, 0, Normalised())
    settings = {"crd.negatives": 2} if name == "crd" else {}
    objective = build(name, classes=6, probe=probe, settings=settings).eval()
    batch = Batch(torch.empty(12, 0), labels, torch.arange(12))

    def loss(rows):
        torch.manual_seed(0)
        with torch.no_grad():
            return objective(part(student, rows), part(teacher, rows), part(batch, rows), epoch=30.0)["total"]

    halves = (loss(slice(6)) + loss(slice(6, 12))) / 2
    assert torch.allclose(halves, loss(slice(12)), rtol=1e-4) != objective.couples
    assert METHODS[name].couples == objective.couples


def test_a_net_with_another_batch_normalisation_is_refused_and_names_stay():
    class Other(torch.nn.BatchNorm2d):
        pass

    with pytest.raises(KdvizError, match="but the net has Other"):
        synchronize(torch.nn.Sequential(Other(3)), CPU)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    before, images = net.state_dict(), torch.randn(5, 3, 2, 2)
    seen = net(images)
    net = synchronize(torch.nn.Sequential(net[0], torch.nn.BatchNorm2d(4)), CPU)
    assert list(net.state_dict()) == list(before)
    assert torch.equal(net(images), seen)
