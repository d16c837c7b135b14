"""`kdviz list`: what there is, read from the registries."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from kdviz.base.check import KdvizError
from kdviz.base.registry import Registry
from kdviz.cli import completion

NEEDS_ARGUMENTS = True

NAMES = ("losses", "methods", "models", "data", "recipes", "figures")
IN_A_PIPE = 160  # characters of a line, where nothing says how wide it may be
Rows = list[tuple[str, ...]]

# What a method may read beside logits and labels, in the words of the list.
NEEDS = {
    "features": "features",
    "preactivations": "pre-activations",
    "pooled": "pooled features",
    "ids": "sample ids",
    "strong": "strong view",
    "boxes": "a detector",
}


def command(
    what: Annotated[
        str,
        typer.Argument(
            help="losses, methods, models, data, recipes or figures.", autocompletion=completion.choices(*NAMES)
        ),
    ],
    full: Annotated[bool, typer.Option("--full", help="Columns whole, however wide.")] = False,
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
        _print_table(made(), full=full)


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
    from kdviz.models.detection import DETECTORS

    rows: Rows = [("model", "parameters (100 classes)")]
    with torch.device("meta"):
        for name in MODELS:
            rows.append((name, f"{sum(weight.numel() for weight in build(name).parameters()):,}"))
    rows += [(name, "a detector; needs kdviz[detection]") for name in DETECTORS]
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


LISTS: Mapping[str, Callable[[], Rows]] = dict(
    zip(NAMES, (_losses, _methods, _models, _data, _recipes, _figures), strict=True)
)


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


def _print_table(rows: Rows, *, full: bool) -> None:
    """A table with one line an entry, for eyes, grep and cut; unless `full`, its wide columns are cut to fit."""
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal or "COLUMNS" in os.environ else IN_A_PIPE
    natural = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths = natural if full else fitted(natural, width)
    for row in rows:
        cells = (cut(cell, most).ljust(most) for cell, most in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
    if widths != natural:
        typer.echo("kdviz: columns are cut to fit; --full shows them whole", err=True)


def fitted(widths: Sequence[int], total: int) -> list[int]:
    """The widths of columns, two spaces between them, the widest made narrower until they fit into `total`; the first
    stays as it is, the others keep eight characters.

    >>> fitted([10, 5, 60, 40], 80)
    [10, 5, 30, 29]
    """
    left, free = total - widths[0] - 2 * (len(widths) - 1), dict(enumerate(widths[1:], 1))
    found = list(widths)
    while free:
        share = left // len(free)
        narrow = [at for at, width in free.items() if width <= share]
        if not narrow:
            for place, at in enumerate(free):
                found[at] = min(widths[at], max(8, share + (place < left % len(free))))
            break
        for at in narrow:
            left -= free.pop(at)
    return found


def cut(text: str, width: int) -> str:
    """The text, or its beginning and an ellipsis where it is longer than `width`.

    >>> cut("temperature", 6), cut("kd", 6)
    ('tempe…', 'kd')
    """
    return text if len(text) <= width else f"{text[: width - 1].rstrip()}…"
