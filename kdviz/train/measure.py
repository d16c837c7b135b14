"""What a run measures, at the end of an epoch and of the run, and the checkpoints that it writes with the numbers."""

from pathlib import Path
from typing import Any

from torch import nn

from kdviz.base.files import sha256
from kdviz.checkpoints import load_checkpoint, save_checkpoint
from kdviz.data import BoxData, Data
from kdviz.train.setup import Run


def epoch(run: Run, number: int) -> dict[str, dict[str, float]]:
    """The scores at the end of an epoch, by name: "val", {} where nothing is held out; "ema", those of the weights'
    average on val; "test" in the epochs for which the recipe asks for it.

    Args:
        run: after the epoch's last step.
        number: of the epoch, from 1.
    """
    recipe, average = run.recipe, run.step.average
    scores = {"val": _scores(run, run.student, run.val)}
    if average is not None and run.val is not None:
        scores["ema"] = _scores(run, average, run.val)
    if recipe.score_every and (number % recipe.score_every == 0 or number == recipe.epochs):
        scores["test"] = _scores(run, run.student, run.test)
    return scores


def _scores(run: Run, net: nn.Module, data: Data | BoxData | None) -> dict[str, float]:
    return {} if data is None else run.score(net, data, workers=run.workers)[0]


def write(run: Run, path: Path, epoch: int, metrics: dict[str, Any], which: str) -> None:
    """Write the student, or the weights' average, as a checkpoint.

    Args:
        run: its student and record.
        path: of the file.
        epoch: epochs done.
        metrics: of the file.
        which: "last", "best" or "ema".
    """
    net = run.step.average if which == "ema" and run.step.average is not None else run.student
    save_checkpoint(path, model=net, epoch=epoch, metrics=metrics, which=which, **run.record)


def finish(run: Run) -> dict[str, Any]:
    """Measure best and last (and the moving average) on the test split, once; the first process writes it into the
    files and the journal. Returns: the metrics."""
    files = {"best": run.folder.best, "last": run.folder.last}
    files |= {"ema": run.folder.ema} if run.step.average is not None else {}
    if run.shares_score:
        run.ranks.wait()  # until the first has written them
    found = {which: load_checkpoint(path, model=run.recipe.student) for which, path in files.items()}
    metrics: dict[str, Any] = {}
    last, by_class = run.score(found["last"].model.to(run.batches.device), run.test, workers=run.workers)
    for which, checkpoint in found.items():
        before = found["last"].metrics.get(which, {"epoch": checkpoint.epoch})
        same = which == "last" or (which == "best" and checkpoint.epoch == found["last"].epoch)
        on_test = last if same else _scores(run, checkpoint.model.to(run.batches.device), run.test)
        metrics[which] = {**before, **on_test}
    if not run.ranks.first:
        return {}
    chosen = run.chosen_by
    scored = [(entry["test"][chosen], -entry["epoch"], entry) for entry in run.folder.epochs() if entry.get("test")]
    if scored:
        entry = max(scored)[2]
        metrics["best_test"] = {"epoch": entry["epoch"], **entry["test"]}
    for which, checkpoint in found.items():
        save_checkpoint(
            files[which], model=checkpoint.model, epoch=checkpoint.epoch, metrics=metrics, which=which, **run.record
        )
    digests = {which: sha256(files[which]) for which in ("best", "last")}
    run.folder.log("end", metrics=metrics, sha256=digests, **{f"{chosen}_by_class": by_class})
    return metrics
