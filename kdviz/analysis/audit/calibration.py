"""Accuracy and calibration of student and teacher, and what of the teacher's miscalibration came along."""

from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from kdviz.analysis.attributes import meaning
from kdviz.analysis.audit.numbers import Estimate, Measure, Sampled, bootstrapped, estimate, finished, mean_of, table
from kdviz.analysis.audit.opened import RANDOM, WITHOUT, Opened, open_audit
from kdviz.analysis.audit.sentences import beside, contrast, value
from kdviz.analysis.bootstrap import INTERVALS, Bootstrap
from kdviz.base.check import require

MEASURES = {
    "accuracy": Measure("top-1", "fraction"),
    "overconfidence": Measure("mean confidence minus top-1", "fraction"),
    "ece": Measure("expected calibration error", "fraction"),
    "nll": Measure("cross-entropy with the labels", "nats"),
    "inherited": Measure("share of the teacher's miscalibration", "fraction"),
}


def calibration(source: Any, *, against: Any = None, bootstrap: Bootstrap = INTERVALS, bins: int = 15) -> xr.Dataset:
    """How often each net is right, how sure it is, and what the student has of the teacher's miscalibration.

    The expected calibration error is sum_b |sum_{i in b} (right_i - confidence_i)| / n over equal bins of confidence.
    Chance moves it up, in the sample as in each resample; its interval is the basic one (2 ECE - the draws' ends),
    which takes that off, and ends at 0.

    The inherited share compares the signed gaps g_b = sum_{i in b} (right_i - confidence_i) of student and teacher over
    the same samples, in bins of the teacher's confidence: sum_b min(|g_b|, |g'_b|) where both have the same sign, over
    sum_b |g_b| of the teacher. 1: whatever the teacher is too sure or not sure enough of, so is the student, by as much
    or more; 0: where one is too sure, the other is not sure enough.

    Args:
        source, against: as `open_audit`, with labels.
        bootstrap: coverage, draws and their seed.
        bins: of confidence, equally wide, 1 or more.
    Returns: kind "calibration": `table` of accuracy, overconfidence, ece, nll, inherited, over the nets; reliability
        (net, bin), the fraction right among the bin's samples, with its Wilson interval; confidence (net, bin), their
        mean confidence; count (net, bin).
    Raises: KdvizError as `open_audit`, or without labels.
    Source: Guo et al. (2017), eq. 3; Wilson (1927); the inherited share is ours.
    """
    require(bins >= 1, f"calibration: bins must be 1 or more, got {bins}")
    opened = open_audit(source, against=against)
    target = opened.labels("calibration")
    sure = {name: _confidence(logits) for name, logits in opened.nets.items()}
    right = {name: (logits.argmax(1) == target).numpy() for name, logits in opened.nets.items()}
    sampled: dict[str, dict[str, Sampled]] = {name: {} for name in MEASURES}
    for name, logits in opened.nets.items():
        gap = right[name] - sure[name]
        sampled["accuracy"][name] = mean_of(right[name])
        sampled["overconfidence"][name] = mean_of(-gap)
        sampled["ece"][name] = Sampled(_spread(gap, _bin(sure[name], bins), bins), _total, biased=True)
        sampled["nll"][name] = mean_of(torch.nn.functional.cross_entropy(logits.double(), target, reduction="none"))
    gaps = {name: right[name] - sure[name] for name in sure}
    for name in opened.pairs:
        net, teacher = ("student", RANDOM) if name == RANDOM else (name, "teacher")
        at = _bin(sure[teacher], bins)
        both = np.concatenate([_spread(gaps[teacher], at, bins), _spread(gaps[net], at, bins)], axis=1)
        sampled["inherited"][name] = Sampled(both, _inherited)
    numbers, differences = bootstrapped(sampled, bootstrap)
    bounded = {name: one._replace(low=max(one.low, 0.0)) for name, one in numbers["ece"].items()}
    numbers = dict(numbers) | {"ece": bounded}
    result = table(opened, MEASURES, numbers, differences).merge(
        _reliability(opened, sure, right, bins, bootstrap.level)
    )
    caption = (
        f"Reliability: of the samples in each of {bins} equal bins of confidence, the fraction that is right, with its"
        " Wilson interval, against their mean confidence; below the diagonal a net is too sure. Bars: share of samples."
        " The random teacher is the teacher's logits of another sample."
    )
    result = finished(result, opened, "calibration", caption, bootstrap, bins=bins)
    return result.assign_attrs(finding=_finding(result))


