"""The quantities beside losses that a landscape measures, and what each variable of its result means."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from kdviz.base.variables import half_width
from kdviz.losses import resolve
from kdviz.metrics import kendall_tau, topk_overlap


class Metric(NamedTuple):
    """A quantity of each sample, larger is better.

    function: of the student's and teacher's logits [n, k], or None where it is of the student and the labels.
    """

    function: Callable[[Tensor, Tensor], Tensor] | None
    unit: str
    long_name: str


METRICS = {
    "kendall_tau": Metric(kendall_tau, "1", "Kendall's τ"),
    "agreement": Metric(partial(topk_overlap, k=1), "fraction", "agreement with teacher"),
    "accuracy": Metric(None, "fraction", "top-1 accuracy"),
}
WITH_TEACHER = tuple(name for name, metric in METRICS.items() if metric.function)


def attributes(name: str) -> dict[str, Any]:
    """Unit, long name and role of the loss or metric of that name.

    >>> attributes("rank_kendall")
    {'units': '1', 'long_name': 'ranking loss', 'role': 'loss'}
    """
    if name in METRICS:
        _, unit, long_name = METRICS[name]
        return {"units": unit, "long_name": long_name, "role": "metric", "better": "higher"}
    return {"units": resolve(name).unit, "long_name": resolve(name).long_name, "role": "loss"}


def variables(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The attributes of these losses and metrics and of their half-widths, by variable name."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        found[name] = attributes(name)
        found[f"{name}_halfwidth"] = half_width(name, found[name])
    return found


def needs_teacher(losses: Sequence[str]) -> bool:
    """Whether any of these losses and metrics compares with a teacher.

    >>> needs_teacher(["ce"]), needs_teacher(["ce", "kd"]), needs_teacher(["kendall_tau"])
    (False, True, True)
    """
    return any(name in WITH_TEACHER or "logits_teacher" in resolve(name).takes for name in losses)
