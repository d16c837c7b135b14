"""`kdviz surface`: losses over a plane of logits."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdviz.base.check import require
from kdviz.cli.adaptation import adapted
from kdviz.cli.common import (
    FigureOptions,
    NetOptions,
    folder,
    open_checkpoint,
    open_data,
    open_teacher,
    progress,
    with_option_records,
    write,
    write_figures,
)
from kdviz.cli.logits import DropNonfinite

if TYPE_CHECKING:
    import xarray as xr

    from kdviz.analysis.surfaces import Sample

# What is drawn when no loss is named: file name, losses, temperatures (None: each loss's own).
DEFAULTS = (("temperatures", ["pld"], [2.0, 1.0, 0.5, 0.1]), ("losses", ["dist", "kd", "pld"], None))


@with_option_records
def command(
    *,
    checkpoint: Annotated[Path | None, typer.Argument(help="A student; with --sample.")] = None,
    loss: Annotated[
        list[str] | None, typer.Option("--loss", help="One or several: dist,kd,pld [default: pld, then dist,kd,pld].")
    ] = None,
    temperature: Annotated[
        list[float] | None, typer.Option("--temperature", help="One or several: 2,1,.5,.1 [default: each loss's own].")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(help="Slice around this sample of the student or of --logits [default: drawn].")
    ] = None,
    logits: Annotated[
        str | None,
        typer.Option(
            "--logits", metavar="FILE[,FILE]", help="Logits (.nc .npz .pt, or student.npy,teacher.npy,labels.npy)."
        ),
    ] = None,
    directions: Annotated[str, typer.Option(help="random, class (label, rival) or student (towards it).")] = "random",
    classes: Annotated[int, typer.Option(help="Length of the drawn t.")] = 100,
    steps: Annotated[int, typer.Option(help="Points along each axis, odd.")] = 51,
    span: Annotated[
        float | None, typer.Option(help="Half the width, in lengths of t [default: 5, and 1 around a sample].")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of t and of the directions.")] = 0,
    label: Annotated[int | None, typer.Option(help="Target class [default: the sample's, or t's argmax].")] = None,
    scale: Annotated[str, typer.Option(help="Colours and heights: own to each panel, or shared.")] = "own",
    drop_nonfinite: DropNonfinite = False,
    nets: NetOptions,
    figures: FigureOptions,
) -> None:
    """Draw losses over a plane of logits through the teacher's, and measure how convex they are.

    Example: kdviz surface --loss pld --temperature 2,1,.5,.1
    """
    from kdviz.analysis.surfaces import Sample, surface

    settings: dict[str, Any] = {
        "classes": classes,
        "steps": steps,
        "seed": seed,
        "directions": directions,
        "span": span if span is not None else 5.0 if sample is None else 1.0,
    }
    require(scale in ("own", "shared"), f"surface: --scale must be own or shared, got {scale!r}")
    around = logits is not None or checkpoint is not None
    require(sample is None or around, "surface: --sample needs a checkpoint or --logits")
    require(sample is not None or not around, "surface: name the sample of the checkpoint or --logits with --sample N")
    require(logits is None or checkpoint is None, "surface: a checkpoint or --logits, not both")
    centre = Sample(label=label)
    if sample is not None:
        found = _of_file(logits, sample, drop_nonfinite) if logits else _of_net(checkpoint or Path(), sample, nets)
        centre = found if label is None else replace(found, label=label)
    plan = DEFAULTS if not loss and not temperature else [("surface", loss or ["pld"], temperature)]
    where = folder("surface", figures.out)
    for name, losses, temperatures in plan:
        with progress(name) as advance:
            result = surface(losses, temperatures=temperatures, around=centre, progress=advance, **settings)
        if sample is not None:
            result.attrs |= {"sample": sample, "origin": logits or str(checkpoint)}
        write(result, where / f"{name}.nc")
        typer.echo(_table(result))
        write_figures(
            result,
            ("both", "surface", "contour"),
            where,
            stem=f"{name}_" if len(plan) > 1 else "",
            venue=figures.venue,
            formats=figures.formats,
            options={"scale": scale},
        )


def _of_file(logits: str, sample: int, drop_nonfinite: bool) -> "Sample":
    from kdviz.analysis.logits import load_logits

    return _row(load_logits(logits, drop_nonfinite=drop_nonfinite), sample, logits)


def _of_net(path: Path, sample: int, nets: NetOptions) -> "Sample":
    import torch

    from kdviz.analysis.logits import collect_logits

    student = open_checkpoint(path, nets.model, weights=nets.weights)
    adaptation = adapted(nets.mean, nets.std, nets.channels, nets.damaged)
    images = open_data(student, nets.data, nets.root, nets.split, adaptation)
    require(0 <= sample < len(images), f"surface: sample {sample} is outside 0..{len(images) - 1} of {images.name}")
    named = open_teacher(student, nets.teacher)
    require(named, f"{path}: names no teacher; name its file with --teacher")
    one = images.take(torch.tensor([sample]))
    return _row(collect_logits(student, one, teacher=named), 0, str(path))


def _row(logits: "xr.Dataset", sample: int, who: str) -> "Sample":
    from kdviz.analysis.surfaces import Sample

    require("logits_teacher" in logits, f"{who}: has no teacher's logits to slice around")
    count = logits.sizes["sample"]
    require(0 <= sample < count, f"{who}: sample {sample} is outside 0..{count - 1}")
    row = logits.isel(sample=sample)
    label = int(row["target"]) if "target" in row else None
    return Sample(label, row["logits_teacher"].values, row["logits_student"].values)


def _table(result: "xr.Dataset") -> str:
    """Convexity and minimum of every panel, as lines of text."""
    lines = [f"{'panel':<22}{'convex':>8}{'minimum at':>12}{'curvature there':>20}{'at t':>18}{'range':>9}"]
    for at in range(result.sizes["panel"]):
        one = result.isel(panel=at)
        least, origin = (one[f"curvature_{where}"].values for where in ("minimum", "origin"))
        edge = ">" if bool(one["minimum_on_edge"]) else ""
        lines.append(
            f"{one['panel'].item():<22}{float(one['convex_share']):>8.1%}"
            f"{edge + format(float(one['minimum_distance']), '.3f') + ' |t|':>12}"
            f"{least[0]:>12.4f}..{least[1]:.4f}{origin[0]:>10.4f}..{origin[1]:.4f}{float(one['range']):>9.3f}"
        )
    return "\n".join(lines)
