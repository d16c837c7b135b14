"""The options that commands share, and the records that hold them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdviz.cli import completion
from kdviz.cli.adaptation import NETS, Channels, Damaged, Mean, Std, Weights, adapted

if TYPE_CHECKING:
    from kdviz.data.adapt import Adaptation

OUTPUT = "Output"  # title of a group of options on a help page

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
        help="Figure widths of a venue: icml, cvpr, neurips, iclr, tmlr.",
        callback=_venue,
        autocompletion=completion.venues,
        rich_help_panel=OUTPUT,
    ),
]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        help="pdf, png or svg, or several: pdf,svg.",
        callback=_formats,
        autocompletion=completion.formats,
        rich_help_panel=OUTPUT,
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Architecture, where a file does not say; of one file: FILE@MODEL.",
        autocompletion=completion.models,
        rich_help_panel=NETS,
    ),
]
DataName = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Data set, where the checkpoint does not say.",
        autocompletion=completion.data,
        rich_help_panel=NETS,
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(help="Folder that holds the data set's files [default: of a run, its own].", rich_help_panel=NETS),
]
Split = Annotated[
    str,
    typer.Option(
        help="train, val or test.", autocompletion=completion.choices("train", "val", "test"), rich_help_panel=NETS
    ),
]
TeacherFile = Annotated[
    Path | None,
    typer.Option("--teacher", help="Teacher's checkpoint, where the file does not say.", rich_help_panel=NETS),
]
TeacherModel = Annotated[
    str | None,
    typer.Option(
        "--teacher-model",
        help="The teacher's architecture, where its file does not say.",
        autocompletion=completion.models,
        rich_help_panel=NETS,
    ),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1 [default: a GPU where there is one].", rich_help_panel=NETS)
]
Batch = Annotated[
    int | None, typer.Option(help="Images in the net at a time [default: by what fits].", rich_help_panel=NETS)
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace another net's result in this folder.", rich_help_panel=OUTPUT)
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Measure anew what was measured before.", rich_help_panel=OUTPUT)]


@dataclass(frozen=True)
class NetOptions:
    """The options that say which net, data and teacher are meant where a checkpoint does not, and where they run."""

    model: ModelName = None
    data: DataName = None
    root: Root = None
    split: Split = "test"
    teacher: TeacherFile = None
    teacher_model: TeacherModel = None
    weights: Weights = None
    mean: Mean = None
    std: Std = None
    channels: Channels = None
    damaged: Damaged = "refuse"
    device: Device = None
    batch: Batch = None

    @property
    def adaptation(self) -> "Adaptation":
        """What of the data set is taken otherwise than it says."""
        return adapted(self.mean, self.std, self.channels, self.damaged)

    def opening(self) -> dict[str, Any]:
        """The keywords of `open_nets`."""
        names = ("model", "data", "root", "split", "teacher", "teacher_model", "weights", "adaptation")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class FigureOptions:
    """The options that say how figures look, where results go and what may happen to those that are there."""

    venue: Venue = "icml"
    formats: Formats = None
    out: Out = None
    overwrite: Overwrite = False
    fresh: Fresh = False


def with_option_records(function: Callable[..., None]) -> Callable[..., None]:
    """The command whose parameters that are records of options become the records' single options.

    A parameter annotated with a dataclass such as `NetOptions` stands for the dataclass' fields, so that commands share
    the headers of their options.
    """
    signature = inspect.signature(function, eval_str=True)
    records = {name: one.annotation for name, one in signature.parameters.items()}
    shared: dict[str, Any] = {name: record for name, record in records.items() if is_dataclass(record)}
    parameters = []
    for name, parameter in signature.parameters.items():
        parameters += [
            inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type)
            for one in (fields(shared[name]) if name in shared else ())
        ] or [parameter]

    @wraps(function)
    def command(**values: Any) -> None:
        given = {
            name: record(**{one.name: values.pop(one.name) for one in fields(record)})
            for name, record in shared.items()
        }
        function(**values, **given)

    spread = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    command.__signature__ = signature.replace(parameters=spread)  # pyright: ignore[reportAttributeAccessIssue]
    command.__annotations__ = {one.name: one.annotation for one in spread} | {"return": None}
    return command
