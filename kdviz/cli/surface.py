"""`kdviz surface`: losses over a plane of logits."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import typer

from kdviz.base.check import KdvizError, require
from kdviz.cli import completion
from kdviz.cli.common import open_checkpoint, open_data, open_teacher, write, write_figures
from kdviz.cli.logits import DropNonfinite, from_file, on_device
from kdviz.cli.options import FigureOptions, NetOptions, with_option_records
from kdviz.cli.pace import progress
from kdviz.cli.requests import Request, finished, name_with_code, place_for

if TYPE_CHECKING:
    import xarray as xr

    from kdviz.analysis.surfaces import Sample

# What is drawn when no loss is named: file name, losses, temperatures (None: each loss's own).
DEFAULTS = (("temperatures", ["pld"], [2.0, 1.0, 0.5, 0.1]), ("losses", ["dist", "kd", "pld"], None))


@with_option_records
def command(
    *,
    checkpoint: Annotated[Path | None, typer.Argument(help="A student; with --sample.")] = None,
    losses: Annotated[
        list[str] | None,
        typer.Option(
            help="dist,kd,..., package.module:function [default: pld, then dist,kd,pld].",
            autocompletion=completion.losses,
        ),
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
    directions: Annotated[
        str,
        typer.Option(
            help="random, class (label, rival) or student (towards it).",
            autocompletion=completion.choices("random", "class", "student"),
        ),
    ] = "random",
    classes: Annotated[int, typer.Option(help="Length of the drawn t.")] = 100,
    steps: Annotated[int, typer.Option(help="Points along each axis, odd.")] = 51,
    span: Annotated[
        float | None, typer.Option(help="Half the width, in lengths of t [default: 5, and 1 around a sample].")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of t and of the directions.")] = 0,
    target: Annotated[int | None, typer.Option(help="Target class [default: the sample's, or t's argmax].")] = None,
    scale: Annotated[
        str,
        typer.Option(
            help="Colours and heights: own to each panel, or shared.",
            autocompletion=completion.choices("own", "shared"),
        ),
    ] = "own",
    drop_nonfinite: DropNonfinite = False,
    nets: NetOptions,
    figures: FigureOptions,
) -> None:
    """Draw losses over a plane of logits through the teacher's, and measure how convex they are.

    Example: kdviz surface --losses pld --temperature 2,1,.5,.1
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
    name, subject, centre = "surface", "", Sample(label=target)
    if sample is not None:
        row = _of_file(logits, sample, drop_nonfinite) if logits else _of_net(checkpoint or Path(), sample, nets)
        name, subject = f"surface_{row.name}_sample{sample}", row.subject
        centre = row.sample if target is None else replace(row.sample, label=target)
    plan = DEFAULTS if not losses and not temperature else [("surface", losses or ["pld"], temperature)]
    numbers = {key: None if one is None else np.asarray(one).tolist() for key, one in vars(centre).items()}
    asked = [
        Request(
            "surface",
            subject,
            {**settings, **numbers, "sample": sample, "losses": [*map(name_with_code, named)], "temperatures": heat},
        )
        for _, named, heat in plan
    ]
    where = place_for(asked[0], name, [f"{stem}.nc" for stem, _, _ in plan], figures)
    for (name, named, temperatures), request in zip(plan, asked, strict=True):
        held = finished([where / f"{name}.nc"], request, figures)
        if held:
            (result,) = held
        else:
            with progress(name) as advance:
                result = surface(named, temperatures=temperatures, around=centre, progress=advance, **settings)
            if sample is not None:
                result.attrs |= {"sample": sample, "origin": logits or str(checkpoint)}
            result = request.signed(result)
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


class Row(NamedTuple):
    """One sample's logits, with the name and the SHA-256 of what they are of."""

    name: str
    subject: str
    sample: "Sample"


def _of_file(logits: str, sample: int, drop_nonfinite: bool) -> Row:
    from kdviz.analysis.logits import load_logits

    named = from_file(logits)
    return Row(named.name, named.subject, _row(load_logits(logits, drop_nonfinite=drop_nonfinite), sample, logits))


def _of_net(path: Path, sample: int, nets: NetOptions) -> Row:
    import torch

    from kdviz.analysis.logits import collect_logits
    from kdviz.checkpoints.naming import name_of

    student = on_device(open_checkpoint(path, nets.model, weights=nets.weights), nets)
    images = open_data(student, nets.data, nets.root, nets.split, nets.adaptation)
    require(0 <= sample < len(images), f"surface: sample {sample} is outside 0..{len(images) - 1} of {images.name}")
    named = open_teacher(student, nets.teacher, nets.teacher_model)
    if named is None:
        raise KdvizError(f"{path}: names no teacher; name its file with --teacher")
    one = images.take(torch.tensor([sample]))
    logits = collect_logits(student, one, teacher=on_device(named, nets))
    return Row(name_of(student), student.sha256, _row(logits, 0, str(path)))


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