def wilson(successes: np.ndarray, count: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The ends of Wilson's score interval of a share; NaN where the count is 0.

    Args:
        successes, count: any shape, with count >= successes >= 0.
        level: coverage, in (0, 1).
    Source: Wilson (1927).
    """
    from scipy import stats

    z = stats.norm.ppf((1 + level) / 2)
    n = np.where(count > 0, count, np.nan)
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return middle - reach, middle + reach


def _confidence(logits: Tensor) -> np.ndarray:
    return logits.double().softmax(1).amax(1).numpy()


def _bin(confidence: np.ndarray, bins: int) -> np.ndarray:
    """The bins ((i - 1) / bins, i / bins] that confidences lie in."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _spread(values: np.ndarray, at: np.ndarray, bins: int) -> np.ndarray:
    """[n, bins]: each value in the column of its bin, 0 elsewhere."""
    found = np.zeros((len(values), bins))
    found[np.arange(len(values)), at] = values
    return found


def _total(means: np.ndarray) -> np.ndarray:
    return np.abs(means).sum(axis=1)


def _inherited(means: np.ndarray) -> np.ndarray:
    teacher, student = np.split(means, 2, axis=1)
    common = np.where(teacher * student > 0, np.minimum(np.abs(teacher), np.abs(student)), 0.0).sum(axis=1)
    whole = np.abs(teacher).sum(axis=1)
    return np.divide(common, whole, out=np.full(len(means), np.nan), where=whole > 0)


def _reliability(
    opened: Opened, sure: dict[str, np.ndarray], right: dict[str, np.ndarray], bins: int, level: float
) -> xr.Dataset:
    nets = list(opened.nets)
    at = [_bin(sure[name], bins) for name in nets]
    count = np.stack([np.bincount(one, minlength=bins) for one in at])
    rights = np.stack(
        [np.bincount(one, weights=right[name], minlength=bins) for one, name in zip(at, nets, strict=True)]
    )
    total = np.stack([np.bincount(one, weights=sure[name], minlength=bins) for one, name in zip(at, nets, strict=True)])
    some = np.where(count > 0, count, np.nan)
    low, high = wilson(rights, count, level)
    dims = ("net", "bin")
    found = {
        "reliability": (dims, rights / some, meaning("fraction", "right", "metric")),
        "reliability_low": (dims, low, meaning("fraction", "right, lower end", "bound")),
        "reliability_high": (dims, high, meaning("fraction", "right, upper end", "bound")),
        "confidence": (dims, total / some, meaning("fraction", "mean confidence", "metric")),
        "count": (dims, count, meaning("1", "samples", "count")),
    }
    result = xr.Dataset(found, {"net": nets, "bin": np.arange(bins)})
    result["net"].attrs = opened.naming(nets)
    return result


def _finding(result: xr.Dataset) -> str:
    gap = estimate(result, "overconfidence")
    unsure = "too sure" if gap.low > 0 else "not sure enough" if gap.high < 0 else "neither too sure nor too unsure"
    difference = estimate(result, "accuracy", "teacher", name="difference")
    behind = contrast(Estimate(-difference.value, -difference.high, -difference.low), "fraction")  # as the teacher's
    first = (
        f"The student is right for {value(result, 'accuracy')} of the samples, the teacher for"
        f" {value(result, 'accuracy', 'teacher')}: the student has {behind}{beside(result, 'accuracy', (WITHOUT,))}."
    )
    second = (
        f" Its expected calibration error is {value(result, 'ece')}, the teacher's"
        f" {value(result, 'ece', 'teacher')}; on the whole it is {unsure} (confidence minus top-1:"
        f" {value(result, 'overconfidence')})."
    )
    share = estimate(result, "inherited")
    if np.isnan(share.value):
        return f"{first}{second} The teacher has no miscalibration that could come along."
    came = f" Of the teacher's miscalibration {value(result, 'inherited')} is the student's too"
    little = estimate(result, "ece", "teacher").low <= 0
    doubt = " The teacher's own error is not told from none, so that this share says little." if little else ""
    return f"{first}{second}{came}{beside(result, 'inherited')}.{doubt}"
