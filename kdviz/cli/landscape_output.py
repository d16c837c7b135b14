"""What `kdviz landscape`, `kdviz path` and `kdviz compare` write and print of their results."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer

from kdviz.base.check import KdvizError, require, unknown
from kdviz.cli.common import write, write_figures
from kdviz.cli.options import FigureOptions

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Output:
    """In which forms results are written, and where: figures as `figures` has them, a page, other formats, `folder`."""

    figures: FigureOptions
    html: bool = False
    export: Sequence[str] = ()
    folder: Path = Path()

    def into(self, folder: Path) -> "Output":
        """The same forms in this folder."""
        return replace(self, folder=folder)

    def check(self, who: str, *, line: bool, ensemble: bool = False) -> None:
        """Refuse before the sweep what could not be written after it."""
        from kdviz.analysis.landscape.interop import EXPORTS

        require(not (self.html and line), f"{who}: --html draws planes; leave it out for lines")
        if self.html and find_spec("plotly") is None:
            raise KdvizError(f"{who}: --html needs plotly: pip install 'kdviz[notebooks]'; or leave it out")
        for suffix in self.export:
            if suffix not in EXPORTS:
                raise unknown("export format", suffix, EXPORTS)
        require(not (line and "vtp" in self.export), f"{who}: --export vtp needs a plane, not a line")
        require(not (ensemble and self.export), f"{who}: --export needs one line or plane, not --lines")

    def write(
        self,
        results: "Sequence[xr.Dataset]",
        stems: Sequence[str],
        journals: Sequence[str],
        *,
        held: Collection[str] = (),
    ) -> None:
        """Write results by these stems, but for those of `held`, which are there; exports and figures; then remove the
        `journals` that kept their points."""
        from kdviz import plots
        from kdviz.analysis.landscape import export, journal

        for result, stem in zip(results, stems, strict=True):
            if stem not in held:
                write(result, self.folder / f"{stem}.nc")
            for suffix in self.export:
                typer.echo(export(result, self.folder / f"{stem}.{suffix}"))
        names = [name for name in plots.FIGURES[str(results[0].attrs["kind"])] if self.html or name != "html"]
        write_figures(results, names, self.folder, venue=self.figures.venue, formats=self.figures.formats)
        journal.remove(self.folder, journals)

    def journal(self, name: str) -> Path:
        """The file that keeps the finished points of a result until it is written."""
        from kdviz.analysis.landscape.journal import journal_file

        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / journal_file(name)


def print_numbers(result: "xr.Dataset", where: str) -> None:
    """The numbers of every loss of a plane, beside its picture."""
    from kdviz.analysis.landscape.geometry import summary

    centred = "mark" not in result.coords
    if "distance" in result.attrs:
        far = " and ".join(f"{one:.3g}" for one in np.atleast_1d(result.attrs["distance"]))
        share = f", {result.attrs['reach']:g} lengths of the directions" if "reach" in result.attrs else ""
        typer.echo(f"{where}: the sides of the plane lie {far} from the net in weight space{share}")
    for name, found in summary(result).items():
        centre = f"{found['centre']:.4f} at the net, " if centred else ""
        convex = f"convex on {found['convex_share']:.0%} of the grid, " if centred else ""
        typer.echo(
            f"{where}: {name} {centre}{found['minimum']:.4f} at the lowest point, range {found['range']:.3g},"
            f" {convex}local minima: {found['minima']}"
        )


def print_table(rows: list[list[str]]) -> None:
    """A table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
