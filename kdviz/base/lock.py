"""One process at a time in an output folder: a lock file that says who holds it."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kdviz.base.check import KdvizError

NAME = ".kdviz.lock"
YOUNG = 10.0  # seconds; an empty lock file of this age is being written, an older one was left by a crash

_held: dict[tuple[str, int], int] = {}  # (folder, thread) -> how often this thread entered it


@contextmanager
def locked(folder: str | os.PathLike) -> Iterator[Path]:
    """The folder, held by this process until the block ends; no other process can enter it meanwhile.

    The lock is the file `.kdviz.lock`, created with O_EXCL, which names process, host and start. The lock of a process
    that no longer runs on this host is taken over. The thread that holds a folder may enter it again.

    Args:
        folder: made where it does not exist, and removed at the end if it is still empty then.

    Raises: KdvizError in one line that says who holds the folder, or why it cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place, locked(place) as folder, locked(place):
    ...     (folder / NAME).is_file()
    True
    """
    place = Path(folder)
    key = (os.path.realpath(place), threading.get_ident())
    if key in _held:
        _held[key] += 1
        try:
            yield place
        finally:
            _held[key] -= 1
        return
    made = not place.exists()
    text = _acquire(place)
    _held[key] = 1
    try:
        yield place
    finally:
        del _held[key]
        _release(place, text, made=made)


def forget(folder: str | os.PathLike, *, host: str, pid: int) -> None:
    """Remove the lock that a process on another host left in the folder, once that process is known to have ended.

    Args:
        folder: as `locked`.
        host, pid: of the process; the lock of any other stays.
    """
    with suppress(FileNotFoundError):
        holder = _read(Path(folder) / NAME)
        if (holder.get("host"), holder.get("pid")) == (host, pid) and host != socket.gethostname():
            (Path(folder) / NAME).unlink()


def in_use(folder: str | os.PathLike) -> bool:
    """Whether a process holds the folder, as far as can be told from here; it only reads.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     with locked(place):
    ...         held = in_use(place)
    ...     held, in_use(place)
    (True, False)
    """
    with suppress(OSError):
        holder = _read(Path(folder) / NAME)
        return bool(holder) and _alive(holder)
    return False


def _acquire(folder: Path) -> str:
    """Create the lock file, stale ones removed first; its text."""
    text = json.dumps(_this_process())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while not _create(folder / NAME, text):
            _remove_stale(folder)
    except OSError as error:
        raise KdvizError(f"cannot write into {folder}: {error.strerror or error}") from error
    return text


def _create(path: Path, text: str) -> bool:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        os.write(descriptor, text.encode())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return True


def _release(folder: Path, text: str, *, made: bool) -> None:
    path = folder / NAME
    with suppress(OSError):  # the folder may be gone by now
        if path.read_text() == text:
            path.unlink()
        if made:
            folder.rmdir()


def _remove_stale(folder: Path) -> None:
    """Remove the lock file if its holder is gone.

    Two processes may find the same stale file at once. What they do about it happens under an exclusive lock on the
    folder itself, which the kernel drops when its holder dies, so that nobody removes the file of the one who came
    first. Holders on other hosts are never judged, so it is enough that this lock works within one host.

    Raises: KdvizError when the holder is alive or cannot be judged from here.
    """
    with _exclusive(folder):
        path = folder / NAME
        with suppress(FileNotFoundError):
            holder, age = _read(path), time.time() - path.stat().st_mtime
            if _alive(holder) if holder else age < YOUNG:
                raise KdvizError(_refusal(folder, holder))
            path.unlink()


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError as error:  # no such lock on this system: a stale file is left for the user to remove
        raise KdvizError(_refusal(folder, _read(folder / NAME))) from error
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, Any]:
    """The holder that the lock file names; empty where the file is damaged or not written yet."""
    try:
        found = json.loads(path.read_text(errors="replace"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("pid"), int) else {}


def _this_process() -> dict[str, Any]:
    """What tells this process from every other, including a later one with the same number."""
    pid = os.getpid()
    return {
        "pid": pid,
        "host": socket.gethostname(),
        "namespace": _namespace(),
        "boot": _boot(),
        "started": _started(pid),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _alive(holder: dict[str, Any]) -> bool:
    """Whether the holder runs, as far as can be told from here; one on another host counts as alive."""
    if (holder.get("host"), holder.get("namespace")) != (socket.gethostname(), _namespace()):
        return True
    if holder.get("boot") != _boot():
        return False
    try:
        os.kill(holder["pid"], 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return holder.get("started") == _started(holder["pid"])


def _refusal(folder: Path, holder: dict[str, Any]) -> str:
    if not holder:
        return f"{folder}: another process is entering it; try again, or remove {folder / NAME}"
    who = f"process {holder['pid']} on {holder.get('host')} since {holder.get('since')}"
    advice = "wait for it, or choose another folder (-o)"
    if holder.get("host") != socket.gethostname():
        advice += f"; if it no longer runs, remove {folder / NAME}"
    return f"{folder}: in use by {who}; {advice}"


def _boot() -> str | None:
    """The id of this boot of the system; None where there is no /proc."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None


def _namespace() -> str | None:
    """The process namespace (of a container): numbers of processes mean nothing outside it."""
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return None


def _started(pid: int) -> str | None:
    """When the process started, in clock ticks since boot; None where there is no /proc, or no such running process."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # Z: it has ended, and its parent has not asked yet
    return None
