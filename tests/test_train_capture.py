"""The step that a GPU captures: nothing in it waits for the host, and it computes what the plain step does."""

import sys

import pytest
import torch
from test_train import recipe, same
from torch.utils._python_dispatch import TorchDispatchMode

import kdviz
from kdviz.checkpoints import RunFolder
from kdviz.methods import METHODS
from kdviz.train import train
from kdviz.train.capture import CapturedStep
from kdviz.train.loop import before_step
from kdviz.train.setup import prepare
from kdviz.train.tally import Tally

aten = torch.ops.aten
CAPTURED = [name for name, method in METHODS.items() if not method.needs & {"strong", "ids", "boxes"}]


class HostWaits(TorchDispatchMode):
    """Refuses what makes a GPU wait for the host: sizes and decisions that depend on values, values from the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
        by_mask = func is aten.index.Tensor and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        plain_index = func in (aten.index.Tensor, aten.index_put_.default) and not by_mask
        if (tags & set(func.tags) and not plain_index) or by_mask or func is aten.lift_fresh.default:
            raise AssertionError(f"{func} waits for the host")
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher")
    train(recipe(student="resnet14", epochs=1), out=out, device="cpu")
    return kdviz.load_checkpoint(out / "last.pt")


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x + torch.tensor([1.0, 2.0]),
        lambda x: bool(x[0] > 0),
        lambda x: x.unique(),
    ],
)
def test_the_check_finds_what_it_looks_for(wait):
    with HostWaits(), pytest.raises(AssertionError, match="waits for the host"):
        wait(torch.ones(2))


def captured(run):
    """The step over the run's first batch, as it would be captured."""
    tally = Tally(torch.device("cpu"))
    step, plan = CapturedStep(run, tally, print), run.batches.plan(0)
    step.begin(plan.order, plan.views)
    step._epoch.fill_(before_step(run, plan, 0))
    return step, tally


@pytest.mark.parametrize("method", [*CAPTURED, "kd+rk", "kd+diff_kendall"])
def test_nothing_in_the_step_waits_for_the_host(teacher, tmp_path, method, monkeypatch):
    from kdviz.losses.pairwise import textbook
    from kdviz.train import setup

    # On a GPU the pairs are summed by the compiled textbook formula, on the CPU by a loop of its own.
    monkeypatch.setattr(
        sys.modules["kdviz.losses.rank_kendall"], "_sum", lambda s, t, form, half, **_: textbook(s, t, form, half)
    )
    build = setup.build_optimizer
    monkeypatch.setattr(setup, "build_optimizer", lambda *args, **given: build(*args, **{**given, "captured": True}))
    chosen = recipe(method=method, optimizer="adamw", lr=0.01, clip_grad=1.0, ema=0.9, accumulate=2, no_decay=True)
    run = prepare(chosen, RunFolder(tmp_path), teacher=teacher, device="cpu")
    run.student.train()
    step, tally = captured(run)
    before = {key: value.clone() for key, value in run.student.state_dict().items()}
    step.tensors()  # what is made in the first step, such as a method's constants, is made before the capture
    with HostWaits():
        step.tensors()
    assert not same(before, run.student.state_dict())
    assert tally.first_bad == -1


@pytest.mark.parametrize("method", ["kd+rk", "dkd", "ctkd", "at"])
def test_the_captured_function_gives_the_bits_of_the_plain_step(teacher, tmp_path, method):
    """Six steps of the function that a GPU captures, run as it is, against `train`."""
    chosen = recipe(method=method, epochs=1)
    train(chosen, out=tmp_path / "plain", teacher=teacher, device="cpu")
    run = prepare(chosen, RunFolder(tmp_path / "other"), teacher=teacher, device="cpu")
    run.student.train()
    step, _ = captured(run)
    with torch.random.fork_rng():
        for number in range(run.batches.steps):
            step._step.fill_(number)
            step._epoch.fill_(before_step(run, run.batches.plan(0), number))
            step.tensors()
    assert same(run.student.state_dict(), kdviz.load_checkpoint(tmp_path / "plain").model.state_dict())


