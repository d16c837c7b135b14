"""The only training loop: one student, one method, one recipe; interrupted anywhere, resumed to the same result."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import torch

from kdviz.base.check import KdvizError, require
from kdviz.base.lock import locked
from kdviz.base.seeds import derive
from kdviz.base.signals import stop_requested
from kdviz.checkpoints import Checkpoint
from kdviz.checkpoints.run_folder import RunFolder
from kdviz.methods import Batch
from kdviz.models import Outputs
from kdviz.train import measure, state
from kdviz.train.batches import EpochPlan
from kdviz.train.capture import CapturedStep, obstacle
from kdviz.train.device import arithmetic, choose_device
from kdviz.train.distributed import joined
from kdviz.train.loggers import Loggers
from kdviz.train.optim import set_learning_rate
from kdviz.train.profile import StepTrace
from kdviz.train.recipe import Recipe
from kdviz.train.setup import Run, prepare
from kdviz.train.tally import Tally

Progress = Callable[[int, int], None]
Report = Callable[[dict[str, Any]], None]
Say = Callable[[str], None]
SAVE, STOP = 1, 2


@dataclass
class Loop:
    """How a run goes: what is reported, when its state is saved, and whether it was asked to stop."""

    fingerprint: str
    stop: Event
    save_seconds: float
    loggers: Loggers
    tally: Tally
    captured: CapturedStep | None = None
    progress: Progress | None = None
    report: Report | None = None
    trace: StepTrace | None = None
    saved: float = field(default_factory=time.monotonic)

    def asked(self, run: Run, within: bool) -> int:
        """What comes after a step, the same on every rank: `STOP`, `SAVE` where the first one's state is older than
        `save_seconds`, or 0. A save waits for the end of the epoch where that is here, not `within` it."""
        due = within and run.ranks.first and time.monotonic() - self.saved >= self.save_seconds
        return run.ranks.most(STOP if self.stop.is_set() else SAVE if due else 0)

    def save(self, run: Run, at: state.Position) -> None:
        """Write the teacher's new logits and the state."""
        if run.table is not None:
            run.table.flush()
        if run.ranks.first:
            state.save(run.folder, self.fingerprint, at, run.step.state)
        self.saved = time.monotonic()


def train(
    recipe: Recipe,
    *,
    out: Path | str,
    teacher: Checkpoint | None = None,
    fresh: bool = False,
    save_minutes: float = 5.0,
    progress: Progress | None = None,
    report: Report | None = None,
    loggers: Sequence[str] = (),
    profile: bool = False,
    **machine: Any,
) -> dict[str, Any]:
    """Train `recipe` into the folder `out`, or go on where a run of the same recipe stopped there.

    `out` gets journal.jsonl, last.pt and best.pt (best by top-1, or a detector's AP, on val, which is held out of
    train), state.pt for resuming and, with `recipe.ema`, ema.pt, with `recipe.keep_epochs`, epochs/epoch_NNNN.pt.
    Ctrl-C ends after the step in hand, with all saved. Processes of torchrun that all call this train one run
    together; the first writes.

    Args:
        recipe: the settings; see `Recipe`.
        out: the run's folder.
        teacher: its checkpoint, where the method needs one.
        fresh: begin anew, whatever is in `out`.
        save_minutes: how old the saved state may get within an epoch; a killed run loses no more than that.
        progress: called with (steps done, steps in all), in the first process.
        report: called with each epoch's journal entry, in the first process.
        loggers: of "tensorboard" and "wandb", beside the journal; one that fails is left out.
        profile: write a trace of ten steps, trace.json.
        machine: where it computes and reads: `root`, `device`, `teacher_cache`, `workers`, `damaged`; see
            `kdviz.train.setup.Machine`.
    Returns:
        {"best": {"epoch", "top1", "top5", "loss", "val_top1"}, "last": {...}}: fractions on the test split, loss in
        nats; of a detector "ap", "ap50" and "ap75" in their place.
    Raises:
        KdvizError: a missing or mismatched teacher, another recipe's run in `out`, a loss that is no longer finite.
        KeyboardInterrupt: after saving, when interrupted.
    """
    folder, device = RunFolder(Path(out)), choose_device(machine.get("device"))
    with ExitStack() as stack:
        ranks = stack.enter_context(joined(device))
        run = prepare(recipe, folder, teacher=teacher, **{**machine, "device": str(device), "ranks": ranks})
        stack.enter_context(closing(run.batches))
        if run.step.exchange is not None:
            stack.enter_context(closing(run.step.exchange))
        if ranks.first:
            stack.enter_context(locked(folder.path))
        stop = stack.enter_context(stop_requested())
        stack.enter_context(torch.random.fork_rng())
        stack.enter_context(arithmetic(run.step.precision))
        wanted = loggers if ranks.first else ()
        say = Loggers(wanted, folder=folder.path, settings=run.record["recipe"], warn=_warn(folder))
        tally = Tally(run.batches.device)
        loop = Loop(
            state.fingerprint(run.record, run.batches.data.sha256),
            stop,
            60 * save_minutes,
            stack.enter_context(closing(say)),
            tally,
            CapturedStep(run, tally, _warn(folder)) if obstacle(run) is None else None,
            progress if ranks.first else None,
            report if ranks.first else None,
        )
        root = machine.get("root")
        place = {} if root is None else {"root": str(Path(root).expanduser().resolve())}
        return _train(run, loop, fresh=fresh, profile=profile and ranks.first, place=place)


