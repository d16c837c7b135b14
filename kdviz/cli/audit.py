"""`kdviz audit`: what a student knows of its teacher's knowledge and what it lost, in one page."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdviz.base.check import KdvizError, require, unknown
from kdviz.cli import completion
from kdviz.cli.common import hold, open_checkpoint, open_data, open_teacher, write, write_figures
from kdviz.cli.logits import (
    BATCH,
    DropNonfinite,
    LogitFiles,
    Rest,
    collected,
    from_file,
    holds_logits,
    logits_file,
    on_device,
)
from kdviz.cli.options import FigureOptions, NetOptions, with_option_records
from kdviz.cli.pace import progress
from kdviz.cli.requests import Request, finished, place_for

if TYPE_CHECKING:
    import xarray as xr

    from kdviz.analysis.audit import Nets
    from kdviz.checkpoints import Checkpoint
    from kdviz.data import Data

NEEDS_ARGUMENTS = True
PARTS = ("fidelity", "calibration", "cells", "confusion", "margins", "correlation", "temperature", "cka", "embeddings")


@dataclass(frozen=True)
class Found:
    """Whom an audit is about.

    Attributes:
        name: of the student's files.
        subject: SHA-256 of the student, or of its logits.
        logits: the student's and its teacher's.
        against: those of a student without a teacher, or None.
        facts: where they come from, for readers.
        deciding: what else decides the numbers.
        nets: the nets, or None where there are logits alone.
        images: of the samples, or None.
        notes: what a reader must know.
    """

    name: str
    subject: str
    logits: Any
    against: Any
    facts: Mapping[str, str]
    deciding: Mapping[str, Any]
    nets: "Nets | None" = None
    images: "Data | None" = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Wanted:
    """How many images an audit of nets takes, of those how many for the nets' features, and its seed."""

    samples: int | None
    net_samples: int
    seed: int


@with_option_records
def command(
    *,
    student: Annotated[
        str | None,
        typer.Argument(metavar="STUDENT", help="Checkpoint (FILE, FILE@MODEL), folder of a run, or logits (.nc .npz)."),
    ] = None,
    logits: LogitFiles = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A student trained without a teacher, or its logits; none for none [default: the file beside the"
            " student that has ce for its method in its name].",
        ),
    ] = None,
    parts: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Parts to measure: {', '.join(PARTS)} [default: all that can be].",
            autocompletion=completion.choices(*PARTS, separators=","),
        ),
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Images, drawn by class [default: all of the split].")] = None,
    net_samples: Annotated[int, typer.Option(help="Images, of those, for cka and embeddings.")] = 1000,
    level: Annotated[float, typer.Option(help="Coverage of the intervals, a fraction.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the bootstrap, the controls and the embeddings.")] = 0,
    drop_nonfinite: DropNonfinite = False,
    rest: Rest = "mask",
    label: Annotated[str | None, typer.Option(help="The student's name in figures.")] = None,
    source: NetOptions,
    figures: FigureOptions,
) -> None:
    """Does a student know what its teacher knows, and what did it lose? One page of numbers and figures.

    Every number has an interval and stands beside two controls: a student trained without a teacher, and a random
    teacher. Also written: a result (.nc) and figures of each part; samples.nc, what both nets say of each image.

    Example: kdviz audit checkpoints/resnet8_kd+rk.pt
    """
    from kdviz.analysis import audit
    from kdviz.analysis.audit.opened import open_audit
    from kdviz.analysis.bootstrap import Bootstrap
    from kdviz.report.audit import verdict

    for name in parts or ():
        if name not in PARTS:
            raise unknown("part of an audit", name, PARTS)
    given = [one for one in (student, *(logits or ())) if one]
    require(len(given) == 1, f"audit: name one student, or its logits with --logits; got {len(given)}")
    require(net_samples >= 40, f"--net-samples: 40 or more, got {net_samples}")
    bootstrap = Bootstrap(level=level, seed=seed)
    if logits or holds_logits(given[0]):
        found = _of_logits(given[0], against, source, rest)
    else:
        found = _of_nets(Path(given[0]), against, source, figures, Wanted(samples, net_samples, seed))
    opened = open_audit(found.logits, against=found.against, seed=seed, drop_nonfinite=drop_nonfinite, label=label)
    chosen, left_out = audit.choose(parts, opened, nets=found.nets is not None)
    settings = {**found.deciding, "level": level, "seed": seed, "label": label, "drop_nonfinite": drop_nonfinite}
    asked = {name: Request("audit", found.subject, {**settings, "part": name}) for name in (*chosen, "samples")}
    where = place_for(asked["samples"], found.name, [f"{name}.nc" for name in asked], figures)

    def measure(name: str) -> "xr.Dataset":
        with progress(f"audit: {name}") as advance:
            if name == "samples":
                return audit.samples(opened)
            more = {"seed": seed} if name == "embeddings" else {}
            return audit.measure(
                name, opened, nets=found.nets, images=found.images, bootstrap=bootstrap, settings=more, progress=advance
            )

    results, failed = _results(asked, where, figures, measure, all_needed=bool(parts))
    left_out |= failed
    everyone = {name: one for name, one in results.items() if name != "samples"}
    for name, one in everyone.items():
        styles = _styles(one)
        write_figures(one, styles, where, stem=f"{name}_", venue=figures.venue, formats=figures.formats)
    _page(found, everyone, left_out, where)
    for sentence in verdict(everyone):
        typer.echo(sentence)
    for name, reason in left_out.items():
        typer.echo(f"kdviz: not measured: {name}: {reason}", err=True)
    typer.echo(where / "audit.html")


