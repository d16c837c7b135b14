"""`kdviz histogram`: how large the logits of teacher and students are."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

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
    temperature: Annotated[float, typer.Option(help="Of the softmax, above 0.")] = 4.0,
    bins: Annotated[int, typer.Option(help="Most bins of a histogram, 16 or more.")] = 1024,
    small: Annotated[float, typer.Option(help="The share of channels, from the smallest up, called small.")] = 0.9,
    ranking: Annotated[
        bool, typer.Option("--ranking/--no-ranking", help="Also the ranking loss' gradient, slow on many classes.")
    ] = True,
    style: Annotated[
        list[str] | None,
        typer.Option(
            help="values, density, ranks [default: values,ranks].",
            autocompletion=completion.choices("values", "density", "ranks", separators=","),
        ),
    ] = None,
    source: LogitOptions,
    figures: FigureOptions,
) -> None:
    """Histograms of logits, raw and after softmax, of several students beside their teacher.

    Example: kdviz histogram checkpoints/resnet8_kd.pt checkpoints/resnet8_kd+rk.pt
    """
    from kdviz.analysis.histogram import histogram

    drawable("histogram", style or ())
    found = gather(source, figures)
    files = file_names("histogram", found)
    chosen = {"temperature": temperature, "bins": bins, "small": small, "drop_nonfinite": source.drop_nonfinite}
    chosen |= {} if ranking else {"rank_samples": 0}
    asked = requests("histogram", found, chosen)
    where = place(asked, found, files, figures)

    def measure(one: NamedLogits, advance: Callable[..., None]) -> "xr.Dataset":
        return histogram(one.logits, label=one.label, progress=advance, announce=announce, **chosen)

    paths = [where / file for file in files]
    results = measured(found, asked, paths, figures, what="histogram", measure=measure)
    for index, result in enumerate(results):
        for net in result.net.values if index == 0 else ["student"]:
            mass = float(result.small_mass.sel(net=net))
            name = net if net == "teacher" else result.attrs["label"]
            typer.echo(f"{name}: {mass:.1%} of probability in the smallest {small:.0%} of channels")
        if "small_gradient" in result:
            share = {str(loss): float(result.small_gradient.sel(loss=loss)) for loss in result.loss.values}
            listed = ", ".join(f"{value:.1%} of {loss}'s gradient" for loss, value in share.items())
            typer.echo(f"{result.attrs['label']}: there too {listed}")
    names = style or ["values", "ranks"]
    write_figures(results, names, where, stem="histogram_", venue=figures.venue, formats=figures.formats)
