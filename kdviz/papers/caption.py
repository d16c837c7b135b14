"""Captions in LaTeX: plain text in, escaped text out, with the open choices spelled out."""

from kdviz.base.latex import caption_tex
from kdviz.papers.entry import Inputs, PaperEntry, PaperRecord

SHIPPED = (
    "Small-scale nets that come with kdviz, trained on the synthetic data set {data}; "
    "this illustrates the method and is not the paper's result."
)


def provenance(inputs: Inputs) -> str:
    """What the figure was computed from, in one sentence; empty where it needs neither nets nor data."""
    data = inputs.data.name if inputs.data is not None else "none"
    if inputs.shipped:
        return SHIPPED.format(data=data)
    if not inputs.students:
        return ""
    synthetic = "the synthetic data set " if inputs.data is not None and inputs.data.synthetic else ""
    return f"Students {', '.join(inputs.students)}" + (f" on {synthetic}{data}." if inputs.data is not None else ".")


def text(paper: PaperRecord, entry: PaperEntry, inputs: Inputs) -> str:
    """The caption as plain text: title, source, provenance, open choices."""
    settings = entry.resolved(inputs)
    choices = [choice.format(**settings) for choice in entry.choices]
    listed = "; ".join(f"({number}) {choice}" for number, choice in enumerate(choices, 1))
    parts = [
        f"{entry.title}, after {entry.source}.",
        provenance(inputs),
        f"Left open by the paper, and what was taken here: {listed}.",
    ]
    return " ".join(part for part in parts if part)


def latex(paper: PaperRecord, entry: PaperEntry, inputs: Inputs) -> str:
    """caption.tex: a \\caption and a \\label, to be \\input inside a figure environment."""
    return caption_tex(text(paper, entry, inputs), f"{paper.name}-{entry.name}", cite=paper.cite)
