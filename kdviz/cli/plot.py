"""`kdviz plot`: a figure again from its saved result, without the model and without torch."""

from pathlib import Path
from typing import Annotated

import typer

from kdviz.base.check import require
from kdviz.cli.common import write_figures
from kdviz.cli.options import Formats, Out, Venue

NEEDS_ARGUMENTS = True


def command(
    results: Annotated[list[Path], typer.Argument(help="Results (.nc) of one kind.")],
    figure: Annotated[
        list[str] | None, typer.Option("--style", help="Which figure, or several: contour,surface [default: all].")
    ] = None,
    venue: Venue = "icml",
    formats: Formats = None,
    out: Out = None,
) -> None:
    """Draw saved results again.

    Example: kdviz plot reports/resnet8_kd/landscape.nc --style contour --venue neurips
    """
    from kdviz.base.files import read_dataset
    from kdviz.plots import FIGURES

    datasets = []
    for path in results:
        notes: list[str] = []
        datasets.append(read_dataset(path, notes=notes))
        for note in notes:
            typer.echo(f"kdviz: {path}: {note}", err=True)
    kind = datasets[0].attrs.get("kind")
    require(kind in FIGURES, f"{results[0]}: does not say what it is (attribute kind); was it written by kdviz?")
    names = figure or [name for name in FIGURES[str(kind)] if name != "html"]
    write_figures(datasets, names, out or results[0].parent, venue=venue, formats=formats)
