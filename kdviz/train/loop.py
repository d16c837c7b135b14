"""The only training loop: one student, one method, one recipe; interrupted anywhere, resumed to the same result."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import torch
from torch import Tensor

from kdviz.base.check import KdvizError
from kdviz.base.files import sha256
from kdviz.base.lock import locked
from kdviz.base.seeds import derive
from kdviz.base.signals import stop_requested
from kdviz.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from kdviz.checkpoints.run_folder import RunFolder
from kdviz.methods import Batch
from kdviz.models import Outputs
from kdviz.train import state
from kdviz.train.batches import EpochPlan
from kdviz.train.optim import set_learning_rate
from kdviz.train.recipe import Recipe
from kdviz.train.score import evaluate
from kdviz.train.setup import Run, prepare

Progress = Callable[[int, int], None]
Report = Callable[[dict[str, Any]], None]


@dataclass
class Loop:
    """How a run goes: what is reported, when its state is saved, and whether it was asked to stop."""

    fingerprint: str
    stop: Event
    save_seconds: float
    progress: Progress | None = None
    report: Report | None = None
    saved: float = field(default_factory=time.monotonic)

    def save_is_due(self) -> bool:
        """Whether the state is older than `save_seconds`."""
        return time.monotonic() - self.saved >= self.save_seconds

    def save(self, run: Run, at: state.Position) -> None:
        """Write the teacher's new logits and the state."""
        if run.table is not None:
            run.table.flush()
        state.save(run.folder, self.fingerprint, at, run.student, run.objective, run.optimizer)
        self.saved = time.monotonic()


