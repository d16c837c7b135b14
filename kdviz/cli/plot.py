"""`kdviz plot`: a figure again from its saved result, or its numbers, without the model and without torch."""

from pathlib import Path
from typing import Annotated

import typer

from kdviz.base.check import one_of, require
from kdviz.cli import completion
from kdviz.cli.common import hold, write_figures
from kdviz.cli.options import Formats, Out, Venue

NEEDS_ARGUMENTS = True


def command(
    results: Annotated[list[Path], typer.Argument(help="Results (.nc) of one kind.")],
    figure: Annotated[
        list[str] | None, typer.Option("--style", help="Which figure, or several: contour,surface [default: all].")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Instead of figures, their numbers: csv, tex (a table for pgfplots), or both.",
            autocompletion=completion.choices("csv", "tex", separators=","),
        ),
    ] = None,
    venue: Venue = "icml",
    formats: Formats = None,
    out: Out = None,
) -> None:
    """Draw saved results again, or write the numbers of their figures.

    Example: kdviz plot reports/resnet8_kd/landscape.nc --style contour --venue neurips
    """
    from kdviz.base.files import read_dataset
    from kdviz.plots import FIGURES
    from kdviz.plots.data import FORMATS, save_tables

    for form in data or ():
        one_of("--data", FORMATS, form=form)
    datasets = []
    for path in results:
        notes: list[str] = []
        datasets.append(read_dataset(path, notes=notes))
        for note in notes:
            typer.echo(f"kdviz: {path}: {note}", err=True)
    clash = len({path.stem for path in results}) < len(results) and out is not None
    require(not (data and clash), "--data: several results of the same name would go into one folder; leave out -o")
    for form in data or ():
        for path, dataset in zip(results, datasets, strict=True):
            for written in save_tables(dataset, hold(out or path.parent) / path.stem, form):
                typer.echo(written)
    if data:
        return
    kind = datasets[0].attrs.get("kind")
    require(kind in FIGURES, f"{results[0]}: does not say what it is (attribute kind); was it written by kdviz?")
    names = figure or [name for name in FIGURES[str(kind)] if name != "html"]
    write_figures(datasets, names, out or results[0].parent, venue=venue, formats=formats)
