"""`kdviz tau`: whether students rank the channels as their teacher does."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdviz.base.check import require
from kdviz.cli import completion
from kdviz.cli.common import write_figures
from kdviz.cli.logits import LogitOptions, NamedLogits, drawable, file_names, gather, measured, place, requests
from kdviz.cli.options import FigureOptions, with_option_records
from kdviz.cli.pace import announce

if TYPE_CHECKING:
    import xarray as xr

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
    smooth: Annotated[
        bool, typer.Option("--smooth/--no-smooth", help="Also the differentiable tau, slow on many classes.")
    ] = True,
    style: Annotated[
        list[str] | None,
        typer.Option(
            help="distribution, breakdown [default: both].",
            autocompletion=completion.choices("distribution", "breakdown", separators=","),
        ),
    ] = None,
    source: LogitOptions,
    figures: FigureOptions,
) -> None:
    """Kendall's tau between student and teacher, per sample, and what it goes with; by epoch for a run's folder.

    Example: kdviz tau checkpoints/resnet8_kd.pt checkpoints/resnet8_kd+rk.pt
    """
    from kdviz.analysis import ranks
    from kdviz.analysis.bootstrap import Bootstrap

    drawable("tau", style or ())
    require(smooth or not steepness, "tau: --steepness is of the differentiable tau, which --no-smooth leaves out")
    found = gather(source, figures, needs_teacher=True)
    files = file_names("tau", found)
    chosen: dict[str, Any] = {
        "shares": shares or ranks.SHARES,
        "steepness": steepness or ranks.STEEPNESS,
        "bootstrap": Bootstrap(level=level, seed=seed),
        "drop_nonfinite": source.drop_nonfinite,
    } | ({} if smooth else {"smooth_samples": 0})
    asked = requests("tau", found, chosen)
    where = place(asked, found, files, figures)

    def measure(one: NamedLogits, advance: Callable[..., None]) -> "xr.Dataset":
        result = ranks.tau(one.logits, label=one.label, progress=advance, announce=announce, **chosen)
        if one.epochs is not None and (kept := one.epochs.logits()):
            again = {name: chosen[name] for name in ("bootstrap", "drop_nonfinite")}
            result = result.merge(ranks.over_epochs(kept, **again))
        return result

    results = measured(found, asked, [where / file for file in files], figures, what="tau", measure=measure)
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
