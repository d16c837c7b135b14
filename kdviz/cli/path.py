"""`kdviz path`: the loss between nets, or along a training run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdviz.base.check import require
from kdviz.cli import completion
from kdviz.cli.landscape_options import (
    GRID,
    MEASURED,
    Export,
    Html,
    MeasureOptions,
    Steps,
    odd,
    request_for,
    run_folder_of,
)
from kdviz.cli.landscape_output import Output, print_numbers
from kdviz.cli.options import OUTPUT, FigureOptions, NetOptions, with_option_records
from kdviz.cli.pace import progress
from kdviz.cli.requests import finished, place_for, several

if TYPE_CHECKING:
    import xarray as xr

NEEDS_ARGUMENTS = True
MATCHED = "; the second net's channels in the order of the first's (weight matching)"


@with_option_records
def command(
    *,
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Two checkpoints (a line), three (a plane), or a run's folder (its epochs).")
    ],
    measured: MeasureOptions,
    bn: Annotated[
        str | None,
        typer.Option(
            help="Batch norm: interpolate, recompute or frozen [default: interpolate; of a run and with --rebasin,"
            " recompute].",
            autocompletion=completion.choices("interpolate", "recompute", "frozen"),
            rich_help_panel=MEASURED,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draw of images.", rich_help_panel=MEASURED)] = 0,
    steps: Steps = 21,
    margin: Annotated[
        float | None,
        typer.Option(help="How far to go beyond the nets [default: line 0, plane .25].", rich_help_panel=GRID),
    ] = None,
    rebasin: Annotated[
        bool,
        typer.Option(
            "--rebasin",
            help="Also the line after the second net's channels are put in the order of the first's.",
            rich_help_panel=MEASURED,
        ),
    ] = False,
    animate: Annotated[
        bool, typer.Option("--animate", help="Of a run, also an animation (gif).", rich_help_panel=OUTPUT)
    ] = False,
    mp4: Annotated[
        bool, typer.Option("--mp4", help="Of a run, also an animation as mp4, by ffmpeg.", rich_help_panel=OUTPUT)
    ] = False,
    nets: NetOptions,
    html: Html = False,
    export: Export = None,
    figures: FigureOptions,
) -> None:
    """Draw the losses on the line between two nets, on the plane through three, or along a run.

    Example: kdviz path checkpoints/resnet8_ce.pt checkpoints/resnet8_kd.pt

    A run (kdviz train ... --keep-epochs 1) is drawn on the plane of its principal components. Interrupted or killed,
    the same command goes on where it was. With --rebasin (weight matching, Ainsworth et al. 2023) the barrier is given
    before and after, of nets of convolutions, batch norm, sums and linear layers, such as residual nets and VGGs.
    """
    from kdviz.analysis.landscape.nets import along_run, between_nets, open_epochs, open_nets, rebasined
    from kdviz.analysis.landscape.options import Grid
    from kdviz.plots.animation import animate as draw_film
    from kdviz.plots.animation import check_format

    run, many = run_folder_of(checkpoints), len(checkpoints)
    require(run or many in (2, 3), f"path: two nets span a line, three a plane, a run's folder is one path; got {many}")
    films = [suffix for suffix, wanted in (("gif", animate), ("mp4", mp4)) if wanted]
    require(run or not films, "path: --animate and --mp4 go with a run's folder")
    for suffix in films:
        check_format(suffix)
    require(not rebasin or (many == 2 and not run), "path: --rebasin goes with two checkpoints")
    output = Output(figures, html=html, export=export or [])
    output.check("path", line=not run and many == 2)
    grid = Grid(steps=odd("path", steps), margin=margin)
    wanted = {"losses": measured.losses or ["ce"], **nets.opening()}
    opened = open_epochs(run, **wanted) if run else open_nets(checkpoints, **wanted)
    measurement = measured.measurement(opened, nets, seed=seed, bn=bn or ("recompute" if rebasin else None))
    request = request_for("path", opened, measurement, grid, run=bool(run), rebasin=rebasin)
    name = several("path", [opened.name] if run else opened.stems)
    stems = ["path", "path_rebasin"] if rebasin else ["path"]
    output = output.into(place_for(request, name, [f"{stem}.nc" for stem in stems], figures))
    held = finished([output.folder / f"{stem}.nc" for stem in stems], request, figures)
    found = held or []
    if not held:
        measure = along_run if run else between_nets
        for stem, each in zip(stems, [opened, rebasined(opened)] if rebasin else [opened], strict=True):
            with progress(stem.replace("_rebasin", " after re-basin")) as moved:
                one = measure(each, measurement, grid, journal=output.journal(stem), progress=moved)
            after = stem != "path"
            said = f"{one.attrs['caption']}{MATCHED if after else ''}"
            found.append(request.signed(one.assign_attrs(rebasin=int(after), caption=said)))
    output.write(found, stems, stems, held=stems if held else [])
    for suffix in films:
        typer.echo(draw_film(found[0], output.folder / f"trajectory.{suffix}", venue=figures.venue))
    for one in found:
        _print(one)


def _print(result: "xr.Dataset") -> None:
    """The barriers of a line; the losses of a plane's nets and the plane's own numbers."""
    if result.attrs["kind"] == "path":
        after = " after re-basin" if result.attrs.get("rebasin") else ""
        for name, values in result.data_vars.items():
            if "barrier" in values.attrs:
                barrier, at = values.attrs["barrier"], values.attrs["barrier_at"]
                typer.echo(f"{name}{after}: barrier {barrier:.4f} at {at:.2f} of the way")
    elif result.attrs["kind"] == "plane":
        loss = result["mark_loss"].attrs["of"]
        nets = zip(result["mark"].values, result["mark_loss"].values, result["mark_accuracy"].values, strict=True)
        for name, value, accuracy in nets:
            typer.echo(f"{name}: {loss} {value:.4f}, accuracy {accuracy:.1%}")
        print_numbers(result, "on the plane")
