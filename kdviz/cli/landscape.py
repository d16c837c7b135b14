"""`kdviz landscape`: the loss around trained weights."""

from pathlib import Path
from typing import Annotated

import typer

from kdviz.base.check import one_of, require
from kdviz.base.processes import first_process
from kdviz.cli import completion
from kdviz.cli.landscape_options import (
    GRID,
    Bn,
    Export,
    Html,
    MeasureOptions,
    Normalize,
    Seed,
    Span,
    SpanBy,
    Steps,
    odd,
    request_for,
)
from kdviz.cli.landscape_output import Output, print_numbers
from kdviz.cli.options import OUTPUT, FigureOptions, NetOptions, with_option_records
from kdviz.cli.pace import progress
from kdviz.cli.requests import finished, place_for, several
from kdviz.cli.topology import draw_topology

NEEDS_ARGUMENTS = True
MOVED = {
    "--between": "kdviz path CKPT CKPT [CKPT]",
    "--trajectory": "kdviz path RUN",
    "--compare": "kdviz compare CKPT...",
    "--planes": "kdviz compare CKPT... --planes N",
}


@with_option_records
def command(
    *,
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Checkpoints (FILE, FILE@MODEL), or folders of runs (last epoch).")
    ],
    measured: MeasureOptions,
    bn: Bn = "frozen",
    span: Span = 1.0,
    span_by: SpanBy = "direction",
    steps: Steps = 21,
    seed: Seed = 0,
    normalize: Normalize = "filter",
    directions: Annotated[
        str,
        typer.Option(
            help="random, or hessian (the two top eigenvectors).",
            autocompletion=completion.choices("random", "hessian"),
            rich_help_panel=GRID,
        ),
    ] = "random",
    one_d: Annotated[
        bool, typer.Option("--one-d", help="A line along the first direction instead of a plane.", rich_help_panel=GRID)
    ] = False,
    lines: Annotated[
        int, typer.Option(help="Instead of a plane, so many random lines: mean and range.", rich_help_panel=GRID)
    ] = 0,
    adaptive: Annotated[
        bool,
        typer.Option(
            "--adaptive", help="A third of the points; the rest by spline, with its error.", rich_help_panel=GRID
        ),
    ] = False,
    nets: NetOptions,
    topology: Annotated[
        bool, typer.Option("--topology", help="Also merge tree, persistence and minima.", rich_help_panel=OUTPUT)
    ] = False,
    html: Html = False,
    export: Export = None,
    figures: FigureOptions,
    between: Annotated[bool, typer.Option("--between", hidden=True)] = False,
    trajectory: Annotated[bool, typer.Option("--trajectory", hidden=True)] = False,
    compare: Annotated[bool, typer.Option("--compare", hidden=True)] = False,
    planes: Annotated[int, typer.Option("--planes", hidden=True)] = 0,
) -> None:
    """Draw filter-normalised loss landscapes; several checkpoints share directions, axes and colours.

    Example: kdviz landscape checkpoints/resnet8_kd+rk.pt --losses ce,kd

    Interrupted or killed, the same command goes on where it was; once it has finished, it draws again. On many
    processes: torchrun --nproc-per-node 4 -m kdviz landscape CKPT
    """
    from kdviz.analysis.landscape.nets import around_net, open_nets
    from kdviz.analysis.landscape.options import Grid

    for (flag, now), given in zip(MOVED.items(), (between, trajectory, compare, planes), strict=True):
        require(not given, f"landscape: {flag} has moved to another command: {now}")
    require(not (one_d and lines), "landscape: choose one of --one-d and --lines")
    one_of("landscape", ("random", "hessian"), directions=directions)
    require(directions == "random" or not lines, "landscape: --directions hessian goes with a plane or --one-d")
    require(lines >= 0, f"landscape: --lines must not be negative, got {lines}")
    require(not (topology and lines), "landscape: --topology goes with a plane or --one-d, not with --lines")
    grid = Grid(
        span=span,
        span_by=span_by,
        steps=odd("landscape", steps),
        seed=seed,
        normalize=normalize,
        directions=directions,
        one_d=one_d,
    )
    kinds = {"line": one_d, "lines": lines > 0, "hessian": directions == "hessian"}
    output = Output(figures, html=html, export=export or [])
    output.check("landscape", line=one_d or lines > 0, ensemble=lines > 0)
    opened = open_nets(checkpoints, losses=measured.losses or ["ce"], **nets.opening())
    measurement = measured.measurement(opened, nets, seed=seed, bn=bn)
    request = request_for("landscape", opened, measurement, grid, lines=lines, adaptive=adaptive)
    stems = opened.stems if len(opened.stems) > 1 else ["landscape"]
    name = several("landscape", [*opened.stems, *(kind for kind, wanted in kinds.items() if wanted)])
    output = output.into(place_for(request, name, [f"{stem}.nc" for stem in stems], figures))
    done = finished([output.folder / f"{stem}.nc" for stem in stems], request, figures)
    held = [] if done is None else stems
    if done is None:
        done = []
        for index, stem in enumerate(opened.stems):
            with progress(f"landscape of {opened.labels[index]}") as moved:
                kept = {"journal": output.journal(stem), "progress": moved}
                result = around_net(opened, index, measurement, grid, lines=lines, refine=adaptive, **kept)
            done += [] if result is None else [request.signed(result)]
    if not done or not first_process():  # the first rank of torchrun writes them
        return
    output.write(done, stems, opened.stems, held=held)
    if topology:
        draw_topology(dict(zip(stems, done, strict=True)), [], output.folder, figures.venue, figures.formats)
    for result in done:
        if result.attrs["kind"] == "landscape":
            print_numbers(result, str(result.attrs["label"]))
