"""Pairs of samples of one student in which the sample nearer to the teacher has the wrong class."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from kdviz.analysis.attributes import meaning
from kdviz.analysis.cost import Announce, announce_pairs
from kdviz.analysis.sources import Chunk, Logits, chunks, open_logits
from kdviz.analysis.suboptimal.angles import angle, with_gradients
from kdviz.analysis.suboptimal.criteria import (
    LOSS,
    NAMES,
    PROBABILITY,
    RANKING,
    REAL,
    CriteriaSettings,
    attributes,
    criterion_coordinate,
)
from kdviz.base.check import KdvizError, one_of, require
from kdviz.base.threads import in_threads

if TYPE_CHECKING:
    from kdviz.data import Data

Progress = Callable[[int, int], None]
TRUTHS = {
    "label": "the label",
    "teacher": "the teacher's argmax",
    "agreed": "the label, over the samples on which the teacher has it",
}
SIDES = np.array(["wrong", "right"], dtype=object)
NUMBERS = 1 << 18  # logits of one net in a piece, of which some twenty copies are held in float64
ORIGIN = (
    "label",
    "title",
    "data",
    "split",
    "data_sha256",
    "data_kind",
    "data_variant",
    "data_warning",
    "layout",
    "rest",
    "synthetic",
    "student_sha256",
    "student_name",
    "teacher_sha256",
)
ANGLE = meaning("degree", "angle to the gradient of cross-entropy", "metric")
REGRET = meaning("nats", "KL of the right one minus KL of the wrong one", "metric")


@dataclass(frozen=True, eq=False)
class Scan:
    """One pass: loss `[criterion, n]`, angle `[criterion, n]` in degrees, right `[n]`, ids `[n]`, labels `[n]`."""

    names: list[str]
    loss: np.ndarray
    angle: np.ndarray
    right: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    dropped: int


def mine_samples(
    logits: Any,
    settings: CriteriaSettings = REAL,
    *,
    truth: str = "label",
    top: int = 6,
    data: "Data | None" = None,
    drop_nonfinite: bool = False,
    label: str | None = None,
    ranking: bool = True,
    progress: Progress | None = None,
    announce: Announce | None = None,
) -> xr.Dataset:
    """Every pair (i, j) of samples with loss_i < loss_j where i has the wrong class and j the right one.

    Under a criterion that knew the task no such pair would be left: pairs / candidates is 1 minus the area under the
    ROC curve of the criterion as a detector of errors. Counted exactly, by sorting, for each criterion; the cases that
    are shown are the disjoint pairs of largest total regret, KL_j - KL_i: least wrong with largest right, and so on.

    Args:
        logits: whatever `kdviz.analysis.sources.open_logits` takes; read twice, in chunks.
        settings: of `criteria`.
        truth: what a right class is: the "label"; the "teacher"'s argmax; or "agreed", the label, over the
            samples on which the teacher has it too, so that no teacher's error is laid to the criterion.
        top: cases to keep.
        data: the images of the samples, kept for the cases.
        drop_nonfinite: leave out samples with NaN or infinite logits instead of refusing.
        label: the student's name in figures.
        ranking: whether the ranking loss, alone and beside KL, is among the criteria; its cost is quadratic in
            channels, as that of nothing else here.
        progress: called with (samples done, samples in all, 0 where that is unknown).
        announce: called with a sentence that says how long the ranking loss will take, before it starts, if that is
            long.
    Returns: dataset: loss (criterion, sample), angle (criterion, sample; degrees to the gradient of cross-entropy),
        right (sample); pairs, share (criterion) and candidates; per case: case_sample, case_label, case_loss (case,
        side, criterion), regret (case), probability (case, side, net, channel) and, with data, image (case, side, ...).
    Raises: KdvizError for logits that `open_logits` or `chunks` refuses, or images that do not fit.
    Source: RKKD sec. 1 gives the idea; pairs, regret and angles are ours.
    """
    who = "suboptimal"
    require(top > 0, f"{who}: top must be above 0, got {top}")
    source = open_logits(logits, label=label)
    found = Scanner(who, truth, settings, drop_nonfinite, ranking, progress, announce).scan(source)
    dataset, cases = _counted(found, top)
    rows = pick(source, found.ids[cases], drop_nonfinite)
    dataset["probability"] = (("case", "side", "net", "channel"), softened(rows, settings.temperature), PROBABILITY)
    dataset["net"] = np.array(["teacher", "student"], dtype=object)
    add_names(dataset, data, rows.shape[-1])
    add_images(who, dataset, data, found.ids[cases], found.labels[cases], ("case", "side"), truth)
    origin = {key: source.attrs[key] for key in ORIGIN if key in source.attrs}
    caption = _caption(truth, settings)
    return dataset.assign_attrs(attributes("cases", caption, settings, truth=truth, dropped=found.dropped, **origin))


def _counted(found: Scan, top: int) -> tuple[xr.Dataset, np.ndarray]:
    """The results of one pass: the counts of pairs, and the cases as positions `[case, side]`."""
    right = found.right
    pairs = np.array([count_pairs(loss[~right], loss[right]) for loss in found.loss])
    candidates = int((~right).sum()) * int(right.sum())
    cases, regret = _matched(found.loss[0], right, top)
    share = pairs / candidates if candidates else np.full(len(pairs), np.nan)
    dataset = xr.Dataset(
        {
            "loss": (("criterion", "sample"), found.loss, LOSS),
            "angle": (("criterion", "sample"), found.angle, ANGLE),
            "right": ("sample", right),
            "pairs": ("criterion", pairs, meaning("1", "pairs ranked the wrong way", "count")),
            "share": ("criterion", share, meaning("fraction", "share of pairs ranked the wrong way", "metric")),
            "candidates": ((), candidates, meaning("1", "pairs of a wrong and a right sample", "count")),
            "regret": ("case", regret, REGRET),
            "case_sample": (("case", "side"), found.ids[cases]),
            "case_label": (("case", "side"), found.labels[cases]),
            "case_loss": (("case", "side", "criterion"), np.moveaxis(found.loss[:, cases], 0, -1), LOSS),
        },
        {"criterion": criterion_coordinate(found.names), "sample": found.ids, "side": SIDES},
    )
    return dataset, cases


def _caption(truth: str, settings: CriteriaSettings) -> str:
    return (
        f"Pairs of samples of which the one with the smaller loss has the wrong class (truth: {TRUTHS[truth]}). KL at"
        f" temperature {settings.temperature:g}; KL+ranking is {settings.alpha:g} T^2 KL + {settings.gamma:g} L_RK;"
        " PLD at teacher temperature 1."
        " Cases: disjoint pairs of largest regret. Angles are between gradients in the logits."
    )


def _by_id(scanned: Scan) -> Scan:
    """Samples by their ids: masks group them by their channels, otherwise for each student."""
    order = np.argsort(scanned.ids, kind="stable")
    return replace(
        scanned,
        loss=scanned.loss[:, order],
        angle=scanned.angle[:, order],
        right=scanned.right[order],
        ids=scanned.ids[order],
        labels=scanned.labels[order],
    )


@dataclass(frozen=True)
class Scanner:
    """How logits are read: the settings of `mine_samples` under their names there."""

    who: str
    truth: str
    settings: CriteriaSettings
    drop_nonfinite: bool
    ranking: bool
    progress: Progress | None
    announce: Announce | None

    def scan(self, source: Logits) -> Scan:
        """One pass over the logits that keeps a few numbers of each sample."""
        one_of(self.who, TRUTHS, truth=self.truth)
        parts: list[tuple[np.ndarray, ...]] = []
        tally: dict[str, Any] = {}
        done = 0

        def count(piece: Chunk) -> None:
            nonlocal done
            done += len(piece.student)
            if self.progress:
                self.progress(done, source.count or 0)

        for chunk in chunks(source, who=self.who, drop_nonfinite=self.drop_nonfinite, compact=True, tally=tally):
            if not done and self.ranking:
                samples = source.count or len(chunk.student)
                announce_pairs(self.announce, "the ranking loss", samples, chunk.student.shape[1])
            found = in_threads(self._numbers, chunk.pieces(NUMBERS), done=count)
            parts.extend(one for one in found if one)
        require(
            parts, f"{source.name}: the teacher has no sample's label, so that nothing is agreed; try --truth teacher"
        )
        loss, angles, right, ids, labels = (np.concatenate(column, -1) for column in zip(*parts, strict=True))
        names = [name for name in NAMES if self.ranking or name not in RANKING]
        scanned = Scan(names, loss, angles, right, ids, labels, tally.get("dropped", 0))
        return scanned if "masked" not in tally else _by_id(scanned)

    def _numbers(self, piece: Chunk) -> tuple[np.ndarray, ...] | None:
        """The numbers of some samples; None if none of them counts."""
        student, against = (one.double() for one in piece.pair())
        best, ids = against.argmax(1), piece.ids.to(student.device)
        if self.truth != "teacher" and piece.target is None:
            raise KdvizError(
                "suboptimal: the logits have no labels; take the teacher's argmax for right by --truth teacher"
            )
        target = best if self.truth == "teacher" else torch.as_tensor(piece.target)
        labels = piece.in_net(target)
        if self.truth == "agreed":
            keep = best == target
            if not keep.any():
                return None
            student, against, target, ids, labels = (one[keep] for one in (student, against, target, ids, labels))
        losses, slopes = with_gradients(student, against, target, self.settings, ranking=self.ranking)
        angles = torch.stack([angle(slopes[name], slopes["ce"]) for name in losses])
        arrays = (torch.stack([*losses.values()]), angles, student.argmax(1) == target, ids, labels)
        return tuple(one.cpu().numpy() for one in arrays)


def count_pairs(wrong: np.ndarray, right: np.ndarray) -> int:
    """How many pairs (i, j) have wrong[i] < right[j]; O((m + n) log n) time, O(n) memory, ties not counted.

    >>> import numpy as np
    >>> count_pairs(np.array([0.1, 0.5]), np.array([0.2, 0.5]))
    2
    """
    return int((len(right) - np.searchsorted(np.sort(right), wrong, side="right")).sum(dtype=np.int64))


def _matched(loss: np.ndarray, right: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions `[case, 2]` and regrets `[case]` of the i-th least wrong with the i-th largest right."""
    wrong, good = np.flatnonzero(~right), np.flatnonzero(right)
    count = min(top, len(wrong), len(good))
    low = wrong[np.argsort(loss[wrong], kind="stable")[:count]]
    high = good[np.argsort(-loss[good], kind="stable")[:count]]
    pairs, regret = np.stack([low, high], 1), loss[high] - loss[low]
    return pairs[regret > 0], regret[regret > 0]