def train(
    recipe: Recipe,
    *,
    out: Path | str,
    teacher: Checkpoint | None = None,
    root: Path | None = None,
    device: str | None = None,
    teacher_cache: Path | None = None,
    fresh: bool = False,
    save_minutes: float = 5.0,
    progress: Progress | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Train `recipe` into the folder `out`, or go on where a run of the same recipe stopped there.

    `out` gets journal.jsonl, last.pt and best.pt (best by top-1 on val, which is held out of train), state.pt for
    resuming and, with `recipe.keep_epochs`, epochs/epoch_NNNN.pt. Ctrl-C ends after the step in hand, with all saved.

    Args:
        recipe: the settings; see `Recipe`.
        out: the run's folder.
        teacher: its checkpoint, where the method needs one.
        root: folder of the data set's files.
        device: "cpu", "cuda", ...; default: a GPU where there is one.
        teacher_cache: folder in which runs over the same images share the teacher's logits.
        fresh: begin anew, whatever is in `out`.
        save_minutes: how old the saved state may get within an epoch; a killed run loses no more than that.
        progress: called with (steps done, steps in all).
        report: called with each epoch's journal entry.
    Returns:
        {"best": {"epoch", "top1", "top5", "loss", "val_top1"}, "last": {...}}: fractions on the test split, loss in
        nats.
    Raises:
        KdvizError: a missing or mismatched teacher, another recipe's run in `out`, a loss that is no longer finite.
        KeyboardInterrupt: after saving, when interrupted.
    """
    folder = RunFolder(Path(out))
    run = prepare(recipe, folder, teacher=teacher, root=root, device=device, teacher_cache=teacher_cache)
    with locked(folder.path), stop_requested() as stop, torch.random.fork_rng():
        loop = Loop(state.fingerprint(run.record, run.batches.data.sha256), stop, 60 * save_minutes, progress, report)
        place = {} if root is None else {"root": str(Path(root).expanduser().resolve())}
        return _train(run, loop, fresh=fresh, place=place)


def _train(run: Run, loop: Loop, *, fresh: bool, place: dict[str, str]) -> dict[str, Any]:
    """Go on from the folder's state to the last epoch; the metrics on the test split. `place` (the data's folder) goes
    into the journal alone: a checkpoint says nothing of the machine."""
    folder = run.folder
    at = state.restore(folder, loop.fingerprint, run.student, run.objective, run.optimizer, fresh=fresh)
    if at.epoch >= run.recipe.epochs and (done := folder.result()):
        return dict(done)
    started = at.epoch == 0 and at.step == 0
    folder.log("start" if started else "resume", **run.record, precision=run.step.precision, **place)
    while at.epoch < run.recipe.epochs:
        at = _epoch(run, loop, at)
    return _finish(run)


def _epoch(run: Run, loop: Loop, at: state.Position) -> state.Position:
    """The rest of the epoch that `at` stands in; its checkpoints, state and journal line."""
    began, first, sums = time.perf_counter(), at.step, dict(at.sums)
    plan, steps = run.batches.plan(at.epoch), run.batches.steps
    run.student.train()
    bad = torch.full(
        (), -1, dtype=torch.int64, device=run.batches.device
    )  # the first step with a loss that is not finite
    for step in range(at.step, steps):
        terms = train_step(run, plan, step)
        bad = torch.where((bad < 0) & ~torch.isfinite(terms["total"]), step, bad)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0) + value.double()
        if loop.progress:
            loop.progress(at.epoch * steps + step + 1, run.recipe.epochs * steps)
        if loop.stop.is_set() or (step + 1 < steps and loop.save_is_due()):
            _require_finite(run, plan, int(bad))
            loop.save(run, at._replace(step=step + 1, sums=sums))
            if loop.stop.is_set():
                raise KeyboardInterrupt
    _require_finite(run, plan, int(bad))
    means = {name: float(value) / steps for name, value in sums.items()}
    seconds = time.perf_counter() - began
    rate = (steps - first) * run.batches.size / seconds
    return _close_epoch(run, loop, at, means, {"seconds": round(seconds, 3), "images_per_second": round(rate)})


def train_step(run: Run, plan: EpochPlan, step: int) -> dict[str, Tensor]:
    """One update; the terms of the loss, detached, still on the device."""
    at = plan.epoch + step / run.batches.steps
    set_learning_rate(run.optimizer, run.recipe.learning_rate(at))
    batch = run.batches.get(plan, step)
    torch.manual_seed(derive(run.recipe.seed, "model", plan.epoch, step))  # dropout and the like, inside fork_rng
    return run.step(batch, _taught(run, batch), epoch=at)


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
    if bad < 0:
        return
    ids = run.batches.get(plan, bad).ids.tolist()
    shown = ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")
    raise KdvizError(
        f"train: the loss is not finite in epoch {plan.epoch + 1}, step {bad + 1} of {run.batches.steps} (training"
        f" images {shown}); the last saved state is kept in {run.folder.path}; a smaller lr (--lr) or a longer warm-up"
        " usually helps"
    )


def _close_epoch(run: Run, loop: Loop, at: state.Position, means: dict, pace: dict) -> state.Position:
    """Measure and save a finished epoch. The state goes to disk before the journal line and carries it, so that a kill
    between the two loses neither."""
    number, recipe = at.epoch + 1, run.recipe
    val = evaluate(run.student, run.val) if run.val is not None else {}
    entry = {"epoch": number, "lr": recipe.learning_rate(number), "train": means, "val": val, **pace}
    if recipe.score_every and (number % recipe.score_every == 0 or number == recipe.epochs):
        entry["test"] = evaluate(run.student, run.test)
    measured = {"epoch": number, **{f"val_{key}": value for key, value in val.items()}}
    better = not val or at.best is None or val["top1"] > at.best["val_top1"]
    best = measured if better else at.best
    metrics = {"best": best, "last": measured}
    for which in ("best", "last") if better else ("last",):
        _write(run, getattr(run.folder, which), number, metrics, which)
    if recipe.keep_epochs and (number % recipe.keep_epochs == 0 or number == recipe.epochs):
        _write(run, run.folder.epoch_file(number), number, metrics, "last")
    after = state.Position(number, 0, {}, best, entry)
    loop.save(run, after)
    run.folder.log("epoch", **entry)
    if loop.report:
        loop.report(entry)
    return after


def _write(run: Run, path: Path, epoch: int, metrics: dict[str, Any], which: str) -> None:
    save_checkpoint(path, model=run.student, epoch=epoch, metrics=metrics, which=which, **run.record)


def _finish(run: Run) -> dict[str, Any]:
    """Measure best and last on the test split, once, and write it into both files."""
    files = {"best": run.folder.best, "last": run.folder.last}
    found = {which: load_checkpoint(path) for which, path in files.items()}
    metrics = {}
    for which, checkpoint in found.items():
        on_test = evaluate(checkpoint.model.to(run.batches.device), run.test)
        metrics[which] = {**found["last"].metrics[which], **on_test}
    scored = [(entry["test"]["top1"], -entry["epoch"], entry) for entry in run.folder.epochs() if entry.get("test")]
    if scored:
        entry = max(scored)[2]
        metrics["best_test"] = {"epoch": entry["epoch"], **entry["test"]}
    for which, checkpoint in found.items():
        save_checkpoint(
            files[which], model=checkpoint.model, epoch=checkpoint.epoch, metrics=metrics, which=which, **run.record
        )
    run.folder.log("end", metrics=metrics, sha256={which: sha256(path) for which, path in files.items()})
    return metrics
