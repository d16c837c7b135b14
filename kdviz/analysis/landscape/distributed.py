"""One landscape by many processes, on one machine or many: `torchrun --nproc-per-node N -m kdviz landscape ...`.

Every rank takes the next point of one schedule by adding 1 to a counter in torchrun's TCPStore, and appends what it
finds to a journal of its own. No collective ever runs, so nobody waits for anybody: ranks may be of different speed,
gloo and nccl play no part, and a rank that dies takes its point in hand with it and nothing else. Rank 0 merges the
journals; a point that was handed out and never came back it computes itself. Run again with any number of ranks: the
points that are in any journal are not computed again.

Plan on paper: 51 x 51 points of a ResNet-50 on ImageNet's 50 000 validation images over 64 GPUs (8 machines of 8)
    work      4.1 GMAC = 8.2 GFLOP an image, 0.41 PFLOP a point, 2601 points: 1.07 EFLOP.
    images    resized, cropped and kept as uint8 once: 50 000 x 3 x 224 x 224 = 7.5 GB, one file; each GPU reads it once
              (8 readers a machine share the page cache, so 8 x 7.5 GB leave the file server) and holds it for all its
              41 points. Teacher logits, where a loss wants them: 50 000 x 1000 float32 = 200 MB, computed once.
    a point   batch norm folded, bfloat16, channels last, 256 to 1024 images a chunk. At 5 000 images/s a GPU (40 of
              its nominal 990 TFLOP/s, what an eager convolution net reaches) 10 s; five losses from the same logits add
              under 5 %.
    the whole 2601 points x 10 s / 64 = 41 rounds x 10 s = 7 minutes, and one for loading. The last round leaves at most
              63 GPUs idle for 10 s: 2.4 %. Schedule by points, not by shards of the images: a shard would need a
              reduction per point and 64 times as many weight updates.
    traffic   directions (2 x 102 MB) are drawn from the seed by every rank, not sent. 2601 + 64 additions on the store;
              64 journals of 41 lines. No other byte crosses the network.
    failure   a lost GPU costs one point (10 s); a lost machine eight. torchrun --max-restarts 3 starts the ranks again,
              which read the journals and go on. 64 ranks or 40 after that: the same file comes out, to rounding.
"""

import glob
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
import xarray as xr

from kdviz.analysis.landscape import journal as journals
from kdviz.analysis.landscape.sweep import Objective, Progress, Weights, assemble, centre_first, sweep
from kdviz.base.check import require
from kdviz.base.signals import Terminated

PATIENCE = (
    30.0  # seconds without news after which rank 0 takes the missing points for lost; ten points, if that is more
)


def rank_and_world() -> tuple[int, int]:
    """This process's rank and how many there are, as torchrun says it; (0, 1) alone."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def local_device() -> str:
    """The GPU of this rank on its machine, or "cpu"."""
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


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
        Terminated: SIGTERM came (torchrun sends it when another rank died); the point in hand was finished.
        KdvizError: as `sweep`.
    Source: ours.
    """
    rank, world = rank_and_world()
    axes = [np.asarray(axis, dtype=np.float64) for axis in (alphas, betas) if axis is not None]
    own = f"{os.fspath(journal)}.rank{rank}"
    common = (objective, weights, directions, alphas, betas)
    empty = sweep(*common, journal=own, schedule=())  # begins the rank's journal, with the sweep's fingerprint
    mark = journals.read(own)[0]["fingerprint"]
    order, store = centre_first(axes), _store(rank, world, mark)
    with _told_to_stop() as told:
        done = set(_points(journal, mark))
        handed = (order[place] for place in _counted(store, len(order)))
        mine = (point for point in handed if point not in done)
        begun = time.monotonic()
        step = None if progress is None or rank else progress
        part = sweep(*common, journal=own, schedule=_until(told, mine), progress=step)
        if told.is_set():
            raise Terminated
        if rank:
            return None
        each = (time.monotonic() - begun) / max(part.attrs["points_done"], 1)
        for point in _lost(journal, mark, order, max(PATIENCE, 10 * each), told):
            sweep(*common, journal=own, schedule=[point])
        if told.is_set():
            raise Terminated
    points = absorb(journal, mark)
    attrs = {name: value for name, value in empty.attrs.items() if name not in ("kind", "points_done")}
    return assemble(points, *axes).assign_attrs({**attrs, "ranks": world})


def absorb(journal: str | os.PathLike, fingerprint: str | None = None) -> journals.Points:
    """Carry the points of all ranks' journals over to `journal` and remove those files.

    Args:
        fingerprint: of the sweep [default: that of the first journal there is]; journals of others are left alone.
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


def _store(rank: int, world: int, mark: str) -> Any:
    """A counter that all ranks share: a corner of torchrun's store, or of one that rank 0 opens."""
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if world == 1 or not address or not port:
        require(world == 1, "landscape: WORLD_SIZE is set but not MASTER_ADDR and MASTER_PORT; start it by torchrun")
        return dist.HashStore()
    theirs = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = dist.TCPStore(address, int(port), is_master=rank == 0 and not theirs, wait_for_workers=False)
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"kdviz/{mark}/{again}", store)


def _counted(store: Any, count: int) -> Iterator[int]:
    """Places in the schedule that no other rank gets."""
    while (place := store.add("next", 1) - 1) < count:
        yield place


def _until(told: threading.Event, points: Iterator[int]) -> Iterator[int]:
    while not told.is_set() and (point := next(points, None)) is not None:
        yield point


def _lost(
    journal: str | os.PathLike, mark: str, order: list[int], patience: float, told: threading.Event
) -> Iterator[int]:
    """Points that other ranks took and have not brought for `patience` seconds, once all were handed out."""
    missing, since = set(order), time.monotonic()
    while missing and not told.is_set():
        left = missing - set(_points(journal, mark))
        if left != missing:
            missing, since = left, time.monotonic()
        elif time.monotonic() - since > patience:
            yield min(missing)
            patience = 0.0  # the others are as lost
        else:
            told.wait(0.2)


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, so that the point in hand can be finished first."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)
