"""Files by name from a folder or straight from a tar archive, which is read and never unpacked."""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kdviz.base.check import KdvizError

_LARGEST = 400 * 2**20  # bytes that are read or unpacked; CIFAR's archives have 187 million
_MEMBERS = 1000  # of an archive; CIFAR's have 8
_OPENERS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open))


class _Limited:
    """A stream that ends in an error after `_LARGEST` bytes: a small archive may unpack to any size."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._left = stream, _LARGEST

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        found = self._stream.read(size)
        self._left -= len(found)
        if self._left < 0:
            raise tarfile.TarError(f"unpacks to more than {_LARGEST} bytes")
        return found


def read(place: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The contents of the files called `names` in a folder, or of the archive's members with these base names.

    Raises: KdvizError naming the first file that is missing, the damage, or more than 400 MiB.
    """
    wanted = list(names)
    try:
        found = _from_folder(place, wanted) if place.is_dir() else _from_tar(place, wanted)
    except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error, lzma.LZMAError) as error:
        raise KdvizError(f"{place}: cannot be read ({error}); is it whole? download it again") from error
    for name in wanted:
        if name not in found:
            raise KdvizError(f"{place}: holds no {name}; is it the right archive, and whole?")
    return found


def _from_folder(folder: Path, names: list[str]) -> dict[str, bytes]:
    paths = {name: folder / name for name in names if (folder / name).is_file()}
    size = sum(path.stat().st_size for path in paths.values())
    if size > _LARGEST:
        raise OSError(f"its files have {size} bytes, expected at most {_LARGEST}")
    return {name: path.read_bytes() for name, path in paths.items()}


def _from_tar(path: Path, names: list[str]) -> dict[str, bytes]:
    found = {}
    with path.open("rb") as probe:
        head = probe.read(8)
    opener = next((opener for mark, opener in _OPENERS if head.startswith(mark)), open)
    # one pass ("r|"); seeking in gzip would decompress again and again
    with opener(path, "rb") as stream, tarfile.open(fileobj=_Limited(stream), mode="r|") as archive:  # type: ignore
        for count, member in enumerate(archive):
            if count == _MEMBERS:
                raise tarfile.TarError(f"more than {_MEMBERS} members")
            name = member.name.rsplit("/", 1)[-1]
            if name not in names or name in found or not member.isfile():
                continue
            content = archive.extractfile(member)
            found[name] = content.read() if content else b""
            if len(found) == len(names):
                break
    return found
