"""The figures of a report: training curves, shared measurements side by side, each subject's own."""

from collections.abc import Sequence
from html import escape
from typing import Any

from kdviz.base.check import KdvizError
from kdviz.plots import FIGURES
from kdviz.report.embed import image
from kdviz.report.gather import Subject

TOGETHER = ("landscape", "profile", "histogram", "tau", "cases")
SKIPPED = ("html", "density")  # styles that are pages of their own, or say again what another one says
CURVES = (
    "Top-1 on the part held out of the training split, and the training loss; losses of different methods have no"
    " common unit."
)


def training(subjects: Sequence[Subject]) -> str:
    """The curves of every run; of a single one, its terms too."""
    runs = [subject.training for subject in subjects if subject.training is not None]
    if not runs:
        return ""
    parts = [image(runs, "curves", caption=CURVES)]
    if len(runs) == 1 and len([name for name in runs[0].data_vars if not str(name).startswith("val_")]) > 2:
        parts.append(
            image(runs, "terms", caption="Weighted terms of the training loss, each on its own scale, and their sum.")
        )
    return f"<h2>Training</h2><section>{''.join(parts)}</section>"


def together(subjects: Sequence[Subject]) -> str:
    """The measurements that several subjects share, side by side; the first of each kind."""
    parts = []
    for kind in TOGETHER:
        shared = {}
        for subject in subjects:
            found = next((one for one in subject.results if one.attrs.get("kind") == kind), None)
            if found is not None:
                shared[subject.label] = found
        if len(shared) < 2:
            continue
        if len({str(one.attrs.get("label")) for one in shared.values()}) < len(shared):
            shared = {label: one.assign_attrs(label=label) for label, one in shared.items()}
        try:
            parts.append(image([*shared.values()], caption=_caption(next(iter(shared.values())))))
        except KdvizError as error:
            parts.append(f"<p>{escape(kind)}: not drawn together: {escape(str(error))}</p>")
    return f"<h2>Side by side</h2><section>{''.join(parts)}</section>" if parts else ""


def own(subject: Subject) -> str:
    """A section with the figures of everything measured on the subject; empty where nothing was."""
    drawn = [
        image([result], *styles, caption=_caption(result))
        for result in subject.results
        if (styles := _styles(str(result.attrs.get("kind", ""))))
    ]
    return f"<section>{''.join(drawn)}</section>" if drawn else ""


def _styles(kind: str) -> list[str]:
    if kind not in FIGURES:
        return []
    return [name for name in FIGURES[kind] if name not in SKIPPED][:2]


def _caption(result: Any) -> str:
    """The result's own caption, or what it is and over which images."""
    facts = result.attrs
    if facts.get("caption"):
        return str(facts["caption"])
    over = f" over {facts['samples']} images" if facts.get("samples") else ""
    of = f" of {facts['data']} ({facts.get('split', 'unknown split')})" if facts.get("data") else ""
    return f"{str(facts.get('kind', 'result')).capitalize()}{over}{of}."
