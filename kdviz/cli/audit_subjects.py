"""Whom `kdviz audit` is about: the nets or logits that were named, and those that belong to them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kdviz.base.check import KdvizError, require
from kdviz.cli.common import open_checkpoint, open_data, open_teacher
from kdviz.cli.logits import BATCH, collected, from_file, holds_logits, images_of, logits_file, on_device
from kdviz.cli.options import FigureOptions, NetOptions

if TYPE_CHECKING:
    from kdviz.analysis.audit import Nets
    from kdviz.checkpoints import Checkpoint
    from kdviz.data import Data


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
        nets: the nets, or None where logits alone are compared.
        images: of the samples, or None.
        notes: what a reader must know.
        without_nets: why the nets are not compared, where they are there.
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
    without_nets: str | None = None


@dataclass(frozen=True)
class Wanted:
    """How many images an audit of nets takes, of those how many for the nets' features, and its seed."""

    samples: int | None
    net_samples: int
    seed: int


def of_logits(text: str, against: str | None, source: NetOptions, rest: str) -> Found:
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


def of_nets(path: Path, against: str | None, source: NetOptions, figures: FigureOptions, wanted: Wanted) -> Found:
    """The student in a checkpoint, its teacher, and the student without one; their logits are collected."""
    from kdviz.analysis.audit import Nets
    from kdviz.checkpoints.naming import name_of
    from kdviz.data import BoxData
    from kdviz.data.crops import crops

    checkpoint = on_device(open_checkpoint(path, source.model, weights=source.weights), source)
    teacher = open_teacher(checkpoint, source.teacher, source.teacher_model)
    if teacher is None:
        raise KdvizError(f"{path} names no teacher; name its checkpoint with --teacher")
    _same_classes(checkpoint, teacher, "its teacher")
    other, notes = _untaught(checkpoint, against, source)
    data = images_of(checkpoint, source)
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
        theirs = collected(other, teacher, images, file, [own], batch, boxes=own)
    facts = {"student": _fact(checkpoint), "teacher": _fact(teacher)}
    facts |= {"student without teacher": _fact(other)} if other is not None else {}
    facts |= {"data": f"{images.name} ({images.split}), {len(images):,} images, SHA-256 {images.sha256}"}
    deciding = {
        "teacher": teacher.sha256,
        "against": other and other.sha256,
        "data": (images.name, images.split, images.sha256),
        "net_samples": wanted.net_samples,
    }
    if isinstance(images, BoxData):
        boxes, missed = own.sizes["sample"], own.attrs["boxes_without_match"]
        notes.append(
            f"A sample is a ground-truth box that a proposal of the student matches (IoU {own.attrs['matched_iou']} or"
            f" more): {boxes:,} of {boxes + missed:,}. All nets' box heads see the student's proposal. Background is"
            " one of the classes, and never the right one."
        )
        pictures, nets, without = crops(images), None, "of a detector only class logits at matched boxes are compared"
    else:
        untrained = _untrained(teacher, wanted.seed, notes)
        few = images.subset(min(wanted.net_samples, len(images)))
        pictures, nets, without = images, Nets(checkpoint, teacher, few, other, untrained), None
    return Found(
        name_of(checkpoint),
        checkpoint.sha256,
        own,
        theirs,
        facts,
        deciding,
        nets,
        pictures,
        notes,
        without_nets=without,
    )


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
