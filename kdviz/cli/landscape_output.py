"""What `kdviz landscape`, `kdviz path` and `kdviz compare` write and print of their results."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kdviz.base.check import require, unknown
from kdviz.cli.common import write, write_figures

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Output:
    """Where results go and in which forms: `folder`, figures for `venue` in `formats`, a page, other formats."""

    folder: Path
    venue: str = "icml"
    formats: Sequence[str] | None = None
    html: bool = False
    export: Sequence[str] = ()

    def check(self, who: str, *, line: bool, ensemble: bool = False) -> None:
        """Refuse before the sweep what could not be written after it."""
        from kdviz.analysis.landscape.interop import EXPORTS

        require(not (self.html and line), f"{who}: --html draws planes; leave it out for lines")
        for suffix in self.export:
            if suffix not in EXPORTS:
                raise unknown("export format", suffix, EXPORTS)
        require(not (line and "vtp" in self.export), f"{who}: --export vtp needs a plane, not a line")
        require(not (ensemble and self.export), f"{who}: --export needs one line or plane, not --lines")

    def write(self, results: "Sequence[xr.Dataset]", stems: Sequence[str], journals: Sequence[str]) -> None:
        """Write results (by these stems), exports and figures; then remove the `journals` that kept their points."""
        from kdviz import plots
        from kdviz.analysis.landscape import export, journal

        for result, stem in zip(results, stems, strict=True):
            write(result, self.folder / f"{stem}.nc")
            for suffix in self.export:
                typer.echo(export(result, self.folder / f"{stem}.{suffix}"))
        names = [name for name in plots.FIGURES[str(results[0].attrs["kind"])] if self.html or name != "html"]
        write_figures(results, names, self.folder, venue=self.venue, formats=self.formats)
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
