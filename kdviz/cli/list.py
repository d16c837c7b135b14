"""`kdviz list`: what there is to name on the command line."""

from collections.abc import Callable
from typing import Annotated

import typer

from kdviz.base.check import one_of

NEEDS_ARGUMENTS = True
Rows = list[tuple[str, ...]]


def command(
    what: Annotated[str, typer.Argument(help="losses, methods, models, data, recipes or figures.")],
    bibtex: Annotated[bool, typer.Option("--bibtex", help="Print the citations of losses or methods.")] = False,
) -> None:
    """List names, with what stands behind them.

    Example: kdviz list methods --bibtex
    """
    one_of("list", TABLES, what=what)
    if bibtex:
        one_of("list --bibtex", ("losses", "methods"), what=what)
        return typer.echo("\n\n".join(_citations(what)))
    head, rows = TABLES[what]()
    if not rows:
        return typer.echo(f"no {what}")
    _show(head, rows)


def _show(head: tuple[str, ...], rows: Rows) -> None:
    """A table on a terminal, aligned columns in a pipe."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if console.is_terminal:
        table = Table(*head, box=None, header_style="bold", pad_edge=False)
        for row in rows:
            table.add_row(*row)
        return console.print(table, markup=False)
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head) - 1)]
    for row in (head, *rows):
        typer.echo(
            "  ".join([cell.ljust(width) for cell, width in zip(row, widths, strict=False)] + [row[-1]]).rstrip()
        )


def _citations(what: str) -> list[str]:
    from kdviz.losses import LOSSES
    from kdviz.methods import METHODS

    found = [entry.bibtex for entry in (LOSSES if what == "losses" else METHODS).values()]
    return list(dict.fromkeys(entry.strip() for entry in found if entry))


def _settings(defaults: dict) -> str:
    return ", ".join(f"{key} {value}" for key, value in defaults.items() if not key.endswith(".warmup") or value)


def _losses() -> tuple[tuple[str, ...], Rows]:
    from kdviz.losses import LOSSES

    rows = [(name, loss.summary, _settings(loss.defaults), loss.paper) for name, loss in LOSSES.items()]
    return ("loss", "what", "defaults", "paper"), rows


def _methods() -> tuple[tuple[str, ...], Rows]:
    from kdviz.methods import METHODS

    rows = [(name, method.summary, _settings(method.defaults), method.paper) for name, method in METHODS.items()]
    return ("method", "what", "defaults (add +rk for the ranking loss)", "paper"), rows


def _models() -> tuple[tuple[str, ...], Rows]:
    import torch

    from kdviz.models import MODELS

    rows = []
    for name, make in MODELS.items():
        with torch.device("meta"):
            net = make(100)
        rows.append((name, f"{sum(parameter.numel() for parameter in net.parameters()):,}"))
    return ("model", "parameters at 100 classes"), rows


def _data() -> tuple[tuple[str, ...], Rows]:
    from kdviz.data import DATA

    rows = [
        (name, str(entry.classes or "any"), "synthetic" if entry.synthetic else "real", entry.summary, entry.files)
        for name, entry in DATA.items()
    ]
    return ("data set", "classes", "", "what", "files that it needs"), rows


def _recipes() -> tuple[tuple[str, ...], Rows]:
    import tomllib

    from kdviz.train.recipe import recipes

    rows = [(name, tomllib.loads(path.read_text()).get("about", "")) for name, path in recipes().items()]
    return ("recipe", "what"), rows


def _figures() -> tuple[tuple[str, ...], Rows]:
    from kdviz.plots import FIGURES

    return ("result", "figures (kdviz plot RESULT.nc --style NAME)"), [
        (kind, ", ".join(styles)) for kind, styles in FIGURES.items()
    ]


TABLES: dict[str, Callable[[], tuple[tuple[str, ...], Rows]]] = {
    "losses": _losses, "methods": _methods, "models": _models, "data": _data, "recipes": _recipes, "figures": _figures,
}  # fmt: skip
