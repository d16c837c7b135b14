"""`kdviz tau`: whether students rank the channels as their teacher does."""

from typing import Annotated

import typer

from kdviz.cli.common import (
    DataName,
    Formats,
    ModelName,
    Out,
    Root,
    Split,
    TeacherFile,
    Venue,
    progress,
    write,
    write_figures,
)
from kdviz.cli.logits import DropNonfinite, Label, LogitFiles, Samples, Students, drawable, gather, place

NEEDS_ARGUMENTS = True


def command(
    students: Students = None,
    logits: LogitFiles = None,
    shares: Annotated[
        list[float] | None, typer.Option("--share", help="Shares of the channels [default: .1 .3 .5 1].")
    ] = None,
    steepness: Annotated[
        list[float] | None, typer.Option(help="Of the differentiable tau [default: .25 to 16 by doubling].")
    ] = None,
    level: Annotated[float, typer.Option(help="Coverage of the bootstrap intervals, a fraction.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    figure: Annotated[
        list[str] | None, typer.Option("--style", help="distribution, breakdown [default: both].")
    ] = None,
    label: Label = None,
    model: ModelName = None,
    data: DataName = None,
    root: Root = None,
    split: Split = "test",
    teacher: TeacherFile = None,
    samples: Samples = None,
    drop_nonfinite: DropNonfinite = False,
    venue: Venue = "icml",
    formats: Formats = None,
    out: Out = None,
) -> None:
    """Kendall's tau between student and teacher, per sample, and what it goes with; by epoch for a run's folder.

    Example: kdviz tau checkpoints/resnet8_kd.pt checkpoints/resnet8_kd+rk.pt
    """
    from kdviz.analysis import ranks

    drawable("tau", figure or ())
    found = gather(
        students,
        logits,
        model=model,
        data=data,
        root=root,
        split=split,
        teacher=teacher,
        samples=samples,
        labels=label,
        out=out,
        needs_teacher=True,
    )
    where, results = place("tau", found, out), []
    for one in found:
        with progress(f"tau of {one.label}") as tell:
            result = ranks.tau(
                one.logits,
                shares=shares or ranks.SHARES,
                steepness=steepness or ranks.STEEPNESS,
                level=level,
                seed=seed,
                label=one.label,
                drop_nonfinite=drop_nonfinite,
                progress=tell,
            )
        if one.run is not None and (kept := one.run.epochs()):
            result = result.merge(ranks.over_epochs(kept, level=level, seed=seed, drop_nonfinite=drop_nonfinite))
        results.append(result)
        write(result, where / ("tau.nc" if len(found) == 1 else f"tau_{one.name}.nc"))
    for result in results:
        at = result.sel(measure="tau_b")
        ends = f"[{float(at['mean_low']):.4f}, {float(at['mean_high']):.4f}]"
        rho = float(result["mean"].sel(measure="spearman"))
        typer.echo(
            f"{result.attrs['label']}: mean tau-b {float(at['mean']):.4f} {ends} ({level:.0%} interval,"
            f" {result.attrs['samples']:,} samples), Spearman {rho:.4f}"
        )
    write_figures(results, figure or ["distribution", "breakdown"], where, stem="tau_", venue=venue, formats=formats)
