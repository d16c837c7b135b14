"""What `histogram` and `tau` share: checkpoints, runs or files of logits become labelled sources of logits."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdviz.base.check import KdvizError, require, unknown
from kdviz.cli.common import folder, open_checkpoint, open_data, open_teacher, progress, write

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
        "--logits", help="Logits instead of a checkpoint: .nc, .npz, .pt, or student.npy,teacher.npy[,labels.npy]."
    ),
]
Samples = Annotated[int | None, typer.Option(help="Images, drawn by class [default: all of the split].")]
DropNonfinite = Annotated[bool, typer.Option("--drop-nonfinite", help="Leave out samples with NaN or Inf.")]
Label = Annotated[list[str] | None, typer.Option(help="Names in the figure, in the order of the students.")]


@dataclass(frozen=True)
class Student:
    """One student: its name in figures, the name of its folder, its logits, and its run where it was given."""

    label: str
    name: str
    logits: Any
    run: "Run | None" = None


@dataclass(frozen=True)
class Run:
    """A run's folder with what is needed to measure its kept epochs: data, and the teacher's logits."""

    path: Path
    data: "Data"
    teacher: Any

    def epochs(self) -> dict[int, Any]:
        """Logits at each kept epoch, collected now."""
        from kdviz import collect_logits

        found = {}
        files = sorted((self.path / "epochs").glob("*.pt"))
        with progress("epochs") as tell:
            for done, file in enumerate(files, 1):
                checkpoint = open_checkpoint(file)
                epoch = checkpoint.epoch if checkpoint.epoch is not None else int(file.stem.rpartition("_")[2])
                found[epoch] = collect_logits(checkpoint, self.data, teacher=self.teacher)
                tell(done, len(files))
        return found


def gather(
    students: Sequence[str] | None,
    files: Sequence[str] | None,
    *,
    model: str | None,
    data: str | None,
    root: Path | None,
    split: str,
    teacher: Path | None,
    samples: int | None,
    labels: Sequence[str] | None,
    out: Path | None,
    needs_teacher: bool = False,
) -> list[Student]:
    """Every student named on the command line; nets are run once and their logits written beside the results."""
    named = [*(students or ())]
    require(named or files, "name a checkpoint, or logits with --logits")
    brought = [one for one in named if _holds_logits(one)] + list(files or ())
    paths = [Path(one) for one in named if one not in brought]
    found = _from_checkpoints(paths, model, data, root, split, teacher, samples, out, needs_teacher) if paths else []
    found += [_from_file(one) for one in brought]
    if labels:
        require(len(labels) == len(found), f"--label: {len(found)} students but {len(labels)} labels")
        return [Student(label, one.name, one.logits, one.run) for label, one in zip(labels, found, strict=True)]
    seen = [one.label for one in found]
    return [one if seen.count(one.label) == 1 else Student(one.name, one.name, one.logits, one.run) for one in found]


def place(command: str, found: Sequence[Student], out: Path | None) -> Path:
    """Where a command writes: `out`, the student's folder, or a folder of the command's name for several."""
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


def _from_file(text: str) -> Student:
    from kdviz.analysis.sources import open_logits

    opened = open_logits(text)
    first = Path(text.split(",")[0])
    name = first.parent.name if first.stem == "logits" and first.parent.name else first.stem
    return Student(str(opened.attrs.get("label", name)), name, opened)


def _from_checkpoints(
    paths: Sequence[Path],
    model: str | None,
    data: str | None,
    root: Path | None,
    split: str,
    teacher: Path | None,
    samples: int | None,
    out: Path | None,
    needs_teacher: bool,
) -> list[Student]:
    from kdviz.checkpoints import checkpoint_file

    opened = [open_checkpoint(checkpoint_file(path), model=model) for path in paths]
    teachers = [open_teacher(one, teacher) for one in opened]
    known = next((one for one in teachers if one is not None), None)
    require(known or not needs_teacher, f"{paths[0]} names no teacher; name its checkpoint with --teacher")
    found: list[Student] = []
    for path, checkpoint, own in zip(paths, opened, teachers, strict=True):
        images = open_data(checkpoint, data, root, split)
        images = images.subset(samples) if samples else images
        name = _name(checkpoint.path)
        where = folder(name, None) / "logits.nc" if out is None else out / f"{name}_logits.nc"
        where = where if out is None or len(paths) > 1 else out / "logits.nc"
        logits = _collected(checkpoint, own or known, images, where, [one.logits for one in found])
        run = Run(path, images, logits.get("logits_teacher")) if path.is_dir() else None
        found.append(Student(str(logits.attrs["label"]), name, logits, run))
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
    with progress(f"logits of {where.parent.name}") as tell:
        logits = collect_logits(checkpoint, data, teacher=teacher if shared is None else shared, progress=tell)
    write(logits, where)
    return logits


def _name(path: Path) -> str:
    """The file's stem, with its run's name where the stem alone says nothing."""
    plain = path.stem in ("last", "best") or path.stem.startswith("epoch_")
    return f"{path.resolve().parent.name}_{path.stem}" if plain else path.stem