def _results(
    asked: Mapping[str, Request],
    where: Path,
    figures: FigureOptions,
    measure: Callable[[str], "xr.Dataset"],
    *,
    all_needed: bool,
) -> "tuple[dict[str, xr.Dataset], dict[str, str]]":
    """Every part's result, of an earlier command or measured and written now; and why others could not be measured.

    Args:
        asked: part -> what decides its result.
        where: the folder of the results.
        figures: say whether earlier results count.
        measure: part -> its result.
        all_needed: whether a part that cannot be measured ends the command.
    """
    results, failed, reused = {}, {}, 0
    for name, request in asked.items():
        held = finished([where / f"{name}.nc"], request, figures, quiet=True)
        reused += bool(held)
        if not held:
            try:
                held = [request.signed(measure(name))]
            except KdvizError as error:
                if all_needed or name == "samples":
                    raise
                failed[name] = str(error)
                continue
            write(held[0], where / f"{name}.nc")
        results[name] = held[0]
    if reused:
        typer.echo(f"{reused} of {len(asked)} results in {where} were measured before; --fresh measures anew")
    return results, failed


def _styles(result: "xr.Dataset") -> list[str]:
    from kdviz.plots import FIGURES

    first, *others = FIGURES[str(result.attrs["kind"])]
    return [first, *(name for name in others if f"finding_{name}" in result.attrs)]


def _page(found: Found, results: "Mapping[str, xr.Dataset]", left_out: Mapping[str, str], where: Path) -> None:
    from kdviz.base.files import atomic
    from kdviz.report.audit import audit_page

    first = next(iter(results.values())).attrs
    kind = f" ({first['data_kind']})" if first.get("data_kind") else ""
    data = f" on {first['data']}{kind}, {first['split']} split" if "data" in first and "split" in first else ""
    lead = f"{found.name} beside its teacher{data}; {int(first['samples']):,} samples."
    text = audit_page(
        results, title=f"Audit of {found.name}", lead=lead, facts=found.facts, left_out=left_out, notes=found.notes
    )
    hold(where)
    with atomic(where / "audit.html") as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names may hold bytes


def _of_logits(text: str, against: str | None, source: NetOptions, rest: str) -> Found:
    """The student whose logits are in a file."""
    require(source.teacher is None, "audit: --teacher is a net's; the teacher's logits stand beside the student's")
    own = from_file(text, rest)
    other = None
    if against not in (None, "none"):
        require(holds_logits(str(against)), f"--against: {against} holds no logits, as the student's file does")
        other = from_file(str(against), rest)
    facts = {"student's and teacher's logits": text, "SHA-256": str(own.facts["files"])}
    facts |= {"logits of the student without teacher": str(against)} if other else {}
    deciding = {"logits": dict(own.facts), "against": other and dict(other.facts), "data": source.data}
    images = None if source.data is None else open_data(None, source.data, source.root, source.split, source.adaptation)
    notes = (
        [] if images is None else [f"Images are those of {images.name} ({images.split}) in the order of the samples."]
    )
    return Found(
        own.name,
        own.subject,
        _with_names(own.logits, text, images),
        _source(other),
        facts,
        deciding,
        None,
        images,
        notes,
    )


def _source(found: Any) -> Any:
    return None if found is None else found.logits


