"""The page of an audit: a verdict, the numbers at a glance, and every part with its figure and finding."""

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from kdviz.analysis.audit import PARTS
from kdviz.analysis.audit.numbers import Estimate, estimate
from kdviz.analysis.audit.opened import RANDOM, WITHOUT
from kdviz.analysis.audit.sentences import contrast, shown, unit_of, value
from kdviz.plots import FIGURES
from kdviz.report.document import document
from kdviz.report.embed import image
from kdviz.report.tables import table

if TYPE_CHECKING:
    import xarray as xr

# Of the first table: part, its measures.
GLANCE = (
    ("calibration", ("accuracy", "ece")),
    ("fidelity", ("agreement", "kl", "tau")),
    ("cells", ("lost", "gained")),
    ("margins", ("correlation",)),
    ("cka", ("pooled",)),
    ("embeddings", ("shared",)),
)
NO_CONTROL = "There is no student without teacher beside it; name one with --against FILE."
FLIPS = 60  # rows of the list of flips


def audit_page(
    results: "Mapping[str, xr.Dataset]",
    *,
    title: str,
    lead: str,
    facts: Mapping[str, str],
    left_out: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """An audit as one HTML document.

    Args:
        results: part -> its result, as `kdviz.analysis.audit.measure` gives it.
        title, lead: the heading and the line below it.
        facts: where student, teacher and the others come from.
        left_out: part -> why it was not measured.
        notes: what else a reader must know, a sentence each.
    Returns:
        HTML with all styles and images inside; the same text for the same inputs.
    """
    sections = [("Does this student know what its teacher knows, and what did it lose?", _summary(results, notes))]
    sections += [(PARTS[name].title, _part(results[name])) for name in PARTS if name in results]
    if left_out:
        rows = [[PARTS[name].title, reason] for name, reason in left_out.items()]
        sections.append(("Not measured", table(["", ""], rows)))
    sections.append(
        (
            "Where it comes from",
            f"<section><details><summary>Files and data</summary>{table(['', ''], facts.items())}</details></section>",
        )
    )
    levels = {float(one.attrs["level"]) for one in results.values()}
    named = ", ".join(f"{100 * level:g} %" for level in sorted(levels))
    note = f"In brackets: {named} intervals over the draw of samples; another run of training varies too."
    return document(title, lead, sections, note=note)


def verdict(results: "Mapping[str, xr.Dataset]") -> list[str]:
    """What the student knows of its teacher's knowledge and what it lost, a sentence each, from the numbers alone.

    >>> verdict({})
    []
    """
    said = []
    if "fidelity" in results:
        said.append(_knows(results["fidelity"]))
    if "calibration" in results:
        said.append(_right(results["calibration"]))
    if "cells" in results:
        one = results["cells"]
        said.append(
            f"It lost {value(one, 'lost')} of the samples to an error that its teacher does not make, and gained"
            f" {value(one, 'gained')} on which its teacher errs."
        )
    return said


def _knows(one: "xr.Dataset") -> str:
    same, tau = value(one, "agreement"), value(one, "tau")
    text = f"It names its teacher's class for {same} of the samples; its order of the channels has τ = {tau}."
    control = estimate(one, "agreement", WITHOUT)
    if math.isnan(control.value):
        return f"{text} {NO_CONTROL}"
    both = [estimate(one, measure, WITHOUT, name="difference") for measure in ("agreement", "tau")]
    other = "A student trained without a teacher has"
    clause = ", ".join(_against(measure, one) for measure in ("agreement", "tau"))
    if all(each.low > 0 for each in both):
        return f"It knows more of its teacher than the task alone teaches. {text} {other} {clause}."
    if all(each.high < 0 for each in both):
        return f"It knows less of its teacher than a student that was trained without one. {text} {other} {clause}."
    if any(each.low > 0 or each.high < 0 for each in both):
        first, order = ("closer" if each.low > 0 else "farther" if each.high < 0 else "no closer" for each in both)
        where = f"{first} {'from' if first == 'farther' else 'to'} its teacher in the first class"
        start = f"Beside a student trained without a teacher it is {where}"
        return f"{start}, and {order} in the order of the channels. {text} {other} {clause}."
    return f"It cannot be told from a student that was trained without a teacher. {text} {other} {clause}."


def _against(measure: str, one: "xr.Dataset") -> str:
    control = estimate(one, measure, WITHOUT)
    unit = unit_of(one, measure)
    name = {"agreement": "the same class for", "tau": "τ ="}[measure]
    return f"{name} {shown(control, unit)} ({contrast(estimate(one, measure, WITHOUT, name='difference'), unit)})"


def _right(one: "xr.Dataset") -> str:
    own, teacher = value(one, "accuracy"), value(one, "accuracy", "teacher")
    difference = estimate(one, "accuracy", "teacher", name="difference")
    seen = contrast(Estimate(-difference.value, -difference.high, -difference.low), "fraction")
    return f"It is right for {own} of the samples, its teacher for {teacher}: the student has {seen}."


def _summary(results: "Mapping[str, xr.Dataset]", notes: Sequence[str]) -> str:
    answers = "".join(f'<p class="answer">{escape(sentence)}</p>' for sentence in verdict(results))
    remarks = "".join(f"<p>{escape(sentence)}</p>" for sentence in notes)
    rows = []
    for name, measures in GLANCE:
        known = [one for one in measures if name in results and one in results[name]["measure"].values]
        rows += [(results[name], measure) for measure in known]
    return f"<section>{answers}{remarks}</section>{numbers(rows)}"


def numbers(rows: "Sequence[tuple[xr.Dataset, str]]") -> str:
    """A table of measures, each of a result, with every net or comparison that has it.

    Args: rows: (result, measure).
    """
    order = ("teacher", "student", WITHOUT, RANDOM)
    titles: dict[str, str] = {}
    for result, _ in rows:
        for column, title in json.loads(result["compared"].attrs["titles"]).items():
            titles.setdefault(column, title)
    columns = [column for column in order if column in titles]
    cells = []
    for result, measure in rows:
        name = json.loads(result["measure"].attrs["titles"])[measure]
        unit = unit_of(result, measure)
        found = [estimate(result, measure, column) for column in columns]
        cells.append(
            [name, *("–" if math.isnan(one.value) else shown(one, unit).replace(" [", "\n[") for one in found)]
        )
    return table(["", *(titles[column] for column in columns)], cells, numbers=len(columns)) if cells else ""


def _part(result: "xr.Dataset") -> str:
    """The figure, its finding, the numbers behind it and how they were measured."""
    styles = list(FIGURES[str(result.attrs["kind"])])
    parts = [image([result], styles[0], caption=str(result.attrs["finding"]))]
    parts += [
        image([result], style, caption=str(result.attrs[f"finding_{style}"]))
        for style in styles[1:]
        if f"finding_{style}" in result.attrs
    ]
    parts.append(
        f"<details><summary>How it was measured</summary><p>{escape(str(result.attrs['caption']))}</p></details>"
    )
    parts.append(_flips(result) if "flip_sample" in result else "")
    measures = [(result, str(one)) for one in result["measure"].values]
    return f"<section>{''.join(parts)}</section>{numbers(measures)}"


def _flips(result: "xr.Dataset") -> str:
    """The list of flips: label, and the first classes of both nets with their probabilities."""
    names = [str(one) for one in result["class_name"].values]
    count = result.sizes["flip"]
    rows = []
    for at in [*_some(result, "lost"), *_some(result, "gained")]:
        flip = result.isel(flip=at)
        firsts = [
            ", ".join(
                f"{names[int(one)]} {float(chance):.2f}"
                for one, chance in zip(flip[f"flip_{net}"].values, flip[f"flip_{net}_probability"].values, strict=True)
            )
            for net in ("teacher", "student")
        ]
        rows.append(
            [str(flip["flip_side"].values), str(int(flip["flip_sample"])), names[int(flip["flip_label"])], *firsts]
        )
    if not rows:
        return ""
    shown_ = f"{len(rows)} of {count:,}" if len(rows) < count else f"all {count:,}"
    head = ["", "sample", "label", "teacher's first classes", "student's first classes"]
    return f"<details><summary>List of flips ({shown_})</summary>{table(head, rows)}</details>"


def _some(result: "xr.Dataset", side: str) -> list[int]:
    return [at for at, one in enumerate(result["flip_side"].values) if one == side][: FLIPS // 2]
