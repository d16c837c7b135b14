"""Arrays in files of logits: NumPy's by memory map or archive, torch's as checkpoints are read."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from kdviz.base.check import KdvizError, require


def check_unpacked(path: Path) -> None:
    """Refuse an archive that unpacks to far more than numbers can be compressed to: a few bytes may hold gigabytes."""
    with zipfile.ZipFile(path) as archive:
        total, held = sum(entry.file_size for entry in archive.infolist()), path.stat().st_size
    require(total <= 100 * held + 2**24, f"{path}: would unpack to {total} bytes from {held}; damaged")


def numpy_file(path: Path) -> Any:
    """An array by memory map, or the arrays of an archive."""
    try:
        with path.open("rb") as stream:
            if stream.read(6) == b"\x93NUMPY":
                return np.load(path, mmap_mode="r", allow_pickle=False)
            stream.seek(0)
            if zipfile.is_zipfile(path):
                check_unpacked(path)
            found = np.load(stream, allow_pickle=False)
            return {key: found[key] for key in found.files}
    except KdvizError:
        raise
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise KdvizError(f"{path}: not logits in a .nc, .npz, .npy or .pt file ({said})") from error


def torch_file(path: Path) -> Any:
    """What a file of torch.save holds, read as a checkpoint's would be."""
    from kdviz.checkpoints.read import read_file

    try:
        return read_file(path)
    except KdvizError as error:
        raise KdvizError(
            f"{error}; torch.load(weights_only=True) cannot read it; save plain tensors as"
            " {'logits_student': ..., 'logits_teacher': ..., 'target': ...}"
        ) from error
