"""`kdviz compare`: the numbers of several nets' landscapes, beside each other."""

from pathlib import Path
from typing import Annotated

import typer

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

NEEDS_ARGUMENTS = True


@with_option_records
def command(
    *,
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Checkpoints (FILE, FILE@MODEL), or folders of runs (last epoch).")
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
    nets: NetOptions,
    figures: FigureOptions,
) -> None:
    """Compare nets by numbers: sharpness, flatness, convex share, local minima, with their spread over random planes.

    Example: kdviz compare checkpoints/resnet8_kd.pt checkpoints/resnet8_kd+rk.pt

    The first plane of each net is drawn too. Interrupted or killed, the same command goes on where it was.
    """
    from kdviz.analysis.landscape.compare import Statistics, rows
    from kdviz.analysis.landscape.nets import compare_nets, open_nets
    from kdviz.analysis.landscape.options import Grid

    grid = Grid(span=span, steps=odd("compare", steps), seed=seed, normalize=normalize)
    opened = open_nets(checkpoints, losses=measured.losses or ["ce"], **nets.opening())
    measurement = measured.measurement(opened, nets, seed=seed, bn=bn)
    request = request_for("compare", opened, measurement, grid, planes=planes, epsilon=epsilon)
    files = [f"{stem}.nc" for stem in (*opened.stems, "comparison")]
    output = Output(figures).into(place_for(request, several("compare", opened.stems), files, figures))
    held = finished([output.folder / file for file in files], request, figures)
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