def _warn(folder: RunFolder) -> Say:
    """A line on the screen and in the journal."""

    def warn(text: str) -> None:
        warnings.warn(text, stacklevel=2)
        folder.log("warning", text=text)

    return warn


def _train(run: Run, loop: Loop, *, fresh: bool, profile: bool, place: dict[str, str]) -> dict[str, Any]:
    """Go on from the folder's state to the last epoch; the metrics on the test split. `place` (the data's folder) goes
    into the journal alone: a checkpoint says nothing of the machine."""
    folder = run.folder
    at = _restored(run, loop, fresh)
    found = folder.result() if at.epoch >= run.recipe.epochs else None
    if run.ranks.least(found is not None):
        return dict(found or {})
    if run.ranks.first:
        started = at.epoch == 0 and at.step == 0
        engine = "CUDA graph" if loop.captured else f"eager ({obstacle(run)})"
        place |= {"processes": str(run.ranks.world)} if run.ranks.world > 1 else {}
        folder.log("start" if started else "resume", **run.record, precision=run.step.precision, engine=engine, **place)
        live = f"the teacher runs in every step, not by its table: {run.live}" if run.live else None
        for text in (*run.notes, live) if live else run.notes:
            _warn(folder)(text)
    failures = folder.failures_logged() if run.ranks.first else nullcontext()
    with failures, _traced(run, loop, profile):
        while at.epoch < run.recipe.epochs:
            at = _epoch(run, loop, at)
    metrics = measure.finish(run) if run.measures else {}
    run.ranks.wait()
    return metrics or dict(folder.result() or {})


def _restored(run: Run, loop: Loop, fresh: bool) -> state.Position:
    """Where the run stands: the first process mends the folder, then all load the same state."""
    common = (run.folder, loop.fingerprint, run.step.state)
    at = state.restore(*common, fresh=fresh) if run.ranks.first else None
    run.ranks.wait()
    at = at or state.restore(*common, reader=True)
    steps = at.epoch * run.batches.steps + at.step
    require(
        run.ranks.least(steps) == run.ranks.most(steps),
        f"train: the processes of torchrun do not see the same state in {run.folder.path}; the run's folder must be on"
        " a file system that all of them share",
    )
    return at


@contextmanager
def _traced(run: Run, loop: Loop, profile: bool) -> Iterator[None]:
    """Where asked for, a trace of ten steps of the epochs inside."""
    if not profile:
        yield
        return
    with StepTrace(run.folder.path / "trace.json") as loop.trace:
        yield


def _epoch(run: Run, loop: Loop, at: state.Position) -> state.Position:
    """The rest of the epoch that `at` stands in; its checkpoints, state and journal line."""
    began, first, steps = time.perf_counter(), at.step, run.batches.steps
    plan, tally = run.batches.plan(at.epoch), loop.tally
    run.student.train()
    tally.begin(at.sums)
    for step in updates(run, tally, loop.captured, plan, at.step):
        if loop.trace:
            loop.trace.step()
        if loop.progress:
            loop.progress(at.epoch * steps + step + 1, run.recipe.epochs * steps)
        due = loop.asked(run, step + 1 < steps)
        if due:
            _require_finite(run, plan, tally.first_bad)
            loop.save(run, at._replace(step=step + 1, sums=run.ranks.mean(tally.sums)))
            if due == STOP:
                raise KeyboardInterrupt
    _require_finite(run, plan, tally.first_bad)
    means = {name: float(value) / steps for name, value in run.ranks.mean(tally.sums).items()}
    seconds = time.perf_counter() - began
    rate = (steps - first) * run.batches.size / seconds
    pace: dict[str, Any] = {"seconds": round(seconds, 3), "images_per_second": round(rate, 2 if rate < 10 else None)}
    if run.batches.loader is not None:
        pace["waited_for_images"] = round(run.batches.loader.waited, 3)
        if run.batches.loader.broken:
            pace["damaged_images"] = len(run.batches.loader.broken)
    return _close_epoch(run, loop, at, means, pace)


