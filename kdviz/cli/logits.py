"""What `histogram` and `tau` share: checkpoints, runs or files of logits become labelled sources of logits."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdviz.base.check import KdvizError, require, unknown
from kdviz.base.files import sha256
from kdviz.cli.adaptation import with_remarks
from kdviz.cli.common import open_checkpoint, open_teacher, write
from kdviz.cli.options import FigureOptions, NetOptions
from kdviz.cli.pace import progress
from kdviz.cli.requests import Request, finished, place_for, several

if TYPE_CHECKING:
    import xarray as xr

    from kdviz.checkpoints import Checkpoint
    from kdviz.data import BoxData, Data

SUFFIXES = (".nc", ".npz", ".npy")
BATCH = 250  # images in the net at a time

Students = Annotated[
    list[str] | None,
    typer.Argument(metavar="CKPT...", help="Checkpoints (FILE, FILE@MODEL), folders of runs, logits (.nc .npz .pt)."),
]
LogitFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--logits",
        metavar="FILE[,FILE]",
        help="Logits instead of a checkpoint: .nc, .npz, .pt, or student.npy,teacher.npy[,labels.npy].",
    ),
]
Samples = Annotated[int | None, typer.Option(help="Images, drawn by class [default: all of the split].")]
DropNonfinite = Annotated[bool, typer.Option("--drop-nonfinite", help="Leave out samples with NaN or Inf.")]
Label = Annotated[list[str] | None, typer.Option(help="Names in the figure, in the order of the students: KD,ours.")]


Rest = Annotated[
    str, typer.Option(help="Channels that sparse logits leave out: mask, floor or spread (of log-probabilities).")
]


@dataclass(frozen=True)
class LogitOptions(NetOptions):
    """The options that say whose logits are measured."""

    students: Students = None
    logits: LogitFiles = None
    label: Label = None
    samples: Samples = None
    drop_nonfinite: DropNonfinite = False
    rest: Rest = "mask"


@dataclass(frozen=True)
class NamedLogits:
    """One student.

    Attributes:
        label: its name in figures.
        name: its name in files.
        logits: of it and its teacher.
        subject: SHA-256 of its checkpoint, or of the files of its logits.
        facts: what else decides the logits.
        epochs: of its run, where it is a run.
    """

    label: str
    name: str
    logits: Any
    subject: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    epochs: "KeptEpochs | None" = None

    @property
    def samples(self) -> int | None:
        """How many there are, where that is known before the pass."""
        return self.logits.sizes["sample"] if hasattr(self.logits, "sizes") else None


@dataclass(frozen=True)
class KeptEpochs:
    """The kept epochs of a run, and what is needed to measure them: data, and the teacher's logits."""

    run: Path
    data: "Data"
    teacher: Any
    options: NetOptions

    def logits(self) -> dict[int, Any]:
        """Logits at each kept epoch, collected now."""
        from kdviz import collect_logits
        from kdviz.checkpoints import RunFolder

        found = {}
        files = RunFolder(self.run).kept
        with progress("epochs") as advance:
            for done, file in enumerate(files, 1):
                checkpoint = on_device(open_checkpoint(file, self.options.model), self.options)
                epoch = checkpoint.epoch if checkpoint.epoch is not None else int(file.stem.rpartition("_")[2])
                batch = self.options.batch or BATCH
                found[epoch] = collect_logits(checkpoint, self.data, teacher=self.teacher, batch=batch)
                advance(done, len(files))
        return found


def gather(source: LogitOptions, figures: FigureOptions, *, needs_teacher: bool = False) -> list[NamedLogits]:
    """Every student named on the command line; nets are run once and their logits written beside the results."""
    named = [*(source.students or ())]
    require(named or source.logits, "name a checkpoint, or logits with --logits")
    brought = [one for one in named if holds_logits(one)] + list(source.logits or ())
    paths = [Path(one) for one in named if one not in brought]
    found = _from_checkpoints(paths, source, figures, needs_teacher) if paths else []
    found += [from_file(one, source.rest) for one in brought]
    found = _distinct(found)
    if source.label:
        require(len(source.label) == len(found), f"--label: {len(found)} students but {len(source.label)} labels")
        return [replace(one, label=label) for label, one in zip(source.label, found, strict=True)]
    seen = [one.label for one in found]
    return [one if seen.count(one.label) == 1 else replace(one, label=one.name) for one in found]


