"""`kdviz paper`: the figures and tables of the two papers, one command each."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdviz.base.check import KdvizError, require
from kdviz.cli.common import open_checkpoint, open_data, open_teacher
from kdviz.cli.options import Formats, Root, TeacherFile, Venue
from kdviz.cli.pace import progress

if TYPE_CHECKING:
    from kdviz.papers import Inputs, PaperEntry, PaperRecord

NEEDS_ARGUMENTS = True
SHIPPED = Path("checkpoints")
COMMANDS = """\
# Each teacher is a file NAME.pt in this folder: a published one, or your own,
#   kdviz train RECIPE --method {method} --student NAME{backbone} -o runs/NAME && cp runs/NAME/last.pt NAME.pt
# (NAME is timm:NAME to kdviz train where a line has --teacher-model; timm's own file of the pretrained net does, too).
# The data set's folder is $KDVIZ_DATA, or --root FOLDER. Then: kdviz paper PAPER TABLE --run ROW=RUN ...
"""


def command(
    paper: Annotated[str, typer.Argument(help="rkkd or pld.")],
    name: Annotated[
        str | None, typer.Argument(help="fig1, tab7, ... [default: every analysis figure of the paper].")
    ] = None,
    teacher: TeacherFile = None,
    student: Annotated[
        list[str] | None, typer.Option(help="NAME=CHECKPOINT or NAME=RUN; repeat [default: the shipped students].")
    ] = None,
    run: Annotated[list[str] | None, typer.Option(help="ROW=RUN: a finished run beside a table's row; repeat.")] = None,
    tables: Annotated[Path, typer.Option(help="Folder of what kdviz table wrote, the measured numbers.")] = Path(
        "reports/tables"
    ),
    data: Annotated[str | None, typer.Option(help="Data set [default: the students' own].")] = None,
    root: Root = None,
    steps: Annotated[int | None, typer.Option(help="Points along each axis of a surface, odd.")] = None,
    samples: Annotated[int | None, typer.Option(help="Images, stratified by class [default: the entry's].")] = None,
    seed: Annotated[int | None, typer.Option(help="Of directions and draws of images.")] = None,
    venue: Venue = "icml",
    formats: Formats = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Written to OUT/PAPER/NAME.")] = Path("reports"),
) -> None:
    """Make a paper's figure again, with what it says beside what is measured here; or show a table.

    Example: kdviz paper rkkd fig3 --student kd=runs/kd/last.pt \\
        --student kd+rk=runs/rk/last.pt
    """
    from kdviz.papers import PAPERS
    from kdviz.papers.accuracies import NothingMeasured

    chosen = PAPERS[paper]
    entries = [chosen.entries[name]] if name else chosen.figures
    settings = {
        key: value for key, value in (("steps", steps), ("samples", samples), ("seed", seed)) if value is not None
    }
    require(samples is None or samples > 0, f"paper: --samples must be above 0, got {samples}")
    if name:
        nets = {"student": student, "teacher": teacher, "data": data, "root": root}
        _refuse_unused(f"{paper} {name}", entries[0], nets, bool(run), settings)
    files = dict(map(_pair, student or []))
    for entry in entries:
        folder = out / paper / entry.name
        if not entry.drawings:
            _table(chosen, entry, [_pair(one) for one in run or []], folder, tables)
            continue
        try:
            with progress(f"{paper} {entry.name}") as advance:
                inputs = _inputs(entry, files, teacher, data, root, {**settings}, folder, advance, tables)
                _figure(chosen, entry, inputs, folder, venue, formats)
        except NothingMeasured as error:
            if name:
                raise
            typer.echo(f"left out: {error}", err=True)


def _refuse_unused(
    who: str, entry: "PaperEntry", nets: dict[str, Any], has_runs: bool, settings: dict[str, Any]
) -> None:
    """Refuse options that would do nothing for the one entry that was named."""
    given = [] if entry.students else [key for key, value in nets.items() if value]
    given += ["run"] if has_runs and entry.drawings else []
    given += [key for key in settings if key not in entry.settings]
    require(not given, f"{who}: has no use for {', '.join(f'--{key}' for key in given)}; leave it out")


def _pair(text: str) -> tuple[str, Path]:
    """NAME=PATH; a name becomes part of file names."""
    name, equals, path = text.partition("=")
    require(equals and path, f"expected NAME=PATH, got {text!r}")
    allowed = re.fullmatch(r"[\w.+ -]+", name.strip()) is not None and not name.strip().startswith(".")
    require(allowed, f"{name!r}: a name may hold letters, digits, spaces and . + - _ only")
    return name.strip(), Path(path)


def _inputs(
    entry: "PaperEntry",
    files: dict[str, Path],
    teacher: Path | None,
    data: str | None,
    root: Path | None,
    settings: dict[str, Any],
    work: Path,
    advance: Any,
    tables: Path,
) -> "Inputs":
    """What the entry needs, opened: the user's own nets, or the shipped ones."""
    from kdviz.papers import Inputs

    if not entry.students:
        return Inputs(settings=settings, work=work, progress=advance, tables=tables)
    shipped = not files
    paths = files or {label: _shipped(f"resnet8_{label}.pt") for label in entry.students}
    students = {label: open_checkpoint(path) for label, path in paths.items()}
    first = next(iter(students.values()))
    taught = None
    if "teacher" in entry.needs:
        taught = open_teacher(first, teacher)
        require(taught is not None, f"{first.path}: does not say its teacher; name the file with --teacher")
    images = open_data(first, data, root, entry.split) if "data" in entry.needs else None
    return Inputs(
        students=students,
        teacher=taught,
        data=images,
        shipped=shipped and teacher is None and data is None,
        settings=settings,
        work=work,
        progress=advance,
    )


