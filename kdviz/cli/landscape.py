"""`kdviz landscape`: the loss around trained weights."""

from pathlib import Path
from typing import Annotated

import typer

from kdviz.base.check import one_of, require
from kdviz.cli.adaptation import Channels, Damaged, Mean, Std, Weights, adapted
from kdviz.cli.common import DataName, Formats, ModelName, Out, Root, Split, TeacherFile, Venue, folder, progress
from kdviz.cli.landscape_options import (
    GRID,
    Bn,
    Export,
    Html,
    Losses,
    Normalize,
    Precision,
    Samples,
    Seed,
    Settings,
    Span,
    Steps,
    images_of,
    odd,
    place,
    settings_of,
)
from kdviz.cli.landscape_output import Output, print_numbers

NEEDS_ARGUMENTS = True
MOVED = {
    "--between": "kdviz path CKPT CKPT [CKPT]",
    "--trajectory": "kdviz path RUN",
    "--compare": "kdviz compare CKPT...",
    "--planes": "kdviz compare CKPT... --planes N",
}


def command(
    checkpoints: Annotated[list[Path], typer.Argument(help="Checkpoints of nets, or folders of runs (last epoch).")],
    losses: Losses = None,
    samples: Samples = None,
    settings: Settings = None,
    bn: Bn = "frozen",
    precision: Precision = "fp32",
    span: Span = 1.0,
    steps: Steps = 21,
    seed: Seed = 0,
    normalize: Normalize = "filter",
    directions: Annotated[
        str, typer.Option(help="random, or hessian (the two top eigenvectors).", rich_help_panel=GRID)
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
    between: Annotated[bool, typer.Option("--between", hidden=True)] = False,
    trajectory: Annotated[bool, typer.Option("--trajectory", hidden=True)] = False,
    compare: Annotated[bool, typer.Option("--compare", hidden=True)] = False,
    planes: Annotated[int, typer.Option("--planes", hidden=True)] = 0,
) -> None:
    """Draw filter-normalised loss landscapes; several checkpoints share directions, axes and colours.

    Example: kdviz landscape checkpoints/resnet8_kd.pt checkpoints/resnet8_kd+rk.pt --losses ce kd

    Interrupted or killed, the same command goes on where it was. On many processes:
    torchrun --nproc-per-node 4 -m kdviz landscape CKPT
    """
    from kdviz.analysis.landscape.nets import around_net, open_nets
    from kdviz.analysis.landscape.options import Grid, Measurement

    for (flag, now), given in zip(MOVED.items(), (between, trajectory, compare, planes), strict=True):
        require(not given, f"landscape: {flag} has moved to another command: {now}")
    require(not (one_d and lines), "landscape: choose one of --one-d and --lines")
    one_of("landscape", ("random", "hessian"), directions=directions)
    require(directions == "random" or not lines, "landscape: --directions hessian goes with a plane or --one-d")
    require(lines >= 0, f"landscape: --lines must not be negative, got {lines}")
    grid = Grid(
        span=span, steps=odd("landscape", steps), seed=seed, normalize=normalize, directions=directions, one_d=one_d
    )
    kinds = {"line": one_d, "lines": lines > 0, "hessian": directions == "hessian"}
    names = losses or ["ce"]
    Output(Path(), html=html, export=export or []).check("landscape", line=one_d or lines > 0, ensemble=lines > 0)
    nets = open_nets(
        checkpoints,
        losses=names,
        model=model,
        data=data,
        root=root,
        split=split,
        teacher=teacher,
        weights=weights,
        adaptation=adapted(mean, std, channels, damaged),
    )
    where = folder(place("landscape", nets.name, [kind for kind, wanted in kinds.items() if wanted]), out)
    output = Output(where, venue, formats, html, export or [])
    measurement = Measurement(
        losses=names,
        settings=settings_of(settings),
        samples=images_of(nets.data, samples),
        seed=seed,
        precision=precision,
        bn=bn,
    )
    results = []
    for index, stem in enumerate(nets.stems):
        with progress(f"landscape of {nets.labels[index]}") as moved:
            kept = {"journal": output.journal(stem), "progress": moved}
            results.append(around_net(nets, index, measurement, grid, lines=lines, refine=adaptive, **kept))
    done = [result for result in results if result is not None]
    if not done:  # another rank of torchrun writes them
        return
    output.write(done, nets.stems if len(done) > 1 else ["landscape"], nets.stems)
    for result in done:
        if result.attrs["kind"] == "landscape":
            print_numbers(result, str(result.attrs["label"]))
