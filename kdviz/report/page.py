"""The page itself: tables and figures of the subjects, every name escaped, nothing fetched."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

from kdviz.base.files import versions
from kdviz.plots import FIGURES
from kdviz.report.embed import image
from kdviz.report.gather import Subject

SKIPPED = ("html",)  # styles of a figure that are pages of their own


def page(subjects: Sequence[Subject], *, title: str | None = None) -> str:
    """The report as one HTML document.

    Args:
        subjects: what `gather` found, one or several to compare.
        title: default: the labels.
    Returns:
        HTML with all styles and images inside; the same text for the same inputs.
    """
    names = [subject.label for subject in subjects]
    heading = title or (names[0] if len(names) == 1 else f"{len(names)} runs: " + ", ".join(names))
    parts = [_summary(subjects), _training(subjects), _differences(subjects), *map(_details, subjects)]
    template = Template((resources.files("kdviz.report") / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(heading), lead=escape(_lead(subjects)), body="\n".join(part for part in parts if part),
        version=escape(versions().get("kdviz", "")),
    )  # fmt: skip


def _lead(subjects: Sequence[Subject]) -> str:
    data = sorted({subject.checkpoint.data or "unknown data" for subject in subjects})
    synthetic = "; glyphs100 is synthetic" if "glyphs100" in data else ""
    return f"{'Runs' if len(subjects) > 1 else 'A run'} on {', '.join(data)}{synthetic}."


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int = 0, top: Sequence[int] = ()) -> str:
    """A table of plain texts, escaped; the last `numbers` columns right-aligned, `top` the highest of each marked."""
    rows = [list(row) for row in rows]
    first = len(head) - numbers
    best = {column: max((_value(row[column]) for row in rows), default=-math.inf) for column in top}

    def cell(tag: str, column: int, text: str) -> str:
        classes = ["number"] if column >= first else []
        if tag == "td" and column in best and len(rows) > 1 and _value(text) == best[column] > -math.inf:
            classes.append("top")
        mark = f' class="{" ".join(classes)}"' if classes else ""
        return f"<{tag}{mark}>{escape(text)}</{tag}>"

    lines = [("th", head), *(("td", row) for row in rows)]
    body = "".join(f"<tr>{''.join(cell(tag, i, text) for i, text in enumerate(line))}</tr>" for tag, line in lines)
    return f'<div class="wide"><table>{body}</table></div>'


def _value(text: str) -> float:
    try:
        return float(text.rstrip(" %"))
    except ValueError:
        return -math.inf


def _summary(subjects: Sequence[Subject]) -> str:
    head = ["", "method", "student", "teacher", "epochs", "seed", "best (epoch)", "best", "last", "last loss"]
    rows = []
    for subject in subjects:
        one = subject.checkpoint
        best, last = one.metrics.get("best", {}), one.metrics.get("last", {})
        rows.append(
            [subject.label, _text(one.method), one.name, _text((one.teacher or {}).get("name")), _text(one.epoch),
             _text(one.seed), _text(best.get("epoch")), _percent(best), _percent(last), _nats(last)]
        )  # fmt: skip
    return "<h2>Results</h2>" + table(head, rows, numbers=6, top=(7, 8))


def _text(value: Any) -> str:
    return "–" if value is None else str(value)


def _percent(metrics: dict[str, Any]) -> str:
    return f"{100 * metrics['top1']:.2f} %" if isinstance(metrics.get("top1"), float) else "–"


def _nats(metrics: dict[str, Any]) -> str:
    return f"{metrics['loss']:.4f}" if isinstance(metrics.get("loss"), float) else "–"


def _training(subjects: Sequence[Subject]) -> str:
    runs = [subject.training for subject in subjects if subject.training is not None]
    if not runs:
        return ""
    parts = [image(runs, "curves", caption="Top-1 on the part held out of the training split, and the training loss.")]
    if len(runs) == 1 and len([name for name in runs[0].data_vars if not str(name).startswith("val_")]) > 2:
        parts.append(image(runs, "terms", caption="Terms of the training loss, weighted, and their sum."))
    return f"<h2>Training</h2><section>{''.join(parts)}</section>"


def flat(mapping: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names and texts.

    >>> flat({"lr": 0.1, "settings": {"kd.temperature": 4.0}})
    {'lr': '0.1', 'settings.kd.temperature': '4.0'}
    """
    found: dict[str, str] = {}
    for key, value in mapping.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value)
    return found


def _differences(subjects: Sequence[Subject]) -> str:
    """The settings in which the subjects differ."""
    if len(subjects) < 2:
        return ""
    settings = [flat(subject.checkpoint.recipe) for subject in subjects]
    names = dict.fromkeys(name for one in settings for name in one)
    rows = [[name, *(one.get(name, "–") for one in settings)] for name in names]
    differing = [row for row in rows if len(set(row[1:])) > 1]
    if not differing:
        return ""
    return "<h2>Settings that differ</h2>" + table(["", *(subject.label for subject in subjects)], differing)


def _details(subject: Subject) -> str:
    """Figures measured on the subject, its settings and where it comes from."""
    figures = [
        image([result], style, caption=_caption(result))
        for result in subject.results
        for style in _styles(str(result.attrs.get("kind", "")))
    ]
    drawn = f"<section>{''.join(figures)}</section>" if figures else ""
    one = subject.checkpoint
    facts = {
        "file": str(one.path), "sha256": one.sha256, "producer": one.producer, "architecture": one.name,
        "parameters": f"{one.parameters:,}", "classes": str(one.classes), "data": _text(one.data),
        "dropped": ", ".join(one.dropped) or "nothing",
        **flat({"teacher": one.teacher or {}, "versions": one.versions}),
    }  # fmt: skip
    recipe = flat(one.recipe)
    folded = "".join(
        f"<details><summary>{escape(name)}</summary>{table(['', ''], content.items())}</details>"
        for name, content in (("Settings of the run", recipe), ("Where it comes from", facts))
        if content
    )
    return f"<h2>{escape(subject.label)}</h2>{drawn}{folded}"


def _styles(kind: str) -> list[str]:
    if kind not in FIGURES:
        return []
    return [name for name in FIGURES[kind] if name not in SKIPPED][:2]


def _caption(result: Any) -> str:
    kind = str(result.attrs.get("kind", "result"))
    return str(result.attrs.get("caption") or kind)
