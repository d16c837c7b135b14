"""`kdviz tau`: whether students rank the channels as their teacher does."""

from typing import Annotated

import typer

from kdviz.cli.common import FigureOptions, progress, with_option_records, write, write_figures
from kdviz.cli.logits import LogitOptions, drawable, gather, place

NEEDS_ARGUMENTS = True


@with_option_records
def command(
    *,
    shares: Annotated[
        list[float] | None, typer.Option("--share", help="Shares of the channels [default: .1,.3,.5,1].")
    ] = None,
    steepness: Annotated[
        list[float] | None, typer.Option(help="Of the differentiable tau [default: .25 to 16 by doubling].")
    ] = None,
    level: Annotated[float, typer.Option(help="Coverage of the bootstrap intervals, a fraction.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    style: Annotated[list[str] | None, typer.Option(help="distribution, breakdown [default: both].")] = None,
    source: LogitOptions,
    figures: FigureOptions,
) -> None:
    """Kendall's tau between student and teacher, per sample, and what it goes with; by epoch for a run's folder.

    Example: kdviz tau checkpoints/resnet8_kd.pt checkpoints/resnet8_kd+rk.pt
    """
    from kdviz.analysis import ranks
    from kdviz.analysis.bootstrap import Bootstrap

    drawable("tau", style or ())
    found = gather(source, out=figures.out, needs_teacher=True)
    bootstrap = Bootstrap(level=level, seed=seed)
    where, results = place("tau", found, figures.out), []
    for one in found:
        with progress(f"tau of {one.label}") as advance:
            result = ranks.tau(
                one.logits,
                shares=shares or ranks.SHARES,
                steepness=steepness or ranks.STEEPNESS,
                bootstrap=bootstrap,
                label=one.label,
                drop_nonfinite=source.drop_nonfinite,
                progress=advance,
            )
        if one.epochs is not None and (kept := one.epochs.logits()):
            by_epoch = ranks.over_epochs(kept, bootstrap=bootstrap, drop_nonfinite=source.drop_nonfinite)
            result = result.merge(by_epoch)
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
    names = style or ["distribution", "breakdown"]
    write_figures(results, names, where, stem="tau_", venue=figures.venue, formats=figures.formats)
