"""Two workers of a plan, killed with -9 at random moments, then two that are left alone.

Run by tests/test_tables_runs.py:

python tests/tiny_workers.py QUEUE PLAN KILLS SEED

The workers are forked from a process that has loaded everything, so that a kill meets training and not imports.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import tiny  # noqa: F401 - registers its data set
import torch

from kdviz.tables import worker
from kdviz.tables.queue import Queue
from kdviz.train import train  # noqa: F401 - loads what a run needs

torch.set_num_threads(1)


def fork(arguments):
    pid = os.fork()
    if pid == 0:
        os._exit(worker.main(arguments))
    return pid


def main():
    path, plan, kills, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    draw, queue = random.Random(seed), Queue(path)
    arguments = [str(path), plan, "cpu", "0.001"]  # saved often, so that kills meet writes
    for _ in range(kills):
        if not queue.open(plan):
            sys.exit("the plan was finished before all kills; give it more runs")
        workers = [fork(arguments) for _ in range(2)]
        time.sleep(draw.uniform(0.05, 1.2))
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        for pid in workers:
            os.waitpid(pid, 0)
    codes = [os.waitpid(pid, 0)[1] for pid in [fork(arguments) for _ in range(2)]]
    sys.exit(any(codes))


if __name__ == "__main__":
    main()
