"""A run's journal: one JSON object a line, appended and flushed; a line torn by a kill is passed over."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdviz.base.check import KdvizError


def append(path: Path, event: str, **fields: Any) -> None:
    """Append one line. Raises KdvizError when the disk is full or the file is not writable."""
    line = json.dumps({"event": event, **fields})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.exists() and path.stat().st_size and path.read_bytes()[-1:] != b"\n"
        with path.open("a", encoding="utf-8") as stream:
            stream.write(("\n" if torn else "") + line + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise KdvizError(f"cannot write {path}: {error.strerror or error}") from error


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line, in order."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict) and "event" in entry:
            yield entry


def epochs(path: Path) -> list[dict[str, Any]]:
    """One entry per epoch, the last one written where a resumed run wrote it twice, in order."""
    latest = {entry["epoch"]: entry for entry in read(path) if entry["event"] == "epoch"}
    return [latest[number] for number in sorted(latest)]
