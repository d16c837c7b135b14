"""Worker processes on this machine: started, watched, replaced when they die, stopped on request."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kdviz.tables.queue import Queue
from kdviz.tables.status import Status, status

LOOK = 1.0  # seconds between looks
RESTARTS = 20  # of dead workers without a run finished meanwhile, before the rest go on alone


def devices(workers: int | None, per_gpu: int, device: str | None) -> list[str]:
    """The device of each worker: `per_gpu` on each GPU, or one per core (four at most) where there is none.

    Args:
        workers: how many; None for the default.
        per_gpu: workers that share a GPU.
        device: the same for all, where it is named.
    """
    import torch

    gpus = torch.cuda.device_count() if device is None else 0
    if gpus:
        count = workers or gpus * per_gpu
        return [f"cuda:{place // per_gpu % gpus}" for place in range(count)]
    return [device or "cpu"] * (workers or min(os.cpu_count() or 1, 4))


def start(queue: Path, plan: str, device: str, *, save_minutes: float) -> subprocess.Popen:
    """One worker process, with a single thread for its arithmetic, so that several share the cores without waiting."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    words = [sys.executable, "-m", "kdviz.tables.worker", str(queue), plan, device, str(save_minutes)]
    with (queue.parent / "workers.log").open("ab") as log:
        return subprocess.Popen(words, env={**os.environ, **threads}, stdout=log, stderr=log)


def run(
    queue: Queue,
    plan: str,
    where: Sequence[str],
    *,
    save_minutes: float = 1.0,
    report: Callable[[Status], None] | None = None,
) -> Status:
    """Let one worker per device of `where` do the plan; its status when nothing is left that could be done.

    Dead workers are replaced. Should this process itself be killed, its workers finish the plan without it.

    Args:
        queue, plan: whose jobs.
        where: devices; one worker each.
        save_minutes: how old a run's saved state may get.
        report: called with the status whenever that has changed.
    Raises: KeyboardInterrupt after the workers have saved their runs and ended.
    """
    restarts, last = RESTARTS, None
    with _stopped_at_the_end() as workers:
        workers += [(device, start(queue.path, plan, device, save_minutes=save_minutes)) for device in where]
        while True:
            now = status(queue.entries(plan))
            if report and now != last:
                report(now)
            if last is not None and now.done > last.done:
                restarts = RESTARTS
            last = now
            alive = [worker for worker in workers if worker[1].poll() is None]
            if not queue.open(plan) or not (alive or restarts):
                return status(queue.entries(plan))
            for dead in [worker for worker in workers if worker not in alive]:
                workers.remove(dead)
                if dead[1].returncode != 0 and restarts:
                    restarts -= 1
                    workers.append((dead[0], start(queue.path, plan, dead[0], save_minutes=save_minutes)))
            if not workers:
                restarts = max(restarts - 1, 0)
                workers.append((where[0], start(queue.path, plan, where[0], save_minutes=save_minutes)))
            time.sleep(LOOK)


@contextmanager
def _stopped_at_the_end() -> Iterator[list[tuple[str, subprocess.Popen]]]:
    """A list of workers that are asked to stop, and waited for, when the block ends in any way."""
    workers: list[tuple[str, subprocess.Popen]] = []
    try:
        yield workers
    finally:
        for _, worker in workers:
            if worker.poll() is None:
                worker.terminate()
        for _, worker in workers:
            worker.wait()
