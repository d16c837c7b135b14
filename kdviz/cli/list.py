"""`kdviz list`: what there is, read from the registries."""

import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from kdviz.base.check import KdvizError
from kdviz.base.registry import Registry

NEEDS_ARGUMENTS = True

Rows = list[tuple[str, ...]]

# What a method may read beside logits and labels, in the words of the list.
NEEDS = {
    "features": "features",
    "preactivations": "pre-activations",
    "pooled": "pooled features",
    "ids": "sample ids",
    "strong": "strong view",
}


def command(
    what: Annotated[str, typer.Argument(help="losses, methods, models, data, recipes or figures.")],
    bibtex: Annotated[
        bool, typer.Option("--bibtex", help="Citations instead, of losses or methods, ready for a .bib file.")
    ] = False,
) -> None:
    """List the losses, methods, models, data sets, recipes or figures that there are.

    Example: kdviz list methods --bibtex
    """
    lists: Registry[Callable[[], Rows]] = Registry("list")
    for name, rows in LISTS.items():
        lists.add(name, rows)
    made = lists[what]
    if bibtex:
        _print_bibtex(what)
    else:
        _print_table(made())


def _losses() -> Rows:
    from kdviz.losses import LOSSES

    return [("loss", "takes", "settings", "from")] + [
        (name, ", ".join(one.takes), _settings(one.defaults), _without_tex(one.paper))
        for name, one in sorted(LOSSES.items())
    ]


def _methods() -> Rows:
    from kdviz.methods import METHODS

    rows = [
        (
            name,
            one.kind,
            ", ".join(words for need, words in NEEDS.items() if need in one.needs) or "logits",
            one.summary,
            "; ".join([_settings(one.defaults), *_presets(one.presets)]),
            _without_tex(one.paper),
        )
        for name, one in sorted(METHODS.items())
    ]
    return [("method", "kind", "needs", "what", "settings", "from"), *rows]


def _models() -> Rows:
    """Parameter counts at 100 classes; the nets are built without memory behind their weights."""
    import torch

    from kdviz.models import MODELS, build

    rows: Rows = [("model", "parameters (100 classes)")]
    with torch.device("meta"):
        for name in MODELS:
            rows.append((name, f"{sum(weight.numel() for weight in build(name).parameters()):,}"))
    return [*rows, ("timm:NAME", ""), ("torchvision:NAME", ""), ("package.module:function", "")]


def _data() -> Rows:
    from kdviz.data import DATA

    return [("data", "kind", "classes", "image", "what", "files")] + [
        (
            name,
            "synthetic" if one.synthetic else "real",
            str(one.classes or "any"),
            "x".join(map(str, one.shape)) if one.shape else "any",
            one.summary,
            one.files or "none needed",
        )
        for name, one in sorted(DATA.items())
    ]


def _recipes() -> Rows:
    import tomllib

    from kdviz.train.recipe import recipes

    found = {name: tomllib.loads(path.read_text(encoding="utf-8")) for name, path in recipes().items()}
    return [("recipe", "what")] + [(name, str(table.get("about", ""))) for name, table in found.items()]


def _figures() -> Rows:
    from kdviz.papers import PAPERS
    from kdviz.plots import FIGURES

    rows: Rows = [("figure", "styles", "command")]
    for kind, styles in FIGURES.items():
        rows.append((kind, ", ".join(styles), f"kdviz plot RESULT.nc --style {next(iter(styles))}"))
    for name, paper in PAPERS.items():
        rows += [(f"{name} {one.name}", one.title, f"kdviz paper {name} {one.name}") for one in paper.entries.values()]
    return rows


LISTS: Mapping[str, Callable[[], Rows]] = {
    "losses": _losses,
    "methods": _methods,
    "models": _models,
    "data": _data,
    "recipes": _recipes,
    "figures": _figures,
}


def _settings(defaults: Mapping[str, Any]) -> str:
    """Settings and their defaults, without the warm-ups of no epochs."""
    return " ".join(f"{key}={value}" for key, value in defaults.items() if value or not key.endswith(".warmup"))


def _presets(presets: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[str]:
    """What else holds for some pairs of nets: "dkd.beta=6.0 for vgg13 to vgg8"."""
    return [f"{_settings(preset)} for {teacher} to {student}" for (teacher, student), preset in presets.items()]


def _without_tex(paper: str) -> str:
    """A title without LaTeX's signs."""
    return "".join(one for one in paper if one not in "{}$\\")


def _print_bibtex(what: str) -> None:
    """Each paper once, in the order of the list."""
    if what == "losses":
        from kdviz.losses import LOSSES as cited
    elif what == "methods":
        from kdviz.methods import METHODS as cited
    else:
        raise KdvizError(f"list: {what} have no citations; --bibtex goes with losses or methods")
    for entry in dict.fromkeys(cited[name].bibtex for name in sorted(cited)):
        if entry:
            typer.echo(entry + "\n")


def _print_table(rows: Rows) -> None:
    """A table on a terminal; aligned text in a pipe, one entry a line, so that grep and cut can read it."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Column, Table

        headers = (Column(name, overflow="fold") for name in rows[0])  # no setting is cut short
        table = Table(*headers, box=None, header_style="bold", padding=(0, 2, 0, 0))
        for row in rows[1:]:
            table.add_row(*row)
        Console(highlight=False, markup=False).print(table)
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
