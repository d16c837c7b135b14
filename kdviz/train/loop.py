"""The only training loop: one student, one method, one recipe; interrupted anywhere, resumed to the same result."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdviz.base.check import KdvizError, require
from kdviz.base.files import sha256
from kdviz.base.seeds import derive
from kdviz.checkpoints import Checkpoint, save_checkpoint
from kdviz.data import Data, load_data
from kdviz.losses import validate_logits
from kdviz.methods import Objective
from kdviz.methods import build as build_objective
from kdviz.models import Outputs, logits_of
from kdviz.models import build as build_model
from kdviz.train import journal, state
from kdviz.train.batches import Batch, Batches, TeacherCache, resident, training_split
from kdviz.train.device import autocast, choose_device, choose_precision
from kdviz.train.optim import build_optimizer, learning_rate
from kdviz.train.recipe import Recipe
from kdviz.train.score import evaluate
from kdviz.train.signals import stop_requested

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Run:
    """What the loop works on; its settings are fixed, the tensors inside it move."""

    recipe: Recipe
    out: Path
    student: nn.Module
    forward: Callable[..., Any]  # the student, compiled or not
    teacher: nn.Module | None
    objective: Objective
    optimizer: torch.optim.Optimizer
    batches: Batches
    val: Data | None
    cache: TeacherCache | None
    precision: str
    record: dict[str, Any]  # what every checkpoint of the run says of itself


def train(
    recipe: Recipe,
    *,
    out: Path | str,
    teacher: Checkpoint | None = None,
    root: Path | None = None,
    device: str | None = None,
    teacher_cache: Path | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    tell: Callable[[dict[str, Any]], None] | None = None,
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
        progress: called with (steps done, steps in all).
        tell: called with each epoch's journal entry.
    Returns:
        {"best": {"epoch", "top1", "loss", "val_top1"}, "last": {...}}: top1 a fraction on the test split, loss in nats.
    Raises:
        KdvizError: a missing or mismatched teacher, another recipe's run in `out`, a loss that is no longer finite.
        KeyboardInterrupt: after saving, when interrupted.
    """
    run, test = _prepare(recipe, Path(out), teacher, root, device, teacher_cache)
    fingerprint = state.fingerprint(run.record, run.batches.data.sha256)
    at = state.restore(run.out, fingerprint, run.student, run.objective, run.optimizer, fresh=fresh)
    if at.epoch == 0 and at.step == 0:
        journal.append(run.out / "journal.jsonl", "start", **run.record, precision=run.precision)
    with stop_requested() as stopped, torch.random.fork_rng():
        while at.epoch < recipe.epochs:
            at = _epoch(run, at, fingerprint, stopped, progress, tell)
    return _finish(run, test)


def _prepare(
    recipe: Recipe, out: Path, teacher: Checkpoint | None, root: Path | None, device: str | None, cache: Path | None
) -> tuple[Run, Data]:
    where = choose_device(device)
    precision = choose_precision(recipe.precision, where)
    data = training_split(recipe, root)
    val = load_data(recipe.data, split="val", root=root) if recipe.holdout else None
    student = build_model(recipe.student, classes=data.classes, seed=recipe.seed)
    student = student.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    names = {"student": recipe.student, "teacher": teacher.name if teacher else None}
    objective = build_objective(recipe.method, classes=data.classes, settings=recipe.settings, **names).to(where)
    frozen = _admit(teacher, objective, data, where)
    parameters = [*student.parameters(), *objective.parameters()]
    normalization = {"mean": list(data.mean), "std": list(data.std)}
    record = {
        "name": recipe.student,
        "classes": data.classes,
        "data": recipe.data,
        "method": recipe.method,
        "seed": recipe.seed,
        "teacher": _reference(teacher, out) if frozen is not None else None,
        "recipe": {**recipe.result(), "settings": objective.settings, "normalization": normalization},
    }
    batches = resident(recipe, data, where, strong_view=objective.needs_strong_view)
    shared = cache is not None and teacher is not None and frozen is not None
    shared = shared and not (objective.needs_features or objective.needs_strong_view)
    run = Run(
        recipe,
        out,
        student,
        torch.compile(student) if recipe.compile else student,
        frozen,
        objective,
        build_optimizer(recipe, parameters),
        batches,
        val,
        TeacherCache(cache, recipe, data, teacher.sha256, precision) if shared else None,  # type: ignore
        precision,
        record,
    )
    _check_first_step(run)
    return run, load_data(recipe.data, split="test", root=root)


