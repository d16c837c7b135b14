"""What the commands share: names become objects here, results and figures are written and told here."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from kdviz.base.check import require
from kdviz.base.files import write_dataset

if TYPE_CHECKING:
    import xarray as xr

    from kdviz.checkpoints import Checkpoint
    from kdviz.data import Data

NETS, OUTPUT = "Nets and data", "Output"  # titles of groups of options on a help page

Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder for results and figures [default: reports/NAME].", rich_help_panel=OUTPUT),
]


def _venue(name: str) -> str:
    from kdviz.plots.style import drawable

    drawable(name)
    return name


def _formats(names: list[str] | None) -> list[str] | None:
    from kdviz.plots.style import drawable

    drawable(formats=names or ())
    return names


Venue = Annotated[
    str,
    typer.Option(
        help="Figure widths of a venue: icml, cvpr, neurips, iclr, tmlr.", callback=_venue, rich_help_panel=OUTPUT
    ),
]
Formats = Annotated[
    list[str] | None,
    typer.Option("--format", help="pdf, png or svg; repeat for several.", callback=_formats, rich_help_panel=OUTPUT),
]
ModelName = Annotated[
    str | None, typer.Option("--model", help="Architecture, where the file does not say.", rich_help_panel=NETS)
]
DataName = Annotated[
    str | None, typer.Option("--data", help="Data set, where the checkpoint does not say.", rich_help_panel=NETS)
]
Root = Annotated[Path | None, typer.Option(help="Folder that holds the data set's files.", rich_help_panel=NETS)]
Split = Annotated[str, typer.Option(help="train, val or test.", rich_help_panel=NETS)]
TeacherFile = Annotated[
    Path | None,
    typer.Option("--teacher", help="Teacher's checkpoint, where the file does not say.", rich_help_panel=NETS),
]


class Command(typer.core.TyperCommand):
    """A command whose repeatable options take several values: `--temperature 2 1 .5`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse `args` after `spread` has repeated the option before each further value."""
        many = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        return super().parse_args(ctx, spread(args, many))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The help page's options in groups, each under the title that its `rich_help_panel` gives."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        for param in self.get_params(ctx):
            panel = "Arguments" if param.param_type_name == "argument" else getattr(param, "rich_help_panel", None)
            record = param.get_help_record(ctx)
            if record is not None:
                groups.setdefault(panel or "Options", []).append(record)
        groups["Options"] = groups.pop("Options", [])  # the ungrouped ones come last
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


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
    from kdviz.checkpoints.related import load_data_of

    return load_data_of(checkpoint, name, root=root, split=split)


def open_teacher(checkpoint: "Checkpoint", path: Path | None) -> "Checkpoint | None":
    """The teacher at `path`, or the one that the checkpoint refers to (beside it, sha256 checked), or None."""
    from kdviz.checkpoints.related import load_teacher_of

    return load_teacher_of(checkpoint, path)


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
