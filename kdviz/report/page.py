"""The page itself: tables and figures of the subjects, every name escaped, nothing fetched."""

import statistics
from collections.abc import Sequence
from html import escape
from typing import Any

from kdviz.base.measures import CALLED, main_measure
from kdviz.data import DATA
from kdviz.report import figures
from kdviz.report.document import document
from kdviz.report.gather import Subject
from kdviz.report.tables import flat, table, value

MEASURES = {
    "tau_a": "Kendall's τ-a",
    "tau_b": "Kendall's τ-b",
    "tau_c": "Kendall's τ-c",
    "spearman": "Spearman's ρ",
    "top1": "same largest channel",
}


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
    common = figures.common(subjects)
    shared = figures.shared(subjects, common)
    drawn = [*common, *(one for results in shared.values() for one in results.values())]
    sections = [
        ("Results", _summary(subjects)),
        ("Training", figures.training(subjects)),
        ("Settings that differ", _differences(subjects)),
        ("Side by side", figures.together(shared, common)),
        *((subject.label, _details(subject, drawn)) for subject in subjects),
    ]
    note = "Top-1 and AP are measured on the test split unless a column says otherwise; losses are in nats."
    return document(heading, _lead(subjects), sections, note=note)


def _lead(subjects: Sequence[Subject]) -> str:
    data = sorted({subject.checkpoint.data or "unknown data" for subject in subjects})
    named = [f"{name} (synthetic)" if _synthetic(name, subjects) else name for name in data]
    return f"{'Runs' if len(subjects) > 1 else 'A run'} on {', '.join(named)}."


def _synthetic(name: str, subjects: Sequence[Subject]) -> bool:
    """Whether a data set is drawn by a program, by the results measured on it or by its registered entry."""
    results = (one.attrs for subject in subjects for one in subject.results)
    known = [bool(attrs["synthetic"]) for attrs in results if attrs.get("data") == name and "synthetic" in attrs]
    return any(known) or (name in DATA and DATA[name].synthetic)


def _summary(subjects: Sequence[Subject]) -> str:
    measures = [main_measure(subject.checkpoint.metrics.get("last", {})) for subject in subjects]
    called = " or ".join(dict.fromkeys(CALLED[one] for one in measures))
    head = [
        "",
        "method",
        "student",
        "teacher",
        "epochs",
        "seed",
        "best epoch",
        f"{called}, best",
        f"{called}, last",
        "loss, last",
    ]
    rows = []
    for subject in subjects:
        one = subject.checkpoint
        best, last = one.metrics.get("best", {}), one.metrics.get("last", {})
        rows.append(
            [
                subject.label,
                _text(one.method),
                one.name,
                _text((one.teacher or {}).get("name")),
                _text(one.epoch),
                _text(one.seed),
                _text(best.get("epoch")),
                _percent(best),
                _percent(last),
                _nats(last),
            ]
        )
    return table(head, rows, numbers=6, top=(7, 8)) + _over_seeds(subjects)


def _over_seeds(subjects: Sequence[Subject]) -> str:
    """Mean and standard deviation of the last epoch's top-1 (AP) over runs that differ in nothing but the seed."""
    groups: dict[str, list[tuple[Subject, float]]] = {}
    for subject in subjects:
        one = subject.checkpoint
        settings = {key: text for key, text in _settings(subject).items() if key != "seed"}
        same = (one.name, one.data, one.method, (one.teacher or {}).get("sha256"), sorted(settings.items()))
        score = _score(one.metrics.get("last", {}))
        if score is not None:
            groups.setdefault(repr(same), []).append((subject, 100 * score))
    rows = []
    for members in groups.values():
        if len({member.checkpoint.seed for member, _ in members}) < 2:
            continue
        tops = [score for _, score in members]
        first = members[0][0].checkpoint
        rows.append(
            [
                _text(first.method),
                first.name,
                str(len(tops)),
                f"{statistics.fmean(tops):.2f} %",
                f"{statistics.stdev(tops):.2f}",
            ]
        )
    head = ["method", "student", "seeds", "mean of last", "std, points"]
    return "<h3>Over seeds</h3>" + table(head, rows, numbers=3, top=(3,)) if rows else ""


def _settings(subject: Subject) -> dict[str, str]:
    """The recipe, flat, without the warm-ups of no epochs, which some files name and some do not."""
    settings = flat(subject.checkpoint.recipe)
    return {key: text for key, text in settings.items() if not (key.endswith(".warmup") and value(text) == 0)}


def _text(given: Any) -> str:
    return "–" if given is None else str(given)


def _score(metrics: dict[str, Any]) -> float | None:
    """Top-1, or a detector's AP, as a fraction; None where it is not known."""
    found = metrics.get(main_measure(metrics))
    return found if isinstance(found, float) else None


def _percent(metrics: dict[str, Any]) -> str:
    found = _score(metrics)
    return "–" if found is None else f"{100 * found:.2f} %"


def _nats(metrics: dict[str, Any]) -> str:
    return f"{metrics['loss']:.4f}" if isinstance(metrics.get("loss"), float) else "–"


def _differences(subjects: Sequence[Subject]) -> str:
    """The settings in which the subjects differ."""
    if len(subjects) < 2:
        return ""
    settings = [*map(_settings, subjects)]
    names = dict.fromkeys(name for one in settings for name in one)
    rows = [[name, *(one.get(name, "–") for one in settings)] for name in names]
    differing = [row for row in rows if len(set(row[1:])) > 1]
    if not differing:
        return ""
    return table(["", *(subject.label for subject in subjects)], differing)


def _details(subject: Subject, shown: Sequence[Any]) -> str:
    """Figures measured on the subject alone, its settings and where it comes from."""
    one = subject.checkpoint
    facts = {
        "file": str(one.path),
        "sha256": one.sha256,
        "producer": one.producer,
        "architecture": one.name,
        "parameters": f"{one.parameters:,}",
        "classes": str(one.classes),
        "data": _text(one.data),
        "dropped": ", ".join(one.dropped) or "nothing",
        **flat({"teacher": one.teacher or {}, "versions": one.versions}),
    }
    recipe = _settings(subject)
    folded = "".join(
        f"<details><summary>{escape(name)}</summary>{table(['', ''], content.items())}</details>"
        for name, content in (("Settings of the run", recipe), ("Where it comes from", facts))
        if content
    )
    return f"{_agreement(subject)}{figures.own(subject, shown)}{folded}"


def _agreement(subject: Subject) -> str:
    """How far the student ranks as its teacher does, in numbers; or why that was not measured."""
    if subject.unmeasured:
        return f"<p>Logits were not measured: {escape(subject.unmeasured)}</p>"
    found = next((one for one in subject.results if one.attrs.get("kind") == "tau" and "mean_low" in one), None)
    if found is None:
        return ""
    rows = []
    for name in found["measure"].values:
        mean, low, high = (float(found[f"mean{end}"].sel(measure=name)) for end in ("", "_low", "_high"))
        known = MEASURES.get(str(name)) or f"overlap of the {name}".replace("top", "top ")
        rows.append([known, f"{mean:.3f}", f"{low:.3f} to {high:.3f}"])
    interval = f"{100 * float(found.attrs.get('level', 0.95)):g} % interval"
    return table(["student against teacher", "mean", interval], rows, numbers=2)
