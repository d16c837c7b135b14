"""`kdviz landscape`: the loss around trained weights, between nets, or along a run."""

from pathlib import Path
from typing import Annotated

import typer

from kdviz.base.check import one_of, require
from kdviz.cli.common import DataName, Formats, ModelName, Out, Root, Split, TeacherFile, Venue, pairs

NEEDS_ARGUMENTS = True
IMAGES = 250  # with 21 x 21 points, what a small net does in half a minute on two cores


def command(
    checkpoints: Annotated[list[Path], typer.Argument(help="Checkpoints of nets; a run's folder for --trajectory.")],
    losses: Annotated[
        list[str] | None,
        typer.Option(help="What to draw: ce kd rk pld dist ..., kendall_tau, agreement [default: ce]."),
    ] = None,
    span: Annotated[
        float, typer.Option(help="Half the side of a plane around a net; 1 moves each filter by its norm.")
    ] = 1.0,
    steps: Annotated[int, typer.Option(help="Points along each axis, an odd number.")] = 21,
    samples: Annotated[
        int | None, typer.Option(help="Images, stratified by label; 0 for all [default: 250 of them].")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the directions and of the draw of images.")] = 0,
    normalize: Annotated[str, typer.Option(help="Random directions: filter, layer or none.")] = "filter",
    directions: Annotated[str, typer.Option(help="random, or hessian (the two top eigenvectors).")] = "random",
    one_d: Annotated[
        bool, typer.Option("--one-d", help="A line along the first direction instead of a plane.")
    ] = False,
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
    planes: Annotated[int, typer.Option(help="With --compare: random planes of each net, for the spread.")] = 3,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A loss's setting, e.g. kd.temperature=2; repeat.")
    ] = None,
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
    from kdviz.cli import landscape_run as run

    asked = {"line": one_d, "lines": lines > 0, "between": between, "trajectory": trajectory}
    kinds = [name for name, wanted in asked.items() if wanted]
    require(len(kinds) <= 1, "landscape: choose one of --one-d, --lines, --between, --trajectory")
    require(not (kinds and compare), "landscape: --compare goes with planes of random directions")
    one_of("landscape", ("random", "hessian"), directions=directions)
    given = between or trajectory  # directions that are nobody's choice
    require(not (given and adaptive), "landscape: --adaptive goes without --between and --trajectory")
    require(
        directions == "random" or not (given or lines), "landscape: --directions hessian goes with a plane or --one-d"
    )
    kinds += ["hessian"] if directions == "hessian" else []
    require(steps % 2, f"landscape: --steps must be odd, so that the net is on the grid; got {steps}, try {steps + 1}")
    require((samples or 0) >= 0 and lines >= 0, "landscape: --samples and --lines must not be negative")
    run.writable(html, export or [], line=lines > 0 or one_d or (between and len(checkpoints) == 2), many=lines > 0)
    names = losses or ["ce"]
    opened = run.open_all(checkpoints, names, trajectory, model, data, root, split, teacher)
    images = min(IMAGES, len(opened.data)) if samples is None else samples or None
    engine = {"losses": names, "samples": images, "precision": precision, "settings": pairs(settings or [])}
    plan = run.Plan(
        opened,
        engine,
        bn=bn,
        span=span,
        steps=steps,
        seed=seed,
        normalize=normalize,
        directions=directions,
        one_d=one_d,
        adaptive=adaptive,
        where=run.place(opened, kinds, out),
    )
    if trajectory or between:
        results = [run.joined(plan, trajectory)]
    elif compare:
        results = run.compared(plan, planes, venue=venue, formats=formats)
    else:
        results = [run.around(plan, index, lines) for index in range(len(opened.nets))]
    done = [result for result in results if result is not None]
    if len(done) == len(results):  # else this rank has only helped
        run.tell(plan, done, venue=venue, formats=formats, html=html, export=export or [])