def updates(run: Run, tally: Tally, captured: CapturedStep | None, plan: EpochPlan, start: int = 0) -> Iterator[int]:
    """Make the updates of an epoch from `start` on, and give the number of each; the terms go into the tally."""
    if captured is not None:
        captured.begin(plan.order, plan.views)
        for step in range(start, run.batches.steps):
            captured(step, before_step(run, plan, step))
            yield step
        return
    for step, batch in enumerate(run.batches.epoch(plan, start), start):
        epoch = before_step(run, plan, step)
        terms = run.step(batch, lambda part: _taught(run, part), epoch=epoch)
        tally.add(terms, torch.tensor(step))
        yield step


def before_step(run: Run, plan: EpochPlan, step: int) -> float:
    """Set the learning rate and the seed of dropout and the like; the epoch, a fraction within it."""
    at = plan.epoch + step / run.batches.steps
    set_learning_rate(run.optimizer, run.recipe.learning_rate(at))
    torch.manual_seed(derive(run.recipe.seed, "model", plan.epoch, step))  # inside fork_rng
    return at


def _taught(run: Run, batch: Batch) -> Outputs | None:
    """The teacher's outputs: from the table where they are known, else computed and kept there."""
    if run.table is None:
        return run.step.teach(batch)
    views = torch.zeros_like(batch.ids) if batch.views is None else batch.views
    known = run.table.get(batch.ids, views)
    if known is None:
        computed = run.step.teach(batch)
        known = None if computed is None else run.table.put(batch.ids, views, computed.logits)
    return None if known is None else Outputs(known)


def _require_finite(run: Run, plan: EpochPlan, bad: int) -> None:
    """Raise KdvizError where the loss of a step was not finite. Asked when a state is due, not in every step: asking
    waits for the device."""
    bad = run.ranks.least(run.batches.steps if bad < 0 else bad)
    if bad == run.batches.steps:
        return
    ids = run.batches.ids(plan, bad).tolist()
    shown = ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")
    raise KdvizError(
        f"train: the loss is not finite in epoch {plan.epoch + 1}, step {bad + 1} of {run.batches.steps} (training"
        f" images {shown}); the last saved state is kept in {run.folder.path}; a smaller lr (--lr) or a longer warm-up"
        " usually helps"
    )


def _close_epoch(run: Run, loop: Loop, at: state.Position, means: dict, pace: dict) -> state.Position:
    """Measure and save a finished epoch. The state goes to disk before the journal line and carries it, so that a kill
    between the two loses neither."""
    number, recipe, average = at.epoch + 1, run.recipe, run.step.average
    scores = measure.epoch(run, number) if run.measures else {}
    if not run.ranks.first:
        loop.save(run, at)  # its new logits of the teacher
        return state.Position(number, 0, {}, None)
    val = scores.pop("val")
    entry = {"epoch": number, "lr": recipe.learning_rate(number), "train": means, "val": val, **pace, **scores}
    measured = {"epoch": number, **{f"val_{key}": value for key, value in val.items()}}
    better = not val or at.best is None or val[run.chosen_by] > at.best[f"val_{run.chosen_by}"]
    best = measured if better else at.best
    metrics = {"best": best, "last": measured}
    for which in ("best", "last") if better else ("last",):
        measure.write(run, getattr(run.folder, which), number, metrics, which)
    if average is not None:
        measure.write(run, run.folder.ema, number, metrics, "ema")
    if recipe.keep_epochs and (number % recipe.keep_epochs == 0 or number == recipe.epochs):
        measure.write(run, run.folder.epoch_file(number), number, metrics, "last")
    after = state.Position(number, 0, {}, best, entry)
    loop.save(run, after)
    run.folder.log("epoch", **entry)
    loop.loggers.log(entry, step=number)
    if loop.report:
        loop.report(entry)
    return after
