"""Pairs of students of one teacher: samples on which the student nearer to the teacher has the wrong class."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from kdviz.analysis.attributes import meaning, student_naming
from kdviz.analysis.cost import Announce
from kdviz.analysis.sources import open_logits
from kdviz.analysis.suboptimal.criteria import (
    LOSS,
    PROBABILITY,
    REAL,
    CriteriaSettings,
    attributes,
    criterion_coordinate,
)
from kdviz.analysis.suboptimal.mining import (
    ORIGIN,
    REGRET,
    SIDES,
    TRUTHS,
    Progress,
    Scan,
    Scanner,
    add_images,
    add_names,
    pick,
    softened,
)
from kdviz.base.check import require

if TYPE_CHECKING:
    from kdviz.data import Data


def mine_students(
    logits: Sequence[Any],
    settings: CriteriaSettings = REAL,
    *,
    labels: Sequence[str] | None = None,
    truth: str = "label",
    top: int = 6,
    data: "Data | None" = None,
    drop_nonfinite: bool = False,
    ranking: bool = True,
    progress: Progress | None = None,
    announce: Announce | None = None,
) -> xr.Dataset:
    """Every sample and ordered pair (this, that) of students with loss_this < loss_that, this wrong and that right.

    Args:
        logits: two sources or more, as `mine_samples` takes them, over the same samples of the same teacher.
        labels: the students' names in figures.
        top: cases to keep, one for each sample: its pair of largest regret, KL_that - KL_this.
        settings, truth, data, drop_nonfinite, ranking, progress, announce: as `mine_samples`.
    Returns: dataset: pairs (criterion, this, that) and candidates (this, that; this wrong, that right) in samples,
        share = pairs / candidates; per case: case_sample, case_label, case_this, case_that, regret (case),
        case_loss (case, side, criterion), probability (case, net, channel; teacher, this, that) and, with data, image.
    Raises: KdvizError for fewer than two students, or students of other samples.
    Source: RKKD fig. 2, over real logits; counts and regret are ours.
    """
    who = "suboptimal"
    require(len(logits) >= 2, f"{who}: pairs of students need two students or more, got {len(logits)}")
    require(top > 0, f"{who}: top must be above 0, got {top}")
    named: Sequence[str | None] = labels or [None] * len(logits)
    require(len(named) == len(logits), f"{who}: {len(logits)} students but {len(named)} labels")
    sources = [open_logits(one, label=name) for one, name in zip(logits, named, strict=True)]
    scanner = Scanner(who, truth, settings, drop_nonfinite, ranking, progress, announce)
    scans = [scanner.scan(source) for source in sources]
    names = _unique([str(source.attrs.get("label", f"student {at + 1}")) for at, source in enumerate(sources)])
    loss, right, ids, classes = _aligned(who, names, scans, [dict(source.attrs) for source in sources])
    pairs, candidates = _count(loss, right)
    at, this, that, regret = _best(loss[:, 0], right, top)
    case, known = np.arange(len(at)), np.array(names, dtype=object)
    values = loss[np.stack([this, that], 1), :, at[:, None]]  # [case, side, criterion]
    students = {dim: (dim, known, student_naming(names)) for dim in ("this", "that")}
    with np.errstate(invalid="ignore", divide="ignore"):
        share = pairs / candidates
    dataset = xr.Dataset(
        {
            "pairs": (("criterion", "this", "that"), pairs, meaning("1", "nearer and wrong, the other right", "count")),
            "candidates": (("this", "that"), candidates, meaning("1", "one wrong, the other right", "count")),
            "share": (
                ("criterion", "this", "that"),
                share,
                meaning("fraction", "share of the disagreements", "metric"),
            ),
            "top1": ("this", right.mean(1), meaning("fraction", "top-1", "metric")),
            "mean": (("this", "criterion"), loss.mean(2), LOSS),
            "regret": ("case", regret, REGRET),
            "case_sample": ("case", ids[at]),
            "case_label": ("case", classes[at]),
            "case_this": ("case", known[this]),
            "case_that": ("case", known[that]),
            "case_loss": (("case", "side", "criterion"), values, LOSS),
        },
        {"criterion": criterion_coordinate(scans[0].names), **students, "side": SIDES},
    )
    rows = np.stack([pick(source, ids[at], drop_nonfinite) for source in sources])  # [student, case, 2, k]
    nets = np.stack([rows[this, case, 0], rows[this, case, 1], rows[that, case, 1]], 1)
    dataset["probability"] = (("case", "net", "channel"), softened(nets, settings.temperature), PROBABILITY)
    dataset["net"] = np.array(["teacher", "this", "that"], dtype=object)
    add_names(dataset, data, nets.shape[-1])
    add_images(who, dataset, data, ids[at], classes[at], ("case",), truth)
    shared = {key: sources[0].attrs[key] for key in ORIGIN if key in sources[0].attrs and "student" not in key}
    for name in ("label", "title"):
        shared.pop(name, None)
    return dataset.assign_attrs(
        attributes(
            "duels",
            "Samples on which one student (row) is nearer to the teacher than another (column) and yet wrong where the"
            f" other is right; KL at temperature {settings.temperature:g}, truth: {TRUTHS[truth]}.",
            settings,
            truth=truth,
            samples=len(ids),
            dropped=sum(one.dropped for one in scans),
            **shared,
        )
    )


def _unique(names: list[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} ({at + 1})" for at, name in enumerate(names)]


def _aligned(
    who: str, names: list[str], scans: list[Scan], attrs: list[dict[str, Any]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Losses [student, criterion, n], right [student, n], ids and labels of the samples that all students have."""
    for key, what in (("data_sha256", "data"), ("teacher_sha256", "teachers")):
        known = {str(one[key]) for one in attrs if key in one}
        require(len(known) < 2, f"{who}: the students {', '.join(names)} were measured with different {what}")
    ids = scans[0].ids
    for one in scans[1:]:
        ids = np.intersect1d(ids, one.ids)
    require(len(ids), f"{who}: the students {', '.join(names)} have no samples in common")
    places = [np.argsort(one.ids, kind="stable")[np.searchsorted(np.sort(one.ids), np.sort(ids))] for one in scans]
    classes = scans[0].labels[places[0]]
    for name, one, place in zip(names, scans, places, strict=True):
        same = np.array_equal(one.labels[place], classes)
        require(same, f"{who}: {name} has other labels than {names[0]}; were they measured on the same samples?")
    loss = np.stack([one.loss[:, place] for one, place in zip(scans, places, strict=True)])
    right = np.stack([one.right[place] for one, place in zip(scans, places, strict=True)])
    return loss, right, np.sort(ids), classes


def _count(loss: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs [criterion, this, that] and candidates [this, that]."""
    students = len(loss)
    pairs = np.zeros((loss.shape[1], students, students), dtype=np.int64)
    candidates = np.zeros((students, students), dtype=np.int64)
    for this, that in itertools.permutations(range(students), 2):
        eligible = ~right[this] & right[that]
        candidates[this, that] = eligible.sum()
        pairs[:, this, that] = (eligible & (loss[this] < loss[that])).sum(1)
    return pairs, candidates


def _best(kl: np.ndarray, right: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Position, this, that and regret of the samples whose best pair has the largest regret."""
    nearest = np.where(~right, kl, np.inf)
    farthest = np.where(right, kl, -np.inf)
    regret = farthest.max(0) - nearest.min(0)
    order = np.argsort(-regret, kind="stable")[:top]
    order = order[regret[order] > 0]
    return order, nearest.argmin(0)[order], farthest.argmax(0)[order], regret[order]
