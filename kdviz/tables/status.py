"""How far a plan is, from its queue and the journals of its runs; it only reads, while workers write."""

import html
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdviz.base.jsonl import read_lines
from kdviz.base.measures import in_words, main_measure
from kdviz.checkpoints.run_folder import RunFolder
from kdviz.tables.job import Job, images_of
from kdviz.tables.queue import DONE, FAILED, RUNNING, WAITING, Entry

STYLE = """:root{color-scheme:light dark}body{font:15px system-ui;margin:2em auto;max-width:72em;padding:0 1em}
h1+progress{width:100%;height:1.2em}table{border-collapse:collapse;width:100%}th{text-align:left}
td,th{padding:.35em .8em .35em 0;border-bottom:1px solid #8884;vertical-align:top;overflow-wrap:anywhere}
td:first-child{white-space:nowrap}td:nth-child(2){min-width:26em}td progress{width:8em}.counts span{margin-right:1.6em}
.failed,.blocked{color:light-dark(#a11,#f88)}"""

_Key = tuple[str | None, ...]


class Running(NamedTuple):
    """A run in progress: epochs done and in all; of the last one, images per second (None before the first) and what it
    reached on val, in words."""

    id: str
    epoch: int
    epochs: int
    rate: float | None
    score: str


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
    last: dict[str, Any] = epochs[-1] if epochs else {"epoch": 0}
    val = last.get("val") or {}
    score = in_words(val, (main_measure(val),))
    return Running(entry.id, last["epoch"], entry.payload["recipe"]["epochs"], last.get("images_per_second"), score)


def plain(found: Status, table: str) -> str:
    """The status for a terminal."""
    head = f"{table}: {found.done} of {found.total} runs done, {len(found.running)} running, {found.waiting} waiting"
    head += f", {len(found.failed)} failed" if found.failed else ""
    lines = [head]
    for one in found.running:
        lines.append(f"running  {one.id}:{_pace(one)}")
    lines += [f"failed   {name}: {line}" for name, line in found.failed]
    lines += [f"blocked  {name}: {line}" for name, line in found.blocked]
    return "\n".join(lines)


def page(found: Status, table: str, *, seconds: int = 10) -> str:
    """The status as an HTML page that loads itself again every few seconds."""
    done = 100 * found.done / max(found.total, 1)
    rows = [_row("running", one.id, _bar(one.epoch, one.epochs) + _pace(one)) for one in found.running]
    rows += [_row("failed", name, html.escape(line)) for name, line in found.failed]
    rows += [_row("blocked", name, html.escape(line)) for name, line in found.blocked]
    counts = (("done", found.done), ("running", len(found.running)), ("waiting", found.waiting))
    counts += (("failed", len(found.failed)), ("blocked", len(found.blocked)))
    tiles = "".join(f"<span class='{name}'><b>{count}</b> {name}</span>" for name, count in counts if count)
    listed = f"<table><tr><th>state<th>run<th>progress</tr>{''.join(rows)}</table>" if rows else ""
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        f"<meta http-equiv='refresh' content='{seconds}'><title>{done:.0f} %: {html.escape(table)}</title>"
        f"<style>{STYLE}</style><h1>{html.escape(table)}</h1>{_bar(found.done, found.total)}"
        f"<p class='counts'>{tiles}</p>{listed}"
        f"<p>{found.done} of {found.total} runs done; written {time.strftime('%Y-%m-%d %H:%M:%S')}, loaded again every"
        f" {seconds} s while runs go on.</p></html>\n"
    )


def _row(state: str, name: str, text: str) -> str:
    return f"<tr class='{state}'><td>{state}<td>{html.escape(name)}<td>{text}</tr>"


def _bar(done: int, total: int) -> str:
    return f"<progress max='{max(total, 1)}' value='{done}'></progress>"


def _pace(one: Running) -> str:
    rate = "" if one.rate is None else f", {one.rate} images/s"
    return f" epoch {one.epoch} of {one.epochs} done{rate}" + (f", val {one.score}" if one.score else "")


def rates(runs: Iterable[Path]) -> dict[_Key, list[float]]:
    """Images per second in the journals of earlier runs below the folders `runs`, by (data set, student, teacher,
    method), by (data set, student, method) and by (data set, student): another data set's images have another size."""
    found: dict[_Key, list[float]] = {}
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
            for key in _alike(about.get("data"), about.get("name"), teacher, about.get("method")):
                found.setdefault(key, []).append(float(np.median(paces)))
    return found


def _alike(data: str | None, student: str | None, teacher: str | None, method: str | None) -> list[_Key]:
    """What runs have in common that take about as long, the most alike first."""
    return [(data, student, teacher, method), (data, student, method), (data, student)]


def seconds(job: Job, known: dict[_Key, list[float]]) -> float | None:
    """How long the rest of the job would take, by the earlier runs that are most like it; None where there is none.

    Not counted is what a run does outside its steps: opening data, and measuring val and test.
    """
    images, recipe = images_of(job), job.recipe
    count = images[0] if images else recipe.limit
    if recipe.iterations is not None:
        count = recipe.iterations // recipe.epochs * recipe.batch
    keys = _alike(recipe.data, recipe.student, job.teacher_net, recipe.method)
    key = next((one for one in keys if one in known), None)
    if key is None or count is None:
        return None
    left = recipe.epochs - len(RunFolder(job.folder).epochs())
    return max(left, 0) * count / float(np.median(known[key]))
