"""What a command was asked to measure: where it goes without replacing another net's result, whether it is there."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kdviz.base.check import KdvizError, require
from kdviz.base.files import sha256
from kdviz.base.processes import first_process
from kdviz.base.results import attributes_of
from kdviz.cli.common import hold
from kdviz.cli.options import FigureOptions

if TYPE_CHECKING:
    import xarray as xr

LONGEST = 120  # characters of a folder's name


@dataclass(frozen=True)
class Request:
    """A measurement that a command was asked for; its results carry these as attributes.

    Attributes:
        command: "landscape", "tau", ...
        subject: SHA-256 of every net or file of logits that is measured, in order; "" where there is none.
        settings: all else that decides the numbers: data, teacher, options.
    """

    command: str
    subject: str
    settings: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that differ where the version, the subject or a setting does."""
        from kdviz import __version__

        said = json.dumps([__version__, self.command, self.subject, self.settings], sort_keys=True, default=str)
        return hashlib.sha256(said.encode()).hexdigest()

    def signed(self, result: "xr.Dataset") -> "xr.Dataset":
        """The result with the attributes by which later commands know it."""
        return result.assign_attrs(command=self.command, subject=self.subject, fingerprint=self.fingerprint)


def several(command: str, names: Iterable[str]) -> str:
    """The name of a folder for the results of several nets, shortened where they are many.

    >>> several("tau", ["kd", "kd+rk"])
    'tau_kd_kd+rk'
    """
    whole = "_".join((command, *names))
    if len(whole) <= LONGEST:
        return whole
    return f"{whole[: LONGEST - 9]}-{hashlib.sha256(whole.encode(errors='replace')).hexdigest()[:8]}"


def place_for(request: Request, name: str, files: Iterable[str], figures: FigureOptions, *, drawn: bool = True) -> Path:
    """The folder that a command writes `files` and figures into, held from now on: `-o`, or reports/<name>.

    Where reports/<name> holds another subject's results, a folder with the first digits of this subject's SHA-256.

    Args:
        request: what will be measured.
        name: of the folder below reports/.
        files: of results.
        figures: what the user said of the output.
        drawn: whether figures go with the files, which those of the same command would replace.
    Raises: KdvizError where the folder of `-o` holds another subject's results, unless they may be replaced.
    """
    usual = figures.out if figures.out is not None else Path("reports") / name
    other = None if figures.overwrite else _of_another(usual, request, set(files), drawn)
    require(
        other is None or figures.out is None,
        f"{other}: holds the result of another net; name another folder with -o, or replace it with --overwrite",
    )
    if other is not None:
        mark = request.subject if len(request.subject) == 64 else hashlib.sha256(request.subject.encode()).hexdigest()
        usual = usual.with_name(f"{usual.name}-{mark[:8]}")
    return hold(usual)


def finished(
    paths: Sequence[Path], request: Request, figures: FigureOptions, *, quiet: bool = False
) -> "list[xr.Dataset] | None":
    """The results at these paths if all are of this very request, which is said; None where one must be measured."""
    from kdviz.base.files import read_dataset

    if figures.fresh or any(attributes_of(path).get("fingerprint") != request.fingerprint for path in paths):
        return None
    try:
        found = [read_dataset(path) for path in paths]
    except KdvizError:  # damaged; it is written anew
        return None
    if first_process() and not quiet:
        typer.echo(f"{paths[0]}: measured before from the same nets, data and settings; --fresh measures anew")
    return found


def _of_another(folder: Path, request: Request, files: set[str], drawn: bool) -> Path | None:
    """A result of another subject in the folder that this command would replace, by its name or with the figures."""
    for path in sorted(folder.glob("*.nc")):
        held = attributes_of(path)
        if path.name in files or (drawn and held.get("command") == request.command):
            subject = held.get("subject")
            if subject is None:  # written by a version that did not say it, or not by a command
                named = f"{held.get('checkpoint_sha256', '')} {held.get('student_sha256', '')}".split()
                if set(named) - set(request.subject.split()):
                    return path
            elif subject != request.subject:
                return path
    return None


def name_with_code(loss: str) -> str:
    """A loss by its name; the user's own by its module's text too, so that a changed one is measured anew."""
    if ":" not in loss:
        return loss
    import inspect

    from kdviz.losses import resolve

    file = inspect.getsourcefile(inspect.unwrap(resolve(loss).function))
    return f"{loss} {sha256(file)}" if file else loss
