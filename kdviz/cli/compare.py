"""`kdviz compare`: the numbers of several nets' landscapes, beside each other."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdviz.base.check import require
from kdviz.cli.claims import grouped, measure, show, split
from kdviz.cli.common import write, write_figures
from kdviz.cli.landscape_options import (
    GRID,
    MEASURED,
    Bn,
    MeasureOptions,
    Normalize,
    Seed,
    Span,
    Steps,
    odd,
    request_for,
)
from kdviz.cli.landscape_output import Output, print_table
from kdviz.cli.options import FigureOptions, NetOptions, with_option_records
from kdviz.cli.pace import progress
from kdviz.cli.requests import finished, place_for, several

if TYPE_CHECKING:
    import xarray as xr

    from kdviz.analysis.landscape.nets import Nets
    from kdviz.analysis.landscape.options import Grid, Measurement

NEEDS_ARGUMENTS = True
CLAIM = "A claim, tested"


@with_option_records
def command(
    *,
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            help="Checkpoints (FILE, FILE@MODEL), or folders of runs (last epoch); with --claim GROUP=FILE too."
        ),
    ],
    measured: MeasureOptions,
    bn: Bn = "frozen",
    epsilon: Annotated[
        float, typer.Option(help="A rise of the loss that still counts as flat.", rich_help_panel=MEASURED)
    ] = 0.1,
    planes: Annotated[int, typer.Option(help="Random planes of each net, for the spread.", rich_help_panel=GRID)] = 3,
    span: Span = 1.0,
    steps: Steps = 21,
    seed: Seed = 0,
    normalize: Normalize = "filter",
    claim: Annotated[
        list[str] | None,
        typer.Option(
            help="Test a sentence over several runs of each method: flatter, fewer-minima, closer, calibrated; repeat.",
            rich_help_panel=CLAIM,
        ),
    ] = None,
    subsets: Annotated[
        int, typer.Option(min=1, help="Draws of images that the numbers are averaged over.", rich_help_panel=CLAIM)
    ] = 2,
    level: Annotated[float, typer.Option(help="Of each permutation test.", rich_help_panel=CLAIM)] = 0.05,
    nets: NetOptions,
    figures: FigureOptions,
) -> None:
    """Compare nets by numbers: sharpness, flatness, convex share, local minima, with their spread over random planes.

    Example: kdviz compare checkpoints/resnet8_kd.pt checkpoints/resnet8_kd+rk.pt

    The first plane of each net is drawn too. Interrupted or killed, the same command goes on where it was.

    With --claim the runs of each method are one group (or name groups, GROUP=FILE), the first of which the others are
    compared with: kdviz compare runs/kd_seed*/ runs/rk_seed*/ --claim flatter
    """
    from kdviz.analysis.landscape.compare import Statistics, rows
    from kdviz.analysis.landscape.nets import compare_nets, open_nets
    from kdviz.analysis.landscape.options import Grid

    grid = Grid(span=span, steps=odd("compare", steps), seed=seed, normalize=normalize)
    names, files = split(checkpoints) if claim else ([], list(map(Path, checkpoints)))
    losses = measured.losses or ["ce"]
    opened = open_nets(files, losses=[*losses, *_teacher_for(claim or [])], **nets.opening())
    measurement = measured.measurement(opened, nets, seed=seed, bn=bn)
    if claim:
        tested = {"claims": claim, "subsets": subsets, "level": level, "planes": planes, "epsilon": epsilon}
        _claims(opened, names, measurement, grid, figures, tested)
        return
    request = request_for("compare", opened, measurement, grid, planes=planes, epsilon=epsilon)
    written = [f"{stem}.nc" for stem in (*opened.stems, "comparison")]
    output = Output(figures).into(place_for(request, several("compare", opened.stems), written, figures))
    held = finished([output.folder / file for file in written], request, figures)
    if held:
        *first, found = held
    else:
        with progress("planes and spectra") as moved:
            kept = {"journal": output.journal("compare"), "progress": moved}
            found, first = compare_nets(opened, measurement, grid, Statistics(epsilon=epsilon), planes=planes, **kept)
        found, first = request.signed(found), [request.signed(one) for one in first]
        write(found, output.folder / "comparison.nc")
    print_table(rows(found))
    write_figures([found], ["numbers"], output.folder, venue=figures.venue, formats=figures.formats)
    output.write(first, opened.stems, ["compare"], held=opened.stems if held else [])


def _teacher_for(claims: list[str]) -> list[str]:
    """A loss for which `open_nets` opens the teacher, where a claim needs it; KdvizError for an unknown claim."""
    from kdviz.analysis.claims import CLAIMS, QUANTITIES, known

    known(claims)
    return ["kd"] if any(QUANTITIES[name].of == "logits" for one in claims for name in CLAIMS[one][1]) else []


def _caption(found: "xr.Dataset") -> str:
    """What the figure shows and what came of it."""
    from kdviz.analysis.claims import sentences

    of = found.attrs
    means = f"means over {of['planes']} random planes on each of {of['subsets']} draws of images"
    drawn = f"Each dot is a run ({means}), each bar the mean of a group; p-values are of exact permutation tests."
    return " ".join([drawn, *(f"{line[:1].upper()}{line[1:]}." for line in sentences(found))])


def _claims(
    opened: "Nets",
    names: list[str | None],
    measurement: "Measurement",
    grid: "Grid",
    figures: FigureOptions,
    tested: dict[str, Any],
) -> None:
    """Test the claims and write the numbers, the verdicts and their figure."""
    from kdviz.analysis.claims import check, verdicts
    from kdviz.analysis.landscape import journal

    groups, claims = grouped(opened, names), list(tested["claims"])
    check(groups, claims, tested["level"])
    require(len(measurement.losses) == 1, "compare: --claim is about one loss; name it with --losses")
    request = request_for("compare", opened, measurement, grid, groups=groups, **tested)
    place = place_for(request, several("claim", [*claims, *groups]), ["claims.nc"], figures)
    output = Output(figures).into(place)
    held = finished([place / "claims.nc"], request, figures)
    if held:
        found = held[0]
    else:
        options = {key: tested[key] for key in ("planes", "subsets", "epsilon")}
        values = measure(opened, claims, measurement, grid, output, **options)
        facts = {"data": opened.data.name, "split": opened.data.split, "synthetic": int(opened.data.synthetic)}
        found = verdicts(values, groups, claims, level=tested["level"]).assign_attrs({**facts, **options})
        found = request.signed(found.assign_attrs(caption=_caption(found)))
        write(found, place / "claims.nc")
    show(found)
    write_figures([found], ["claims"], place, venue=figures.venue, formats=figures.formats)
    journal.remove(place, [f"compare.subset{subset}" for subset in range(tested["subsets"])])
