"""What the commands share: names become objects here, results and figures are written and told here."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from kdviz.base.check import KdvizError, require
from kdviz.base.files import sha256, write_dataset

if TYPE_CHECKING:
    import xarray as xr

    from kdviz.checkpoints import Checkpoint
    from kdviz.data import Data

Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder for results and figures [default: reports/NAME].")
]


def _venue(name: str) -> str:
    from kdviz.plots.style import drawable

    drawable(name)
    return name


def _formats(names: list[str] | None) -> list[str] | None:
    from kdviz.plots.style import drawable

    drawable(formats=names or ())
    return names


Venue = Annotated[str, typer.Option(help="Figure widths of a venue: icml, cvpr, neurips, iclr, tmlr.", callback=_venue)]
Formats = Annotated[
    list[str] | None, typer.Option("--format", help="pdf, png or svg; repeat for several.", callback=_formats)
]
ModelName = Annotated[str | None, typer.Option("--model", help="Architecture, where the file does not say.")]
DataName = Annotated[str | None, typer.Option("--data", help="Data set, where the checkpoint does not say.")]
Root = Annotated[Path | None, typer.Option(help="Folder that holds the data set's files.")]
Split = Annotated[str, typer.Option(help="train, val or test.")]
TeacherFile = Annotated[
    Path | None, typer.Option("--teacher", help="Teacher's checkpoint, where the file does not say.")
]


class Command(typer.core.TyperCommand):
    """A command whose repeatable options take several values: `--temperature 2 1 .5`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse `args` after `spread` has repeated the option before each further value."""
        many = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        return super().parse_args(ctx, spread(args, many))


def spread(args: Sequence[str], many: set[str]) -> list[str]:
    """`args` with each option of `many` repeated before each of its further values.

    A value is a number or a bare word; the next option, or a word that reads as a path, ends the list, so that a file
    may follow. A file whose name is a bare word stands before the options.

    >>> spread(["--temperature", "2", ".5", "run.pt"], {"--temperature"})
    ['--temperature', '2', '--temperature', '.5', 'run.pt']
    >>> spread(["--set", "kd.weight=1", "kd.temperature=2"], {"--set"})
    ['--set', 'kd.weight=1', '--set', 'kd.temperature=2']
    """
    repeated: list[str] = []
    option, fresh = None, False
    for word in args:
        if option and (fresh or _is_value(word)):
            repeated += [word] if fresh else [option, word]
            fresh = False
            continue
        option, fresh = (word, True) if word in many else (None, False)
        repeated.append(word)
    return repeated


def _is_value(word: str) -> bool:
    with suppress(ValueError):
        float(word)
        return True
    if "=" in word:  # KEY=VALUE, whose dots are no file's
        return not word.startswith("-")
    return not word.startswith("-") and "/" not in word and not Path(word).suffix and not Path(word).is_file()


def open_checkpoint(path: Path, model: str | None = None, classes: int | None = None) -> "Checkpoint":
    """The checkpoint at `path`, of any known producer."""
    from kdviz.checkpoints import load_checkpoint

    return load_checkpoint(path, model=model, classes=classes)


def open_data(checkpoint: "Checkpoint | None", name: str | None, root: Path | None, split: str = "test") -> "Data":
    """The data set `name`, or the one that the checkpoint was trained on; class counts must agree."""
    from kdviz.data import load_data
    from kdviz.data.external import named_by_file

    chosen = name
    if name is None and checkpoint is not None and checkpoint.data is not None:
        chosen = named_by_file(checkpoint.data, where=checkpoint.path)
    if chosen is None:
        raise KdvizError("the checkpoint does not say its data set; name one with --data (see: kdviz list data)")
    data = load_data(chosen, split=split, root=root)
    if checkpoint is not None:
        require(
            data.classes == checkpoint.classes,
            f"{checkpoint.path} has {checkpoint.classes} classes but {chosen} has {data.classes};"
            " was it trained on another data set? name that one with --data",
        )
    return data


def open_teacher(checkpoint: "Checkpoint", path: Path | None) -> "Checkpoint | None":
    """The teacher at `path`, or the one that the checkpoint refers to (beside it, sha256 checked), or None."""
    if path is not None:
        return open_checkpoint(path)
    if not checkpoint.teacher:
        return None
    named = Path(checkpoint.teacher["path"])
    places = (checkpoint.path.parent / named.name, checkpoint.path.parent / named, named)
    found = [place for place in places if place.is_file() and not place.samefile(checkpoint.path)]
    if not found:
        raise KdvizError(f"{checkpoint.path}: its teacher {named} is not there; name the file with --teacher")
    digest = checkpoint.teacher.get("sha256")
    right = next((place for place in found if digest in (None, sha256(place))), None)
    if right is None:
        raise KdvizError(
            f"{found[0]}: not the file that {checkpoint.path} was distilled from (sha256 differs); use --teacher"
        )
    return open_checkpoint(right)


def pairs(given: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE settings by key; numbers, true/false and lists become what they say.

    >>> pairs(["kd.temperature=2,4", "pld.normalize=true", "rank_kendall.channels=top:0.3"])
    {'kd.temperature': [2, 4], 'pld.normalize': True, 'rank_kendall.channels': ['top', 0.3]}
    """
    found: dict[str, Any] = {}
    for pair in given:
        key, equals, text = pair.partition("=")
        require(equals and key.strip() and text.strip(), f"--set: expected KEY=VALUE, got {pair!r}")
        found[key.strip()] = setting_value(text.strip())
    return found


def setting_value(text: str) -> Any:
    """A setting's text as a number, true or false, a list ("2,3,4", "top:0.3"), or itself."""
    for separator in (",", ":"):
        if separator in text:
            return [setting_value(one.strip()) for one in text.split(separator)]
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def folder(name: str, out: Path | None) -> Path:
    """Where a command writes: `out`, or reports/<name>."""
    return out if out is not None else Path("reports") / name


def write(dataset: "xr.Dataset", path: Path) -> None:
    """Write a result and say where."""
    typer.echo(write_dataset(dataset, path))


def write_figures(
    datasets: "Sequence[xr.Dataset] | xr.Dataset",
    names: Sequence[str],
    out: Path,
    *,
    stem: str = "",
    venue: str = "icml",
    formats: Sequence[str] | None = None,
    **options: Any,
) -> None:
    """Draw each named figure of the results, write it as `out/<stem><name>.*` (a page: landscape.html), say where."""
    from kdviz import plots

    for name in names:
        with plots.style(venue):
            fig = plots.draw(datasets, name, venue=venue, **options)
            file = "landscape" if name == "html" else f"{stem}{name}"
            for path in plots.save(fig, out / file, formats or ("pdf", "png")):
                typer.echo(path)


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A function (done, total) that moves a bar on a terminal and does nothing in a pipe."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
