"""Which classes' logits rise and fall together over samples, in the student as in its teacher."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from kdviz.analysis.attributes import meaning
from kdviz.analysis.audit.numbers import Estimate, Measure, finished, table
from kdviz.analysis.audit.opened import RANDOM, WITHOUT, one_cycle, open_audit
from kdviz.analysis.audit.sentences import beside, value
from kdviz.analysis.bootstrap import INTERVALS, Bootstrap, jackknife
from kdviz.base.check import require

MEASURES = {
    "difference": Measure("mean |difference of correlations|"),
    "likeness": Measure("correlation of both matrices' entries"),
}
MEANS = Measure("mean |difference of class means|", "logit")
LARGEST = 1024  # classes; a matrix of them has as many squared entries
GROUPS = 40  # of samples, each of which the jackknife leaves out once


def class_correlation(source: Any, *, against: Any = None, bootstrap: Bootstrap = INTERVALS) -> xr.Dataset:
    """The difference between the correlation matrices, over samples, of the student's and of the teacher's logits.

    Args:
        source, against: as `open_audit`; labels are not needed, and there are at most 1024 classes.
        bootstrap: its level alone is used: the numbers are of k^2 moments, so that their intervals are the
            delete-a-group jackknife's, over 40 groups of samples (or as many as there are samples).
    Returns: kind "class_correlation": `table` of difference, the mean |student's - teacher's| over pairs of different
        classes, and likeness, Pearson's correlation between the two matrices' entries off the diagonal; correlation
        (net, class_row, class_column) of the nets. Correlations of a class whose logit never changes are 0.
        With labels also class_mean (net, class_row, class_column), the mean logit of one class over the samples of
        another label, and in the table class_means, the mean |student's - teacher's| over its entries off the diagonal.
        The order of samples changes no correlation, so that the random teacher is here the teacher with its classes
        permuted, as in Mantel's test.
    Raises: KdvizError as `open_audit`, or for more classes.
    Source: Tian et al. (2020), Fig. 2, for the correlations; mdistiller's notebook "correlation" for the class means,
        whose absolute differences it draws under that name. The numbers are ours.
    """
    opened = open_audit(source, against=against)
    k = opened.student.shape[1]
    require(k <= LARGEST, f"class_correlation: compares matrices of at most {LARGEST} classes, got {k:,}")
    shuffled = opened.teacher[:, torch.from_numpy(one_cycle(k, "random teacher's classes"))]
    whole, without = {}, {}
    for name, pair in (opened.pairs | {RANDOM: (opened.student, shuffled)}).items():
        matrices = [correlation_matrix(one) for one in pair]
        whole[name] = _compare(*matrices)
        without[name] = np.stack([_compare(*parts) for parts in zip(*(_left_out(one) for one in pair), strict=True)])
        if opened.target is not None:
            means, left = zip(*(_class_means(one, opened.target) for one in pair), strict=True)
            whole[name] = np.append(whole[name], _gap(*means))
            without[name] = np.column_stack([without[name], [_gap(*parts) for parts in zip(*left, strict=True)]])
    measures = MEASURES | ({} if opened.target is None else {"class_means": MEANS})
    numbers: dict[str, dict[str, Estimate]] = {}
    differences: dict[str, dict[str, Estimate]] = {}
    for at, measure in enumerate(measures):
        numbers[measure] = {name: _estimate(whole[name][at], without[name][:, at], bootstrap.level) for name in whole}
        own, left = whole["student"][at], without["student"][:, at]
        differences[measure] = {
            name: _estimate(own - whole[name][at], left - without[name][:, at], bootstrap.level)
            for name in whole
            if name != "student"
        }
    result = table(opened, measures, numbers, differences)
    nets = [name for name in opened.nets if name != RANDOM]
    kept = np.stack([correlation_matrix(opened.nets[name]) for name in nets]).astype(np.float32)
    dims = ("net", "class_row", "class_column")
    result = result.assign(correlation=(dims, kept, meaning("1", "correlation over samples", "metric")))
    if opened.target is not None:
        each = np.stack([_class_means(opened.nets[name], opened.target)[0] for name in nets]).astype(np.float32)
        result["class_mean"] = (dims, each, meaning("logit", "mean logit", "metric"))
    names = np.array(opened.class_names, dtype=object)
    result = result.assign_coords(net=nets, class_name=("class_row", names))
    result["net"].attrs = opened.naming(nets)
    caption = (
        "Correlation, over samples, between the logits of two classes: the student's minus its teacher's. The random"
        " teacher is here the teacher with its classes permuted, for the order of samples changes no correlation. Class"
        " means: the mean logit of each class over the samples of each label, absolute differences to the teacher's."
    )
    result = finished(result, opened, "class_correlation", caption, bootstrap)
    found = {"finding": _finding(result)}
    if opened.target is not None:
        said = f"Mean logits by label differ by {value(result, 'class_means')} in the mean between student and teacher"
        found["finding_means"] = f"{said}{beside(result, 'class_means')}."
    return result.assign_attrs(found)


def correlation_matrix(logits: Tensor) -> np.ndarray:
    """Pearson's correlations between the columns of [n, k], in float64; 0 with a column that never changes.

    >>> correlation_matrix(torch.tensor([[0.0, 1.0, 5.0], [1.0, 0.0, 5.0]])).round(6).tolist()
    [[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    centred = logits.double() - logits.double().mean(0)
    return _from_moments(centred.T @ centred, centred.sum(0), len(logits))


def _from_moments(products: Tensor, sums: Tensor, n: int) -> np.ndarray:
    """Correlations from sums of products and sums."""
    covariance = products - torch.outer(sums, sums) / n
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    floor = 1e-9 * float(products.diagonal().clamp(min=0).sqrt().max()) if len(products) else 0.0
    constant = deviation <= floor
    scale = deviation.masked_fill(constant, 1.0)
    found = (covariance / torch.outer(scale, scale)).clamp(-1, 1)
    found[constant, :] = 0.0
    found[:, constant] = 0.0
    found.fill_diagonal_(1.0)
    return found.numpy()


def _left_out(logits: Tensor) -> Iterator[np.ndarray]:
    """The matrix without each group of samples; sample i is in group i mod the number of groups."""
    centred = logits.double() - logits.double().mean(0)
    products, sums = centred.T @ centred, centred.sum(0)
    groups = min(GROUPS, len(logits) // 2)
    for at in range(groups):
        part = centred[at::groups]
        yield _from_moments(products - part.T @ part, sums - part.sum(0), len(logits) - len(part))


def _class_means(logits: Tensor, target: Tensor) -> tuple[np.ndarray, list[np.ndarray]]:
    """The mean logits [k, k] of each label's samples, NaN without samples; and those without each group of samples."""
    k = logits.shape[1]

    def sums(rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(k, k, dtype=torch.float64).index_add_(0, labels, rows.double()), labels.bincount(minlength=k)

    def mean(total: Tensor, count: Tensor) -> np.ndarray:
        return (total / count.double().masked_fill(count == 0, torch.nan)[:, None]).numpy()

    whole, count = sums(logits, target)
    groups = min(GROUPS, len(logits) // 2)
    parts = (sums(logits[at::groups], target[at::groups]) for at in range(groups))
    return mean(whole, count), [mean(whole - part, count - some) for part, some in parts]


def _gap(student: np.ndarray, teacher: np.ndarray) -> float:
    """The mean |difference| off the diagonal, over the labels that have samples."""
    gap = np.abs(student - teacher)[~np.eye(len(student), dtype=bool)]
    return float(gap[~np.isnan(gap)].mean()) if not np.isnan(gap).all() else np.nan


def _compare(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """(mean |difference|, correlation) of the entries above the diagonal."""
    above = np.triu_indices(len(student), 1)
    a, b = student[above], teacher[above]
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return np.array([np.abs(a - b).mean(), np.nan])
    return np.array([np.abs(a - b).mean(), np.corrcoef(a, b)[0, 1]])


def _estimate(value: float, without: np.ndarray, level: float) -> Estimate:
    return Estimate(float(value), *(float(end) for end in jackknife(value, without, level)))


def _finding(result: xr.Dataset) -> str:
    difference = result["correlation"].sel(net="student") - result["correlation"].sel(net="teacher")
    values = np.triu(difference.values, 1)
    row, column = np.unravel_index(np.abs(values).argmax(), values.shape)
    names, most = result["class_name"].values, float(values[row, column])
    largest = "There is no pair of classes in which they differ"
    if most:
        sense = "more" if most > 0 else "less"
        both = f"{names[row]} and {names[column]}"
        largest = f"They differ most for {both}, which go together {sense} in the student ({most:+.2f})"
    return (
        f"The correlations of two classes' logits differ by {value(result, 'difference')} in the mean between student"
        f" and teacher{beside(result, 'difference', (WITHOUT,))}; entry by entry the two matrices correlate with"
        f" {value(result, 'likeness')}{beside(result, 'likeness')}. {largest}."
    )
