"""A worker process: takes the next job of a plan, trains it here, and goes on until nothing is left.

The run is trained in the worker's own process, so that whatever kills the worker ends the run too and nothing goes on
writing into its folder; whoever takes the job next resumes it from its last saved state.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any

from kdviz.base.check import KdvizError
from kdviz.base.lock import forget, locked
from kdviz.base.signals import exception, stop_requested
from kdviz.tables.job import load_imports
from kdviz.tables.queue import BEAT, Entry, Queue, Worker
from kdviz.train.recipe import Recipe

POLL = 0.5  # seconds between looks at the queue while other workers hold what this one waits for


def work(path: Path, plan: str, *, device: str | None = None, save_minutes: float = 1.0) -> int:
    """Do jobs of the plan until none is left that could be done; the number done here.

    Args:
        path: the queue's file.
        plan: of the table.
        device: "cpu", "cuda:1"; default: a GPU where there is one.
        save_minutes: how old a run's saved state may get; a kill loses no more.
    Raises: KeyboardInterrupt after the run in hand is saved and given back.
    """
    queue, done = Queue(path), 0
    worker = Worker(Path(path).parent)
    with stop_requested() as stop, closing(worker):
        while not stop.is_set():
            entry = queue.take(plan, worker)
            if entry is not None:
                done += _attempt(queue, worker, entry, device, save_minutes)
            elif queue.open(plan):
                time.sleep(POLL)
            else:
                return done
        raise exception(stop.signal)


def _attempt(queue: Queue, worker: Worker, entry: Entry, device: str | None, save_minutes: float) -> int:
    """One job, and what became of it in the queue; 1 where it was finished."""
    for host, pid in queue.dead(entry.id):  # what one left on another host nobody there will remove
        forget(entry.payload["folder"], host=host, pid=pid)
    try:
        with _heartbeat(queue, worker):
            perform(entry.payload, device=device, save_minutes=save_minutes)
    except KeyboardInterrupt:
        queue.release(entry.id, worker)
        raise
    except KdvizError as error:
        busy = "in use by" in str(error)  # another process trains the same run, by `kdviz train` say
        queue.fail(entry.id, worker, str(error), final=not busy)
        time.sleep(POLL if busy else 0)
        return 0
    except (RuntimeError, OSError, MemoryError) as error:  # the job may succeed elsewhere or later
        line = " ".join(str(error).split()) or type(error).__name__
        queue.fail(entry.id, worker, f"{type(error).__name__}: {line}", final=False)
        return 0
    return int(queue.finish(entry.id, worker))


def perform(payload: Mapping[str, Any], *, device: str | None = None, save_minutes: float = 1.0) -> None:
    """Train the run that a job's payload describes, or go on with it, and keep which test images it gets right.

    Raises: KdvizError as `kdviz.train.train` does, and where the folder is in use.
    """
    from kdviz.checkpoints.related import load_teacher
    from kdviz.tables.hits import keep_hits
    from kdviz.train import train

    load_imports(payload["imports"])
    folder, root = Path(payload["folder"]), payload["root"] and Path(payload["root"])
    teacher = load_teacher(payload["teacher"], payload["teacher_model"]) if payload["teacher"] else None
    with locked(folder):
        train(
            Recipe(**payload["recipe"]),
            out=folder,
            teacher=teacher,
            root=root,
            device=device,
            save_minutes=save_minutes,
            teacher_cache=payload["teacher_cache"] and Path(payload["teacher_cache"]),
        )
        keep_hits(folder, root=root, device=device, model=payload["recipe"]["student"])


@contextmanager
def _heartbeat(queue: Queue, worker: Worker) -> Iterator[None]:
    """A thread that renews the lease; where the lease was lost to another host, it asks this process to stop."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(BEAT):
            if not queue.beat(worker):
                os.kill(os.getpid(), SIGTERM)
                return

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def main(arguments: list[str] | None = None) -> int:
    """`python -m kdviz.tables.worker QUEUE PLAN [DEVICE] [SAVE_MINUTES]`."""
    import torch

    from kdviz.base.signals import exit_code, interruptible

    path, plan, *rest = sys.argv[1:] if arguments is None else arguments
    device = rest[0] if rest and rest[0] != "auto" else None
    torch.set_num_threads(1)
    try:
        with interruptible():
            work(Path(path), plan, device=device, save_minutes=float(rest[1]) if len(rest) > 1 else 1.0)
    except KeyboardInterrupt as interrupt:
        return exit_code(interrupt)
    return 0


if __name__ == "__main__":
    sys.exit(main())
