"""Runs on the test's own data set, trained in a row by however many processes torchrun starts.

torchrun --nproc-per-node N tests/torchrun_train.py CASES.json

CASES.json: {"teacher": FILE, "runs": [{"out": FOLDER, "recipe": {...}}, ...], "kill": [RANK, STEP] or null}. With
"kill" that rank kills itself with SIGKILL before that step, unless torchrun has started it again. "imports" are modules
that register what the runs need. The script fails where a thread of the process group is left: such a thread can abort
the process while Python ends.
"""

import importlib
import json
import os
import signal
import sys
from pathlib import Path

import tiny  # noqa: F401 - registers its data set
import torch

from kdviz import load_checkpoint
from kdviz.train import load_recipe, train
from kdviz.train.step import Step


def group_threads():
    """The threads of process groups that are still there, by name."""
    names = [thread.read_text().strip() for thread in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


def dying_at(number):
    """The step function, that ends this process at its call of that number."""
    calls, step = 0, Step.__call__

    def call(self, *arguments, **settings):
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *arguments, **settings)

    return call


if __name__ == "__main__":
    torch.set_num_threads(1)
    CASES = json.loads(Path(sys.argv[1]).read_text())
    for module in CASES.get("imports", ()):
        importlib.import_module(module)
    rank, step = CASES.get("kill") or (-1, 0)
    if rank == int(os.environ.get("RANK", "0")) and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
        Step.__call__ = dying_at(step)
    for case in CASES["runs"]:
        recipe = load_recipe(**case["recipe"])
        teacher = load_checkpoint(CASES["teacher"]) if recipe.method not in ("ce", "detector") else None
        train(recipe, out=case["out"], teacher=teacher, device="cpu", **case.get("machine", {}))
        assert group_threads() == []