def requests(command: str, found: Sequence[NamedLogits], settings: Mapping[str, Any]) -> list[Request]:
    """What decides each student's result, its label included."""
    facts = [{**settings, "label": one.label, "logits": dict(one.facts)} for one in found]
    subject = " ".join(one.subject for one in found)
    return [Request(command, subject, {**each, "student": one.name}) for one, each in zip(found, facts, strict=True)]


def place(asked: Sequence[Request], found: Sequence[NamedLogits], files: Sequence[str], figures: FigureOptions) -> Path:
    """The folder that a command writes to: `-o`, the student's, or for several one of their names."""
    name = found[0].name if len(found) == 1 else several(asked[0].command, [one.name for one in found])
    return place_for(asked[0], name, files, figures)


def measured(
    found: Sequence[NamedLogits],
    asked: Sequence[Request],
    files: Sequence[Path],
    figures: FigureOptions,
    *,
    what: str,
    measure: Callable[[NamedLogits, Callable[..., None]], "xr.Dataset"],
) -> "list[xr.Dataset]":
    """Each student's result: that of an earlier command of the same request, else measured now and written.

    Args:
        found, asked, files: the students, what decides their results, where these are kept.
        figures: say whether earlier results count.
        what: is measured, for the line of progress.
        measure: (student, progress) -> its result.
    """
    results = []
    for one, file, request in zip(found, files, asked, strict=True):
        held = finished([file], request, figures)
        if not held:
            with progress(f"{what} of {one.label}", one.samples) as advance:
                held = [request.signed(measure(one, advance))]
            write(held[0], file)
        results += held
    return results


def file_names(command: str, found: Sequence[NamedLogits]) -> list[str]:
    """The file of each student's result."""
    return [f"{command}.nc" if len(found) == 1 else f"{command}_{one.name}.nc" for one in found]


def drawable(kind: str, names: Sequence[str]) -> None:
    """Refuse figures that nobody knows, before anything is measured for them."""
    from kdviz.plots import FIGURES

    for name in names:
        if name not in FIGURES[kind]:
            raise unknown(f"figure of a {kind}", name, FIGURES[kind])


def holds_logits(text: str) -> bool:
    """Whether a name on the command line is that of logits; a .pt may be either, which its contents say."""
    from kdviz.analysis.sources import open_logits

    if "," in text or Path(text).suffix in SUFFIXES:
        return True
    if Path(text).suffix not in (".pt", ".pth") or not Path(text).is_file():
        return False
    with suppress(KdvizError):
        open_logits(text)
        return True
    return False


def from_file(text: str, rest: str = "mask") -> NamedLogits:
    """The logits in one file, or in the files of a list with commas."""
    from kdviz.analysis.sources import open_logits
    from kdviz.checkpoints.naming import is_generic

    opened = open_logits(text, rest=rest)
    files = [Path(one) for one in (text.split(",") if "," in text and not Path(text).exists() else [text])]
    first = files[0]
    generic = first.stem == "logits" or is_generic(first.stem)
    folder = first.absolute().parent.name
    name = first.stem if not generic or not folder else folder if first.stem == "logits" else f"{folder}_{first.stem}"
    label = str(opened.attrs.get("label", name))
    digests = " ".join(map(sha256, files))
    return NamedLogits(
        label, name, opened, str(opened.attrs.get("student_sha256", digests)), {"files": digests, "rest": rest}
    )


def _distinct(found: list[NamedLogits]) -> list[NamedLogits]:
    """The students with different names where they are different ones."""
    subjects: dict[str, set[str]] = {}
    for one in found:
        subjects.setdefault(one.name, set()).add(one.subject)
    return [replace(o, name=f"{o.name}-{o.subject[:8]}") if len(subjects[o.name]) > 1 else o for o in found]


