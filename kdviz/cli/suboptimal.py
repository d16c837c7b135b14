"""`kdviz suboptimal`: where a smaller KL has the wrong class."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdviz.base.check import KdvizError
from kdviz.cli import completion
from kdviz.cli.common import write, write_figures
from kdviz.cli.logits import LogitOptions, NamedLogits, file_names, gather, measured, place, requests
from kdviz.cli.options import FigureOptions, with_option_records
from kdviz.cli.pace import announce, progress
from kdviz.cli.requests import Request, finished, place_for

if TYPE_CHECKING:
    import xarray as xr

    from kdviz.analysis.suboptimal import CriteriaSettings
    from kdviz.data import Data


@with_option_records
def command(
    *,
    truth: Annotated[
        str,
        typer.Option(
            help="The right class: label, teacher (its argmax), or agreed (where they agree).",
            autocompletion=completion.choices("label", "teacher", "agreed"),
        ),
    ] = "label",
    temperature: Annotated[
        float | None, typer.Option(help="Of KL [default: 4, and 1 for the example without a student].")
    ] = None,
    alpha: Annotated[float, typer.Option(help="Weight of T^2 KL in KL+ranking.")] = 0.9,
    gamma: Annotated[float, typer.Option(help="Weight of the ranking loss in KL+ranking.")] = 0.9,
    top: Annotated[int, typer.Option(help="Cases to keep.")] = 6,
    ranking: Annotated[
        bool, typer.Option("--ranking/--no-ranking", help="Also the ranking losses, slow on many classes.")
    ] = True,
    source: LogitOptions,
    figures: FigureOptions,
) -> None:
    """Show how a student nearer to its teacher in KL can have the wrong class: an example, or cases of real students.

    Without a student: the four-class example, the map over three classes, and paths of descent. With students: the
    pairs of samples (and of students, where there are several) that KL ranks the wrong way, counted and shown.

    Example: kdviz suboptimal checkpoints/resnet8_kd.pt checkpoints/resnet8_kd+rk.pt
    """
    from kdviz.analysis.suboptimal import CriteriaSettings, mine_samples, mine_students

    if not source.students and not source.logits:
        _example(CriteriaSettings(1.0 if temperature is None else temperature, alpha, gamma), figures)
        return

    found = gather(source, figures, needs_teacher=True)
    settings = CriteriaSettings(4.0 if temperature is None else temperature, alpha, gamma)
    images = _images(found, source)
    options = {"truth": truth, "top": top, "drop_nonfinite": source.drop_nonfinite, "ranking": ranking}
    files, pictures = file_names("suboptimal", found), images and images.sha256
    asked = requests("suboptimal", found, {**options, "criteria": settings, "images": pictures})
    where = place(asked, found, files, figures)
    options |= {"data": images}

    def measure(one: NamedLogits, advance: Callable[..., None]) -> "xr.Dataset":
        return mine_samples(one.logits, settings, label=one.label, progress=advance, announce=announce, **options)

    results = measured(found, asked, [where / file for file in files], figures, what="cases", measure=measure)
    typer.echo(_table(results))
    drawn: dict[str, Any] = {"venue": figures.venue, "formats": figures.formats, "stem": "suboptimal_"}
    write_figures(results, ("overlap", "angles"), where, **drawn)
    for one, result in zip(found, results, strict=True):
        stem = "suboptimal_" if len(found) == 1 else f"suboptimal_{one.name}_"
        write_figures(result, ("gallery",), where, stem=stem, venue=figures.venue, formats=figures.formats)
    if len(found) > 1:
        labels = [one.label for one in found]
        together = replace(asked[0], settings={"students": [one.settings for one in asked]})
        held = finished([where / "suboptimal_students.nc"], together, figures)
        if held:
            (duels,) = held
        else:
            with progress("pairs of students", found[0].samples) as advance:
                many = [one.logits for one in found]
                duels = mine_students(many, settings, labels=labels, progress=advance, announce=announce, **options)
            duels = together.signed(duels)
            write(duels, where / "suboptimal_students.nc")
        typer.echo(_duels_table(duels))
        write_figures(duels, ("matrix", "duels"), where, **drawn)


def _example(settings: "CriteriaSettings", figures: FigureOptions) -> None:
    from kdviz.analysis.suboptimal import descent, ternary, toy

    request = Request("suboptimal", "", vars(settings))
    where = place_for(request, "suboptimal", ["toy.nc", "ternary.nc", "descent.nc"], figures)
    parts = (("toy", toy, "bars", _toy_text), ("ternary", ternary, "maps", _ternary_text))
    for name, measure, figure, text in (*parts, ("descent", descent, "paths", _descent_text)):
        held = finished([where / f"{name}.nc"], request, figures)
        if held:
            (result,) = held
        else:
            result = request.signed(measure(settings=settings))
            write(result, where / f"{name}.nc")
        write_figures(result, (figure,), where, stem=f"{name}_", venue=figures.venue, formats=figures.formats)
        typer.echo(text(result))


def _toy_text(toy: "xr.Dataset") -> str:
    lines = []
    for criterion in toy["criterion"].values:
        values = toy["loss"].sel(criterion=criterion).values
        best = "right" if bool(toy["right"][int(values.argmin())]) else "wrong"
        listed = "  ".join(f"{name} {value:.5f}" for name, value in zip(toy["student"].values, values, strict=True))
        lines.append(f"{criterion:<13} {listed}  prefers the {best} one")
    return "\n".join(lines)


def _ternary_text(ternary: "xr.Dataset") -> str:
    areas = ternary["area"].values
    listed = "  ".join(
        f"{name} {100 * area:.2f} %" for name, area in zip(ternary["criterion"].values, areas, strict=True)
    )
    return f"students preferred to the right one, and wrong: {listed}"


def _descent_text(descent: "xr.Dataset") -> str:
    return "\n".join(
        f"{name:<13} right from step {descent['right_from'].sel(loss=name).values.tolist()},"
        f" changes of class {descent['changes'].sel(loss=name).values.tolist()},"
        f" end {float(descent['to_teacher'].sel(loss=name).max()):.3f} from the teacher (total variation)"
        for name in descent["loss"].values
    )


def _images(found: list[NamedLogits], source: LogitOptions) -> "Data | None":
    """The images that the logits were collected from, or None where nobody says or the files are not here; of a
    detector's logits its boxes, cut out."""
    from kdviz.data.crops import load_samples
    from kdviz.data.external import named_by_file

    attrs = dict(getattr(found[0].logits, "attrs", {}))
    chosen = source.data or attrs.get("data")
    if chosen is None:
        return None
    try:
        chosen = source.data or named_by_file(str(chosen), where="the logits' file")
        return load_samples(chosen, split=str(attrs.get("split", source.split)), root=source.root)
    except KdvizError as error:
        if source.data:
            raise
        typer.echo(f"kdviz: cases without their images: {error}", err=True)
        return None


