"""Files by name from a folder or straight from a tar archive, which is read and never unpacked."""

import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from kdviz.base.check import KdvizError

_LARGEST = 512 * 2**20  # bytes; CIFAR's largest member has 155 million


def read(place: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The contents of the files called `names` in a folder, or of the archive's members with these base names.

    Raises: KdvizError naming the first file that is missing, the damage, or a member beyond 512 MiB.
    """
    wanted = list(names)
    try:
        found = _from_folder(place, wanted) if place.is_dir() else _from_tar(place, wanted)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise KdvizError(f"{place}: cannot be read ({error}); is it whole? download it again") from error
    for name in wanted:
        if name not in found:
            raise KdvizError(f"{place}: holds no {name}; is it the right archive, and whole?")
    return found


def _from_folder(folder: Path, names: list[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def _from_tar(path: Path, names: list[str]) -> dict[str, bytes]:
    found = {}
    with tarfile.open(path, "r|*") as archive:  # one pass; seeking in gzip would decompress again and again
        for member in archive:
            name = member.name.rsplit("/", 1)[-1]
            if name not in names or name in found or not member.isfile():
                continue
            if member.size > _LARGEST:
                raise KdvizError(f"{path}: {member.name} says it has {member.size} bytes; refused")
            stream = archive.extractfile(member)
            found[name] = stream.read() if stream else b""
            if len(found) == len(names):
                break
    return found
