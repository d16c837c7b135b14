"""The ranking loss and PLD against textbook versions, in one run: `python benchmarks/losses.py`.

Time is the median of a few runs of forward + backward, the versions taking turns; every row is measured on the machine
as it is and again beside a process that keeps one core busy, as data workers do. Memory is what a subprocess of its own
needs at its peak above what it holds before the call.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import torch
from load import STATES, machine, machine_state
from torch import Tensor

from kdviz import losses

SIZES = ((64, 100), (256, 100), (64, 1000))


def logits(n: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(n, k, generator=generator) for _ in range(2))
    return student.requires_grad_(), teacher, torch.randint(k, (n,), generator=generator)


def textbook_rank(student: Tensor, teacher: Tensor, _target: Tensor) -> Tensor:
    """Every pair at once, by autograd; z-scored as the default is."""
    k = student.shape[1]
    zs, zt = ((z - z.mean(1, keepdim=True)) / (z.std(1, keepdim=True) + 1e-7) for z in (student, teacher))
    a, b = (torch.tanh((z[:, :, None] - z[:, None, :]) / 2) for z in (zt, zs))
    return -(a * b).sum((1, 2)).mean() / (k * (k - 1))


def textbook_pld(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """The sum over positions as a loop."""
    first = teacher.scatter(1, target[:, None], float("inf"))
    order = first.argsort(1, descending=True)
    s, weights = student.gather(1, order), teacher.softmax(1).gather(1, order)
    total = student.new_zeros(len(student))
    for position in range(s.shape[1]):
        total = total + weights[:, position] * (s[:, position:].logsumexp(1) - s[:, position])
    return total.mean()


CASES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "textbook_rank": textbook_rank,
    "textbook_pld": textbook_pld,
    "rank_kendall": lambda student, teacher, _target: losses.rank_kendall(student, teacher),
    "pld": losses.pld,
}


def seconds(cases: Sequence[str], n: int, k: int, repeats: int) -> list[float]:
    """The median time of forward + backward of each; they take turns, so that a drifting machine slows all alike."""
    tensors, spent = logits(n, k), {case: [] for case in cases}
    for _ in range(repeats + 1):  # the first turn warms up
        for case in cases:
            tensors[0].grad = None
            start = time.perf_counter()
            CASES[case](*tensors).backward()
            spent[case].append(time.perf_counter() - start)
    return [statistics.median(each[1:]) for each in spent.values()]


def extra_megabytes(case: str, n: int, k: int) -> float:
    """Peak memory of one forward + backward in this process, above what it held before."""
    warm, tensors = logits(2, 3), logits(n, k)
    CASES[case](*warm).backward()
    before = resident("VmRSS")
    CASES[case](*tensors).backward()
    return resident("VmHWM") - before


def resident(what: str) -> float:
    """VmRSS (now) or VmHWM (its peak) of this process in MB, on Linux; getrusage would count a parent's peak too."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return float(lines[what].split()[0]) / 1024


def in_subprocess(case: str, n: int, k: int) -> float:
    command = [sys.executable, __file__, "--memory", case, str(n), str(k)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--memory", nargs=3, metavar=("CASE", "N", "K"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.memory:
        case, n, k = chosen.memory
        print(extra_megabytes(case, int(n), int(k)))
        return
    print(f"{machine()}\nmedians of {chosen.repeats} or more, forward + backward")
    print(f"{'':14}{'n':>5}{'classes':>9}  {'machine':<15}{'textbook ms':>11}{'kdviz ms':>10}{'ratio':>7}")
    for ours, textbook in (("rank_kendall", "textbook_rank"), ("pld", "textbook_pld")):
        for (n, k), state in product(SIZES, STATES):
            with machine_state(state):
                slow, fast = seconds((textbook, ours), n, k, chosen.repeats if n * k > 2**15 else 5 * chosen.repeats)
            print(f"{ours:14}{n:5}{k:9}  {state:<15}{slow * 1e3:11.2f}{fast * 1e3:10.2f}{slow / fast:7.1f}")
    for (case, n, k), state in product((("rank_kendall", 8, 32768), ("pld", 64, 32768)), STATES):
        with machine_state(state):
            (fast,) = seconds((case,), n, k, 1)
        print(f"{case:14}{n:5}{k:9}  {state:<15}{'':11}{fast * 1e3:10.0f}")
    for case, n in (("rank_kendall", 512), ("textbook_rank", 64)):
        print(f"{case}: {in_subprocess(case, n, 1000):.0f} MB extra at n={n}, 1000 classes")


if __name__ == "__main__":
    main()