def _shipped(name: str) -> Path:
    path = SHIPPED / name
    if not path.is_file():
        raise KdvizError(
            f"no {path} here: run this where kdviz's checkpoints/ folder is, or give your own nets,"
            " --teacher CHECKPOINT --student kd=CHECKPOINT --student kd+rk=CHECKPOINT"
        )
    return path


def _figure(
    paper: "PaperRecord", entry: "PaperEntry", inputs: "Inputs", folder: Path, venue: str, formats: list[str] | None
) -> None:
    from kdviz.papers import produce
    from kdviz.papers.produce import findings_text

    found = produce(paper, entry, inputs, folder, venue=venue, formats=formats or ("pdf", "png"), written=typer.echo)
    typer.echo(f"\n{findings_text(found)}\n")


def _table(
    paper: "PaperRecord", entry: "PaperEntry", runs: list[tuple[str, Path]], folder: Path, measured: Path
) -> None:
    """Print a table: what the paper prints, what would run it, the user's runs and what kdviz table measured of it."""
    from kdviz.base.files import atomic
    from kdviz.papers import Inputs, findings, published
    from kdviz.papers.produce import findings_text

    opened = tuple((row, open_checkpoint(path)) for row, path in runs)
    table = published.tables(paper.name)[entry.name]
    results = entry.results(Inputs(runs=opened, tables=measured))
    lines = published.commands(table, f"runs/{paper.name}/{entry.name}")
    beside = "; a run's own stand in brackets" if runs else ""
    typer.echo(f"{entry.source}: published numbers, not measured here{beside}")
    typer.echo(published.plain(table, results["table"]))
    typer.echo(f"\n{findings_text(findings(entry, results))}\n")
    if "measured" in results:
        typer.echo(f"measured by kdviz table: {results['measured'].attrs['title']}; --tables names the folder")
    if not lines:
        typer.echo("kdviz has no recipe for this table's nets and data.")
        return
    script = folder / "commands.sh"
    with atomic(script) as partial:
        partial.write_text("\n".join([_head(lines), *lines]) + "\n", encoding="utf-8")
    shown = [line for line in lines if line.startswith("kdviz")]
    typer.echo(f"The commands that would run it, the first of {len(shown)} here, all in {script}:\n{shown[0]}")


def _head(lines: list[str]) -> str:
    """What the commands expect, in comments above them."""
    if not any(" --backbone " in line for line in lines):
        return COMMANDS.format(method="ce", backbone="")
    text = "# Each backbone is a classifier's file with ImageNet's weights, resnet50.pth: torchvision's own, say.\n"
    return text + COMMANDS.format(method="detector", backbone=" --backbone FILE")