def _table(results: "list[xr.Dataset]") -> str:
    """Counts of pairs and the angles, one line for each student and criterion."""
    heads = f"{'angle to CE':>13}{'right':>8}{'wrong':>8}{'> 90':>8}"
    lines = [f"{'student':<16}{'criterion':<14}{'pairs':>14}{'of all':>9}{heads}"]
    for one in results:
        right = one["right"].values.astype(bool)
        for criterion in one["criterion"].values:
            at = one.sel(criterion=criterion)
            angles = at["angle"]
            means = [float(part.mean()) for part in (angles, angles[right], angles[~right])]
            shown = f"{means[0]:>12.1f}°" + "".join(f"{mean:>7.1f}°" for mean in means[1:])
            lines.append(
                f"{one.attrs.get('label', 'student'):<16}{criterion:<14}{int(at['pairs']):>14,}"
                f"{float(at['share']):>9.2%}{shown}{float((angles > 90).mean()):>8.1%}"
            )
    return "\n".join(lines)


def _duels_table(duels: "xr.Dataset") -> str:
    lines = [f"samples on which the nearer student is wrong and the other right, of {duels.attrs['samples']:,}"]
    for criterion in duels["criterion"].values:
        pairs = duels["pairs"].sel(criterion=criterion)
        count, most = int(pairs.sum()), int(duels["candidates"].sum())
        lines.append(f"{criterion:<14}{count:>8,} of {most:,} ordered pairs that disagree ({count / max(1, most):.1%})")
    return "\n".join(lines)
