"""Centred kernel alignment between the stages of two nets, by minibatches and without bias."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from kdviz.analysis.attributes import meaning
from kdviz.analysis.audit.numbers import Measure, Sampled, bootstrapped, finished, table
from kdviz.analysis.audit.opened import RANDOM, WITHOUT
from kdviz.analysis.audit.sentences import beside, value
from kdviz.analysis.audit.stages import LOGITS, POOLED, Stages, stages
from kdviz.analysis.audit.subjects import Subjects
from kdviz.analysis.bootstrap import INTERVALS, Bootstrap, resampled_means
from kdviz.base.check import require
from kdviz.base.threads import in_threads
from kdviz.models import evaluating

if TYPE_CHECKING:
    from kdviz.data import Data

MEASURES = {
    "stages": Measure("CKA, stages of equal relative depth, mean"),
    POOLED: Measure("CKA, pooled features"),
    LOGITS: Measure("CKA, logits"),
}
PAIRS = {"student": ("teacher", "student"), WITHOUT: ("teacher", WITHOUT), RANDOM: (RANDOM, "student")}


def cka(
    student: Any,
    data: "Data",
    *,
    teacher: Any,
    against: Any = None,
    untrained: Any = None,
    batch: int | None = None,
    bootstrap: Bootstrap = INTERVALS,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Linear CKA between every stage of the teacher and every stage of the student.

    CKA = mean HSIC(K, L) / sqrt(mean HSIC(K, K) mean HSIC(L, L)) over minibatches, K and L the Gram matrices of the
    flattened features, HSIC its unbiased estimator: the value does not depend on the size of the minibatches but by
    chance. The random teacher is here an untrained net of the teacher's architecture, which says what architecture and
    images alone make alike; logits of permuted samples would have CKA 0 by construction.

    Args:
        student, teacher: nets, or `Checkpoint`s.
        data: the images.
        against: a student trained without a teacher; None for none.
        untrained: a net of the teacher's architecture with fresh weights; None for none.
        batch: images in a minibatch, 4 or more; None for a twentieth of the images, from 8 to 100. Those of an
            incomplete last minibatch are left out.
        bootstrap: coverage, draws and their seed; minibatches are drawn, as their samples are not independent in HSIC.
        progress: called with (images done, images).
    Returns: kind "cka": `table` of stages, the mean over the teacher's stages and the student's of the same relative
        depth, pooled and logits, over the comparisons; for each of these cka_COLUMN (teacher_COLUMN, student_COLUMN)
        with _low and _high.
    Raises: KdvizError for too few images, or a net of which no stage is known.
    Source: Nguyen et al. (2021), eqs. 2 and 3; Song et al. (2012) for the unbiased HSIC; Kornblith et al. (2019).
    """
    subjects = Subjects.of(student, data, teacher=teacher, against=against, untrained=untrained)
    size = batch or min(100, max(8, len(data) // 20))
    require(size >= 4, f"cka: a minibatch needs 4 images or more, got {size}")
    require(len(data) >= size, f"cka: needs {size} images or more, got {len(data)}")
    pairs = {name: pair for name, pair in PAIRS.items() if set(pair) <= set(subjects.nets)}
    done = 0

    def count(_images: Tensor) -> None:
        nonlocal done
        done += size
        if progress:
            progress(done, len(data))

    with ExitStack() as stack, evaluating(*subjects.nets.values()):
        look = {name: stack.enter_context(stages(net)) for name, net in subjects.nets.items()}
        whole = (images for images, _ in data.batches(size) if len(images) == size)
        found = in_threads(partial(_hsics, look, pairs), whole, done=count)
    names, sums = found[0][0], {name: [one[name] for _, one in found] for name in pairs}
    sampled: dict[str, dict[str, Sampled]] = {measure: {} for measure in MEASURES}
    result = xr.Dataset()
    for name, (first, second) in pairs.items():
        columns, shape = np.stack(sums[name]), (len(names[first]), len(names[second]))
        for measure in MEASURES:
            places = _places(measure, names[first], names[second])
            if places:
                sampled[measure][name] = Sampled(columns, _mean_at(places, shape))
        result = result.merge(_matrix(name, columns, names[first], names[second], bootstrap))
    sampled = {measure: one for measure, one in sampled.items() if one}
    known = {measure: MEASURES[measure] for measure in sampled}
    result = table(subjects, known, *bootstrapped(sampled, bootstrap)).merge(result)
    caption = (
        "Linear CKA between the stages of teacher and student: 1 where their features are the same but for rotation and"
        f" scale, about 0 where they have nothing in common; unbiased, by minibatches of {size}. The random teacher is"
        " an untrained net of the teacher's architecture."
    )
    result = finished(result, subjects, "cka", caption, bootstrap, batch=size)
    return result.assign_attrs(finding=_finding(result))


def unbiased_hsic(k: Tensor, l: Tensor) -> float:  # noqa: E741
    """The unbiased estimate of HSIC from two Gram matrices.

    (tr(KL) + 1'K1 1'L1 / ((n-1)(n-2)) - 2 1'KL1 / (n-2)) / (n (n-3)), the diagonals of K and L being 0.

    Args: k, l: [n, n], symmetric; their diagonals are not read; n is 4 or more.
    Source: Song et al. (2012), eq. 5.
    """
    n = len(k)
    a, b = (one.double().clone().fill_diagonal_(0) for one in (k, l))
    rows = a.sum(0), b.sum(0)
    cross = (a * b).sum() + rows[0].sum() * rows[1].sum() / ((n - 1) * (n - 2)) - 2 * (rows[0] @ rows[1]) / (n - 2)
    return float(cross / (n * (n - 3)))


def _hsics(
    look: dict[str, Stages], pairs: dict[str, tuple[str, str]], images: Tensor
) -> tuple[dict[str, list[str]], dict[str, np.ndarray]]:
    """Each net's stages, and for each comparison HSIC of every pair of stages, then of the stages with themselves."""
    with torch.inference_mode():
        grams = {net: {stage: _gram(one) for stage, one in see(images).items()} for net, see in look.items()}
    selves = {net: [unbiased_hsic(one, one) for one in found.values()] for net, found in grams.items()}
    sums = {}
    for name, (first, second) in pairs.items():
        cross = [unbiased_hsic(one, two) for one in grams[first].values() for two in grams[second].values()]
        sums[name] = np.array([*cross, *selves[first], *selves[second]])
    return {net: list(found) for net, found in grams.items()}, sums


def _gram(features: Tensor) -> Tensor:
    """Of centred features, which changes no HSIC and keeps digits."""
    centred = features.double() - features.double().mean(0)
    return (centred @ centred.T).cpu()


def _ratios(means: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """CKA [r, *shape] from means of HSIC; NaN where a net's own is not above 0."""
    rows, columns = shape
    cross = means[:, : rows * columns].reshape(-1, rows, columns)
    first, second = means[:, rows * columns :][:, :rows], means[:, rows * columns + rows :]
    below = first[:, :, None] * second[:, None, :]
    good = (first[:, :, None] > 0) & (second[:, None, :] > 0)
    return np.divide(cross, np.sqrt(np.where(good, below, 1.0)), out=np.full(cross.shape, np.nan), where=good)


def _places(measure: str, teacher: list[str], student: list[str]) -> list[tuple[int, int]]:
    """The entries of the matrix over which a number is the mean."""
    if measure != "stages":
        return [(teacher.index(measure), student.index(measure))] if measure in teacher and measure in student else []
    own, theirs = ([one for one in names if one not in (POOLED, LOGITS)] for names in (student, teacher))
    if not own or not theirs:
        return []
    scale = (len(own) - 1) / max(1, len(theirs) - 1)
    return [(at, round(at * scale)) for at in range(len(theirs))]


def _mean_at(places: list[tuple[int, int]], shape: tuple[int, int]) -> Callable[[np.ndarray], np.ndarray]:
    rows, columns = zip(*places, strict=True)
    return lambda means: _ratios(means, shape)[:, rows, columns].mean(axis=1)


def _matrix(name: str, columns: np.ndarray, teacher: list[str], student: list[str], bootstrap: Bootstrap) -> xr.Dataset:
    shape = len(teacher), len(student)
    whole = _ratios(columns.mean(axis=0, keepdims=True), shape)[0]
    ends = np.full((2, *shape), np.nan)
    if len(columns) > 1:
        draws = _ratios(resampled_means(columns, bootstrap), shape)
        level = [(1 - bootstrap.level) / 2, (1 + bootstrap.level) / 2]
        ends = np.quantile(draws, level, axis=0)
    dims = (f"teacher_{name}", f"student_{name}")
    arrays = {"": (whole, "CKA", "metric"), "_low": (ends[0], "CKA, lower end", "bound")}
    arrays |= {"_high": (ends[1], "CKA, upper end", "bound")}
    variables = {f"cka_{name}{end}": (dims, one, meaning("1", *words)) for end, (one, *words) in arrays.items()}
    return xr.Dataset(variables, {dims[0]: teacher, dims[1]: student})


def _finding(result: xr.Dataset) -> str:
    known = [measure for measure in MEASURES if measure in result["measure"].values]
    words: Mapping[str, str] = {
        "stages": "stages of equal relative depth are alike with CKA",
        POOLED: "the pooled features with",
        LOGITS: "the logits with",
    }
    text = "; ".join(f"{words[one]} {value(result, one)}" for one in known)
    matrix = result["cka_student"].values
    rows, columns = ([str(one) for one in result[f"{net}_student"].values] for net in ("teacher", "student"))
    least = min((matrix[place], place) for measure in known for place in _places(measure, rows, columns))
    ends = rows[least[1][0]], columns[least[1][1]]
    last = POOLED if POOLED in known else known[-1]
    controls = beside(result, last)
    what = "the pooled features" if last == POOLED else "the logits" if last == LOGITS else "the stages"
    said = f" Of {what}, {controls.removeprefix('; ')}." if controls else ""
    return (
        f"Between teacher and student {text}.{said} Of stages of equal depth the least alike are the teacher's"
        f" {ends[0]} and the student's {ends[1]} ({least[0]:.3f})."
    )
