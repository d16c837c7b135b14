"""`kdviz`: one module per command; nothing here or in their headers imports torch."""

import importlib
import inspect
import os
import re
import sys
from typing import Annotated

import typer

from kdviz.base.check import KdvizError
from kdviz.cli.common import Command

COMMANDS = (
    "landscape",
    "histogram",
    "tau",
    "suboptimal",
    "surface",
    "train",
    "teach",
    "inspect",
    "list",
    "plot",
    "paper",
    "report",
    "doctor",
)

app = typer.Typer(
    name="kdviz",
    help="See what a distilled student learnt from its teacher: train, load, measure, draw.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from kdviz import __version__

        typer.echo(f"kdviz {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """The options of every command; `--debug` is read in `main`, wherever it stands."""


def _texts(doc: str) -> tuple[str, str]:
    """A command's docstring as its help, examples unwrapped (they are for copying), and as its line in the list.

    >>> _texts("Draw it; all of it.\\n\\n    Example: kdviz draw")
    ('Draw it; all of it.\\n\\n\\x08\\nExample:\\n  kdviz draw', 'Draw it.')
    """
    whole = inspect.cleandoc(doc)
    first = " ".join(whole.partition("\n\n")[0].split())
    text = whole.replace("Example: ", "\b\nExample:\n  ")  # \b keeps a paragraph's lines as they are
    return text, re.split(r"[.;:] |[.]$", first)[0] + "."


for _name in COMMANDS:
    _module = importlib.import_module(f"kdviz.cli.{_name}")
    _needs = getattr(_module, "NEEDS_ARGUMENTS", False)
    _help, _short = _texts(_module.command.__doc__)
    app.command(_name, cls=Command, no_args_is_help=_needs, help=_help, short_help=_short)(_module.command)


def main() -> None:
    """Run the command line; bad input ends in one line on stderr and exit code 1, Ctrl-C in 130."""
    debug = "--debug" in sys.argv
    sys.argv[1:] = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app()
    except KdvizError as error:
        if debug:
            raise
        typer.echo(f"kdviz: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if debug:
            raise
        where = f" {error.filename}" if error.filename else ""
        typer.echo(f"kdviz: {error.strerror or error}{where}", err=True)
        sys.exit(1)
