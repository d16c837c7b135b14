"""How busy the machine is while a benchmark runs, and a process that keeps one more core busy."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

STATES = ("as it is", "one core busy")


def machine() -> str:
    """What every number depends on: cores, threads of torch, and what else ran in the last minute."""
    load = os.getloadavg()[0]
    cores = os.cpu_count() or 1
    other = "" if load < 0.5 else "; OTHER PROCESSES RUN, so that the numbers are not those of a quiet machine"
    return (
        f"torch {torch.__version__}, {cores} cores, {torch.get_num_threads()} threads, load average {load:.1f}{other}"
    )


@contextmanager
def machine_state(state: str) -> Iterator[None]:
    """The machine as it is, or with a process beside this one that does nothing but count."""
    if state == STATES[0]:
        yield
        return
    code = f"import os\nwhile os.getppid() == {os.getpid()}: pass"  # ends with this process, however that ends
    with subprocess.Popen([sys.executable, "-c", code]) as busy:
        try:
            yield
        finally:
            busy.kill()
