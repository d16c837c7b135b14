"""`kdviz audit`: what a student knows of its teacher's knowledge and what it lost, in one page."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdviz.base.check import KdvizError, require, unknown
from kdviz.cli import completion
from kdviz.cli.audit_subjects import Found, Wanted, of_logits, of_nets
from kdviz.cli.common import hold, write, write_figures
from kdviz.cli.logits import DropNonfinite, LogitFiles, Rest, holds_logits
from kdviz.cli.options import FigureOptions, NetOptions, with_option_records
from kdviz.cli.pace import progress
from kdviz.cli.requests import Request, finished, place_for

if TYPE_CHECKING:
    import xarray as xr

NEEDS_ARGUMENTS = True
PARTS = ("fidelity", "calibration", "cells", "confusion", "margins", "correlation", "temperature", "cka", "embeddings")


@with_option_records
def command(
    *,
    student: Annotated[
        str | None,
        typer.Argument(metavar="STUDENT", help="Checkpoint (FILE, FILE@MODEL), folder of a run, or logits (.nc .npz)."),
    ] = None,
    logits: LogitFiles = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A student trained without a teacher, or its logits; none for none [default: the file beside the"
            " student that has ce for its method in its name].",
        ),
    ] = None,
    parts: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Parts to measure: {', '.join(PARTS)} [default: all that can be].",
            autocompletion=completion.choices(*PARTS, separators=","),
        ),
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Images, drawn by class [default: all of the split].")] = None,
    net_samples: Annotated[int, typer.Option(help="Images, of those, for cka and embeddings.")] = 1000,
    level: Annotated[float, typer.Option(help="Coverage of the intervals, a fraction.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the bootstrap, the controls and the embeddings.")] = 0,
    drop_nonfinite: DropNonfinite = False,
    rest: Rest = "mask",
    label: Annotated[str | None, typer.Option(help="The student's name in figures.")] = None,
    source: NetOptions,
    figures: FigureOptions,
) -> None:
    """Does a student know what its teacher knows, and what did it lose? One page of numbers and figures.

    Every number has an interval and stands beside two controls: a student trained without a teacher, and a random
    teacher. Also written: a result (.nc) and figures of each part; samples.nc, what both nets say of each image.

    Example: kdviz audit checkpoints/resnet8_kd+rk.pt
    """
    from kdviz.analysis import audit
    from kdviz.analysis.audit.opened import open_audit
    from kdviz.analysis.bootstrap import Bootstrap
    from kdviz.report.audit import verdict

    for name in parts or ():
        if name not in PARTS:
            raise unknown("part of an audit", name, PARTS)
    given = [one for one in (student, *(logits or ())) if one]
    require(len(given) == 1, f"audit: name one student, or its logits with --logits; got {len(given)}")
    require(net_samples >= 40, f"--net-samples: 40 or more, got {net_samples}")
    bootstrap = Bootstrap(level=level, seed=seed)
    if logits or holds_logits(given[0]):
        found = of_logits(given[0], against, source, rest)
    else:
        found = of_nets(Path(given[0]), against, source, figures, Wanted(samples, net_samples, seed))
    opened = open_audit(found.logits, against=found.against, seed=seed, drop_nonfinite=drop_nonfinite, label=label)
    chosen, left_out = audit.choose(parts, opened, nets=found.nets is not None, without=found.without_nets)
    settings = {**found.deciding, "level": level, "seed": seed, "label": label, "drop_nonfinite": drop_nonfinite}
    asked = {name: Request("audit", found.subject, {**settings, "part": name}) for name in (*chosen, "samples")}
    where = place_for(asked["samples"], found.name, [f"{name}.nc" for name in asked], figures)

    def measure(name: str) -> "xr.Dataset":
        with progress(f"audit: {name}") as advance:
            if name == "samples":
                return audit.samples(opened)
            more = {"seed": seed} if name == "embeddings" else {}
            return audit.measure(
                name, opened, nets=found.nets, images=found.images, bootstrap=bootstrap, settings=more, progress=advance
            )

    results, failed = _results(asked, where, figures, measure, all_needed=bool(parts))
    left_out |= failed
    everyone = {name: one for name, one in results.items() if name != "samples"}
    for name, one in everyone.items():
        styles = _styles(one)
        write_figures(one, styles, where, stem=f"{name}_", venue=figures.venue, formats=figures.formats)
    _page(found, everyone, left_out, where)
    for sentence in verdict(everyone):
        typer.echo(sentence)
    for name, reason in left_out.items():
        typer.echo(f"kdviz: not measured: {name}: {reason}", err=True)
    typer.echo(where / "audit.html")


def _results(
    asked: Mapping[str, Request],
    where: Path,
    figures: FigureOptions,
    measure: Callable[[str], "xr.Dataset"],
    *,
    all_needed: bool,
) -> "tuple[dict[str, xr.Dataset], dict[str, str]]":
    """Every part's result, of an earlier command or measured and written now; and why others could not be measured.

    Args:
        asked: part -> what decides its result.
        where: the folder of the results.
        figures: say whether earlier results count.
        measure: part -> its result.
        all_needed: whether a part that cannot be measured ends the command.
    """
    results, failed, reused = {}, {}, 0
    for name, request in asked.items():
        held = finished([where / f"{name}.nc"], request, figures, quiet=True)
        reused += bool(held)
        if not held:
            try:
                held = [request.signed(measure(name))]
            except KdvizError as error:
                if all_needed or name == "samples":
                    raise
                failed[name] = str(error)
                continue
            write(held[0], where / f"{name}.nc")
        results[name] = held[0]
    if reused:
        typer.echo(f"{reused} of {len(asked)} results in {where} were measured before; --fresh measures anew")
    return results, failed


def _styles(result: "xr.Dataset") -> list[str]:
    from kdviz.plots import FIGURES

    first, *others = FIGURES[str(result.attrs["kind"])]
    return [first, *(name for name in others if f"finding_{name}" in result.attrs)]


def _page(found: Found, results: "Mapping[str, xr.Dataset]", left_out: Mapping[str, str], where: Path) -> None:
    from kdviz.base.files import atomic
    from kdviz.report.audit import audit_page

    first = next(iter(results.values())).attrs
    kind = f" ({first['data_kind']})" if first.get("data_kind") else ""
    data = f" on {first['data']}{kind}, {first['split']} split" if "data" in first and "split" in first else ""
    lead = f"{found.name} beside its teacher{data}; {int(first['samples']):,} samples."
    text = audit_page(
        results, title=f"Audit of {found.name}", lead=lead, facts=found.facts, left_out=left_out, notes=found.notes
    )
    hold(where)
    with atomic(where / "audit.html") as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names may hold bytes
