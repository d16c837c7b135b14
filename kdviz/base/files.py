"""Files that are whole or absent: atomic writes, SHA-256, netCDF in and out."""

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from kdviz.base.check import KdvizError, require

if TYPE_CHECKING:
    import xarray as xr


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it on success and vanishes on any failure.

    Data are flushed to the disk before the rename, so that a crash leaves the old file or the new one, never half.

    Raises: KdvizError when the folder cannot be written or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KdvizError(f"cannot write {path}: {error.strerror or error}") from error
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        raise KdvizError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def sha256(path: str | os.PathLike) -> str:
    """The file's SHA-256 as 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def existing(path: str | os.PathLike, *, what: str = "file") -> Path:
    """`path`, or KdvizError when there is nothing there."""
    found = Path(path)
    require(found.exists(), f"{what} not found: {found}")
    return found


def versions() -> dict[str, str]:
    """What a result was computed with: Python, kdviz and its numerical libraries, without importing them."""
    names = ("kdviz", "torch", "numpy", "scipy", "xarray")
    found = {"python": platform.python_version()}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def write_dataset(dataset: "xr.Dataset", path: str | os.PathLike) -> Path:
    """Write a result as netCDF-4, atomically. Attributes must be strings, numbers or lists of them."""
    with atomic(path) as partial:
        dataset.to_netcdf(partial, engine="h5netcdf")
    return Path(path)


def read_dataset(path: str | os.PathLike) -> "xr.Dataset":
    """Read a result of `write_dataset` into memory. Raises KdvizError for a missing or damaged file."""
    import xarray as xr

    found = existing(path, what="result")
    try:
        return xr.load_dataset(found, engine="h5netcdf")
    except (OSError, ValueError, KeyError) as error:
        raise KdvizError(f"{found}: not a kdviz result (netCDF): {str(error).splitlines()[0]}") from error
