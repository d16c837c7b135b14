"""How far a plan is, from its queue and the journals of its runs; it only reads, while workers write."""

import html
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdviz.base.jsonl import read_lines
from kdviz.checkpoints.run_folder import RunFolder
from kdviz.tables.job import Job, images_of
from kdviz.tables.queue import DONE, FAILED, RUNNING, WAITING, Entry


class Running(NamedTuple):
    """A run in progress: epochs done and in all, and images per second of the last one (None before the first)."""

    id: str
    epoch: int
    epochs: int
    rate: int | None


class Status(NamedTuple):
    """A plan's jobs by what became of them; `failed` and `blocked` are (job, line) pairs."""

    done: int
    total: int
    running: tuple[Running, ...]
    failed: tuple[tuple[str, str], ...]
    blocked: tuple[tuple[str, str], ...]
    waiting: int


def status(entries: Sequence[Entry]) -> Status:
    """The status of a plan's entries."""
    lines = {entry.id: entry.line for entry in entries if entry.state == FAILED}
    waiting = [entry for entry in entries if entry.state == WAITING]
    blocked = tuple((one.id, f"its teacher failed: {one.after}") for one in waiting if one.after in lines)
    return Status(
        sum(entry.state == DONE for entry in entries),
        len(entries),
        tuple(_running(entry) for entry in entries if entry.state == RUNNING),
        tuple(lines.items()),
        blocked,
        len(waiting) - len(blocked),
    )


def _running(entry: Entry) -> Running:
    epochs = RunFolder(Path(entry.payload["folder"])).epochs()
    rate = epochs[-1].get("images_per_second") if epochs else None
    return Running(entry.id, epochs[-1]["epoch"] if epochs else 0, entry.payload["recipe"]["epochs"], rate)


def plain(found: Status, table: str) -> str:
    """The status for a terminal."""
    head = f"{table}: {found.done} of {found.total} runs done, {len(found.running)} running, {found.waiting} waiting"
    head += f", {len(found.failed)} failed" if found.failed else ""
    lines = [head]
    for one in found.running:
        rate = "" if one.rate is None else f", {one.rate} images/s"
        lines.append(f"running  {one.id}: epoch {one.epoch} of {one.epochs} done{rate}")
    lines += [f"failed   {name}: {line}" for name, line in found.failed]
    lines += [f"blocked  {name}: {line}" for name, line in found.blocked]
    return "\n".join(lines)


def page(found: Status, table: str, *, seconds: int = 10) -> str:
    """The status as an HTML page that loads itself again every few seconds."""
    done = 100 * found.done / max(found.total, 1)
    text = html.escape(plain(found, table))
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        f"<meta http-equiv='refresh' content='{seconds}'><title>{html.escape(table)}: {done:.0f} %</title>"
        "<style>body{font:15px system-ui;margin:2em auto;max-width:60em;padding:0 1em}pre{white-space:pre-wrap}</style>"
        f"<h1>{html.escape(table)}</h1><progress max='100' value='{done:.1f}' style='width:100%'></progress>"
        f"<pre>{text}</pre><p>Written {time.strftime('%Y-%m-%d %H:%M:%S')}.</p></html>\n"
    )


def rates(runs: Iterable[Path]) -> dict[tuple[str | None, ...], list[float]]:
    """Images per second in the journals of earlier runs below the folders `runs`, by (student, teacher, method), by
    (student, method), (student,) and ().
    """
    found: dict[tuple[str | None, ...], list[float]] = {}
    for journal in sorted({path for folder in runs for path in Path(folder).rglob("journal.jsonl")}):
        about: dict[str, Any] = {}
        paces = []
        for line in read_lines(journal):
            about = line if line.get("event") in ("start", "resume") else about
            pace = line.get("images_per_second")
            paces += (
                [float(pace)] if line.get("event") == "epoch" and isinstance(pace, int | float) and pace > 0 else []
            )
        if paces and about:
            teacher = (about.get("teacher") or {}).get("name")
            student, method = about.get("name"), about.get("method")
            for key in ((student, teacher, method), (student, method), (student,), ()):
                found.setdefault(key, []).append(float(np.median(paces)))
    return found


def seconds(job: Job, known: dict[tuple[str | None, ...], list[float]]) -> float | None:
    """How long the rest of the job would take, by the earlier runs that are most like it; None where there is none.

    Not counted is what a run does outside its steps: opening data, and measuring val and test.
    """
    images = images_of(job)
    count = images[0] if images else job.recipe.limit
    student, method = job.recipe.student, job.recipe.method
    keys = ((student, job.teacher_net, method), (student, method), (student,), ())
    key = next((one for one in keys if one in known), None)
    if key is None or count is None:
        return None
    left = job.recipe.epochs - len(RunFolder(job.folder).epochs())
    return max(left, 0) * count / float(np.median(known[key]))
