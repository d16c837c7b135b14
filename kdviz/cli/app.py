"""`kdviz`: one module per command; nothing here or in their headers imports torch."""

import importlib
import inspect
import os
import re
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from kdviz.base.check import KdvizError, one_line
from kdviz.base.files import write_failure
from kdviz.base.processes import RankError, first_process
from kdviz.base.signals import Terminated, exit_code, interruptible
from kdviz.cli.common import Command

COMMANDS = (
    "landscape",
    "path",
    "topology",
    "spectrum",
    "compare",
    "histogram",
    "tau",
    "suboptimal",
    "audit",
    "surface",
    "train",
    "teach",
    "inspect",
    "list",
    "data",
    "plot",
    "paper",
    "table",
    "report",
    "view",
    "doctor",
)


class Commands(typer.core.TyperGroup):
    """All commands; each ends with one line and exit code 130 after Ctrl-C, 143 after SIGTERM."""

    def invoke(self, ctx: Any) -> Any:
        """Parse the command's options and run it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            what = "terminated" if isinstance(interrupt, Terminated) else "interrupted"
            if first_process():
                typer.echo(f"kdviz: {what}; what was done is kept", err=True)
            raise typer.Exit(exit_code(interrupt)) from None


app = typer.Typer(
    name="kdviz",
    cls=Commands,
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
    """Run the command line; every error ends in one line on stderr and exit code 1, with `--debug` in a traceback."""
    debug = "--debug" in sys.argv
    sys.argv[1:] = [argument for argument in sys.argv[1:] if argument != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # names of files may hold bytes that are no text
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if not debug:
        warnings.showwarning = _warned
    try:
        with interruptible():
            app()
    except BrokenPipeError:  # the reader of our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # the last one to see it
        if debug:
            raise
        if first_process() or isinstance(error, RankError) or not isinstance(error, KdvizError):
            typer.echo(f"kdviz: {_message(error)}", err=True)
        sys.exit(1)


def _warned(message: Warning | str, category: type[Warning], *_: object) -> None:
    """A warning of ours in one line; those that libraries give their callers are for developers."""
    if category is UserWarning and first_process():
        typer.echo(f"kdviz: {one_line(str(message))}", err=True)


def _message(error: Exception) -> str:
    """An error in one line; one that nobody foresaw with its place and a request to report it."""
    if isinstance(error, KdvizError):
        return str(error)
    if isinstance(error, MemoryError) or ("memory" in str(error) and "allocate" in str(error)):
        return "not enough memory for this; fewer images (--samples), points (--steps) or a smaller batch need less"
    if isinstance(error, OSError) and error.errno is not None:
        where = "" if error.filename is None else f" {one_line(os.fsdecode(error.filename))}"
        return f"{write_failure(error, Path())}{where}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "kdviz" in frame.filename]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return (
        f"unexpected {type(error).__name__}{place}: {one_line(str(error))[:200]}; this is a fault of kdviz, please"
        " report it with the traceback that --debug shows"
    )
