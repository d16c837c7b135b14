"""`kdviz doctor`: what this machine has, and what to install for what is missing."""

import importlib
import os
import shutil
from pathlib import Path

import typer

from kdviz.base.check import KdvizError
from kdviz.base.files import versions

GIB = 2**30
LEAST_FREE = 2.0  # GiB: a run, its checkpoints and its results
# module -> (what it is for, how to get it)
OPTIONAL = {
    "ipywidgets": ("notebooks with sliders", "pip install 'kdviz[notebooks]'"),
    "jupyterlab": ("notebooks", "pip install 'kdviz[notebooks]'"),
    "loss_landscapes": ("metrics of loss-landscapes on our engine", "pip install 'kdviz[compare]'"),
    "plotly": ("interactive landscapes", "pip install 'kdviz[notebooks]'"),
    "timm": ("models called timm:NAME", "pip install 'kdviz[models]'"),
    "torchvision": ("models called torchvision:NAME", "pip install 'kdviz[models]'"),
}


def command() -> None:
    """Tell versions, devices, free disk and data sets found, and what to install for what is missing.

    Example: kdviz doctor
    """
    missing = 0
    for title, rows in (
        ("versions", [(name, version, "") for name, version in versions().items()]),
        ("devices", _devices()),
        ("disk", _disk()),
        ("optional", [_optional(name) for name in OPTIONAL]),
        ("data", _data()),
    ):
        typer.echo(title)
        for name, state, advice in rows:
            typer.echo(f"  {name:<14} {state}" + (f"\n{'':17}-> {advice}" if advice else ""))
            missing += bool(advice)
    typer.echo(f"\n{missing} hints above, marked ->" if missing else "\nnothing is missing")


def _devices() -> list[tuple[str, str, str]]:
    import torch

    rows = [("cpu", f"{torch.get_num_threads()} threads", "")]
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        rows.append((f"cuda:{index}", f"{found.name}, {found.total_memory / GIB:.0f} GiB", ""))
    if torch.version.cuda is None and shutil.which("nvidia-smi"):
        rows.append(
            ("cuda", "there is a GPU, but this torch is for the CPU", "install torch's CUDA build (pytorch.org)")
        )
    elif len(rows) == 1:
        rows.append(("cuda", "none; everything runs on the CPU", ""))
    return rows


def _disk() -> list[tuple[str, str, str]]:
    free = shutil.disk_usage(Path.cwd()).free / GIB
    return [("here", f"{free:.1f} GiB free", "" if free >= LEAST_FREE else f"make room: {LEAST_FREE:g} GiB or more")]


def _optional(name: str) -> tuple[str, str, str]:
    """Whether the module imports; a torchvision built for another torch is there and fails."""
    purpose, advice = OPTIONAL[name]
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        return name, f"not installed: {purpose}", advice
    except (ImportError, RuntimeError, OSError) as error:
        return name, f"installed, but does not import ({str(error).splitlines()[0]})", f"reinstall it: {advice}"
    return name, str(getattr(module, "__version__", "there")), ""


def _data() -> list[tuple[str, str, str]]:
    """Each data set: opened, drawn when asked for, or what its own error says."""
    from kdviz.data import DATA

    named = os.environ.get("KDVIZ_DATA")
    lost = named and not Path(named).expanduser().exists()
    rows = [("$KDVIZ_DATA", named or "not set", "there is no such folder; make it, or name another" if lost else "")]
    for name, entry in sorted(DATA.items()):
        if entry.synthetic:
            rows.append((name, "drawn on first use, then cached", ""))
        elif entry.classes is None:
            rows.append((name, entry.summary, ""))
        else:
            try:
                rows.append((name, f"{len(entry.load('test', None)):,} test images", ""))
            except (KdvizError, OSError) as error:
                rows.append((name, "not found, or not readable", str(error).removeprefix(f"{name}: ")))
    return rows
