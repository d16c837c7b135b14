"""Finished grid points on disk: JSON lines, one per point, that survive a kill and a last line cut off."""

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from torch import Tensor

from kdviz.base.check import KdvizError, require
from kdviz.base.jsonl import read_lines

FORMAT = "kdviz landscape points 1"
Points = dict[int, dict[str, float]]


def fingerprint(tensors: Iterable[Mapping[str, Tensor]], axes: Iterable[np.ndarray], what: str = "") -> str:
    """64 hexadecimal digits that differ when the weights, directions, axes or the description `what` differ."""
    digest = hashlib.sha256(what.encode())
    for mapping in tensors:
        for name in sorted(mapping):
            digest.update(f"\0{name}{tuple(mapping[name].shape)}".encode())
            digest.update(mapping[name].detach().cpu().double().numpy().tobytes())
    for axis in axes:
        digest.update(b"\0axis" + np.ascontiguousarray(axis, dtype=np.float64).tobytes())
    return digest.hexdigest()


def read(path: str | os.PathLike) -> tuple[dict[str, Any], Points]:
    """The header and the finished points of a journal; ({}, {}) where there is none or only a part of a header.

    Raises:
        KdvizError: the file is something else.
    """
    path = Path(path)
    if not path.exists() or path.stat().st_size == 0:
        return {}, {}
    if path.stat().st_size < 4096 and b"\n" not in path.read_bytes():  # a header that a kill cut off
        return {}, {}
    header, *records = [*read_lines(path)] or [{}]
    require(header.get("format") == FORMAT, f"{path}: not a journal of a landscape; name another file")
    points = {}
    for record in records:
        if isinstance(record.get("point"), int) and isinstance(record.get("values"), dict):
            points[record["point"]] = record["values"]
    return header, points


def recorded_chunk(path: str | os.PathLike) -> int | None:
    """How many images at a time the sweep of this journal took; None where there is no journal."""
    return read(path)[0].get("chunk")


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove the journals of these names in a folder, once their results are written."""
    for name in names:
        for file in folder.glob(f"{glob.escape(journal_file(name))}*"):
            file.unlink()


def journal_file(name: str) -> str:
    """The file name of the journal of a result called `name`."""
    return f".{name}.points"


def start(path: str | os.PathLike, header: Mapping[str, Any]) -> tuple[TextIO, Points]:
    """A stream to append to and the points that are done; a journal of another sweep is begun anew."""
    path = Path(path)
    found, points = read(path)
    fresh = found.get("fingerprint") != header["fingerprint"]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not fresh:
            whole = path.read_bytes().rfind(b"\n") + 1
            os.truncate(path, whole)
        stream = path.open("w" if fresh else "a", encoding="utf-8")
    except OSError as error:
        raise KdvizError(f"cannot write {path}: {error.strerror or error}") from error
    if fresh:
        points = {}
        _write(stream, {"format": FORMAT, **header})
    return stream, points


def append(stream: TextIO, point: int, values: Mapping[str, float]) -> None:
    """One finished point, flushed, so that a kill loses only the point in hand."""
    _write(stream, {"point": point, "values": dict(values)})


def _write(stream: TextIO, record: Mapping[str, Any]) -> None:
    try:
        stream.write(json.dumps(record) + "\n")
        stream.flush()
    except OSError as error:
        raise KdvizError(f"cannot write {stream.name}: {error.strerror or error}") from error
