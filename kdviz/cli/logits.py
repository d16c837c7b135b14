"""What `histogram` and `tau` share: checkpoints, runs or files of logits become labelled sources of logits."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdviz.base.check import KdvizError, require, unknown
from kdviz.cli.adaptation import adapted
from kdviz.cli.common import NetOptions, folder, open_checkpoint, open_data, open_teacher, progress, write

if TYPE_CHECKING:
    from kdviz.checkpoints import Checkpoint
    from kdviz.data import Data

SUFFIXES = (".nc", ".npz", ".npy")

Students = Annotated[
    list[str] | None, typer.Argument(metavar="CKPT...", help="Checkpoints, folders of runs, or logits (.nc .npz .pt).")
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
    """One student: its name in figures, the name of its folder, its logits, and its run's epochs where it is a run."""

    label: str
    name: str
    logits: Any
    epochs: "KeptEpochs | None" = None


@dataclass(frozen=True)
class KeptEpochs:
    """The kept epochs of a run, and what is needed to measure them: data, and the teacher's logits."""

    run: Path
    data: "Data"
    teacher: Any

    def logits(self) -> dict[int, Any]:
        """Logits at each kept epoch, collected now."""
        from kdviz import collect_logits
        from kdviz.checkpoints import RunFolder

        found = {}
        files = RunFolder(self.run).kept
        with progress("epochs") as advance:
            for done, file in enumerate(files, 1):
                checkpoint = open_checkpoint(file)
                epoch = checkpoint.epoch if checkpoint.epoch is not None else int(file.stem.rpartition("_")[2])
                found[epoch] = collect_logits(checkpoint, self.data, teacher=self.teacher)
                advance(done, len(files))
        return found


def gather(source: LogitOptions, *, out: Path | None, needs_teacher: bool = False) -> list[NamedLogits]:
    """Every student named on the command line; nets are run once and their logits written beside the results."""
    named = [*(source.students or ())]
    require(named or source.logits, "name a checkpoint, or logits with --logits")
    brought = [one for one in named if _holds_logits(one)] + list(source.logits or ())
    paths = [Path(one) for one in named if one not in brought]
    found = _from_checkpoints(paths, source, out, needs_teacher) if paths else []
    found += [_from_file(one, source.rest) for one in brought]
    if source.label:
        require(len(source.label) == len(found), f"--label: {len(found)} students but {len(source.label)} labels")
        return [replace(one, label=label) for label, one in zip(source.label, found, strict=True)]
    seen = [one.label for one in found]
    return [one if seen.count(one.label) == 1 else replace(one, label=one.name) for one in found]


def place(command: str, found: Sequence[NamedLogits], out: Path | None) -> Path:
    """The folder that a command writes to: `out`, the student's, or for several one of the command's name."""
    return folder(found[0].name if len(found) == 1 else command, out)


def drawable(kind: str, names: Sequence[str]) -> None:
    """Refuse figures that nobody knows, before anything is measured for them."""
    from kdviz.plots import FIGURES

    for name in names:
        if name not in FIGURES[kind]:
            raise unknown(f"figure of a {kind}", name, FIGURES[kind])


def _holds_logits(text: str) -> bool:
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


def _from_file(text: str, rest: str) -> NamedLogits:
    from kdviz.analysis.sources import open_logits

    opened = open_logits(text, rest=rest)
    first = Path(text.split(",")[0])
    name = first.parent.name if first.stem == "logits" and first.parent.name else first.stem
    return NamedLogits(str(opened.attrs.get("label", name)), name, opened)


def _from_checkpoints(
    paths: Sequence[Path], source: LogitOptions, out: Path | None, needs_teacher: bool
) -> list[NamedLogits]:
    from kdviz.checkpoints import checkpoint_file

    opened = [open_checkpoint(checkpoint_file(path), model=source.model, weights=source.weights) for path in paths]
    teachers = [open_teacher(one, source.teacher) for one in opened]
    known = next((one for one in teachers if one is not None), None)
    require(known or not needs_teacher, f"{paths[0]} names no teacher; name its checkpoint with --teacher")
    adaptation = adapted(source.mean, source.std, source.channels, source.damaged)
    found: list[NamedLogits] = []
    for path, checkpoint, own in zip(paths, opened, teachers, strict=True):
        images = open_data(checkpoint, source.data, source.root, source.split, adaptation)
        images = images.subset(source.samples) if source.samples else images
        name = _name(checkpoint.path)
        where = folder(name, None) / "logits.nc" if out is None else out / f"{name}_logits.nc"
        where = where if out is None or len(paths) > 1 else out / "logits.nc"
        logits = _collected(checkpoint, own or known, images, where, [one.logits for one in found])
        epochs = KeptEpochs(path, images, logits.get("logits_teacher")) if path.is_dir() else None
        found.append(NamedLogits(str(logits.attrs["label"]), name, logits, epochs))
    return found


def _collected(checkpoint: "Checkpoint", teacher: "Checkpoint | None", data: "Data", where: Path, done: list) -> Any:
    """The logits in the file `where` if they are of these very nets and images; else collected and written there."""
    from kdviz import collect_logits
    from kdviz.base.files import read_dataset

    wanted = {
        "student_sha256": checkpoint.sha256,
        "teacher_sha256": teacher.sha256 if teacher else None,
        "data_sha256": data.sha256,
    }
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
        logits = collect_logits(checkpoint, data, teacher=teacher if shared is None else shared, progress=advance)
    write(logits, where)
    return logits


def _name(path: Path) -> str:
    """The file's stem, with its run's name where the stem alone says nothing."""
    shared = path.stem in ("last", "best") or path.stem.startswith("epoch_")
    return f"{path.resolve().parent.name}_{path.stem}" if shared else path.stem
