"""KL, Kendall's tau and entropy of student and teacher against the temperature of the softmax."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from kdviz.analysis.attributes import meaning
from kdviz.analysis.audit.fidelity import kl_per_sample
from kdviz.analysis.audit.numbers import Measure, bootstrapped, estimate, finished, mean_of, table
from kdviz.analysis.audit.opened import open_audit
from kdviz.analysis.audit.sentences import beside, value
from kdviz.analysis.bootstrap import INTERVALS, Bootstrap
from kdviz.base.check import positive, require
from kdviz.losses import rank_kendall

TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
PAIRS = 1 << 20  # pairs of channels, times samples, behind the differentiable tau at one temperature


def temperatures(
    source: Any,
    *,
    against: Any = None,
    bootstrap: Bootstrap = INTERVALS,
    at: Sequence[float] = TEMPERATURES,
    smooth_samples: int = 200,
) -> xr.Dataset:
    """KL(teacher || student), the differentiable tau and the entropy at each temperature.

    No temperature changes the order of the channels, so that the exact tau has one value. The differentiable
    tau_d = mean over pairs of channels of tanh(dt / 2T) tanh(ds / 2T), which the ranking loss trains, does depend on
    it: at T -> 0 it is the exact tau-a, at a high T the pairs that lie far apart decide it.

    Args:
        source, against: as `open_audit`; labels are not needed.
        bootstrap: coverage, draws and their seed.
        at: the temperatures, above 0 and increasing, two or more.
        smooth_samples: samples from the first behind tau_d, whose cost is quadratic in channels: at most so many that
            about a million pairs are compared at a temperature; none for more than 4096 channels.
    Returns: kind "temperature_curves": `table` of KL (nats) and entropy (nats) at temperatures 1 and 4, where these
        are among `at`, else at the first and the last; over compared and temperature kl, without the factor T^2,
        entropy, of each net, and smooth (tau_d), each with _low and _high; exact (compared), the mean tau-a of the same
        samples.
    Raises: KdvizError as `open_audit`, or for temperatures out of range.
    Source: ours; tau_d as RKKD, eq. 7.
    """
    require(len(at) >= 2, f"temperatures: needs two or more, got {len(at)}")
    for one in at:
        positive("temperatures", temperature=one)
    require(sorted(set(at)) == list(at), f"temperatures: must increase, got {', '.join(map(str, at))}")
    opened = open_audit(source, against=against)
    columns = list(opened.nets)
    k = opened.student.shape[1]
    few = min(smooth_samples, len(opened.student), PAIRS * 2 // (k * k)) if k <= 4096 else 0
    few = max(few, min(4, smooth_samples)) if k <= 4096 else 0
    sampled: dict[str, dict[str, Any]] = {}
    for temperature in at:
        sampled[f"kl {temperature}"] = {
            name: mean_of(kl_per_sample(*pair, temperature)) for name, pair in opened.pairs.items()
        }
        sampled[f"entropy {temperature}"] = {
            name: mean_of(entropy(logits, temperature)) for name, logits in opened.nets.items()
        }
    numbers, differences = bootstrapped(sampled, bootstrap)
    smooth: dict[str, dict[str, Any]] = {}
    if few:
        smooth = {f"smooth {one}": {n: mean_of(_smooth(*p, few, one)) for n, p in opened.pairs.items()} for one in at}
        smooth["exact"] = {name: mean_of(_exact(*pair, few)) for name, pair in opened.pairs.items()}
        numbers = {**numbers, **bootstrapped(smooth, bootstrap)[0]}
    named = [one for one in (1.0, 4.0) if one in at] or [at[0], at[-1]]
    measures = {
        f"{quantity} {one}": Measure(f"{title}, temperature {one:g}", "nats")
        for quantity, title in (("kl", "KL(teacher ‖ student)"), ("entropy", "entropy"))
        for one in named
    }
    result = table(opened, measures, numbers, differences)
    words = {"kl": ("nats", "KL(teacher ‖ student)"), "entropy": ("nats", "entropy"), "smooth": ("1", "mean of tau_d")}
    for quantity, (unit, long_name) in words.items():
        if quantity == "smooth" and not few:
            continue
        rows = [[numbers[f"{quantity} {one}"].get(name, (np.nan,) * 3) for one in at] for name in columns]
        for end, values in zip(("", "_low", "_high"), np.moveaxis(np.array(rows), -1, 0), strict=True):
            long = {"": "", "_low": ", lower end", "_high": ", upper end"}[end]
            means = meaning(unit, f"{long_name}{long}", "bound" if end else "metric")
            result[f"{quantity}{end}"] = (("compared", "temperature"), values, means)
    if few:
        exact = [numbers["exact"].get(name, (np.nan,))[0] for name in columns]
        result["exact"] = (("compared",), np.array(exact), meaning("1", "mean of tau-a", "metric"))
    result = result.assign_coords(temperature=list(at))
    result["compared"].attrs = opened.naming(columns)
    caption = (
        "(a) KL at equal temperature of both nets, without the factor T²; (b) entropy of each net's probabilities; (c)"
        f" the differentiable tau of logits divided by the temperature, over {few:,} samples: the exact tau, which does"
        " not depend on the temperature, is the thin line. The random teacher is the teacher's logits of another"
        " sample."
    )
    result = finished(result, opened, "temperature_curves", caption, bootstrap, smooth_samples=few)
    return result.assign_attrs(finding=_finding(result, named))


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """The entropy of softmax(logits / T) of each sample in nats, [n] float64.

    >>> import torch
    >>> entropy(torch.zeros(1, 4)).exp()
    tensor([4.], dtype=torch.float64)
    """
    p = logits.double().div(temperature).log_softmax(1)
    return -(p.exp() * p).sum(1)


def _smooth(student: Tensor, teacher: Tensor, few: int, temperature: float) -> np.ndarray:
    """tau_d of the first samples, NaN for the others, in blocks since pairs of channels are many."""
    found = np.full(len(student), np.nan)
    step = max(1, (1 << 24) // student.shape[1] ** 2)
    for start in range(0, few, step):
        part = slice(start, min(start + step, few))
        s, t = (one[part].double() for one in (student, teacher))
        taus = -rank_kendall(s, t, steepness=1 / temperature, normalize="none", reduction="none")
        found[part] = taus.detach().numpy()
    return found


def _exact(student: Tensor, teacher: Tensor, few: int) -> np.ndarray:
    from kdviz.metrics import kendall_tau

    found = np.full(len(student), np.nan)
    found[:few] = kendall_tau(student[:few], teacher[:few], variant="a").numpy()
    return found


def _finding(result: xr.Dataset, named: Sequence[float]) -> str:
    first, last = named[0], named[-1]
    curve = result["kl"].sel(compared="student").values
    peak = float(result["temperature"][int(curve.argmax())])
    own, taught = (estimate(result, f"entropy {first}", name).value for name in ("student", "teacher"))
    ratio = f", {own / taught:.2f} times its teacher's" if taught > 0 else ""
    order = estimate(result, f"entropy {first}", "teacher", name="difference")
    softer = "more even" if order.low > 0 else "more peaked" if order.high < 0 else "about as even"
    text = (
        f"At temperature {first:g} KL from the teacher is {value(result, f'kl {first}')}"
        f"{beside(result, f'kl {first}')}; at {last:g} it is {value(result, f'kl {last}')}. It is largest at"
        f" {peak:g}. The student's probabilities are {softer} than its teacher's: at temperature {first:g} its entropy"
        f" is {value(result, f'entropy {first}')}{ratio}."
    )
    return text.replace("about as even than its", "about as even as its")
