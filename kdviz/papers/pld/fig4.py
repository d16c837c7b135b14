"""PLD Fig. 4: DIST, KD and PLD over the same slice of logit space."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kdviz.base.statistics import NO, YES
from kdviz.papers.entry import Claim, Drawing, Inputs, Measured, PaperEntry, Results
from kdviz.papers.pld import draws

LOSSES = ("dist", "kd", "pld")


def compute(inputs: Inputs, settings: Mapping[str, Any]) -> Results:
    """Results "surface", one panel per loss, and "draws"."""
    return draws.compute(LOSSES, (settings["temperature"],), settings, inputs.progress)


def _by_loss(results: Results, name: str) -> dict[str, np.ndarray]:
    """loss -> [draws]; the larger eigenvalue where there are two."""
    found = results["draws"][name]
    found = found.sel(eigenvalue="high") if "eigenvalue" in found.dims else found
    return {loss: found.isel(panel=at).to_numpy() for at, loss in enumerate(LOSSES)}


def _medians(what: str, found: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {f"{loss} {what}": float(np.median(values)) for loss, values in found.items()}


def _verdict(values: dict[str, Any], holds: np.ndarray, note: str) -> Measured:
    values["holds in"] = f"{holds.sum()} of {len(holds)} draws"
    return Measured(values, YES if holds.mean() > 0.5 else NO, f"medians over the draws; {note}")


def _dip(results: Results) -> Measured:
    """Curvature at the minimum over the median of the slice, of every loss."""
    dip, typical = _by_loss(results, "curvature_minimum"), _by_loss(results, "curvature_median")
    ratio = {loss: dip[loss] / typical[loss] for loss in LOSSES}
    return _verdict(_medians("ratio", ratio), ratio["dist"] > 10, "DIST's per-class term is a constant of one sample")


def _convexity(results: Results) -> Measured:
    """The convex share of the slice and the range of heights."""
    shares = _by_loss(results, "convex_share")
    holds = (shares["pld"] > shares["kd"]) & (shares["kd"] > shares["dist"])
    values = _medians("convex share", shares) | _medians("range", _by_loss(results, "range"))
    values |= _medians("mean curvature", _by_loss(results, "curvature_mean"))
    return _verdict(values, holds, "KL is convex in the student's logits everywhere, as PLD is")


def _centred(results: Results) -> Measured:
    """How far each loss' minimum lies from the teacher's logits, in lengths of these."""
    distance = _by_loss(results, "minimum_distance")
    return _verdict(_medians("minimum's distance", distance), distance["pld"] < 1, "in lengths of the teacher's logits")


ENTRY = PaperEntry(
    name="fig4",
    title="DIST, KD and PLD over the same slice of logit space",
    source="arXiv 2506.12542, Fig. 4",
    compute=compute,
    settings={"temperature": 1.0, "classes": 10, "steps": 51, "span": 5.0, "seed": 0, "draws": 20},
    drawings=(Drawing("both", "surface", ("surface",)),),
    claims=(
        Claim(
            "DIST has a sharp dip and is otherwise planar",
            "Fig. 4a",
            "its curvature at the minimum is over ten times the median over the slice, in most draws",
            _dip,
        ),
        Claim(
            "KD is moderately convex and PLD more so",
            "Fig. 4b, c",
            "the convex share of the slice is largest for PLD, then KD, then DIST, in most draws",
            _convexity,
        ),
        Claim(
            "PLD's contours are mostly centred at the origin",
            "Fig. 4c",
            "its minimum lies within one length of the teacher's logits from them, in most draws",
            _centred,
        ),
    ),
    choices=(
        "number of classes: not stated; {classes}",
        "label: not stated; the teacher's argmax",
        "temperature: not stated for KD and DIST; {temperature:g} for all three",
        "weights: each distillation term alone, without cross-entropy",
        "seed of teacher and directions: not stated; {seed} drawn, {draws} behind the findings",
        "grid: not stated; {steps} × {steps} over [-{span:g}, {span:g}]² in lengths of the teacher's logits t",
    ),
)
