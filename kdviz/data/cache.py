"""The user's cache folder: built arrays kept between runs, checked on reading, never needed."""

import os
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from kdviz.base.check import KdvizError
from kdviz.base.files import atomic


def folder() -> Path:
    """$KDVIZ_CACHE, or kdviz/ in the platform's cache folder ($XDG_CACHE_HOME, ~/Library/Caches, %LOCALAPPDATA%)."""
    if named := os.environ.get("KDVIZ_CACHE"):
        return Path(named).expanduser()
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / "kdviz"
    if sys.platform == "darwin":
        return Path("~/Library/Caches/kdviz").expanduser()
    if sys.platform == "win32" and (named := os.environ.get("LOCALAPPDATA")):
        return Path(named) / "kdviz" / "Cache"
    return Path("~/.cache/kdviz").expanduser()


def read(name: str) -> np.ndarray | None:
    """The array kept as `name`, or None when there is none or it is damaged."""
    with suppress(OSError, ValueError, EOFError):  # mapped first: a header may claim more than the file holds
        return np.array(np.load(folder() / f"{name}.npy", mmap_mode="r", allow_pickle=False))
    return None


def write(name: str, array: np.ndarray) -> None:
    """Keep the array as `name`; a folder that cannot be written is no error."""
    with suppress(KdvizError, OSError), atomic(folder() / f"{name}.npy") as partial, partial.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)
