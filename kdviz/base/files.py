"""Files that are whole or absent: atomic writes, SHA-256, netCDF in and out."""

import errno
import hashlib
import io
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from kdviz.base.check import KdvizError

if TYPE_CHECKING:
    import xarray as xr


# What torch's and NumPy's own writers say when the disk is full; they pass no errno on.
_NO_ROOM = re.compile(r"PytorchStreamWriter|inline_container|unexpected pos|^\d+ requested and \d+ written")


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it on success and vanishes on any failure.

    Data are flushed to the disk before the rename, so that a crash leaves the old file or the new one, never half.

    Raises: KdvizError when the folder cannot be written, vanishes, or the disk is full; it says what was kept.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        reason = write_failure(error, path.parent)
        if reason is None:
            raise
        kept = "the earlier file is kept" if path.is_file() else "no part of it is left"
        raise KdvizError(f"cannot write {path}: {reason}; {kept}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def write_failure(error: BaseException, folder: Path) -> str | None:
    """Why the system refused to write into `folder`, in a few words; None for an error of another kind.

    >>> write_failure(OSError(errno.ENOSPC, "No space left on device"), Path())
    'No space left on device'
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            if cause.errno == errno.ENOENT and not folder.is_dir():
                return f"the folder {folder} is gone"
            return cause.strerror or str(cause)
        cause = cause.__cause__ or cause.__context__
    text = str(error)
    if _NO_ROOM.search(text):
        return "the disk is full, or the file is above a size limit"
    return text or type(error).__name__ if isinstance(error, OSError) else None


def sha256(path: str | os.PathLike) -> str:
    """The file's SHA-256 as 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """What a result was computed with: Python, kdviz and its numerical libraries, without importing them."""
    names = ("kdviz", "torch", "numpy", "scipy", "xarray")
    found = {"python": platform.python_version()}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def write_dataset(dataset: "xr.Dataset", path: str | os.PathLike) -> Path:
    """Write a result as netCDF-4, atomically. Attributes must be strings, numbers or lists of them.

    It is composed in memory: HDF5 crashes the process at its end when the disk was full while it wrote a file.
    """
    import h5netcdf
    from xarray.backends import H5NetCDFStore

    buffer = io.BytesIO()
    with h5netcdf.File(buffer, "w") as file:
        dataset.dump_to_store(H5NetCDFStore(file))
    with atomic(path) as partial:
        partial.write_bytes(buffer.getbuffer())
    return Path(path)


def read_dataset(path: str | os.PathLike, *, notes: list[str] | None = None) -> "xr.Dataset":
    """`kdviz.base.results.read_dataset`, imported when it is needed."""
    from kdviz.base import results

    return results.read_dataset(path, notes=notes)
