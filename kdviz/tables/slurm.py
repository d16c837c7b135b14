"""Workers of a plan as tasks of a Slurm array, submitted by submitit (optional extra `cluster`).

Every task is a worker as `kdviz.tables.worker` is: it takes runs from the plan's queue until none is left, so the
folder of the runs, with queue.sqlite in it, must be on a file system that all nodes share and whose locks work between
nodes. An array has a task for each run that is left and lets `most` of them run at a time: where a task is killed,
Slurm starts the next one in its place, which resumes the run. Before the time limit, and on preemption by SIGUSR2, the
task saves the run after the step in hand, gives it back, and is put into the partition's queue again by submitit. Tasks
that start when all is done end at once.
"""

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdviz.base.check import KdvizError, require
from kdviz.base.signals import interruptible
from kdviz.tables.queue import Queue
from kdviz.tables.status import Status, status
from kdviz.tables.worker import work

LOOK = 5.0  # seconds between looks at queue and cluster
ARRAYS = 5  # without a run finished meanwhile, before the plan is given up
MINUTES = 240  # of a task, where the options name no time
NOTICE = 90  # seconds before the time limit at which a task is asked to stop, as submitit has it


@dataclass(frozen=True)
class Task:
    """What a task of the array calls.

    Attributes:
        queue: the queue's file.
        plan: of the table.
        device: "cpu", "cuda"; None: a GPU where there is one.
        save_minutes: how old a run's saved state may get.
    """

    queue: Path
    plan: str
    device: str | None
    save_minutes: float

    def __call__(self) -> int:
        """Do runs until none is left; the number done here."""
        import torch

        torch.set_num_threads(int(os.environ.get("SLURM_CPUS_PER_TASK", "1")))
        with _requeued(), interruptible():
            return work(self.queue, self.plan, device=self.device, save_minutes=self.save_minutes)

    def checkpoint(self) -> Any:
        """What submitit submits in place of a task that is stopped before its time limit: the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@contextmanager
def _requeued() -> Iterator[None]:
    """Let submitit answer the signal before the time limit only when the block has ended by KeyboardInterrupt.

    submitit's own handler puts the task into the queue again and exits wherever the process stands, in the middle of a
    step too, so that the run would lose all steps since its last saved state. Here the signal counts as SIGTERM, after
    which a run is saved and given back.
    """
    from submitit.core.job_environment import JobEnvironment

    number = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
    theirs, asked = signal.getsignal(number), []

    def ask(*_: Any) -> None:
        asked.append(number)
        signal.raise_signal(signal.SIGTERM)

    signal.signal(number, ask)
    try:
        yield
    except KeyboardInterrupt:
        if asked and callable(theirs):
            theirs(number, None)  # exits
        raise
    finally:
        signal.signal(number, theirs)


def notice(limit: str) -> int:
    """How many seconds before its time limit a task is asked to stop: `NOTICE`, a quarter of the limit at most.

    Args:
        limit: as sbatch takes it: minutes, m:s, h:m:s, d-h, d-h:m, d-h:m:s.

    >>> notice("1"), notice("4:00"), notice("8:00:00"), notice("1-12"), notice("UNLIMITED")
    (15, 60, 90, 90, 90)
    """
    days, dash, rest = limit.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdecimal() for part in (*parts, days or "0")):
        return NOTICE
    units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
    seconds = 86400 * int(days or 0) + sum(int(part) * unit for part, unit in zip(parts, units, strict=False))
    return min(NOTICE, seconds // 4)


def job_name(plan: str) -> str:
    """The name of a plan's arrays in Slurm, by which a later command finds them.

    >>> job_name("/home/me/reports/tables/rkkd_tab2")
    'kdviz-f674ac7fda'
    """
    return f"kdviz-{hashlib.sha256(plan.encode()).hexdigest()[:10]}"


def submit(task: Task, count: int, *, most: int, options: Mapping[str, str]) -> str:
    """Submit an array of `count` tasks, of which `most` run at a time; its number in Slurm.

    Args:
        task: what each of them calls.
        count: 1 or more.
        most: 1 or more.
        options: of sbatch, {"partition": "gpu", "time": "8:00:00", "gres": "gpu:1"}.
    Raises: KdvizError where submitit or Slurm is missing, or sbatch refuses the options.
    """
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    folder = task.queue.parent / "slurm"
    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=10**6)
    given = {key.replace("-", "_"): True if value == "true" else value for key, value in options.items()}
    parameters = {"requeue": True, "time": MINUTES, **given, "job_name": job_name(task.plan)}  # named as submitit does
    executor.update_parameters(
        time=MINUTES,
        signal_delay_s=notice(str(parameters["time"])),
        array_parallelism=most,
        additional_parameters=parameters,
    )
    try:
        with executor.batch():
            jobs = [executor.submit(task) for _ in range(count)]
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
        raise KdvizError(f"table: sbatch refuses the tasks: {str(error).splitlines()[-1]}") from error
    return str(jobs[0].job_id).partition("_")[0]


def run(
    queue: Queue, task: Task, *, most: int, options: Mapping[str, str], report: Callable[[Status], None] | None = None
) -> Status:
    """Let Slurm's tasks do the plan, and follow it; its status when nothing is left that could be done.

    Tasks that an earlier call submitted are followed, not doubled. Should this process end, they finish the plan
    without it.

    Args:
        queue: of the plan.
        task, most, options: as `submit`.
        report: called with the status whenever that has changed.
    Raises: KdvizError as `submit`, and where array after array ends without a run finished.
    """
    require(importlib.util.find_spec("submitit"), "table: --slurm needs submitit; pip install 'kdviz[cluster]'")
    require(shutil.which("sbatch"), "table: --slurm needs Slurm's sbatch here; use --print-commands elsewhere")
    arrays, last = 0, None
    while True:
        now = status(queue.entries(task.plan))
        if report and now != last:
            report(now)
        if not queue.open(task.plan):
            _slurm("scancel", "--me", "--name", job_name(task.plan))
            return now
        if last is not None and now.done > last.done:
            arrays = 0
        last = now
        tasks = _slurm("squeue", "--me", "-h", "-r", "-n", job_name(task.plan), "-o", "%T")
        left = now.waiting + len(now.running)
        lacking = 0 if tasks is None else min(most, left) - len(tasks.split())
        if lacking > 0:
            require(
                arrays < ARRAYS,
                f"table: the tasks of {ARRAYS} Slurm arrays ended and no run was finished; see"
                f" {task.queue.parent / 'slurm'}",
            )
            arrays += 1
            submit(task, left, most=lacking, options=options)
        time.sleep(LOOK)


def _slurm(*words: str) -> str | None:
    """What one of Slurm's commands prints; None where it fails, as while the controller restarts."""
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    return ended.stdout.strip() if ended.returncode == 0 else None
