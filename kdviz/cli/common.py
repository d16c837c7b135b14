"""What the commands share: names become objects here, results and figures are written and reported here."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import typer
import typer.core

from kdviz.base.check import require
from kdviz.base.files import atomic, write_dataset
from kdviz.base.latex import caption_tex
from kdviz.base.lock import locked
from kdviz.cli.adaptation import with_remarks
from kdviz.cli.lists import ListOption, expand_lists, refuse_spaced_words

if TYPE_CHECKING:
    import xarray as xr

    from kdviz.checkpoints import Checkpoint
    from kdviz.data import Data
    from kdviz.data.adapt import Adaptation

_folders: ContextVar[ExitStack | None] = ContextVar("folders held by the running command", default=None)


EARLIER = {"--loss": "--losses", "--label": "--target"}  # what options were called before


class Command(typer.core.TyperCommand):
    """A command whose repeatable options take lists: `--losses ce,kd`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse `args` once earlier names of options are replaced and lists expanded.

        Raises: KdvizError for names with spaces between them where files are expected.
        """
        args = self._renamed(args)
        types = _leaf_types(self.callback)
        options = {}
        for one in self.params:
            if getattr(one, "multiple", False):  # a metavar that shows a comma: the comma is the value's own
                kind = ListOption(bool(types[one.name] & {float, int}), "," not in (one.metavar or ""))
                options |= dict.fromkeys(one.opts, kind)
        arguments = [one for one in self.params if one.param_type_name == "argument"]
        files = any(Path in types[one.name] or "CKPT" in (one.metavar or "") for one in arguments)
        if files and not ctx.resilient_parsing:
            refuse_spaced_words(args, options)
        rest = super().parse_args(ctx, expand_lists(args, options))
        for name, given in ctx.params.items():
            for value in given if isinstance(given, list | tuple) else [given]:
                beyond = type(value) is int and not -(2**63) <= value < 2**63
                require(not beyond, f"--{name.replace('_', '-')}: {str(value)[:30]} is beyond 64 bits")
        return rest

    def _renamed(self, args: list[str]) -> list[str]:
        """`args` with the names of options that were called otherwise before (`EARLIER`)."""
        own = {name for one in self.params for name in one.opts}
        now = {before: name for before, name in EARLIER.items() if before not in own and name in own}
        words = [word.partition("=") for word in args]
        return [f"{now.get(name, name)}{equals}{value}" for name, equals, value in words]

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

    def invoke(self, ctx: Any) -> Any:
        """Run the command; the folders that it writes into are its own until it ends."""
        with ExitStack() as stack:
            token = _folders.set(stack)
            try:
                return super().invoke(ctx)
            finally:
                _folders.reset(token)


def _leaf_types(function: Any) -> dict[Any, set[Any]]:
    """The types in each parameter's annotation: `list[float] | None` holds float and None."""
    found = {}
    for name, annotation in get_type_hints(function).items():
        leaves, pending = set(), [annotation]
        while pending:
            one = pending.pop()
            pending += get_args(one)
            leaves |= set() if get_args(one) else {one}
        found[name] = leaves
    return found


def open_checkpoint(
    path: Path, model: str | None = None, classes: int | None = None, weights: str | None = None
) -> "Checkpoint":
    """The checkpoint at `path`, of any known producer; FILE@MODEL says its architecture."""
    from kdviz.checkpoints import load_checkpoint

    return load_checkpoint(path, model=model, classes=classes, weights=weights)


def open_data(
    checkpoint: "Checkpoint | None",
    name: str | None,
    root: Path | None,
    split: str = "test",
    adaptation: "Adaptation | None" = None,
) -> "Data":
    """The data set `name`, or the one that the checkpoint was trained on; class counts must agree."""
    from kdviz.checkpoints.related import load_data_of

    return with_remarks(load_data_of(checkpoint, name, root=root, split=split, adaptation=adaptation))


def open_teacher(checkpoint: "Checkpoint", path: Path | None, model: str | None = None) -> "Checkpoint | None":
    """The teacher at `path`, or the one that the checkpoint refers to (beside it, sha256 checked) or holds, or None."""
    from kdviz.checkpoints.related import load_teacher_of

    return load_teacher_of(checkpoint, path, model=model)


def caption(datasets: "Sequence[xr.Dataset]") -> str:
    """What results show: whose they are, then their captions, each once."""
    named = (one.attrs.get("label") for one in datasets)  # a surface's is a number, its class
    labels = ", ".join(dict.fromkeys(label for label in named if isinstance(label, str)))
    texts = dict.fromkeys(str(one.attrs["caption"]) for one in datasets if "caption" in one.attrs)
    return ": ".join(part for part in (labels, "; ".join(texts)) if part)


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
    """Where a command writes: `out`, or reports/<name>, held from now on."""
    return hold(out if out is not None else Path("reports") / name)


def hold(place: Path) -> Path:
    """The folder, locked until the running command ends; of several ranks of torchrun, by the first for all.

    Raises: KdvizError when another process holds it.
    """
    stack = _folders.get()
    if stack is not None and os.environ.get("RANK", "0") == "0":
        stack.enter_context(locked(place))
    return place


def write(dataset: "xr.Dataset", path: Path) -> None:
    """Write a result and say where."""
    hold(path.parent)
    typer.echo(write_dataset(dataset, path))


def write_figures(
    datasets: "Sequence[xr.Dataset] | xr.Dataset",
    names: Sequence[str],
    out: Path,
    *,
    stem: str = "",
    venue: str = "icml",
    formats: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Draw each named figure of the results, write it as `out/<stem><name>.*` (a page: landscape.html) with its caption
    beside it (.tex), say where.

    Args: options: keywords of the figures' functions, such as a surface's scale.
    """
    from kdviz import plots

    hold(out)
    for name in names:
        with plots.style(venue):
            fig = plots.draw(datasets, name, venue=venue, **(options or {}))
            file = "landscape" if name == "html" else f"{stem}{name}"
            for path in plots.save(fig, out / file, formats or ("pdf", "png")):
                typer.echo(path)
        if name != "html":
            many: list[Any] = list(datasets) if isinstance(datasets, list | tuple) else [datasets]
            with atomic(out / f"{file}.tex") as partial:
                partial.write_text(caption_tex(caption(many), f"{out.absolute().name}-{file}"), encoding="utf-8")
            typer.echo(out / f"{file}.tex")
