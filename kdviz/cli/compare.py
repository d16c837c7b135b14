"""`kdviz compare`: the numbers of several nets' landscapes, beside each other."""

from pathlib import Path
from typing import Annotated

import typer

from kdviz.cli.adaptation import Channels, Damaged, Mean, Std, Weights, adapted
from kdviz.cli.common import (
    DataName,
    Formats,
    ModelName,
    Out,
    Root,
    Split,
    TeacherFile,
    Venue,
    folder,
    progress,
    write,
    write_figures,
)
from kdviz.cli.landscape_options import (
    GRID,
    MEASURED,
    Bn,
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
from kdviz.cli.landscape_output import Output, print_table

NEEDS_ARGUMENTS = True


def command(
    checkpoints: Annotated[list[Path], typer.Argument(help="Checkpoints of nets, or folders of runs (last epoch).")],
    losses: Losses = None,
    samples: Samples = None,
    settings: Settings = None,
    bn: Bn = "frozen",
    precision: Precision = "fp32",
    epsilon: Annotated[
        float, typer.Option(help="A rise of the loss that still counts as flat.", rich_help_panel=MEASURED)
    ] = 0.1,
    planes: Annotated[int, typer.Option(help="Random planes of each net, for the spread.", rich_help_panel=GRID)] = 3,
    span: Span = 1.0,
    steps: Steps = 21,
    seed: Seed = 0,
    normalize: Normalize = "filter",
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
    venue: Venue = "icml",
    formats: Formats = None,
    out: Out = None,
) -> None:
    """Compare nets by numbers: sharpness, flatness, convex share, local minima, with their spread over random planes.

    Example: kdviz compare checkpoints/resnet8_kd.pt checkpoints/resnet8_kd+rk.pt

    The first plane of each net is drawn too. Interrupted or killed, the same command goes on where it was.
    """
    from kdviz.analysis.landscape.compare import Statistics, rows
    from kdviz.analysis.landscape.nets import compare_nets, open_nets
    from kdviz.analysis.landscape.options import Grid, Measurement

    names = losses or ["ce"]
    grid = Grid(span=span, steps=odd("compare", steps), seed=seed, normalize=normalize)
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
    output = Output(folder(place("compare", nets.name, []), out), venue, formats)
    measurement = Measurement(
        losses=names,
        settings=settings_of(settings),
        samples=images_of(nets.data, samples),
        seed=seed,
        precision=precision,
        bn=bn,
    )
    with progress("planes and spectra") as moved:
        kept = {"journal": output.journal("compare"), "progress": moved}
        found, first = compare_nets(nets, measurement, grid, Statistics(epsilon=epsilon), planes=planes, **kept)
    print_table(rows(found))
    write(found, output.folder / "comparison.nc")
    write_figures([found], ["numbers"], output.folder, venue=venue, formats=formats)
    output.write(first, nets.stems, ["compare"])
