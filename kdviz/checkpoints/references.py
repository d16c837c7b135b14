"""How a checkpoint is named, FILE@NET where its file does not say the net, and the file of a teacher that it names."""

import os
from pathlib import Path

from kdviz.base.check import KdvizError, require
from kdviz.base.files import sha256
from kdviz.base.references import inside
from kdviz.checkpoints.record import Checkpoint

PARTS = ("student", "teacher")


def split_reference(reference: str | os.PathLike) -> tuple[Path, str | None]:
    """The file and what is said of it after "@": its architecture, or which part of it is meant (of `PARTS`).

    A path that exists as it stands has no such word, whatever it is called.

    >>> split_reference("net.pth@timm:resnet10t")
    (PosixPath('net.pth'), 'timm:resnet10t')
    >>> split_reference("user@host/net.pth")
    (PosixPath('user@host/net.pth'), None)
    """
    text = os.fspath(reference)
    path, at, word = text.rpartition("@")
    if not at or not path or "/" in word or _exists(text):
        return Path(text), None
    require(word, f"{text}: expected FILE@NET, as in net.pth@timm:resnet10t")
    return Path(path), word


def _exists(path: str) -> bool:
    try:
        return os.path.exists(path)
    except ValueError:  # a NUL byte
        return False


def teacher_file(checkpoint: Checkpoint) -> Path | None:
    """The file of the teacher that a checkpoint names; None where it names none.

    Looked for beside the checkpoint, then at the path as it stands, from the checkpoint's folder and the working
    folder. A file outside both folders is taken only if its SHA-256 is the one that the checkpoint states.

    Raises: KdvizError when the teacher is not there, or another file is.
    """
    if not checkpoint.teacher:
        return None
    named, home = Path(checkpoint.teacher["path"]), checkpoint.path.parent
    digest = checkpoint.teacher.get("sha256")
    found = [place for place in (home / named.name, home / named, named) if _is_other_file(place, checkpoint.path)]
    require(found, f"{checkpoint.path}: its teacher {named} is not there; name the file with --teacher")
    if digest is not None:
        right = next((place for place in found if sha256(place) == digest), None)
        reason = "is not the file that it was distilled from (sha256 differs)"
    else:
        right = next((place for place in found if inside(place, home, Path())), None)
        reason = "lies outside its folder and the working folder, and it states no sha256"
    if right is None:
        raise KdvizError(f"{checkpoint.path}: the teacher {found[0]} {reason}; name the file with --teacher")
    return right


def _is_other_file(place: Path, own: Path) -> bool:
    try:
        return place.is_file() and not place.samefile(own)
    except (OSError, ValueError):  # a name that is too long, a folder that may not be entered
        return False
