"""`kdviz landscape`: the loss around trained weights, between nets, or along a run."""

from pathlib import Path
from typing import Annotated

import typer

from kdviz.base.check import require
from kdviz.cli.common import DataName, Formats, ModelName, Out, Root, Split, TeacherFile, Venue

NEEDS_ARGUMENTS = True


def command(
    checkpoints: Annotated[list[Path], typer.Argument(help="Checkpoints of nets; a run's folder for --trajectory.")],
    losses: Annotated[
        list[str] | None, typer.Option(help="Losses to draw, e.g. ce kd rk pld dist, kendall_tau [default: ce].")
    ] = None,
    span: Annotated[float, typer.Option(help="Half the side of the plane; 1 moves each filter by its norm.")] = 1.0,
    steps: Annotated[int, typer.Option(help="Points along each axis; odd numbers put the net on the grid.")] = 17,
    samples: Annotated[int, typer.Option(help="Images, stratified by label; 0 for all of the split.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the directions and of the draw of images.")] = 0,
    normalize: Annotated[str, typer.Option(help="Directions: filter, layer or none.")] = "filter",
    directions: Annotated[str, typer.Option(help="random, or hessian (the top eigenvectors).")] = "random",
    lines: Annotated[int, typer.Option(help="Instead of a plane, so many random lines: mean and band.")] = 0,
    between: Annotated[
        bool, typer.Option("--between", help="The line through two nets, or the plane of three.")
    ] = False,
    trajectory: Annotated[
        bool, typer.Option("--trajectory", help="A run's kept epochs on the plane of their principal components.")
    ] = False,
    bn: Annotated[
        str | None, typer.Option(help="Batch norm: frozen, recompute, or (--between) interpolate [default: fits].")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, or bf16 with its error spot-checked.")] = "fp32",
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="A third of the points; the rest by spline, with its error.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also a table: sharpness, flatness, convexity, minima.")
    ] = False,
    html: Annotated[bool, typer.Option("--html", help="Also an interactive page that opens offline.")] = False,
    export: Annotated[list[str] | None, typer.Option(help="Also h5, vtp, npz or csv.")] = None,
    model: ModelName = None,
    data: DataName = None,
    root: Root = None,
    split: Split = "test",
    teacher: TeacherFile = None,
    venue: Venue = "icml",
    formats: Formats = None,
    out: Out = None,
) -> None:
    """Draw filter-normalised loss landscapes; several checkpoints share directions, axes and colours.

    Example: kdviz landscape checkpoints/resnet8_kd.pt checkpoints/resnet8_kd+rk.pt --losses ce kd --compare

    Interrupted or killed, the same command goes on where it was. On many processes:
    torchrun --nproc-per-node 4 -m kdviz landscape CKPT
    """
    from kdviz.cli import landscape_run

    require(sum((lines > 0, between, trajectory)) <= 1, "landscape: choose one of --lines, --between, --trajectory")
    opened = landscape_run.open_all(checkpoints, trajectory, model, data, root, split, teacher)
    engine = {"losses": losses or ["ce"], "samples": samples or None, "precision": precision}
    plan = landscape_run.Plan(
        opened, engine, bn=bn, span=span, steps=steps, seed=seed, normalize=normalize, directions=directions,
        adaptive=adaptive, out=out,
    )  # fmt: skip
    if trajectory or between:
        results = [landscape_run.joined(plan, trajectory)]
    elif lines:
        results = [landscape_run.lines(plan, one, lines) for one in opened.nets]
    else:
        results = [landscape_run.around(plan, one) for one in opened.nets]
    if any(result is None for result in results):
        return  # a rank that only helped
    landscape_run.tell(plan, results, venue=venue, formats=formats, html=html, export=export or [], compare=compare)
