"""How far the nets put the label above the other classes, and each rank above the next."""

from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from kdviz.analysis.attributes import meaning
from kdviz.analysis.audit.numbers import (
    Measure,
    Sampled,
    bootstrapped,
    correlation_of,
    estimate,
    finished,
    mean_of,
    table,
)
from kdviz.analysis.audit.opened import RANDOM, WITHOUT, open_audit
from kdviz.analysis.audit.sentences import beside, value
from kdviz.analysis.bootstrap import INTERVALS, Bootstrap, mean_interval

MEASURES = {
    "margin": Measure("margin of the label", "logit"),
    "first_gap": Measure("first logit minus second", "logit"),
    "spread": Measure("standard deviation of a sample's logits", "logit"),
    "relative_margin": Measure("margin over that deviation"),
    "correlation": Measure("correlation of margins with the teacher's"),
}
GAPS = 10


def margins(source: Any, *, against: Any = None, bootstrap: Bootstrap = INTERVALS, gaps: int = GAPS) -> xr.Dataset:
    """The margin of the label, z_label - max of the others, in every sample, and the gaps between ranks.

    Args:
        source, against: as `open_audit`, with labels.
        bootstrap: coverage, draws and their seed.
        gaps: ranks from the first whose logit is compared with the next one's, at most one less than the classes.
    Returns: kind "margins": `table` of the means of margin, first_gap, spread (logit) and relative_margin, margin over
        spread, which scaling the logits does not change, and correlation, Pearson's between a net's margins and the
        teacher's, over the nets; margin (net, sample); gap (net, rank), the mean of z_(r) - z_(r+1), with its interval
        gap_low, gap_high.
    Raises: KdvizError as `open_audit`, or without labels.
    Source: ours.
    """
    opened = open_audit(source, against=against)
    target = opened.labels("margins")
    sampled: dict[str, dict[str, Sampled]] = {name: {} for name in MEASURES}
    margin = {name: label_margin(logits, target) for name, logits in opened.nets.items()}
    falling: dict[str, np.ndarray] = {}
    for name, logits in opened.nets.items():
        deviation = logits.double().std(dim=1, correction=0).numpy()
        depth = min(gaps, logits.shape[1] - 1)
        largest = logits.double().topk(depth + 1, dim=1).values
        falling[name] = (largest[:, :-1] - largest[:, 1:]).numpy()
        sampled["margin"][name] = mean_of(margin[name])
        sampled["first_gap"][name] = mean_of(falling[name][:, 0])
        sampled["spread"][name] = mean_of(deviation)
        relative = np.divide(margin[name], deviation, out=np.full(len(deviation), np.nan), where=deviation > 0)
        sampled["relative_margin"][name] = mean_of(relative)
    for name in opened.pairs:
        pair = ("student", RANDOM) if name == RANDOM else (name, "teacher")
        sampled["correlation"][name] = correlation_of(margin[pair[0]], margin[pair[1]])
    result = table(opened, MEASURES, *bootstrapped(sampled, bootstrap))
    nets = list(opened.nets)
    means = np.array([[mean_interval(gap, bootstrap) for gap in falling[name].T] for name in nets])
    dims = ("net", "rank")
    result = result.assign(
        margin=(
            ("net", "sample"),
            np.stack([margin[name] for name in nets]),
            meaning("logit", "margin of the label", "metric"),
        ),
        gap=(dims, means[..., 0], meaning("logit", "mean gap to the next rank", "metric")),
        gap_low=(dims, means[..., 1], meaning("logit", "mean gap to the next rank, lower end", "bound")),
        gap_high=(dims, means[..., 2], meaning("logit", "mean gap to the next rank, upper end", "bound")),
    ).assign_coords(net=nets, sample=opened.ids, rank=np.arange(1, means.shape[1] + 1))
    result["net"].attrs = opened.naming(nets)
    caption = (
        "The margin of a sample is its label's logit minus the largest other: above 0 the net is right. (a) Margins of"
        " each net; (b) the student's against its teacher's; (c) the mean gap between the logits of one rank and the"
        " next. The random teacher is the teacher's logits of another sample."
    )
    result = finished(result, opened, "margins", caption, bootstrap)
    return result.assign_attrs(finding=_finding(result))


def label_margin(logits: Tensor, target: Tensor) -> np.ndarray:
    """z_label - max over the other classes of z, [n] float64; above 0 where the net is right.

    Args: logits [n, k]; target [n] int64.

    >>> label_margin(torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([1])).tolist()
    [-2.0]
    """
    wide = logits.double()
    own = wide.gather(1, target[:, None])[:, 0]
    others = wide.scatter(1, target[:, None], -torch.inf).amax(1)
    return (own - others).numpy()


def _finding(result: xr.Dataset) -> str:
    student, teacher = (estimate(result, "spread", name).value for name in ("student", "teacher"))
    scale = (
        f"; the logits of a sample spread {student / teacher:.2f} times as wide as its teacher's" if teacher > 0 else ""
    )
    relative = estimate(result, "relative_margin", "teacher", name="difference")
    if relative.low > 0:
        order = "larger than the teacher's"
    elif relative.high < 0:
        order = "smaller than the teacher's"
    else:
        order = "which does not differ from the teacher's by more than the interval"
    return (
        f"The student's margin is {value(result, 'margin')} in the mean, its teacher's"
        f" {value(result, 'margin', 'teacher')}{scale}."
        f" Measured by that spread the student's margin is {value(result, 'relative_margin')}, {order}"
        f" ({value(result, 'relative_margin', 'teacher')}). Margins go with the teacher's sample by sample with a"
        f" correlation of {value(result, 'correlation')}{beside(result, 'correlation', (WITHOUT, RANDOM))}."
    )
