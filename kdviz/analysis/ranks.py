"""Whether a student ranks the channels as its teacher does: Kendall's tau per sample, and where it is high or low."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from kdviz import metrics
from kdviz.analysis.attributes import meaning, naming
from kdviz.analysis.bootstrap import INTERVALS, Bootstrap, mean_interval
from kdviz.analysis.cost import Announce, announce_pairs
from kdviz.analysis.masks import remarks
from kdviz.analysis.sources import Chunk, chunks, open_logits, where
from kdviz.base.check import positive, require
from kdviz.base.files import versions
from kdviz.base.threads import in_threads
from kdviz.losses import rank_kendall

SHARES = (0.1, 0.3, 0.5, 1.0)
STEEPNESS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
ENDS = ("top", "middle", "min")
PIECE = 1 << 18  # logits of one net that a thread takes at once
BINS = 10  # of confidence, equally many samples in each
MEASURES = {
    "tau_a": (r"$\tau_a$", "Kendall's tau-a"),
    "tau_b": (r"$\tau_b$", "Kendall's tau-b"),
    "tau_c": (r"$\tau_c$", "Kendall's tau-c"),
    "spearman": (r"Spearman's $\rho$", "Spearman's rank correlation"),
}


def tau(
    source: Any,
    *,
    shares: Sequence[float] = SHARES,
    topk: Sequence[int] = (1, 5, 10),
    steepness: Sequence[float] = STEEPNESS,
    smooth_samples: int = 500,
    bootstrap: Bootstrap = INTERVALS,
    drop_nonfinite: bool = False,
    label: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    announce: Announce | None = None,
) -> xr.Dataset:
    """Kendall's tau between the rankings of student and teacher, sample by sample, and what it goes with.

    Args:
        source: as `kdviz.analysis.sources.open_logits`; one pass is made.
        shares: of the channels, in (0, 1], the largest ("top"), those in the middle or the smallest ("min") by the
            teacher's ranking.
        topk: depths of the overlap of the largest channels; those beyond the number of classes are left out.
        steepness: of the differentiable tau_d = mean over pairs of tanh(k dt / 2) tanh(k ds / 2), raw logits.
        smooth_samples: samples behind tau_d, whose cost is quadratic in channels, as that of nothing else here; 0
            leaves it out.
        bootstrap: coverage, resamples and seed of the intervals of means over samples.
        drop_nonfinite, label: as `open_logits` and its chunks. Every measure is over the channels of a sample that are
            masked in neither net (`masks`).
        progress: called with (samples done, samples in all, 0 where that is unknown).
        announce: called with a sentence that says how long tau_d will take, before it starts, if that is long.
    Returns: kind "tau". Per sample: tau_a, tau_b, tau_c, spearman, confidence (the teacher's largest probability),
        and with labels correct and target. Of means, each with `_low` and `_high`: mean (measure; tau's variants,
        spearman, top1, top5, ... overlap), share_mean (end, share), group_mean (group: student right or wrong),
        confidence_mean (bin) with confidence_at; class_mean (class) without interval. smooth_mean and smooth_error,
        mean |tau_d - tau_a| (steepness). Rows whose tau is undefined (all logits equal) are counted in `undefined`
        and left out of means.
    Raises: KdvizError for settings out of range or logits that `chunks` refuses.
    Source: RKKD sec. 4; the breakdowns are ours.
    """
    _check(shares, steepness)
    opened, tally, parts = open_logits(source, label=label), {}, []
    done, smooth = 0, []

    def count(piece: Chunk) -> None:
        nonlocal done
        done += len(piece.student)
        if progress:
            progress(done, opened.count or 0)

    for chunk in chunks(opened, who="tau", drop_nonfinite=drop_nonfinite, compact=True, tally=tally):
        if not done:
            few = min(smooth_samples, opened.count or smooth_samples)
            size = few, chunk.student.shape[1]
            what = "the differentiable tau (--no-smooth leaves it out)"
            announce_pairs(announce, what, *size, rounds=len(steepness), gradient=False)
        parts.append(per_sample(chunk, shares, topk, count))
        few = max(0, min(len(chunk.student), smooth_samples - len(smooth)))
        student, teacher = chunk.pair()
        smooth.extend(_smooth(student[:few], teacher[:few], steepness))
    values = _joined(parts)
    attrs = {
        "label": "student",
        **opened.attrs,
        **tally,
        "kind": "tau",
        **asdict(bootstrap),
        "smooth_samples": len(smooth),
        "undefined": int(np.isnan(values["tau_b"]).sum()),
        "versions": json.dumps(versions()),
    }
    result = _dataset(values, shares, topk, bootstrap).assign_attrs(attrs, caption=_caption(attrs))
    return result if not smooth else result.merge(_smooth_means(np.stack(smooth), values["tau_a"], steepness))


def over_epochs(
    sources: Mapping[int, Any],
    *,
    bootstrap: Bootstrap = INTERVALS,
    drop_nonfinite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Mean tau-b, top-1 and agreement with the teacher at each of a run's epochs.

    Args:
        sources: epoch -> logits, as `open_logits` reads them, in any order.
        bootstrap: coverage, resamples and seed of the intervals.
        drop_nonfinite: leave out samples with a logit that is not finite, instead of refusing them.
        progress: called with (epochs done, epochs).
    Returns: variables epoch_mean, epoch_mean_low, epoch_mean_high (tau-b), epoch_agreement and, with labels, epoch_top1
        (fractions) over `epoch`; to be merged into the dataset of `tau`.
    Raises: KdvizError for no epochs, or logits that `chunks` refuses.
    Source: ours.
    """
    require(sources, "tau: the run kept no epochs; train with --keep-epochs 1")
    rows = []
    for done, epoch in enumerate(sorted(sources), 1):
        read = chunks(open_logits(sources[epoch]), who="tau", drop_nonfinite=drop_nonfinite, compact=True)
        values = _joined([per_sample(chunk, (), ()) for chunk in read])
        mean, low, high = mean_interval(values["tau_b"], bootstrap)
        row = {"mean": mean, "mean_low": low, "mean_high": high, "agreement": values["agree"].mean()}
        rows.append(row | ({"top1": values["correct"].mean()} if "correct" in values else {}))
        if progress:
            progress(done, len(sources))
    tau_b = MEASURES["tau_b"][1]
    meanings = {
        "mean": meaning("1", f"mean of {tau_b}", "metric"),
        "mean_low": meaning("1", f"mean of {tau_b}, lower end", "bound"),
        "mean_high": meaning("1", f"mean of {tau_b}, upper end", "bound"),
        "agreement": meaning("fraction", "agreement with the teacher", "metric"),
        "top1": meaning("fraction", "top-1", "metric"),
    }
    columns = {f"epoch_{name}": (("epoch",), np.array([row[name] for row in rows]), meanings[name]) for name in rows[0]}
    return xr.Dataset(columns, {"epoch": sorted(sources)})


def _caption(attrs: Mapping[str, Any]) -> str:
    """The open choices of the figures, for their caption."""
    many = attrs["smooth_samples"]
    smooth = f"; the differentiable tau takes raw logits, over {many:,} samples" if many else ""
    return (
        f"Kendall's tau between the channels' order by student and by teacher, over {attrs['samples']:,}"
        f" samples{where(attrs)}; bars are {attrs['level']:.0%} bootstrap intervals of the mean. The largest (top),"
        f" middle and smallest (min) channels are those by the teacher's ranking{smooth}.{remarks(attrs)}"
    )


def _check(shares: Sequence[float], steepness: Sequence[float]) -> None:
    for share in shares:
        require(0 < share <= 1, f"tau: a share of channels must be above 0 and at most 1, got {share}")
    for value in steepness:
        positive("tau", steepness=value)


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The parts' samples together, NaN for measures that some lack: overlaps of more channels than a sample has."""
    names = dict.fromkeys(name for part in parts for name in part)
    absent = [np.full(len(part["sample"]), np.nan) for part in parts]
    return {
        name: np.concatenate([part.get(name, nan) for part, nan in zip(parts, absent, strict=True)]) for name in names
    }


def per_sample(
    chunk: Chunk, shares: Sequence[float], topk: Sequence[int], done: Callable[[Chunk], None] | None = None
) -> dict[str, np.ndarray]:
    """Every measure of `tau` for each sample of a chunk, name -> [n]: "tau_b", "spearman", "top5", "agree", ...

    Args:
        chunk: of student and teacher, none of whose channels is masked.
        shares, topk: as `tau`; the tau of a share is called "top 0.1", "middle 0.1" or "min 0.1".
        done: called with each piece of the chunk that is done.
    """
    return _joined(in_threads(lambda piece: _of_piece(piece, shares, topk), chunk.pieces(PIECE), done=done))


def _of_piece(chunk: Chunk, shares: Sequence[float], topk: Sequence[int]) -> dict[str, np.ndarray]:
    """Every measure of the chunk's samples: name -> [n]."""
    student, teacher = chunk.pair()
    classes = student.shape[1]
    found = {f"tau_{variant}": tau for variant, tau in metrics.kendall_taus(student, teacher).items()}
    found["spearman"] = metrics.spearman(student, teacher)
    for k in topk:
        if 1 <= k < classes:
            found[f"top{k}"] = metrics.topk_overlap(student, teacher, k=k)
    order = teacher.argsort(dim=1, descending=True, stable=True)
    for share in shares:
        count = max(2, math.ceil(share * classes))
        for end, first in zip(ENDS, (0, (classes - count) // 2, classes - count), strict=True):
            channels = order[:, first : first + count]
            some = student.gather(1, channels), teacher.gather(1, channels)
            found[f"{end} {share}"] = found["tau_b"] if count == classes else metrics.kendall_tau(*some)
    found["confidence"] = teacher.double().softmax(1).amax(1)
    found["agree"] = student.argmax(1) == teacher.argmax(1)
    if chunk.target is not None:
        found |= {"target": chunk.in_net(chunk.target), "correct": student.argmax(1) == chunk.target}
    return {"sample": chunk.ids.cpu().numpy(), **{name: value.cpu().numpy() for name, value in found.items()}}


def _smooth(student: Tensor, teacher: Tensor, steepness: Sequence[float]) -> list[np.ndarray]:
    """tau_d of each sample at each steepness, in blocks since pairs of channels are many."""
    rows: list[np.ndarray] = []
    for s, t in zip(student.double().split(64), teacher.double().split(64), strict=True):
        if not len(s):
            break
        taus = [-rank_kendall(s, t, steepness=k, normalize="none", reduction="none") for k in steepness]
        rows.extend(torch.stack(taus, dim=1).cpu().numpy() if taus else [])
    return rows


def _smooth_means(smooth: np.ndarray, exact: np.ndarray, steepness: Sequence[float]) -> xr.Dataset:
    """Means over samples of tau_d and of its distance from the exact tau-a."""
    gap = np.abs(smooth - exact[: len(smooth), None])
    means = {
        "smooth_mean": (("steepness",), smooth.mean(axis=0), meaning("1", "mean of tau_d", "metric")),
        "smooth_error": (("steepness",), np.nanmean(gap, axis=0), meaning("1", "mean |tau_d - tau_a|", "error")),
        "smooth_exact": ((), np.nanmean(exact[: len(smooth)]), meaning("1", "mean of tau-a", "metric")),
    }
    return xr.Dataset(means, {"steepness": list(steepness)})


def _dataset(
    values: dict[str, np.ndarray], shares: Sequence[float], topk: Sequence[int], bootstrap: Bootstrap
) -> xr.Dataset:
    """Samples as they are, and means with intervals over all that a reader may group them by."""
    result = xr.Dataset().assign_coords(sample=values["sample"])
    meanings = {name: meaning("1", long_name, "metric") for name, (_, long_name) in MEASURES.items()}
    meanings |= {"confidence": meaning("fraction", "teacher's largest probability", "metric"), "target": {}}
    for name, attrs in meanings.items():
        if name in values:
            result[name] = ("sample", values[name], attrs)
    for name in ("agree", "correct"):
        if name in values:
            result[name] = ("sample", values[name].astype(np.int8))
    titles = {name: title for name, (title, _) in MEASURES.items()} | {f"top{k}": f"top {k}" for k in topk}
    measures = [name for name in titles if name in values]
    means = partial(_means, bootstrap=bootstrap)
    result = means(result, "mean", {"measure": measures}, [values[name] for name in measures])
    result["measure"].attrs |= naming({name: titles[name] for name in measures})
    if len(shares):
        ends = [values[f"{end} {share}"] for end in ENDS for share in shares]
        result = means(result, "share_mean", {"end": list(ENDS), "share": list(shares)}, ends)
    bins = np.array_split(np.argsort(values["confidence"], kind="stable"), min(BINS, len(values["sample"])))
    at = [values["confidence"][bin_].mean() for bin_ in bins]
    result = means(result, "confidence_mean", {"bin": range(len(bins))}, [values["tau_b"][bin_] for bin_ in bins])
    result["confidence_at"] = (("bin",), np.array(at), meaning("fraction", "teacher's largest probability, mean"))
    if "correct" in values:
        groups = [values["tau_b"][values["correct"] == right] for right in (True, False)]
        result = means(result, "group_mean", {"group": ["right", "wrong"]}, groups)
        result["group_count"] = (("group",), [len(group) for group in groups])
        result = result.merge(_by_class(values["target"], values["tau_b"]))
    return result


def _means(
    dataset: xr.Dataset, name: str, coordinates: dict[str, Any], groups: list[np.ndarray], *, bootstrap: Bootstrap
) -> xr.Dataset:
    """The dataset with `name`, `name`_low and `name`_high over the coordinates, in their order."""
    found = np.array([mean_interval(group.astype(np.float64), bootstrap) for group in groups])
    shape = [len(labels) for labels in coordinates.values()]
    parts = (("", "mean", "metric"), ("_low", "lower end of the mean's interval", "bound"))
    parts += (("_high", "upper end of the mean's interval", "bound"),)
    columns = {
        f"{name}{suffix}": (tuple(coordinates), column.reshape(shape), meaning("1", long_name, role))
        for (suffix, long_name, role), column in zip(parts, found.T, strict=True)
    }
    return dataset.assign(columns).assign_coords({key: list(labels) for key, labels in coordinates.items()})


def _by_class(target: np.ndarray, tau: np.ndarray) -> xr.Dataset:
    """Mean tau-b of each class that has samples with one."""
    kept = ~np.isnan(tau)
    classes, index = np.unique(target[kept], return_inverse=True)
    count = np.bincount(index, minlength=len(classes))
    mean = np.bincount(index, weights=tau[kept], minlength=len(classes)) / np.maximum(count, 1)
    columns = {
        "class_mean": ("class", mean, meaning("1", f"mean of {MEASURES['tau_b'][1]}", "metric")),
        "class_count": ("class", count, meaning("1", "samples", "count")),
    }
    return xr.Dataset(columns, {"class": classes})
