"""Bytes to tensors and plain values, never running anything that a file names: the content decides, not the suffix."""

import argparse
import codecs
import pickle
import pickletools
import re
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from kdviz.base.check import KdvizError, require

SHOWN = 6  # names listed in a message
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # the first pickle of a torch file that is no zip archive
RESAVE = "in the program that wrote it, save the weights alone: torch.save(model.state_dict(), 'weights.pt')"

# What a damaged or hostile file makes the readers raise.
BROKEN = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, LookupError, AttributeError, TypeError, ValueError, OSError),
    *(ArithmeticError, MemoryError, AssertionError, ImportError, struct.error, zipfile.BadZipFile),
)

# First bytes of files that are often taken for checkpoints, and what to do about each.
OTHER_FORMATS = (
    (b"\x1f\x8b", "is compressed (gzip); unpack it first (gunzip, or tar -xzf)"),
    (b"BZh", "is compressed (bzip2); unpack it first"),
    (b"\xfd7zXZ", "is compressed (xz); unpack it first"),
    (b"\x89HDF", "is an HDF5 file (Keras weights or netCDF), not a PyTorch checkpoint"),
    (b"\x93NUMPY", "is a NumPy array, not a PyTorch checkpoint"),
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself; fetch it with: git lfs pull"),
    (b"<", "is a web page, not a checkpoint; did the download need a login?"),
)


def read_file(path: Path) -> Any:
    """What a checkpoint file holds: a dict, for every producer that we know.

    torch's zip and legacy files and safetensors are opened; beside tensors and plain values they may hold
    `argparse.Namespace` and NumPy numbers.

    Raises: KdvizError, in one line, for a file that is empty, truncated, damaged, of another kind (a tar archive's
        members are named), or that names objects which could run code (they are listed).
    """
    require(path.is_file(), f"{path}: is not a regular file")
    with path.open("rb") as stream:
        head = stream.read(512)
    require(head, f"{path}: is empty")
    if head.startswith(b"PK"):
        _check_archive(path)
        return _load(path, mapped=True)
    _refuse_tar(path)
    if head.startswith(LEGACY_MAGIC):
        return _load(path, mapped=False)
    if head[4:9] == b"\0\0\0\0{":  # the header's length in 8 bytes, then the header
        return _safetensors(path)
    for mark, what in OTHER_FORMATS:
        require(not head.lstrip().startswith(mark), f"{path}: {what}")
    if head.startswith(b"\x80"):
        raise KdvizError(f"{path}: is a bare pickle, which could run code and is not opened; {RESAVE}")
    raise KdvizError(f"{path}: is not a checkpoint; expected a file of torch.save or safetensors")