def _from_checkpoints(
    paths: Sequence[Path], source: LogitOptions, figures: FigureOptions, needs_teacher: bool
) -> list[NamedLogits]:
    from kdviz.checkpoints.naming import names_of
    from kdviz.checkpoints.references import split_reference
    from kdviz.checkpoints.run_folder import RunFolder, is_run
    from kdviz.data import BoxData

    opened = [on_device(open_checkpoint(path, source.model, weights=source.weights), source) for path in paths]
    teachers = [open_teacher(one, source.teacher, source.teacher_model) for one in opened]
    teachers = [one if one is None else on_device(one, source) for one in teachers]
    known = next((one for one in teachers if one is not None), None)
    require(known or not needs_teacher, f"{paths[0]} names no teacher; name its checkpoint with --teacher")
    found: list[NamedLogits] = []
    for path, checkpoint, own, name in zip(paths, opened, teachers, names_of(opened), strict=True):
        images = images_of(checkpoint, source)
        images = images.subset(source.samples) if source.samples else images
        teacher = own or known
        facts: dict[str, Any] = {
            "teacher": teacher and teacher.sha256,
            "data": (images.name, images.split, images.sha256),
        }
        where = logits_file(name, checkpoint, figures, alone=len(paths) == 1)
        logits = collected(checkpoint, teacher, images, where, [one.logits for one in found], source.batch or BATCH)
        epochs, kept = None, RunFolder(checkpoint.path.parent).kept
        of_run = is_run(split_reference(path)[0])  # the run's folder was named, not its last epoch
        if kept and of_run and not isinstance(images, BoxData):
            epochs = KeptEpochs(checkpoint.path.parent, images, logits.get("logits_teacher"), source)
            facts["epochs"] = [sha256(one) for one in kept]
        logits = logits.assign_attrs(label=checkpoint.method or name)
        found.append(NamedLogits(str(logits.attrs["label"]), name, logits, checkpoint.sha256, facts, epochs))
    return found


def images_of(checkpoint: "Checkpoint", source: NetOptions) -> "Data | BoxData":
    """The images of a student, with boxes where it is a detector."""
    from kdviz.checkpoints.related import load_measured_of

    asked = {"root": source.root, "split": source.split, "adaptation": source.adaptation}
    return with_remarks(load_measured_of(checkpoint, source.data, **asked))


def logits_file(name: str, checkpoint: "Checkpoint", figures: FigureOptions, *, alone: bool) -> Path:
    """Where a student's logits are kept: of no `-o`, in the student's own folder."""
    file = "logits.nc" if alone or figures.out is None else f"{name}_logits.nc"
    return place_for(Request("logits", checkpoint.sha256, {}), name, [file], figures, drawn=False) / file


def on_device(checkpoint: "Checkpoint", options: NetOptions) -> "Checkpoint":
    """The checkpoint, its net where it will run."""
    from kdviz.train.device import choose_device

    checkpoint.model.to(choose_device(options.device))
    return checkpoint


def collected(
    checkpoint: "Checkpoint",
    teacher: "Checkpoint | None",
    data: "Data | BoxData",
    where: Path,
    done: list,
    batch: int,
    *,
    boxes: "xr.Dataset | None" = None,
) -> Any:
    """The logits in the file `where` if they are of these very nets and images; else collected and written there.

    Args:
        checkpoint, teacher: the nets, on their device.
        data: the images.
        where: the file.
        done: logits of other students, whose teacher's are taken where they are of the same images.
        batch: images in a classifier at a time.
        boxes: a detector's logits, whose boxes are taken; else each detector has its own.
    """
    from kdviz import collect_logits
    from kdviz.analysis.detections import matched_logits
    from kdviz.base.files import read_dataset
    from kdviz.data import BoxData

    wanted = {
        "student_sha256": checkpoint.sha256,
        "teacher_sha256": teacher.sha256 if teacher else None,
        "data_sha256": data.sha256,
    }
    if isinstance(data, BoxData):
        done = []  # a teacher's logits are at a student's boxes
        wanted["boxes_of"] = checkpoint.sha256 if boxes is None else boxes.attrs["boxes_of"]
    if where.is_file():
        try:
            held = read_dataset(where)
        except KdvizError:
            held = None  # a damaged file is written anew
        if held is not None and all(held.attrs.get(key) == value for key, value in wanted.items()):
            return held
    same = (one for one in done if all(one.attrs.get(key) == wanted[key] for key in ("teacher_sha256", "data_sha256")))
    shared = next((one["logits_teacher"] for one in same if "logits_teacher" in one), None)
    with progress(f"logits of {where.parent.name}") as advance:
        taught = teacher if shared is None else shared
        if isinstance(data, BoxData):
            logits = matched_logits(checkpoint, data, teacher=taught, at=boxes, progress=advance)
        else:
            logits = collect_logits(checkpoint, data, teacher=taught, batch=batch, progress=advance)
    write(logits.assign_attrs(command="logits", subject=checkpoint.sha256), where)
    return logits
