"""`kdviz suboptimal`: where a smaller KL has the wrong class."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdviz.base.check import KdvizError
from kdviz.cli.common import (
    DataName,
    Formats,
    ModelName,
    Out,
    Root,
    Split,
    TeacherFile,
    Venue,
    folder,
    progress,
    write,
    write_figures,
)
from kdviz.cli.logits import DropNonfinite, Label, LogitFiles, Samples, Student, Students, gather, place

if TYPE_CHECKING:
    import xarray as xr

    from kdviz.data import Data


def command(
    students: Students = None,
    logits: LogitFiles = None,
    truth: Annotated[
        str, typer.Option(help="The right class: label, teacher (its argmax), or agreed (where they agree).")
    ] = "label",
    temperature: Annotated[
        float | None, typer.Option(help="Of KL [default: 4, and 1 for the example without a student].")
    ] = None,
    alpha: Annotated[float, typer.Option(help="Weight of T^2 KL in KL+ranking.")] = 0.9,
    gamma: Annotated[float, typer.Option(help="Weight of the ranking loss in KL+ranking.")] = 0.9,
    top: Annotated[int, typer.Option(help="Cases to keep.")] = 6,
    label: Label = None,
    model: ModelName = None,
    data: DataName = None,
    root: Root = None,
    split: Split = "test",
    teacher: TeacherFile = None,
    samples: Samples = None,
    drop_nonfinite: DropNonfinite = False,
    venue: Venue = "icml",
    formats: Formats = None,
    out: Out = None,
) -> None:
    """Show how a student nearer to its teacher in KL can have the wrong class: an example, or cases of real students.

    Without a student: the four-class example, the map over three classes, and paths of descent. With students: the
    pairs of samples (and of students, where there are several) that KL ranks the wrong way, counted and shown.

    Example: kdviz suboptimal checkpoints/resnet8_kd.pt checkpoints/resnet8_kd+rk.pt
    """
    weights: dict[str, Any] = {"alpha": alpha, "gamma": gamma}
    if not students and not logits:
        _example(folder("suboptimal", out), weights | {"temperature": temperature or 1.0}, venue, formats)
        return
    from kdviz.analysis.suboptimal import mine_samples, mine_students

    found = gather(
        students,
        logits,
        model=model,
        data=data,
        root=root,
        split=split,
        teacher=teacher,
        samples=samples,
        labels=label,
        out=out,
        needs_teacher=True,
    )
    where = place("suboptimal", found, out)
    settings = weights | {
        "temperature": 4.0 if temperature is None else temperature,
        "truth": truth,
        "top": top,
        "drop_nonfinite": drop_nonfinite,
        "data": _images(found, data, root, split),
    }
    results = []
    for one in found:
        with progress(f"cases of {one.label}") as tell:
            results.append(mine_samples(one.logits, label=one.label, progress=tell, **settings))
        name = "suboptimal.nc" if len(found) == 1 else f"suboptimal_{one.name}.nc"
        write(results[-1], where / name)
    typer.echo(_table(results))
    figures = {"venue": venue, "formats": formats, "stem": "suboptimal_"}
    write_figures(results, ("overlap", "angles"), where, **figures)
    for one, result in zip(found, results, strict=True):
        stem = "suboptimal_" if len(found) == 1 else f"suboptimal_{one.name}_"
        write_figures(result, ("gallery",), where, **figures | {"stem": stem})
    if len(found) > 1:
        with progress("pairs of students") as tell:
            duels = mine_students(
                [one.logits for one in found], labels=[one.label for one in found], progress=tell, **settings
            )
        write(duels, where / "suboptimal_students.nc")
        typer.echo(_duels_table(duels))
        write_figures(duels, ("matrix", "duels"), where, **figures)


def _example(where: Path, settings: dict[str, Any], venue: str, formats: list[str] | None) -> None:
    from kdviz.analysis.suboptimal import descent, ternary, toy

    for measure, figure in ((toy, "bars"), (ternary, "maps"), (descent, "paths")):
        result = measure(**settings)
        write(result, where / f"{measure.__name__}.nc")
        write_figures(result, (figure,), where, stem=f"{measure.__name__}_", venue=venue, formats=formats)
        typer.echo({"toy": _told_toy, "ternary": _told_ternary, "descent": _told_descent}[measure.__name__](result))


def _told_toy(toy: "xr.Dataset") -> str:
    lines = []
    for criterion in toy["criterion"].values:
        values = toy["loss"].sel(criterion=criterion).values
        best = "right" if bool(toy["right"][int(values.argmin())]) else "wrong"
        told = "  ".join(f"{name} {value:.5f}" for name, value in zip(toy["student"].values, values, strict=True))
        lines.append(f"{criterion:<13} {told}  prefers the {best} one")
    return "\n".join(lines)


def _told_ternary(ternary: "xr.Dataset") -> str:
    areas = ternary["area"].values
    told = "  ".join(
        f"{name} {100 * area:.2f} %" for name, area in zip(ternary["criterion"].values, areas, strict=True)
    )
    return f"students preferred to the right one, and wrong: {told}"


def _told_descent(descent: "xr.Dataset") -> str:
    return "\n".join(
        f"{name:<13} right from step {descent['right_from'].sel(loss=name).values.tolist()},"
        f" changes of class {descent['changes'].sel(loss=name).values.tolist()},"
        f" end {float(descent['to_teacher'].sel(loss=name).max()):.3f} from the teacher (total variation)"
        for name in descent["loss"].values
    )


def _images(found: list[Student], name: str | None, root: Path | None, split: str) -> "Data | None":
    """The images that the logits were collected from, or None where nobody says or the files are not here."""
    from kdviz.data import load_data
    from kdviz.data.external import named_by_file

    attrs = dict(getattr(found[0].logits, "attrs", {}))
    chosen = name or attrs.get("data")
    if chosen is None:
        return None
    try:
        chosen = name or named_by_file(str(chosen), where="the logits' file")
        return load_data(chosen, split=str(attrs.get("split", split)), root=root)
    except KdvizError as error:
        if name:
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
            told = f"{means[0]:>12.1f}°" + "".join(f"{mean:>7.1f}°" for mean in means[1:])
            lines.append(
                f"{one.attrs.get('label', 'student'):<16}{criterion:<14}{int(at['pairs']):>14,}"
                f"{float(at['share']):>9.2%}{told}{float((angles > 90).mean()):>8.1%}"
            )
    return "\n".join(lines)


def _duels_table(duels: "xr.Dataset") -> str:
    lines = [f"samples on which the nearer student is wrong and the other right, of {duels.attrs['samples']:,}"]
    for criterion in duels["criterion"].values:
        pairs = duels["pairs"].sel(criterion=criterion)
        told = int(pairs.sum()), int(duels["candidates"].sum())
        lines.append(
            f"{criterion:<14}{told[0]:>8,} of {told[1]:,} ordered pairs that disagree ({told[0] / max(1, told[1]):.1%})"
        )
    return "\n".join(lines)
