"""A paper's sentence about two methods, such as "the landscape is flatter", tested over several runs of each."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from kdviz.base.check import require, unknown
from kdviz.base.statistics import NO, NOT_TOLD, YES

if TYPE_CHECKING:
    from kdviz.data import Data

LEVEL = 0.05
EXACT = 200_000  # relabellings up to which all are counted
DRAWS = 20_000  # drawn where there are more


@dataclass(frozen=True)
class Quantity:
    """A number of a net that a claim is about.

    Attributes:
        title: what it is called.
        unit: of its values where they do not say their own; "1" for a count or a share.
        wanted: "lower" or "higher", which way the claim says that it goes.
        of: "landscape", "hessian" or "logits", what it is measured from.
    """

    title: str
    unit: str
    wanted: str
    of: str


QUANTITIES: dict[str, Quantity] = {
    "top_eigenvalue": Quantity("largest Hessian eigenvalue", "nats per squared unit of weight", "lower", "hessian"),
    "trace": Quantity("trace of the Hessian", "nats per squared unit of weight", "lower", "hessian"),
    "flatness_radius": Quantity("flat radius", "length of the direction", "higher", "landscape"),
    "minima": Quantity("local minima", "1", "lower", "landscape"),
    "tau_b": Quantity("Kendall's tau with the teacher", "1", "higher", "logits"),
    "kl": Quantity("KL from the teacher", "nats", "lower", "logits"),
    "ece": Quantity("expected calibration error", "1", "lower", "logits"),
}
# What each sentence says, and the quantities that all have to bear it out.
CLAIMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "flatter": ("lies in a flatter minimum than {base}", ("top_eigenvalue", "trace", "flatness_radius")),
    "fewer-minima": ("has fewer local minima around it than {base}", ("minima",)),
    "closer": ("is closer to its teacher than {base} is", ("tau_b", "kl")),
    "calibrated": ("is better calibrated than {base}", ("ece",)),
}


def permutation_p(base: Sequence[float] | np.ndarray, other: Sequence[float] | np.ndarray, *, seed: int = 0) -> float:
    """Two-sided p-value of the difference of two means under exchange of runs between the groups.

    p = the share of all ways to deal the values into groups of the same sizes whose |difference of means| is at least
    the observed one. All ways are counted up to 200 000 of them; beyond, 20 000 are drawn and p is (1 + hits) / 20 001.

    Args:
        base, other: values of the runs of each, one or more.
        seed: of the draws.
    Returns: NaN where a value is not finite, which tells nothing.
    Raises: KdvizError for an empty group.
    Source: Fisher 1935; Phipson and Smyth 2010 for the drawn p.

    >>> permutation_p([1.0, 2.0], [3.0, 4.0])  # 2 of 6
    0.3333333333333333
    """
    first, second = np.asarray(base, dtype=float), np.asarray(other, dtype=float)
    require(len(first) and len(second), "claim: needs a run of each group")
    values, size = np.concatenate([first, second]), len(first)
    if not np.isfinite(values).all():
        return float("nan")
    total, rest = values.sum(), len(second)
    least = abs(second.mean() - first.mean()) * (1 - 1e-12) - 1e-12 * np.abs(values).max()
    if comb(len(values), size) <= EXACT:
        dealt = np.array(list(itertools.combinations(range(len(values)), size)))
        sums = values[dealt].sum(1)
        return float((np.abs((total - sums) / rest - sums / size) >= least).mean())
    generator = np.random.default_rng(seed)
    sums = np.array([generator.permutation(values)[:size].sum() for _ in range(DRAWS)])
    hits = (np.abs((total - sums) / rest - sums / size) >= least).sum()
    return float((1 + hits) / (1 + DRAWS))


def least_p(base: int, other: int) -> float:
    """The smallest p-value that groups of these sizes can give.

    >>> least_p(3, 3), least_p(4, 4)
    (0.1, 0.02857142857142857)
    """
    return (2 if base == other else 1) / comb(base + other, base)


def verdicts(
    values: xr.Dataset, groups: Mapping[str, Sequence[str]], claims: Sequence[str], *, level: float = LEVEL
) -> xr.Dataset:
    """Whether runs of each group bear out the claims against the runs of the first.

    A quantity says "yes" where its p-value is at most `level` and the means differ the way the claim says, "no" where
    they differ the other way, "not told apart" otherwise. A claim is "yes" where all its quantities are; "no" where one
    is, with its p-value times their number still at most `level`; and "not told apart" otherwise.

    Args:
        values: the quantities of `CLAIMS`, each over `net`.
        groups: name -> nets; the first group is what the others are compared with.
        claims: names of `CLAIMS`.
        level: of each test, in (0, 1).
    Returns: kind "claims": value (quantity, net), group (net); mean and std (quantity, of_group); difference, p and
        told (quantity, other); verdict (claim, other), text.
    Raises: KdvizError for an unknown claim, fewer than two groups, a level out of range.
    Source: ours.
    """
    check(groups, claims, level)
    names = list(dict.fromkeys(name for claim in claims for name in CLAIMS[claim][1]))
    base, *others = groups
    by_group = {group: values.sel(net=list(nets)) for group, nets in groups.items()}
    table = {name: {group: one[name].to_numpy() for group, one in by_group.items()} for name in names}
    p = np.array([[permutation_p(table[name][base], table[name][other]) for other in others] for name in names])
    gaps = np.array([[table[name][other].mean() - table[name][base].mean() for other in others] for name in names])
    columns = range(len(others))
    told = np.array([[_told(name, gaps[i, j], p[i, j], level) for j in columns] for i, name in enumerate(names)])
    found = [[_verdict(claim, names, told[:, at], p[:, at], level) for at in columns] for claim in claims]
    order = [net for nets in groups.values() for net in nets]
    spread = [[one.std(ddof=1) if len(one) > 1 else np.nan for one in table[name].values()] for name in names]
    return xr.Dataset(
        {
            "value": (("quantity", "net"), np.array([values[name].sel(net=order).to_numpy() for name in names])),
            "group": ("net", [group for group, nets in groups.items() for _ in nets]),
            "mean": (("quantity", "of_group"), [[one.mean() for one in table[name].values()] for name in names]),
            "std": (("quantity", "of_group"), spread),
            "difference": (("quantity", "other"), gaps),
            "p": (("quantity", "other"), p),
            "told": (("quantity", "other"), told),
            "verdict": (("claim", "other"), found),
            "long_name": ("quantity", [QUANTITIES[name].title for name in names]),
            "units": ("quantity", [values[name].attrs.get("units", QUANTITIES[name].unit) for name in names]),
            "wanted": ("quantity", [QUANTITIES[name].wanted for name in names]),
        },
        {"quantity": names, "net": order, "claim": list(claims), "other": others, "of_group": list(groups)},
        {"kind": "claims", "level": level, "base": base, "sizes": json.dumps({g: len(n) for g, n in groups.items()})},
    )


def check(groups: Mapping[str, Sequence[str]], claims: Sequence[str], level: float) -> None:
    """Refuse what `verdicts` could not decide, before anything is measured for it."""
    require(0 < level < 1, f"claim: level must be in (0, 1), got {level}")
    known(claims)
    require(
        len(groups) > 1,
        f"claim: compares runs of two methods or more, got runs of {', '.join(groups) or 'none'} alone; name groups of"
        " your own with GROUP=FILE",
    )


def known(claims: Sequence[str]) -> None:
    """Refuse names that are not among `CLAIMS`."""
    for claim in claims:
        if claim not in CLAIMS:
            raise unknown("claim", claim, CLAIMS)


def _told(name: str, gap: float, p: float, level: float) -> str:
    if not p <= level:
        return NOT_TOLD
    return YES if (gap > 0) == (QUANTITIES[name].wanted == "higher") else NO


def _verdict(claim: str, names: Sequence[str], told: np.ndarray, p: np.ndarray, level: float) -> str:
    at = [names.index(name) for name in CLAIMS[claim][1]]
    if all(told[place] == YES for place in at):
        return YES
    against = any(told[place] == NO and p[place] * len(at) <= level for place in at)
    return NO if against else NOT_TOLD


def sentences(result: xr.Dataset) -> list[str]:
    """The verdicts in words, and what the number of runs allows.

    Args: result: of `verdicts`.
    """
    base, sizes = str(result.attrs["base"]), json.loads(result.attrs["sizes"])
    level = float(result.attrs["level"])
    lines = []
    for other in map(str, result["other"].values):
        for claim in map(str, result["claim"].values):
            verdict = str(result["verdict"].sel(claim=claim, other=other).values)
            lines.append(f"{other} {CLAIMS[claim][0].format(base=base)}: {verdict}")
        least = least_p(sizes[base], sizes[other])
        if least > level:
            lines.append(
                f"with {sizes[base]} and {sizes[other]} runs no p-value can be below {least:.2g}, so that nothing can"
                f" be told apart at {level:g}; {_enough(level)} runs of each can"
            )
    return lines


def _enough(level: float) -> int:
    """How many runs of each group the level needs at least."""
    return next(count for count in itertools.count(2) if least_p(count, count) <= level)


def rows(result: xr.Dataset) -> list[list[str]]:
    """The numbers as text: a head, then a row per quantity and group; mean ± standard deviation over runs."""
    lines = [["quantity", "claimed", "group", "mean", "difference", "p", ""]]
    for name in map(str, result["quantity"].values):
        one = result.sel(quantity=name)
        for group in map(str, result["of_group"].values):
            mean, std = (float(one[key].sel(of_group=group)) for key in ("mean", "std"))
            cells = [f"{mean:.4g}" + (f" ± {std:.2g}" if np.isfinite(std) else "")]
            if group == result.attrs["base"]:
                cells += ["", "", ""]
            else:
                at = one.sel(other=group)
                cells += [f"{float(at['difference']):+.3g}", f"{float(at['p']):.3f}", str(at["told"].values)]
            lines.append([str(one["long_name"].values), str(one["wanted"].values), group, *cells])
    return lines


def from_comparisons(comparisons: Sequence[xr.Dataset], loss: str) -> xr.Dataset:
    """The quantities of landscapes and Hessians of a loss over `net`, means over planes and subsets of images.

    Args:
        comparisons: of kind "comparison", one per subset of images, of the same nets.
        loss: which of their losses.
    """
    found = {}
    for name in ("flatness_radius", "minima", "top_eigenvalue", "trace"):
        if all(name in one for one in comparisons):
            at = [one[name].sel(loss=loss) for one in comparisons]
            at = [one.isel(rank=0) if "rank" in one.dims else one for one in at]
            means = [one.mean("seed") if "seed" in one.dims else one for one in at]
            units = {"units": comparisons[0][name].attrs.get("units", QUANTITIES[name].unit)}
            found[name] = ("net", np.mean([one.to_numpy() for one in means], axis=0), units)
    return xr.Dataset(found, {"net": comparisons[0]["net"].values})


def of_logits(nets: Mapping[str, Any], data: "Data", teacher: Any) -> xr.Dataset:
    """Kendall's tau-b with the teacher, KL(teacher || student) and ECE over `net`, means over the images.

    Args:
        nets: label -> net or checkpoint.
        data: the images.
        teacher: a net or a checkpoint.
    Raises: KdvizError as `collect_logits`.
    """
    import torch

    from kdviz import losses, metrics
    from kdviz.analysis.logits import collect_logits

    taught, found = None, []
    for net in nets.values():
        logits = collect_logits(net, data, teacher=teacher if taught is None else taught)
        taught = logits["logits_teacher"].values
        student, target = torch.from_numpy(logits["logits_student"].values), torch.from_numpy(logits["target"].values)
        other = torch.from_numpy(taught)
        tau = metrics.kendall_tau(student, other).nanmean()
        kl = losses.kd(student.double(), other.double(), temperature=1.0)
        found.append([float(tau), float(kl), float(metrics.ece(student, target))])
    names = ("tau_b", "kl", "ece")
    return xr.Dataset(
        {name: ("net", list(column)) for name, column in zip(names, zip(*found, strict=True), strict=True)},
        {"net": list(nets)},
    )
