"""`kdviz doctor`: what is here, and what to install for what is missing."""

import importlib
import os
import platform
import shutil
from importlib import metadata
from pathlib import Path

import typer

CORE = ("torch", "numpy", "scipy", "matplotlib", "seaborn", "xarray", "h5netcdf", "h5py", "typer", "rich", "pydantic")
EXTRAS = {
    "notebooks": ("jupyterlab", "ipywidgets", "plotly"),
    "compare": ("loss-landscapes",),
    "models": ("timm", "torchvision"),
}
ADAPTERS = ("timm", "torchvision")  # installed is not enough: builds that do not fit torch fail to import


def command() -> None:
    """Print versions, devices, free disk, data sets found, and what to install for what is missing.

    Example: kdviz doctor
    """
    from kdviz import __version__

    _line("kdviz", f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for name in CORE:
        _line(name, _version(name) or "MISSING; pip install kdviz again")
    for extra, names in EXTRAS.items():
        for name in names:
            _line(name, _extra(name, extra))
    _devices()
    free = shutil.disk_usage(Path.cwd()).free
    _line("free disk", f"{free / 2**30:.1f} GiB in this folder" + ("; checkpoints may not fit" if free < 2**30 else ""))
    _data()


def _line(name: str, text: str) -> None:
    typer.echo(f"{name:<16} {text}")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _extra(name: str, extra: str) -> str:
    version = _version(name)
    if version is None:
        return f"not installed; pip install 'kdviz[{extra}]'"
    if name in ADAPTERS:
        try:
            importlib.import_module(name)
        except (ImportError, RuntimeError) as error:
            return f"{version}, but it does not import ({str(error).splitlines()[0]}); does it fit this torch?"
    return version


def _devices() -> None:
    import torch

    from kdviz.train.device import choose_device, choose_precision

    _line("cpu", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        _line(f"cuda:{index}", f"{about.name}, {about.total_memory / 2**30:.0f} GiB")
    if not torch.cuda.is_available():
        _line("cuda", "no GPU; training and landscapes run on the CPU")
    device = choose_device()
    _line("training on", f"{device}, precision {choose_precision('auto', device)}")


def _data() -> None:
    from kdviz.base.check import KdvizError
    from kdviz.data import DATA, load_data

    for name in DATA:
        try:
            data = load_data(name, split="test")
        except KdvizError as error:
            _line(name, f"not found; {str(error).split(': ', 1)[-1]}")
        else:
            _line(name, f"{len(data):,} test images, {'synthetic' if data.synthetic else 'real'}")
