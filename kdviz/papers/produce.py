"""An entry computed, drawn and written into a folder, the same bytes for the same inputs."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kdviz.base.files import atomic, write_dataset
from kdviz.papers import caption
from kdviz.papers.entry import Inputs, PaperEntry, PaperRecord, Results, findings

JOURNALS = ".*.journal"


def produce(
    paper: PaperRecord,
    entry: PaperEntry,
    inputs: Inputs,
    out: Path,
    *,
    venue: str = "icml",
    formats: Sequence[str] = ("pdf", "png"),
    written: Callable[[Path], None] | None = None,
) -> list[dict[str, Any]]:
    """Results (.nc), figures, caption.tex, findings.json and findings.md in `out`.

    Args:
        paper, entry: what to make.
        inputs: what it is computed from.
        out: the folder.
        venue, formats: as `kdviz.plots` takes them.
        written: called with each path written.
    Returns:
        The findings: each claim with what was measured beside it.
    Raises:
        KdvizError: an input that is missing or does not fit, an unknown venue or format.
    """
    from kdviz.plots.style import drawable

    written = written or (lambda _: None)
    drawable(venue, formats)
    results = entry.results(inputs)
    for name, dataset in results.items():
        written(write_dataset(dataset, out / f"{name}.nc"))
    draw(entry, results, out, venue=venue, formats=formats, written=written)
    found = findings(entry, results)
    record = {
        "paper": paper.name,
        "entry": entry.name,
        "title": entry.title,
        "source": entry.source,
        "provenance": caption.provenance(inputs),
        "settings": entry.resolved(inputs),
        "findings": found,
    }
    texts = {
        "caption.tex": caption.latex(paper, entry, inputs),
        "findings.json": json.dumps(record, indent=2, ensure_ascii=False, default=list) + "\n",
        "findings.md": markdown(paper, entry, inputs, found),
    }
    for name, content in texts.items():
        with atomic(out / name) as partial:
            partial.write_text(content, encoding="utf-8")
        written(out / name)
    for journal in out.glob(JOURNALS):  # all is written, so that nothing is left to resume
        journal.unlink()
    return found


def draw(
    entry: PaperEntry,
    results: Results,
    out: Path,
    *,
    venue: str,
    formats: Sequence[str],
    written: Callable[[Path], None],
) -> None:
    """Every drawing of the entry whose results are there, from these alone."""
    from kdviz import plots

    for drawing in entry.drawings:
        chosen = [one for name, one in results.items() if drawing.shows(name)]
        if not chosen:
            continue
        with plots.style(venue):
            fig = plots.draw(chosen, drawing.figure, venue=venue, **drawing.options)
            for path in plots.save(fig, out / drawing.stem, formats):
                written(path)


def findings_text(found: list[dict[str, Any]]) -> str:
    """The findings for a terminal, one block per claim."""
    blocks = []
    for one in found:
        lines = [f"claim     {one['claim']} ({one['where']})", f"reading   {one['reading']}"]
        lines += [_numbers(one["measured"]), f"agrees    {_agrees(one)}"]
        blocks.append("\n".join(lines + ([f"note      {one['note']}"] if one["note"] else [])))
    return "\n\n".join(blocks)


def markdown(paper: PaperRecord, entry: PaperEntry, inputs: Inputs, found: list[dict[str, Any]]) -> str:
    """findings.md: the caption, then a table of claims and measurements."""
    rows = [
        [f"{one['claim']} ({one['where']})", one["reading"], _listed(one["measured"]), _agrees(one), one["note"]]
        for one in found
    ]
    head = [["claim", "our reading", "numbers", "agrees", "note"], ["---"] * 5]
    table = "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in [*head, *rows])
    return f"# {paper.name} {entry.name}: {entry.title}\n\n{caption.text(paper, entry, inputs)}\n\n{table}\n"


def _agrees(found: dict[str, Any]) -> str:
    """The verdict; of printed and of measured numbers where there are both."""
    here = found["measured_agrees"]
    return f"printed: {found['agrees']}; measured: {here}" if here else found["agrees"]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _listed(values: dict[str, Any]) -> str:
    return "<br>".join(f"{key}: {_number(value)}" for key, value in values.items())


def _numbers(values: dict[str, Any]) -> str:
    """One measured number a line, names and values aligned."""
    width = max(map(len, values), default=0)
    lines = [f"{key:<{width}}  {_number(value)}" for key, value in values.items()] or ["nothing"]
    return "\n".join(f"{'' if at else 'measured':<10}{line}" for at, line in enumerate(lines))


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
