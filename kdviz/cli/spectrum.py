"""`kdviz spectrum`: the spectral density of the Hessian at trained weights."""

from pathlib import Path
from typing import Annotated

import typer

from kdviz.base.check import require
from kdviz.cli.common import pairs, write, write_figures
from kdviz.cli.landscape_options import MEASURED, Losses, Samples, Settings, images_of
from kdviz.cli.options import FigureOptions, NetOptions, with_option_records
from kdviz.cli.pace import progress
from kdviz.cli.requests import Request, finished, name_with_code, place_for, several

NEEDS_ARGUMENTS = True


@with_option_records
def command(
    *,
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Checkpoints (FILE, FILE@MODEL), or folders of runs (last epoch).")
    ],
    losses: Losses = None,
    samples: Samples = None,
    settings: Settings = None,
    probes: Annotated[int, typer.Option(help="Random vectors, for the standard error.", rich_help_panel=MEASURED)] = 8,
    iterations: Annotated[
        int, typer.Option(help="Lanczos iterations of each, one Hessian product each.", rich_help_panel=MEASURED)
    ] = 60,
    width: Annotated[
        float | None,
        typer.Option(help="Of the kernel, in eigenvalues [default: 1/200 of their range].", rich_help_panel=MEASURED),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the vectors and of the draw of images.", rich_help_panel=MEASURED)] = 0,
    nets: NetOptions,
    figures: FigureOptions,
) -> None:
    """Draw the spectral density of the Hessian (stochastic Lanczos quadrature); several checkpoints share an axis.

    Example: kdviz spectrum checkpoints/resnet8_ce.pt checkpoints/resnet8_kd.pt

    One loss at a time. What is negative is printed with its standard error over the vectors.
    """
    from kdviz.analysis.landscape.density import facts, smoothed
    from kdviz.analysis.landscape.nets import open_nets, spectral_quadratures
    from kdviz.base.check import positive

    wanted = losses or ["ce"]
    require(len(wanted) == 1, f"spectrum: one loss at a time, got {', '.join(wanted)}")
    positive("spectrum", probes=probes, iterations=iterations, width=1.0 if width is None else width)
    opened = open_nets(checkpoints, losses=wanted, **nets.opening())
    asked = {"loss": wanted[0], "samples": images_of(opened.data, samples), "settings": pairs(settings or [])}
    asked |= {"probes": probes, "iterations": iterations, "seed": seed}
    facts_of = {**asked, "loss": name_with_code(wanted[0]), "width": width, "labels": list(opened.labels)}
    facts_of |= {"data": opened.data.sha256, "teacher": opened.teacher and opened.teacher.sha256}
    request = Request("spectrum", " ".join(one.sha256 for one in opened.checkpoints), facts_of)
    stems = [f"{stem}_density" for stem in opened.stems]
    folder = place_for(request, several("spectrum", opened.stems), [f"{stem}.nc" for stem in stems], figures)
    done = finished([folder / f"{stem}.nc" for stem in stems], request, figures)
    if done is None:
        with progress("Hessian products") as moved:
            found = spectral_quadratures(opened, device=nets.device, progress=moved, **asked)
        done = [request.signed(one) for one in smoothed(found, width=width)]
        for stem, one in zip(stems, done, strict=True):
            write(one, folder / f"{stem}.nc")
    write_figures(done, ["density"], folder, venue=figures.venue, formats=figures.formats)
    for label, one in zip(opened.labels, done, strict=True):
        numbers = {name: f"{value:.4g} ± {error:.2g}" for name, (value, error) in facts(one).items()}
        typer.echo(
            f"{label}: eigenvalues {float(one['smallest']):.4g} to {float(one['largest']):.4g},"
            f" trace {numbers['trace']}, share below -{one.attrs['width']:.3g} {numbers['negative_mass']},"
            f" negative share of the curvature {numbers['negative_curvature']}"
        )