def _admit(teacher: Checkpoint | None, objective: Objective, data: Data, device: torch.device) -> nn.Module | None:
    """The teacher, frozen and on the device, once its classes and normalisation are seen to fit."""
    if not objective.needs_teacher:
        return None
    if teacher is None:
        raise KdvizError("the method needs a teacher; give its checkpoint with --teacher")
    require(
        teacher.classes == data.classes,
        f"the teacher {teacher.path} has {teacher.classes} classes but {data.name} has {data.classes};"
        " use a teacher that was trained on this data set",
    )
    normalization = teacher.recipe.get("normalization")
    if normalization and teacher.data is not None:
        near = all(
            math.isclose(a, b, abs_tol=1e-3)
            for key, own in (("mean", data.mean), ("std", data.std))
            for a, b in zip(normalization[key], own, strict=True)
        )
        require(
            near,
            f"the teacher {teacher.path} was trained with {normalization} but {data.name} has mean {data.mean},"
            f" std {data.std}; both nets see the same batch, so the two must agree",
        )
    return teacher.model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore


def _reference(teacher: Checkpoint | None, out: Path) -> dict[str, str] | None:
    return None if teacher is None else {"path": str(teacher.path), "sha256": teacher.sha256, "name": teacher.name}


def _check_first_step(run: Run) -> None:
    """The door: shapes and values of the first batch, looked at once, so that no later step waits for the device."""
    batch = run.batches.get(0, 0, run.batches.order(0))
    run.student.eval()
    with torch.inference_mode():
        logits = logits_of(run.student(batch.images[:2]))
        taught = None if run.teacher is None else logits_of(run.teacher(batch.images[:2]))
    run.student.train()
    validate_logits(logits, taught, batch.labels[:2], who="train")


def _outputs(model: Callable[..., Any], images: torch.Tensor, features: bool) -> Outputs:
    out = model(images, features=True) if features else model(images)
    if not isinstance(out, Outputs):
        return Outputs(logits_of(out).float())
    pooled = None if out.pooled is None else out.pooled.float()
    return Outputs(out.logits.float(), tuple(stage.float() for stage in out.features), pooled)


def _teach(run: Run, batch: Batch, step: int) -> Outputs | None:
    if run.teacher is None:
        return None
    known = run.cache.get(step) if run.cache else None
    if known is not None:
        return Outputs(known.to(run.batches.device))
    with torch.no_grad(), autocast(run.precision, run.batches.device):
        taught = _outputs(run.teacher, batch.images, run.objective.needs_features)
    if run.cache:
        run.cache.put(taught.logits)
    return taught


def _step(run: Run, epoch: int, step: int, batch: Batch) -> dict[str, torch.Tensor]:
    """One update; the terms of the loss, detached, still on the device."""
    recipe, device, at = run.recipe, run.batches.device, epoch + step / run.batches.steps
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(recipe, at)
    torch.manual_seed(derive(recipe.seed, "model", epoch, step))  # dropout and the like, inside fork_rng
    taught = _teach(run, batch, step)
    with autocast(run.precision, device):
        learnt = _outputs(run.forward, batch.images, run.objective.needs_features)
        strong = _outputs(run.forward, batch.strong, False) if batch.strong is not None else None
    pair = None
    if strong is not None and run.teacher is not None and batch.strong is not None:
        with torch.no_grad(), autocast(run.precision, device):
            pair = (strong, _outputs(run.teacher, batch.strong, False))
    terms = run.objective(learnt, taught, batch.labels, epoch=at, strong=pair)
    run.optimizer.zero_grad(set_to_none=True)
    terms["total"].backward()
    run.optimizer.step()
    return {name: value.detach() for name, value in terms.items()}