def test_a_complete_table_serves_the_captured_step(teacher, tmp_path, monkeypatch):
    from kdviz.train.step import Step
    from kdviz.train.teach import fill_table

    fill_table(recipe(batch=96), teacher, tmp_path / "table", device="cpu")
    run = prepare(
        recipe(method="kd"), RunFolder(tmp_path), teacher=teacher, device="cpu", teacher_cache=tmp_path / "table"
    )
    monkeypatch.setattr(Step, "teach", lambda *_: pytest.fail("the teacher ran although its logits are known"))
    step, tally = captured(run)
    step.tensors()
    assert float(tally.sums["kd"]) > 0


def test_a_step_that_cannot_be_captured_says_why_and_goes_on_as_it_is(tmp_path, monkeypatch):
    """CUDA replaced by what fails where a net decides by values; the fourth step is the first to be captured."""
    from contextlib import contextmanager, nullcontext

    @contextmanager
    def fails(graph):
        raise RuntimeError("operation not permitted when stream is capturing\nmore of it")
        yield

    class Stream:
        def wait_stream(self, other): ...

    for name, value in {"Stream": Stream, "current_stream": Stream, "stream": lambda one: nullcontext()}.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", fails)
    run = prepare(recipe(), RunFolder(tmp_path), teacher=None, device="cpu")
    step, _ = captured(run)
    said, steps, tensors = [], 0, CapturedStep.tensors

    def counted(self):
        nonlocal steps
        steps += 1
        tensors(self)

    monkeypatch.setattr(CapturedStep, "tensors", counted)
    step.say = said.append
    for number in range(6):
        step(number, before_step(run, run.batches.plan(0), number))
    reason = "operation not permitted when stream is capturing"
    assert said == [f"the step cannot be captured as a CUDA graph ({reason}); it runs eagerly"]
    assert steps == 6


def test_a_run_says_why_its_step_is_not_captured(teacher, tmp_path):
    train(recipe(epochs=1), out=tmp_path, device="cpu")
    assert RunFolder(tmp_path).events("start")[0]["engine"] == "eager (on cpu there are no CUDA graphs)"


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["ce", "kd+rk", "dist", "pld", "at", "fitnet"])
def test_a_captured_run_computes_what_an_eager_run_does_and_resumes_exactly(tmp_path, method, monkeypatch):
    train(recipe(student="resnet14", epochs=1), out=tmp_path / "teacher", device="cuda")
    shared = {"teacher": kdviz.load_checkpoint(tmp_path / "teacher"), "device": "cuda"}
    chosen = recipe(method=method, epochs=3, precision="fp32")
    train(chosen, out=tmp_path / "graph", **shared)
    assert RunFolder(tmp_path / "graph").events("start")[0]["engine"] == "CUDA graph"
    monkeypatch.setattr("kdviz.train.loop.obstacle", lambda run: "a test")
    train(chosen, out=tmp_path / "eager", **shared)
    monkeypatch.undo()
    for name, weight in kdviz.load_checkpoint(tmp_path / "eager").model.state_dict().items():
        graph = kdviz.load_checkpoint(tmp_path / "graph").model.state_dict()[name]
        torch.testing.assert_close(graph, weight, rtol=1e-3, atol=1e-4)
    stopped = {**shared, "report": lambda entry: 1 / (entry["epoch"] != 2)}
    with pytest.raises(ZeroDivisionError):
        train(chosen, out=tmp_path / "resumed", **stopped)
    train(chosen, out=tmp_path / "resumed", **shared)
    whole, again = (kdviz.load_checkpoint(tmp_path / name).model.state_dict() for name in ("graph", "resumed"))
    assert same(whole, again)