def _with_names(logits: Any, text: str, images: "Data | None") -> Any:
    """The logits with class names: those of a result of kdviz, or of the images' data set."""
    from kdviz.analysis.logits import load_logits
    from kdviz.base.files import read_dataset

    if Path(text).suffix == ".nc" and Path(text).is_file():
        return read_dataset(text)
    if images is None:
        return logits
    loaded = load_logits(logits)
    require(
        loaded.sizes["channel"] == images.classes,
        f"audit: the logits have {loaded.sizes['channel']} classes but {images.name} has {images.classes}",
    )
    return loaded.assign_coords(class_name=("channel", list(images.class_names)))


def _of_nets(path: Path, against: str | None, source: NetOptions, figures: FigureOptions, wanted: Wanted) -> Found:
    """The student in a checkpoint, its teacher, and the student without one; their logits are collected."""
    from kdviz.analysis.audit import Nets
    from kdviz.checkpoints.naming import name_of

    checkpoint = on_device(open_checkpoint(path, source.model, weights=source.weights), source)
    teacher = open_teacher(checkpoint, source.teacher, source.teacher_model)
    if teacher is None:
        raise KdvizError(f"{path} names no teacher; name its checkpoint with --teacher")
    _same_classes(checkpoint, teacher, "its teacher")
    other, notes = _untaught(checkpoint, against, source)
    data = open_data(checkpoint, source.data, source.root, source.split, source.adaptation)
    images = data.subset(wanted.samples) if wanted.samples else data
    teacher = on_device(teacher, source)
    batch = source.batch or BATCH
    own = collected(
        checkpoint, teacher, images, logits_file(name_of(checkpoint), checkpoint, figures, alone=True), [], batch
    )
    own = own.assign_attrs(label=checkpoint.method or name_of(checkpoint))
    theirs = None
    if other is not None:
        file = logits_file(name_of(other), other, figures, alone=False)
        theirs = collected(other, teacher, images, file, [own], batch)
    untrained = _untrained(teacher, wanted.seed, notes)
    nets = Nets(checkpoint, teacher, images.subset(min(wanted.net_samples, len(images))), other, untrained)
    facts = {"student": _fact(checkpoint), "teacher": _fact(teacher)}
    facts |= {"student without teacher": _fact(other)} if other is not None else {}
    facts |= {"data": f"{images.name} ({images.split}), {len(images):,} images, SHA-256 {images.sha256}"}
    deciding = {
        "teacher": teacher.sha256,
        "against": other and other.sha256,
        "data": (images.name, images.split, images.sha256),
        "net_samples": wanted.net_samples,
    }
    return Found(name_of(checkpoint), checkpoint.sha256, own, theirs, facts, deciding, nets, images, notes)


def _same_classes(student: "Checkpoint", other: "Checkpoint", who: str) -> None:
    require(
        student.classes == other.classes,
        f"{student.path} has {student.classes} classes but {who} {other.path} has {other.classes};"
        " both must be trained on the same data set",
    )


def _untaught(
    checkpoint: "Checkpoint", against: str | None, source: NetOptions
) -> "tuple[Checkpoint | None, list[str]]":
    """The student without a teacher that was named, or that stands beside the student, and what to say of it."""
    from kdviz.checkpoints.related import load_untaught_of

    if against == "none":
        return None, []
    if against is None:
        found = load_untaught_of(checkpoint)
        if found is None:
            return None, ["There is no student without teacher beside it; name one with --against FILE."]
        typer.echo(f"{found.path}: taken as the student without teacher; --against names another one, or none")
        return on_device(found, source), [f"The student without teacher is {found.path}, found by its name."]
    found = open_checkpoint(Path(against), source.model)
    _same_classes(checkpoint, found, "the student without teacher at")
    taught = found.method not in (None, "ce")
    notes = [f"{found.path}, called a student without teacher here, says that it was trained by {found.method}."]
    if taught:
        typer.echo(f"kdviz: {notes[0]}", err=True)
    return on_device(found, source), notes if taught else []


def _untrained(teacher: "Checkpoint", seed: int, notes: list[str]) -> Any:
    """A net of the teacher's architecture with fresh weights; None, and a note, where none can be built."""
    from kdviz.models import build

    try:
        net = build(teacher.name, classes=teacher.classes, seed=seed)
    except KdvizError as error:
        notes.append(f"There is no untrained net of the teacher's architecture ({error}).")
        return None
    return net.to(next(teacher.model.parameters()).device)


def _fact(checkpoint: "Checkpoint") -> str:
    method = f", {checkpoint.method}" if checkpoint.method else ""
    return f"{checkpoint.path} ({checkpoint.name}{method}), SHA-256 {checkpoint.sha256}"
