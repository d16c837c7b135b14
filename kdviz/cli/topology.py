"""`kdviz topology`: minima and merge trees of landscapes that were measured before."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdviz.base.check import KdvizError, require
from kdviz.cli import completion
from kdviz.cli.common import write, write_figures
from kdviz.cli.options import Formats, Out, Venue

if TYPE_CHECKING:
    import xarray as xr

NEEDS_ARGUMENTS = True


def command(
    results: Annotated[list[Path], typer.Argument(help="Results (.nc) of kdviz landscape or kdviz path.")],
    losses: Annotated[
        list[str] | None,
        typer.Option(help="Which of the measured losses [default: all].", autocompletion=completion.losses),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Persistence from which a minimum counts, in the unit of the loss; 0 counts all"
            " [default: the 95 % half-widths at the minimum and its saddle together]."
        ),
    ] = None,
    connectivity: Annotated[
        str,
        typer.Option(
            help="Adjacent points of a plane: full (8) or axes (4).", autocompletion=completion.choices("full", "axes")
        ),
    ] = "full",
    venue: Venue = "icml",
    formats: Formats = None,
    out: Out = None,
) -> None:
    """Count the minima of measured landscapes by persistence; draw merge trees and persistence diagrams.

    Example: kdviz topology reports/path_resnet8_ce_resnet8_kd_resnet8_kd+rk/path.nc

    A checkpoint's landscape is measured by kdviz landscape CKPT --topology, which draws these figures too.
    """
    from kdviz.base.files import read_dataset

    for path in results:
        saved = path.suffix in (".nc", "") or not path.is_file()
        require(saved, f"{path}: not a result (.nc); measure its landscape first: kdviz landscape {path} --topology")
    datasets = {name: read_dataset(path) for name, path in zip(_names(results), results, strict=True)}
    draw_topology(datasets, losses or [], out or results[0].parent, venue, formats, threshold, connectivity)


def draw_topology(
    datasets: "dict[str, xr.Dataset]",
    losses: Sequence[str],
    folder: Path,
    venue: str,
    formats: Sequence[str] | None,
    threshold: float | None = None,
    connectivity: str = "full",
) -> None:
    """The topology of every loss of results by their names: written, drawn beside each other and printed."""
    from kdviz.analysis.landscape import topology
    from kdviz.analysis.landscape.geometry import loss_names
    from kdviz.losses import resolve

    found = []
    for name, dataset in datasets.items():
        for loss in [resolve(one).name for one in losses] or loss_names(dataset) or [None]:
            try:
                one = topology(dataset, loss=loss, threshold=threshold, connectivity=connectivity)
            except KdvizError as error:
                raise KdvizError(f"{name}: {error}") from error
            found.append((f"{name}_topology_{one.attrs['loss_name']}.nc", one))
    for file, one in found:
        write(one, folder / file.replace(":", "."))
    write_figures([one for _, one in found], ["tree", "persistence"], folder, venue=venue, formats=formats)
    for _, one in found:
        typer.echo(_line(one))
    typer.echo(f"a minimum counts from a persistence of {found[0][1].attrs['threshold_source']}")


def _names(paths: Sequence[Path]) -> list[str]:
    """A name for each file: its own, with its folder's where several have the same.

    >>> _names([Path("a/landscape.nc"), Path("b/landscape.nc"), Path("b/path.nc")])
    ['a_landscape', 'b_landscape', 'path']
    """
    stems = [path.stem for path in paths]
    names = [
        stem if stems.count(stem) == 1 else f"{path.resolve().parent.name}_{stem}"
        for stem, path in zip(stems, paths, strict=True)
    ]
    require(len(set(names)) == len(names), "topology: the same result twice, or two under one name and folder name")
    return names


def _line(one: "xr.Dataset") -> str:
    """The minima of a loss in a line: how many count, where, and how persistent."""
    shown = one.isel(minimum=one["counted"].values == 1).isel(minimum=slice(1, 6))
    axes = [name for name in ("place_alpha", "place_beta") if name in one]
    further = [
        f"{float(each['birth']):.4g} at ({', '.join(f'{float(each[name]):.3g}' for name in axes)}),"
        f" persistence {float(each['persistence']):.3g}"
        for each in (shown.isel(minimum=i) for i in range(shown.sizes["minimum"]))
    ]
    lowest = one.isel(minimum=0)
    place = ", ".join(f"{float(lowest[name]):.3g}" for name in axes)
    head = (
        f"{one.attrs.get('label', 'net')}: {one.attrs['loss_name']} has {one.attrs['minima']} of"
        f" {one.sizes['minimum']} local minima, {one.attrs['minima_at_edge']} at the border:"
        f" {float(lowest['birth']):.4g} at ({place})"
    )
    return "; ".join([head, *further])