def _epoch(run: Run, at: state.Position, fingerprint: str, stopped: Any, progress: Progress | None, tell: Any):
    """The rest of the epoch that `at` stands in; its journal line, checkpoints and state."""
    began, first, sums, order = time.perf_counter(), at.step, dict(at.sums), run.batches.order(at.epoch)
    run.student.train()
    if run.cache:
        run.cache.start(at.epoch, at.step)
    for step in range(at.step, run.batches.steps):
        for name, value in _step(run, at.epoch, step, run.batches.get(at.epoch, step, order)).items():
            sums[name] = sums.get(name, 0) + value.double()
        if progress:
            progress(at.epoch * run.batches.steps + step + 1, run.recipe.epochs * run.batches.steps)
        if stopped.is_set():
            here = at._replace(step=step + 1, sums=sums)
            state.keep(run.out, fingerprint, here, run.student, run.objective, run.optimizer)
            raise KeyboardInterrupt
    means = {name: float(value) / run.batches.steps for name, value in sums.items()}
    require(
        all(map(math.isfinite, means.values())),
        f"train: the loss is {means} in epoch {at.epoch + 1}; what stood before it is kept in {run.out};"
        " a smaller lr (--lr) or a longer warm-up usually helps",
    )
    if run.cache:
        run.cache.finish(at.epoch)
    seconds = time.perf_counter() - began
    rate = (run.batches.steps - first) * run.batches.size / seconds
    return _close_epoch(
        run, at, fingerprint, means, {"seconds": round(seconds, 3), "images_per_second": round(rate)}, tell
    )


def _close_epoch(run: Run, at: state.Position, fingerprint: str, means: dict, pace: dict, tell: Any) -> state.Position:
    number = at.epoch + 1
    val = evaluate(run.student, run.val) if run.val is not None else {}
    entry = {"epoch": number, "lr": learning_rate(run.recipe, number), "train": means, "val": val, **pace}
    measured = {"epoch": number, **{f"val_{key}": value for key, value in val.items()}}
    better = not val or at.best is None or val["top1"] > at.best["val_top1"]
    best = measured if better else at.best
    metrics = {"best": best, "last": measured}
    for which in ("best", "last") if better else ("last",):
        _write(run, run.out / f"{which}.pt", number, metrics, which)
    if run.recipe.keep_epochs and (number % run.recipe.keep_epochs == 0 or number == run.recipe.epochs):
        _write(run, run.out / "epochs" / f"epoch_{number:04d}.pt", number, metrics, "last")
    journal.append(run.out / "journal.jsonl", "epoch", **entry)
    after = state.Position(number, 0, {}, best)
    state.keep(run.out, fingerprint, after, run.student, run.objective, run.optimizer)
    if tell:
        tell(entry)
    return after


def _write(run: Run, path: Path, epoch: int, metrics: dict[str, Any], which: str) -> None:
    save_checkpoint(path, model=run.student, epoch=epoch, metrics=metrics, which=which, **run.record)


def _finish(run: Run, test: Data) -> dict[str, Any]:
    """Measure best and last on the test split, once, and write it into both files."""
    from kdviz.checkpoints import load_checkpoint

    files = {which: run.out / f"{which}.pt" for which in ("best", "last")}
    found = {which: load_checkpoint(path) for which, path in files.items()}
    metrics = {}
    for which, checkpoint in found.items():
        on_test = evaluate(checkpoint.model.to(run.batches.device), test)
        metrics[which] = {**found["last"].metrics[which], **on_test}
    for which, checkpoint in found.items():
        save_checkpoint(
            files[which], model=checkpoint.model, epoch=checkpoint.epoch, metrics=metrics, which=which, **run.record
        )
    hashes = {which: sha256(path) for which, path in files.items()}
    journal.append(run.out / "journal.jsonl", "end", metrics=metrics, sha256=hashes)
    return metrics