def _load(path: Path, *, mapped: bool) -> Any:
    """torch.load, weights only; mapped tensors are read from the disk where they are used and nowhere else."""
    _refuse_makers(path)
    with torch.serialization.safe_globals(_allowed()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's notices about old files would stand beside our one line
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except BROKEN as error:
            blocked = _blocked(path, error)
            if blocked:
                listed = ", ".join(blocked[:SHOWN]) + (", ..." if len(blocked) > SHOWN else "")
                message = f"{path}: names objects that could run code ({listed}), so it is not opened; {RESAVE}"
            else:
                message = f"{path}: is truncated or damaged ({_line(error)})"
            raise KdvizError(message) from error


def _dtype(kind: object, *_: object) -> np.dtype:
    """In place of numpy.dtype, which would also make types of gigabytes."""
    if kind not in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1"):
        raise pickle.UnpicklingError("a NumPy type that is no ordinary number")
    return np.dtype(kind)


def _scalar(kind: np.dtype, raw: object) -> Any:
    """In place of NumPy's function of a number's type and bytes."""
    if not isinstance(kind, np.dtype) or not isinstance(raw, bytes) or len(raw) != kind.itemsize:
        raise pickle.UnpicklingError("a NumPy number that is not whole")
    return np.frombuffer(raw, kind)[0]


def _allowed() -> list[Any]:
    """What published checkpoints hold beside tensors: settings, and numbers left in NumPy's types."""
    kinds = ("Float64DType", "Float32DType", "Float16DType", "Int64DType", "Int32DType", "BoolDType")
    names = ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")
    return [
        argparse.Namespace,
        (_dtype, "numpy.dtype"),
        *((_scalar, name) for name in names),
        *(getattr(np.dtypes, kind) for kind in kinds),
    ]


def _refuse_makers(path: Path) -> None:
    """Refuse pickles that name functions which make large objects of small arguments; torch would call them."""
    named, encodings = set(), set()
    with suppress(*BROKEN), _pickles(path) as stream:
        for _ in range(5):  # a legacy file is so many pickles
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "GLOBAL":
                    named.add(str(argument).replace(" ", ".").replace("__builtin__", "builtins"))
                elif isinstance(argument, str) and len(argument) < 20:
                    encodings |= _codec(argument)
    makers = sorted(named & {"builtins.bytearray", "torch.Tensor"})
    if "_codecs.encode" in named:
        makers += sorted(encodings - {"iso8859-1", "utf-8", "ascii"})
    require(not makers, f"{path}: would make objects of any size ({', '.join(makers)}), so it is not opened; {RESAVE}")


def _codec(text: str) -> set[str]:
    with suppress(LookupError, ValueError):
        return {codecs.lookup(text).name}
    return set()


@contextmanager
def _pickles(path: Path) -> Iterator[IO[bytes]]:
    """The pickles of a torch file, zip or legacy."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.rsplit("/", 1)[-1] == "data.pkl")
            with archive.open(name) as stream:
                yield stream
    else:
        with path.open("rb") as stream:
            yield stream


def _blocked(path: Path, error: BaseException) -> list[str]:
    """Names in the file that the weights-only reader does not know."""
    named = set(re.findall(r"GLOBAL (\S+)", str(error))) | set(re.findall(r"<built-in function (\w+)>", str(error)))
    with suppress(*BROKEN):  # a legacy file, or opcodes of another protocol: the load's own message has to do
        named |= set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    if not named and isinstance(error, pickle.UnpicklingError) and "Unsupported operand" in str(error):
        named.add("opcodes of a pickle protocol other than 2")
    return sorted(named)


def _check_archive(path: Path) -> None:
    """Refuse zip archives that torch.save did not write, and those that would unpack to more than they are."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except BROKEN as error:
        raise KdvizError(f"{path}: is truncated or damaged ({_line(error)})") from error
    leaves = {entry.filename.rsplit("/", 1)[-1] for entry in entries}
    require("constants.pkl" not in leaves, f"{path}: is a TorchScript archive (a program); {RESAVE}")
    require(
        not any(leaf.endswith(".npy") for leaf in leaves),
        f"{path}: is a NumPy archive of {len(leaves)} arrays, not a PyTorch checkpoint",
    )
    require("data.pkl" in leaves, f"{path}: is a zip archive without a PyTorch checkpoint; unpack it first")
    # torch never compresses; an archive that claims more than it weighs is a bomb
    total = sum(entry.file_size for entry in entries)
    require(
        total <= path.stat().st_size,
        f"{path}: would unpack to {total} bytes from {path.stat().st_size}; torch.save writes no such file",
    )


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, *BROKEN) as error:
        raise KdvizError(f"{path}: is a truncated or damaged safetensors file ({_line(error)})") from error


def _refuse_tar(path: Path) -> None:
    names = []
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                names.append(member.name)
                if len(names) > SHOWN:
                    names[-1] = "..."
                    break
    except (tarfile.TarError, *BROKEN):
        if not names:
            return
    listed = ", ".join(names) or "nothing"
    raise KdvizError(f"{path}: is a tar archive; extract the checkpoint you mean (tar -xf) and name it: {listed}")


def _line(error: BaseException) -> str:
    """The first line of an error, short."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160]
