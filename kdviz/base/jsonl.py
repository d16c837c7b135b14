"""JSON lines on disk: one object a line, appended and flushed to the disk; a line torn by a kill is skipped."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdviz.base.check import KdvizError


def append_line(path: Path, entry: dict[str, Any]) -> None:
    """Append one object. Raises KdvizError when the disk is full or the file is not writable."""
    line = json.dumps(entry)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as stream:
            torn = stream.tell() and stream.seek(-1, os.SEEK_END) is not None and stream.read(1) != b"\n"
            stream.write(("\n" if torn else "").encode() + line.encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise KdvizError(f"cannot write {path}: {error.strerror or error}") from error


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line that holds an object, in order; nothing where there is no file."""
    if not path.is_file():
        return
    with path.open("rb") as stream:
        for line in stream:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict):
                yield entry
