"""RKKD Fig. 1: how large the logits of teacher and student are, and what that means for the gradient of KL."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kdviz.base.statistics import NO, YES
from kdviz.papers.entry import OPEN, Claim, Drawing, Inputs, Measured, PaperEntry, Results
from kdviz.papers.rkkd.logits import chosen, collect


def compute(inputs: Inputs, settings: Mapping[str, Any]) -> Results:
    """A histogram per student; `small_mass_untempered` is `small_mass` at temperature 1."""
    from kdviz.analysis.histogram import histogram

    found = {}
    for label, logits in collect(inputs, chosen(inputs, settings)).items():
        one = histogram(logits, temperature=settings["temperature"], small=settings["small"])
        one["small_mass_untempered"] = histogram(logits, temperature=1.0, small=settings["small"])["small_mass"]
        found[f"histogram_{label}"] = one
    return found


def _each(results: Results, measure: Callable[[Any], dict[str, float]]) -> dict[str, float]:
    """The values of every student, and of the teacher once, under their names."""
    found: dict[str, float] = {}
    for one in results.values():
        for key, value in measure(one).items():
            net, _, rest = key.partition(" ")
            found.setdefault(f"{one.attrs['label'] if net == 'student' else net} {rest}", value)
    return found


def _low_half(results: Results) -> Measured:
    """The share of values in the lower half of the range that a net's values span."""

    def measure(one: Any) -> dict[str, float]:
        found = {}
        for net in one["net"].values:
            counts, left = one["counts_logit"].sel(net=net).to_numpy(), one["logit"].to_numpy()
            used = left[counts > 0]
            middle = (used[0] + used[-1] + one["logit"].attrs["width"]) / 2
            found[f"{net} share in the lower half"] = float(counts[left < middle].sum() / counts.sum())
        return found

    values = _each(results, measure)
    return Measured(values, YES if min(values.values()) > 0.5 else NO)


def _imbalance(results: Results) -> Measured:
    """Mass of the small channels, before and after tempering, and the ratio of a large one's mean to a small one's."""

    def measure(one: Any) -> dict[str, float]:
        small, found = float(one.attrs["small"]), {}
        for net in one["net"].values:
            before = float(one["small_mass_untempered"].sel(net=net))
            after = float(one["small_mass"].sel(net=net))
            found[f"{net} small channels' mass at T 1"] = before
            found[f"{net} small channels' mass at T {one.attrs['temperature']:g}"] = after
            found[f"{net} large over small"] = ((1 - after) / (1 - small)) / (after / small)
        return found

    values = _each(results, measure)
    ratios = [value for key, value in values.items() if key.endswith("large over small")]
    return Measured(values, YES if min(ratios) >= 2 else NO, "large over small is the ratio of mean probabilities")


def _attention(results: Results) -> Measured:
    """The small channels' share of KL's gradient and of the ranking loss'."""
    if not all("small_gradient" in one and "rank_kendall" in one["loss"].values for one in results.values()):
        return Measured({}, OPEN, "needs the teacher's logits")
    values = _each(
        results,
        lambda one: {
            f"student {name} gradient on small channels": float(one["small_gradient"].sel(loss=loss))
            for loss, name in (("kd", "KL"), ("rank_kendall", "ranking"))
        },
    )
    pairs = np.array(list(values.values())).reshape(-1, 2)
    return Measured(values, YES if (pairs[:, 1] > pairs[:, 0]).all() else NO)


ENTRY = PaperEntry(
    name="fig1",
    title="Values of all logits of teacher and student, (a) raw and (b) after the tempered softmax",
    source="arXiv 2409.17823, Fig. 1",
    compute=compute,
    students=("kd",),
    needs=("teacher", "data"),
    split="train",
    settings={"temperature": 4.0, "small": 0.9, "samples": None, "seed": 0},
    drawings=(Drawing("values", "values"), Drawing("ranks", "ranks")),
    claims=(
        Claim(
            "small values make up most of what teacher and student put out over the training set",
            "Sec. 1, Fig. 1a",
            "share of logits in the lower half of the net's own range is above one half",
            _low_half,
        ),
        Claim(
            "the imbalance stays after a softmax at temperature 4",
            "Sec. 1, Fig. 1b",
            "a large channel's mean probability is at least twice a small one's",
            _imbalance,
        ),
        Claim(
            "KL attends to the large channels; the ranking loss balances this towards the small ones",
            "Secs. 3 and 4",
            "the small channels' share of the gradient is larger for the ranking loss than for KL",
            _attention,
        ),
    ),
    choices=(
        "pair of nets: not named; students and teacher as given",
        "bins: not stated; powers of two",
        "split: training set, without augmentation",
        "which channels are small: not stated; the smallest {small:.0%} of a sample's, by a net's own ranking",
    ),
)
