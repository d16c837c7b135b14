"""The options that say what of a file and of a data set is meant: its weights; its mean and std, the net's channels."""

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from kdviz.base.check import one_of

if TYPE_CHECKING:
    from kdviz.data import BoxData, Data
    from kdviz.data.adapt import Adaptation

AnyData = TypeVar("AnyData", bound="Data | BoxData")

NETS = "Nets and data"  # title of a group of options on a help page


def _weights(name: str | None) -> str | None:
    from kdviz.checkpoints.open import WEIGHTS

    if name is not None:
        one_of("--weights", WEIGHTS, weights=name)
    return name


Weights = Annotated[
    str | None,
    typer.Option(
        help="raw or ema, of a file that holds weights as trained and averaged ones [default: raw].",
        callback=_weights,
        rich_help_panel=NETS,
    ),
]
Mean = Annotated[
    list[float] | None,
    typer.Option(help="Mean per colour, 0 to 1 [default: the data's; of a folder, the net's].", rich_help_panel=NETS),
]
Std = Annotated[
    list[float] | None, typer.Option(help="Standard deviation per colour; goes with --mean.", rich_help_panel=NETS)
]
Channels = Annotated[
    str | None,
    typer.Option(
        help="The net's channel of each class of the data (0,217,482), or a file of the net's classes in order.",
        rich_help_panel=NETS,
    ),
]
Damaged = Annotated[
    str, typer.Option(help="Images that cannot be read: refuse, or leave-out (tries all first).", rich_help_panel=NETS)
]


def adapted(mean: list[float] | None, std: list[float] | None, channels: str | None, damaged: str) -> "Adaptation":
    """What --mean, --std, --channels and --damaged ask for."""
    from kdviz.data.adapt import Adaptation

    return Adaptation(mean or None, std or None, channels, damaged)


def with_remarks(data: AnyData) -> AnyData:
    """The data set itself; what a reader must know of it is said on standard error."""
    for text in data.remarks.values():
        typer.echo(f"{data.name}: {text}", err=True)
    return data
