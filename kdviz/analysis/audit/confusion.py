"""Which class the student puts where the teacher puts another, rank by rank."""

from typing import Any

import numpy as np
import torch
import xarray as xr

from kdviz.analysis.attributes import meaning
from kdviz.analysis.audit.calibration import wilson
from kdviz.analysis.audit.numbers import Measure, Sampled, bootstrapped, finished, mean_of, table
from kdviz.analysis.audit.opened import WITHOUT, Opened, open_audit
from kdviz.analysis.audit.sentences import beside, value
from kdviz.analysis.bootstrap import INTERVALS, Bootstrap
from kdviz.base.check import require

LARGEST = 256  # classes of which the whole matrix is kept


def rank_confusion(
    source: Any, *, against: Any = None, bootstrap: Bootstrap = INTERVALS, depth: int = 3, top: int = 20
) -> xr.Dataset:
    """For each rank, the class that the student has there against the one that the teacher has.

    Args:
        source, against: as `open_audit`; labels are not needed.
        bootstrap: coverage, draws and their seed.
        depth: ranks from the first that are compared, at most the number of classes.
        top: pairs of classes that are listed for each rank.
    Returns: kind "rank_confusion": `table` of same_R, the fraction of samples in which the student has the teacher's
        class at rank R, and moved_R, by how many ranks the teacher's class of rank R is off in the student's order, in
        the mean. Over rank and pair, the most frequent different classes: pair_teacher, pair_student (classes),
        pair_share, the fraction of the samples with that class of the teacher's at the rank, with Wilson's interval
        pair_low and pair_high, pair_without (the same of the student without teacher) and pair_count. Of up to 256
        classes counts (rank, teacher_class, student_class).
    Raises: KdvizError as `open_audit`, or for a depth out of range.
    Source: ours.
    """
    opened = open_audit(source, against=against)
    k = opened.student.shape[1]
    require(depth >= 1, f"rank_confusion: depth must be 1 or more, got {depth}")
    depth = min(depth, k)
    ranks = range(1, depth + 1)
    measures = {f"same_{rank}": Measure(f"same class at rank {rank}", "fraction") for rank in ranks}
    measures |= {f"moved_{rank}": Measure(f"ranks off, teacher's class of rank {rank}") for rank in ranks}
    sampled: dict[str, dict[str, Sampled]] = {name: {} for name in measures}
    for name, (student, teacher) in opened.pairs.items():
        theirs = _first(teacher, depth)
        place = student.argsort(dim=1, descending=True, stable=True).argsort(dim=1).gather(1, theirs)
        off = (place - torch.arange(depth)).abs().numpy()
        for at, rank in enumerate(ranks):
            sampled[f"same_{rank}"][name] = mean_of(off[:, at] == 0)
            sampled[f"moved_{rank}"][name] = mean_of(off[:, at])
    result = table(opened, measures, *bootstrapped(sampled, bootstrap))
    result = result.merge(_pairs(opened, depth, top, bootstrap.level))
    caption = (
        "Left: how often the student has a class first where the teacher has another first. Right: the most frequent of"
        " these pairs, as a share of the samples with that first class of the teacher's, with Wilson's interval. The"
        " random teacher is the teacher's logits of another sample."
    )
    result = finished(result, opened, "rank_confusion", caption, bootstrap, depth=depth)
    return result.assign_attrs(finding=_finding(result))


def _first(logits: torch.Tensor, depth: int) -> torch.Tensor:
    """The classes of the first ranks, [n, depth]; of equal logits the first channel comes first."""
    return logits.argsort(dim=1, descending=True, stable=True)[:, :depth]


def _pairs(opened: Opened, depth: int, top: int, level: float) -> xr.Dataset:
    k = opened.student.shape[1]
    theirs, own = _first(opened.teacher, depth).numpy(), _first(opened.student, depth).numpy()
    other = None if opened.against is None else _first(opened.against, depth).numpy()
    shape = (depth, top)
    found = {name: np.full(shape, -1, dtype=np.int64) for name in ("teacher", "student")}
    found |= {"count": np.zeros(shape, dtype=np.int64)}
    found |= {name: np.full(shape, np.nan) for name in ("share", "low", "high", "without")}
    for at in range(depth):
        a, b = theirs[:, at], own[:, at]
        codes, counts = np.unique((a * k + b)[a != b], return_counts=True)
        chosen = np.lexsort((codes, -counts))[:top]
        used = slice(0, len(chosen))
        first, second = codes[chosen] // k, codes[chosen] % k
        seen = np.bincount(a, minlength=k)[first]
        found["teacher"][at, used], found["student"][at, used] = first, second
        found["count"][at, used] = counts[chosen]
        found["share"][at, used] = counts[chosen] / seen
        found["low"][at, used], found["high"][at, used] = wilson(counts[chosen], seen, level)
        if other is not None:
            taken = [((a == one) & (other[:, at] == two)).sum() for one, two in zip(first, second, strict=True)]
            found["without"][at, used] = np.array(taken, dtype=float) / seen
    words = {
        "teacher": ("1", "the teacher's class; -1: none", "count"),
        "student": ("1", "the student's class; -1: none", "count"),
        "count": ("1", "samples", "count"),
        "share": ("fraction", "share of the teacher's class", "metric"),
        "low": ("fraction", "share of the teacher's class, lower end", "bound"),
        "high": ("fraction", "share of the teacher's class, upper end", "bound"),
        "without": ("fraction", "the same share of the student without teacher", "metric"),
    }
    variables: dict[str, Any] = {
        f"pair_{name}": (("rank", "pair"), values, meaning(*words[name])) for name, values in found.items()
    }
    names = np.array(opened.class_names, dtype=object)
    coordinates: dict[str, Any] = {"rank": np.arange(1, depth + 1), "class_name": ("channel", names)}
    if k <= LARGEST:
        counts = [np.bincount(theirs[:, at] * k + own[:, at], minlength=k * k).reshape(k, k) for at in range(depth)]
        dims = ("rank", "teacher_class", "student_class")
        variables["counts"] = (dims, np.stack(counts).astype(np.int32), meaning("1", "samples", "count"))
    return xr.Dataset(variables, coordinates)


def _finding(result: xr.Dataset) -> str:
    ranks = [int(rank) for rank in result["rank"].values]
    text = f"At rank 1 the student has its teacher's class for {value(result, 'same_1')} of the samples"
    text += beside(result, "same_1", verb="has it for")
    if len(ranks) > 1:
        rest = ", ".join(f"{value(result, f'same_{rank}')} at rank {rank}" for rank in ranks[1:])
        text += f". It has it for {rest}{beside(result, f'same_{ranks[-1]}', (WITHOUT,), verb='has it there for')}"
    first = result.isel(rank=0, pair=0) if result.sizes["pair"] else None
    if first is None or int(first["pair_count"]) == 0:
        return f"{text}. There is no sample in which the first classes differ."
    names = result["class_name"].values
    a, b = (names[int(first[f"pair_{net}"])] for net in ("teacher", "student"))
    often = int(first["pair_count"])
    share = 100 * float(first["pair_share"])
    return (
        f"{text}. Most often the student puts {b} first where the teacher puts {a} first: {often:,}"
        f" sample{'s' * (often != 1)}, {share:.0f} % of those with that class."
    )
