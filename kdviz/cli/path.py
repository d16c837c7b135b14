"""`kdviz path`: the loss between nets, or along a training run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdviz.base.check import require
from kdviz.cli.adaptation import Channels, Damaged, Mean, Std, Weights, adapted
from kdviz.cli.common import DataName, Formats, ModelName, Out, Root, Split, TeacherFile, Venue, folder, progress
from kdviz.cli.landscape_options import (
    GRID,
    MEASURED,
    Export,
    Html,
    Losses,
    Precision,
    Samples,
    Settings,
    Steps,
    images_of,
    odd,
    place,
    run_folder_of,
    settings_of,
)
from kdviz.cli.landscape_output import Output, print_numbers

if TYPE_CHECKING:
    import xarray as xr

NEEDS_ARGUMENTS = True


def command(
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Two checkpoints (a line), three (a plane), or a run's folder (its epochs).")
    ],
    losses: Losses = None,
    samples: Samples = None,
    settings: Settings = None,
    bn: Annotated[
        str | None,
        typer.Option(
            help="Batch norm: interpolate, recompute or frozen [default: interpolate; of a run, recompute].",
            rich_help_panel=MEASURED,
        ),
    ] = None,
    precision: Precision = "fp32",
    seed: Annotated[int, typer.Option(help="Of the draw of images.", rich_help_panel=MEASURED)] = 0,
    steps: Steps = 21,
    margin: Annotated[
        float | None,
        typer.Option(help="How far to go beyond the nets [default: line 0, plane .25].", rich_help_panel=GRID),
    ] = None,
    model: ModelName = None,
    data: DataName = None,
    root: Root = None,
    split: Split = "test",
    teacher: TeacherFile = None,
    weights: Weights = None,
    mean: Mean = None,
    std: Std = None,
    channels: Channels = None,
    damaged: Damaged = "refuse",
    html: Html = False,
    export: Export = None,
    venue: Venue = "icml",
    formats: Formats = None,
    out: Out = None,
) -> None:
    """Draw the losses on the line between two nets, on the plane through three, or along a run.

    Example: kdviz path checkpoints/resnet8_ce.pt checkpoints/resnet8_kd.pt

    A run (kdviz train ... --keep-epochs 1) is drawn on the plane of its principal components. Interrupted or killed,
    the same command goes on where it was.
    """
    from kdviz.analysis.landscape.nets import along_run, between_nets, open_epochs, open_nets
    from kdviz.analysis.landscape.options import Grid, Measurement

    names, run = losses or ["ce"], run_folder_of(checkpoints)
    many = len(checkpoints)
    require(run or many in (2, 3), f"path: two nets span a line, three a plane, a run's folder is one path; got {many}")
    Output(Path(), html=html, export=export or []).check("path", line=not run and many == 2)
    grid = Grid(steps=odd("path", steps), margin=margin)
    opened = {"losses": names, "data": data, "root": root, "split": split, "teacher": teacher}
    adaptation = adapted(mean, std, channels, damaged)
    nets = (
        open_epochs(run, **opened)
        if run
        else open_nets(checkpoints, model=model, weights=weights, adaptation=adaptation, **opened)
    )
    output = Output(folder(place("path", nets.name, []), out), venue, formats, html, export or [])
    measurement = Measurement(
        losses=names,
        settings=settings_of(settings),
        samples=images_of(nets.data, samples),
        seed=seed,
        precision=precision,
        bn=bn,
    )
    with progress("path") as moved:
        measure = along_run if run else between_nets
        found = measure(nets, measurement, grid, journal=output.journal("path"), progress=moved)
    output.write([found], ["path"], ["path"])
    _print(found)


def _print(result: "xr.Dataset") -> None:
    """The barriers of a line; the losses of a plane's nets and the plane's own numbers."""
    if result.attrs["kind"] == "path":
        for name, values in result.data_vars.items():
            if "barrier" in values.attrs:
                barrier, at = values.attrs["barrier"], values.attrs["barrier_at"]
                typer.echo(f"{name}: barrier {barrier:.4f} at {at:.2f} of the way")
    elif result.attrs["kind"] == "plane":
        loss = result["mark_loss"].attrs["of"]
        nets = zip(result["mark"].values, result["mark_loss"].values, result["mark_accuracy"].values, strict=True)
        for name, value, accuracy in nets:
            typer.echo(f"{name}: {loss} {value:.4f}, accuracy {accuracy:.1%}")
        print_numbers(result, "on the plane")
