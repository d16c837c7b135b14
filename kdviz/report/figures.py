"""The figures of a report: training curves, shared measurements side by side, each subject's own."""

from collections.abc import Sequence
from html import escape
from typing import Any

from kdviz.analysis.attributes import labelled
from kdviz.base.check import KdvizError
from kdviz.plots import FIGURES
from kdviz.report.embed import image
from kdviz.report.gather import Subject

TOGETHER = ("landscape", "profile", "histogram", "tau", "cases")
SKIPPED = ("html", "density")  # styles that are pages of their own, or say again what another one says
# Of these kinds, whose other styles show the same values again.
SHOWN = {"landscape": ["contour", "profile"], "plane": ["contour"], "trajectory": ["trajectory"], "surface": ["both"]}
CURVES = (
    "Top-1 (of detectors AP) on the part held out of the training split, and the training loss; losses of different"
    " methods have no common unit."
)


def training(subjects: Sequence[Subject]) -> str:
    """The curves of every run; of a single one, its terms too."""
    runs = [subject.training for subject in subjects if subject.training is not None]
    if not runs:
        return ""
    parts = [image(runs, "curves", caption=CURVES)]
    if len(runs) == 1 and sum(one.attrs.get("role") == "loss" for one in runs[0].data_vars.values()) > 1:
        parts.append(
            image(runs, "terms", caption="Weighted terms of the training loss, each on its own scale, and their sum.")
        )
    return f"<section>{''.join(parts)}</section>"


def shared(subjects: Sequence[Subject], common: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Measurements of the same kind, the first of each of several subjects, by kind and label."""
    found = {}
    for kind in TOGETHER:
        alike = {}
        for subject in subjects:
            own = [one for one in subject.results if one.attrs.get("kind") == kind and not _among(one, common)]
            alike |= {subject.label: own[0]} if own else {}
        if len(alike) > 1:
            found[kind] = alike
    return found


def together(side_by_side: dict[str, dict[str, Any]], common: Sequence[Any]) -> str:
    """Measurements of the same kind side by side; then those `common` to several subjects."""
    parts = []
    for kind, results in side_by_side.items():
        if len({str(one.attrs.get("label")) for one in results.values()}) < len(results):
            results = {label: _relabelled(one, label) for label, one in results.items()}
        try:
            first = next(iter(results.values()))
            parts.append(image([*results.values()], *_styles(kind), caption=_caption(first)))
        except KdvizError as error:
            parts.append(f"<p>{escape(kind)}: not drawn together: {escape(str(error))}</p>")
    parts += [_drawn(one) for one in common]
    return f"<section>{''.join(parts)}</section>" if parts else ""


def _relabelled(one: Any, label: str) -> Any:
    """The result under another label, whose title goes with it."""
    found = one.copy()
    found.attrs = labelled(one.attrs, label)
    return found


def common(subjects: Sequence[Subject]) -> list[Any]:
    """The results that are about several of the subjects at once, such as the plane through them."""
    found: list[Any] = []
    for index, subject in enumerate(subjects):
        others = [one for other in subjects[:index] for one in other.results]
        found += [one for one in subject.results if _among(one, others) and not _among(one, found)]
    return found


def own(subject: Subject, shown: Sequence[Any]) -> str:
    """A section with the figures of everything measured on the subject but what was shown; empty where nothing was."""
    drawn = "".join(_drawn(result) for result in subject.results if not _among(result, shown))
    return f"<section>{drawn}</section>" if drawn else ""


def _among(result: Any, others: Sequence[Any]) -> bool:
    return any(result.identical(other) for other in others)


def _drawn(result: Any) -> str:
    styles = _styles(str(result.attrs.get("kind", "")))
    return image([result], *styles, caption=_caption(result)) if styles else ""


def _styles(kind: str) -> list[str]:
    if kind not in FIGURES:
        return []
    return SHOWN.get(kind) or [name for name in FIGURES[kind] if name not in SKIPPED][:2]


def _caption(result: Any) -> str:
    """The result's own caption, or what it is and over which images."""
    facts = result.attrs
    if facts.get("caption"):
        return str(facts["caption"])
    over = f" over {facts['samples']} images" if facts.get("samples") else ""
    of = f" of {facts['data']} ({facts.get('split', 'unknown split')})" if facts.get("data") else ""
    return f"{str(facts.get('kind', 'result')).capitalize()}{over}{of}."
