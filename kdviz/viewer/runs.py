"""Training runs and tables as the page shows them, from their journals and queues alone."""

import time
from typing import Any

from kdviz.base.check import KdvizError
from kdviz.base.lock import in_use
from kdviz.base.measures import CALLED, main_measure
from kdviz.checkpoints.run_folder import RunFolder
from kdviz.tables.queue import DONE, FAILED, RUNNING, WAITING, Entry, plans
from kdviz.viewer.library import Item

# What `kdviz.data` says of them, which needs torch; a test holds the two together.
SYNTHETIC = {"glyphs100", "glyphboxes"}


def number(value: Any) -> float | int | None:
    """A finite number of a journal; None for everything else that may stand there."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63  # NaN is not
    return value if good else None


def _text(value: Any) -> str | None:
    return value[:500] if isinstance(value, str) else None


def _part(value: Any, name: str) -> dict[str, Any]:
    """A dictionary inside another one; empty where there is none."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def state(events: list[dict[str, Any]], *, held: bool) -> str:
    """What became of a run.

    Args:
        events: its journal.
        held: whether a process holds its folder.
    Returns: "finished" or "failed" by the last event that says so; else "running" or "stopped" (it can be resumed).
    """
    telling = [one["event"] for one in events if one["event"] in ("start", "resume", "failed", "end")]
    last = telling[-1] if telling else ""
    if last == "end":
        return "finished"
    if held:
        return "running"
    return "failed" if last == "failed" else "stopped"


def summary(item: Item) -> dict[str, Any]:
    """A line of the list of runs: state, epoch, images per second, top-1 or AP (fraction) and what is
    trained."""
    run = RunFolder(item.path)
    events, epochs = run.events(), run.epochs()
    about = next((one for one in reversed(events) if one["event"] in ("start", "resume")), {})
    last = epochs[-1] if epochs else {}
    end = next((one for one in reversed(events) if one["event"] == "end"), {})
    became = state(events, held=in_use(item.path))
    tested, val = _part(_part(end, "metrics"), "last"), _part(last, "val")
    measure = main_measure(tested or val)
    test = number(tested.get(measure)) if became == "finished" else None
    notes = [_text(one.get("text")) for one in events if one["event"] in ("warning", "failed")]
    return {
        "id": item.id,
        "name": item.name,
        "state": became,
        "epoch": number(last.get("epoch")) or 0,
        "epochs": number(_part(about, "recipe").get("epochs")),
        "rate": number(last.get("images_per_second")),
        "score": number(val.get(measure)) if test is None else test,
        "measure": CALLED[measure],
        "split": "val" if test is None else "test",
        "method": _text(about.get("method")),
        "student": _text(about.get("name")),
        "teacher": _text(_part(about, "teacher").get("name")),
        "data": _data(_text(about.get("data"))),
        "seed": number(about.get("seed")),
        "note": next((one for one in reversed(notes) if one), None),
        "changed": item.stamp[0] / 1e9,
    }


def _data(name: str | None) -> str | None:
    return f"{name} (synthetic)" if name in SYNTHETIC else name


def curves(item: Item) -> dict[str, Any]:
    """Columns over a run's epochs: top-1 or AP and loss on val, training loss and terms, rates; None for gaps."""
    epochs = RunFolder(item.path).epochs()
    columns: dict[str, list[float | int | None]] = {}

    def column(name: str, part: str | None, key: str) -> None:
        values = [number((_part(one, part) if part else one).get(key)) for one in epochs]
        if any(one is not None for one in values):
            columns[name] = values

    for part, title in (("val", "on val"), ("ema", "of the averaged weights, on val"), ("test", "on test")):
        for measure, called in CALLED.items():
            column(f"{called} {title}", part, measure)
        column(f"loss {title}", part, "loss")
    terms = dict.fromkeys(name for one in epochs for name in _part(one, "train"))
    for name in terms:
        column("training loss" if name == "total" else f"training: {name}", "train", name)
    column("learning rate", None, "lr")
    column("images per second", None, "images_per_second")
    return {"epoch": [one["epoch"] for one in epochs], "columns": columns}


def tables(item: Item) -> list[dict[str, Any]]:
    """How far each table of a queue is: counts of its runs, those running and those that failed."""
    try:
        found = plans(item.path)
    except KdvizError as error:
        return [{"name": item.name, "error": str(error)}]
    return [{"name": _plan_name(item, key), **_progress(entries)} for key, entries in found.items()]


def _plan_name(item: Item, key: str) -> str:
    """A plan's key is the folder of its table."""
    return key.replace("\\", "/").rstrip("/").rpartition("/")[2] or item.name


def _progress(entries: list[Entry]) -> dict[str, Any]:
    count = {one: sum(entry.state == one for entry in entries) for one in (DONE, RUNNING, WAITING, FAILED)}
    return {
        "total": len(entries),
        **count,
        "now": [entry.id for entry in entries if entry.state == RUNNING],
        "errors": [{"id": entry.id, "line": entry.line} for entry in entries if entry.state == FAILED],
        "at": time.time(),
    }
