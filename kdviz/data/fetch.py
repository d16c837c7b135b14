"""Published archives brought from their sites: resumed where a transfer broke off, checked against their MD5."""

import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kdviz.base.check import KdvizError, require, unknown

Progress = Callable[[int, int], None]  # bytes there, bytes in all (0: the server does not say)

CHUNK = 2**18  # bytes
TRIES = 5  # in a row without a byte
PAUSE = 2.0  # seconds before the next try
TIMEOUT = 60.0  # seconds without a byte


@dataclass(frozen=True)
class Archive:
    """A published file.

    Args:
        url: where its authors publish it.
        md5: of the file, as its authors or the field's libraries publish it.
        folder: what it is unpacked to, where the archive itself is not read; "" where it is.
    """

    url: str
    md5: str
    folder: str = ""

    @property
    def file(self) -> str:
        """The file's name."""
        return self.url.rsplit("/", 1)[-1]


ARCHIVES = {
    "cifar10": Archive("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
    "cifar100": Archive("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
    "tiny-imagenet": Archive(
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de", "tiny-imagenet-200"
    ),
}


def fetch(name: str, root: Path, *, url: str | None = None, progress: Progress | None = None) -> Path:
    """The archive of data set `name` in the folder `root`, whole; what is there already is checked and kept.

    A transfer that broke off goes on where it stopped, in this call or a later one.

    Args:
        name: of `ARCHIVES`.
        root: made where it is missing.
        url: of a mirror; its file must be the published one.
        progress: called with (bytes there, bytes in all).
    Returns: the archive, or the folder that it was unpacked to.
    Raises: KdvizError for an unknown name, a server that does not answer, a file that is not the published one, a disk
        that is full.
    """
    if name not in ARCHIVES:
        raise unknown("data set to fetch", name, ARCHIVES)
    archive = ARCHIVES[name]
    source = url or archive.url
    require(source.startswith(("https://", "http://")), f"fetch: expected an http or https address, got {source!r}")
    target, folder = root / archive.file, root / archive.folder
    if archive.folder and folder.is_dir():
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            _download(source, target, archive.md5, progress)
        require(
            _md5(target) == archive.md5,
            f"{target}: is not the published file (its MD5 is not {archive.md5}); remove it and fetch again",
        )
        return _unpack(target, folder) if archive.folder else target
    except OSError as error:
        raise KdvizError(f"fetch: cannot write to {root}: {error.strerror or error}") from error


def _download(url: str, target: Path, md5: str, progress: Progress | None) -> None:
    """`url` to `target` by way of a part that later calls resume."""
    part = target.with_name(f"{target.name}.part")
    failures, reason = 0, ""
    while failures < TRIES:
        before = part.stat().st_size if part.exists() else 0
        if failures:
            time.sleep(PAUSE)
        try:
            done = _transfer(url, part, progress)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            done, reason = False, _reason(error)
            if isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500:
                break  # asking again will not change its mind
        if done:
            break
        failures = 0 if part.exists() and part.stat().st_size > before else failures + 1
    else:
        done = False
    there = part.stat().st_size if part.exists() else 0
    kept = f"; {there} bytes are kept, the same command goes on from there" if there else ""
    require(done, f"fetch: {url}: {reason or 'the transfer breaks off'}{kept}")
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise KdvizError(
            f"fetch: {url}: sent another file than the published one (MD5 {found}, expected {md5}); it was removed"
        )
    part.replace(target)


def _transfer(url: str, part: Path, progress: Progress | None) -> bool:
    """One request for what is missing of `part`; whether it is whole afterwards."""
    there = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "kdviz", "Accept-Encoding": "identity"}
    if there:
        headers["Range"] = f"bytes={there}-"
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and there:  # nothing after the last byte: whole, or another file, which the MD5 tells
            return True
        raise
    with answer:
        resumed = answer.status == 206 and _starts_at(answer.headers.get("Content-Range", ""), there)
        start = there if resumed else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else 0
        with part.open("ab" if resumed else "wb") as stream:
            while chunk := answer.read(CHUNK):
                stream.write(chunk)
                start += len(chunk)
                if progress:
                    progress(start, total)
    return start >= total


def _starts_at(content_range: str, first: int) -> bool:
    """Whether a Content-Range begins at byte `first`.

    >>> _starts_at("bytes 5-9/10", 5)
    True
    """
    return content_range.removeprefix("bytes ").split("-")[0].strip() == str(first)


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return f"{getattr(error, 'code', '')} {reason}".strip()


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _unpack(path: Path, folder: Path) -> Path:
    """The zip archive's one folder, whole or absent."""
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                parts = PurePosixPath(member).parts
                require(
                    parts and parts[0] == folder.name and ".." not in parts,
                    f"{path}: holds {member!r}, outside of {folder.name}/; refused",
                )
            archive.extractall(partial)
        (partial / folder.name).replace(folder)
    except (zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise KdvizError(f"{path}: cannot be unpacked ({error}); remove it and fetch again") from error
    finally:
        with suppress(OSError):
            shutil.rmtree(partial)
    return folder
