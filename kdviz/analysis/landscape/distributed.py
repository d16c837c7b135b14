"""One landscape by many processes, on one machine or many: `torchrun --nproc-per-node N -m kdviz landscape ...`.

Every rank takes the next point of one schedule by adding 1 to a counter in torchrun's TCPStore, and appends what it
measures to a journal of its own. No collective ever runs, so no rank waits for another: ranks may be of different
speed, gloo and nccl are not used, and a rank that dies loses the point that it was computing and nothing else. Rank 0
merges the journals; a point that was handed out and never came back it computes itself. Run again with any number of
ranks: the points that are in any journal are not computed again.

`docs/distributed-landscapes.md` works out a large one on paper.
"""

import glob
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from kdviz.analysis.landscape import journal as journals
from kdviz.analysis.landscape.sweep import Objective, Progress, Weights, assemble, centre_first, label_variables, sweep
from kdviz.base.processes import rank_and_world, shared_store
from kdviz.base.signals import exception, stop_requested

# Seconds without a new point after which rank 0 computes the missing ones itself; the time of ten points if longer.
PATIENCE = 30.0


def distributed_sweep(
    objective: Objective,
    weights: Weights,
    directions: Weights | Sequence[Weights],
    alphas: Sequence[float],
    betas: Sequence[float] | None = None,
    *,
    journal: str | os.PathLike,
    progress: Progress | None = None,
) -> xr.Dataset | None:
    """`sweep` by all ranks of torchrun together, each calling this with the same arguments.

    Args:
        objective, weights, directions, alphas, betas: as `sweep`; the same on every rank.
        journal: a file in a folder that all ranks see; rank r writes <journal>.rank<r>, rank 0 at last <journal>.
        progress: called on rank 0 with (its own points and those done before, points in all).
    Returns:
        On rank 0 the Dataset of all points; None on the others.
    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM (torchrun sends it when another rank died); the current point was finished.
        KdvizError: as `sweep`.
    Source: ours.
    """
    rank, world = rank_and_world()
    axes = [np.asarray(axis, dtype=np.float64) for axis in (alphas, betas) if axis is not None]
    own = f"{os.fspath(journal)}.rank{rank}"
    common = (objective, weights, directions, alphas, betas)
    empty = sweep(*common, journal=own, schedule=())  # begins the rank's journal, with the sweep's fingerprint
    mark = journals.read(own)[0]["fingerprint"]
    order, store = centre_first(axes), shared_store("landscape", mark)
    with stop_requested() as stop:
        done = set(_points(journal, mark))
        handed = (order[place] for place in _counted(store, len(order)))
        mine = (point for point in handed if point not in done)
        begun = time.monotonic()
        step = None if progress is None or rank else progress
        part = sweep(*common, journal=own, schedule=_until(stop, mine), progress=step)
        if stop.is_set():
            raise exception(stop.signal)
        if rank:
            return None
        each = (time.monotonic() - begun) / max(part.attrs["points_done"], 1)
        for point in _overdue(journal, mark, order, max(PATIENCE, 10 * each), stop):
            sweep(*common, journal=own, schedule=[point])
        if stop.is_set():
            raise exception(stop.signal)
    points = merge_journals(journal, mark)
    attrs = {name: value for name, value in empty.attrs.items() if name not in ("kind", "points_done")}
    return label_variables(assemble(points, *axes), objective).assign_attrs({**attrs, "ranks": world})


def merge_journals(journal: str | os.PathLike, fingerprint: str | None = None) -> journals.Points:
    """Carry the points of all ranks' journals over to `journal` and remove those files.

    Args:
        journal: of the first rank; those of the others stand beside it.
        fingerprint: of the sweep [default: that of the first journal there is]; journals of others stay as they are.
    Returns:
        All points.
    """
    heads = [journals.read(path)[0] for path in _files(journal)]
    found = next((head for head in heads if head.get("fingerprint") == (fingerprint or head.get("fingerprint"))), {})
    if "fingerprint" not in found:
        return {}
    points = _points(journal, found["fingerprint"])
    stream, kept = journals.start(journal, {k: v for k, v in found.items() if k != "format"})
    with stream:
        for point in sorted(set(points) - set(kept)):
            journals.append(stream, point, points[point])
    for path in _files(journal)[1:]:
        if journals.read(path)[0].get("fingerprint") == found["fingerprint"]:
            Path(path).unlink()
    return points


def _files(journal: str | os.PathLike) -> list[str]:
    return [os.fspath(journal), *sorted(glob.glob(f"{glob.escape(os.fspath(journal))}.rank*"))]


def _points(journal: str | os.PathLike, mark: str) -> journals.Points:
    """The finished points of this sweep in all journals."""
    points: journals.Points = {}
    for path in _files(journal):
        with suppress(FileNotFoundError):  # rank 0 of another run may be merging
            header, found = journals.read(path)
            points |= found if header.get("fingerprint") == mark else {}
    return points


def _counted(store: Any, count: int) -> Iterator[int]:
    """Places in the schedule that no other rank gets."""
    while (place := store.add("next", 1) - 1) < count:
        yield place


def _until(stop: threading.Event, points: Iterator[int]) -> Iterator[int]:
    while not stop.is_set() and (point := next(points, None)) is not None:
        yield point


def _overdue(
    journal: str | os.PathLike, mark: str, order: list[int], patience: float, stop: threading.Event
) -> Iterator[int]:
    """Points that other ranks took and have not brought for `patience` seconds, once all were handed out."""
    missing, since = set(order), time.monotonic()
    while missing and not stop.is_set():
        left = missing - set(_points(journal, mark))
        if left != missing:
            missing, since = left, time.monotonic()
        elif time.monotonic() - since > patience:
            yield min(missing)
            patience = 0.0  # the others are as overdue
        else:
            stop.wait(0.2)