def pick(source: Logits, ids: np.ndarray, drop_nonfinite: bool) -> np.ndarray:
    """Teacher's and student's logits `[..., 2, k]` of the samples `ids`, by another pass."""
    found: dict[int, np.ndarray] = {}
    channels = 2
    for chunk in chunks(source, who="suboptimal", drop_nonfinite=drop_nonfinite):
        channels = chunk.student.shape[1]
        numbers = chunk.ids.cpu().numpy()
        for at in np.flatnonzero(np.isin(numbers, ids)):
            both = torch.stack([torch.as_tensor(chunk.teacher)[at].double(), chunk.student[at].double()])
            found[int(numbers[at])] = both.cpu().numpy()
    flat = [found[int(one)] for one in ids.ravel()]
    return np.stack(flat).reshape(*ids.shape, 2, channels) if flat else np.empty((*ids.shape, 2, channels))


def softened(logits: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(logits / temperature) over the last axis."""
    return torch.from_numpy(logits / temperature).softmax(-1).numpy()


def add_names(dataset: xr.Dataset, data: "Data | None", channels: int) -> None:
    """Name the channels of `dataset` after the data's classes."""
    names = data.class_names if data is not None else [str(one) for one in range(channels)]
    dataset["class_name"] = ("channel", np.array(names, dtype=object))


def add_images(
    who: str,
    dataset: xr.Dataset,
    data: "Data | None",
    ids: np.ndarray,
    labels: np.ndarray,
    dims: tuple[str, ...],
    truth: str,
) -> None:
    """Keep the images of the samples `ids` (uint8) in `dataset`, once their labels agree with the data."""
    if data is None or not ids.size:
        return
    order = {int(one): at for at, one in enumerate(data.ids)}
    missing = [int(one) for one in ids.ravel() if int(one) not in order]
    require(not missing, f"{who}: sample {missing[:1]} of the logits is not in {data.name} ({data.split})")
    at = torch.tensor([order[int(one)] for one in ids.ravel()])
    same = truth == "teacher" or bool((data.labels[at].numpy() == labels.ravel()).all())
    require(same, f"{who}: the labels of the logits are not those of {data.name} ({data.split}); is it another split?")
    taken = torch.as_tensor(data.images[at])
    dataset["image"] = ((*dims, "colour", "row", "column"), taken.reshape(*ids.shape, *taken.shape[1:]).numpy())
