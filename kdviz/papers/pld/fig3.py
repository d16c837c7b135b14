"""PLD Fig. 3: its loss over a slice of logit space at four temperatures of the teacher."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kdviz.base.statistics import NO, YES
from kdviz.papers.entry import Claim, Drawing, Inputs, Measured, PaperEntry, Results
from kdviz.papers.pld import draws

TEMPERATURES = (2.0, 1.0, 0.5, 0.1)


def compute(inputs: Inputs, settings: Mapping[str, Any]) -> Results:
    """Results "surface", one panel per temperature, and "draws"."""
    return draws.compute("pld", TEMPERATURES, settings, inputs.progress)


def _by_temperature(results: Results, name: str) -> np.ndarray:
    """[draws, temperatures]; the mean over eigenvalues where there are two."""
    found = results["draws"][name]
    found = found.mean("eigenvalue") if "eigenvalue" in found.dims else found
    return found.transpose("draw", "panel").to_numpy()


def _flattens(name: str) -> Callable[[Results], Measured]:
    """Whether curvature `name` falls from 1 to .5 and from .5 to .1."""

    def measure(results: Results) -> Measured:
        found = _by_temperature(results, name)
        holds = (found[:, 1] > found[:, 2]) & (found[:, 2] > found[:, 3])
        values: dict[str, Any] = {
            f"at T {at:g}": float(value) for at, value in zip(TEMPERATURES, np.median(found, axis=0), strict=True)
        }
        values["holds in"] = f"{holds.sum()} of {len(holds)} draws"
        return Measured(values, YES if holds.mean() > 0.5 else NO, "medians over the draws")

    return measure


def _little(results: Results) -> Measured:
    """The relative change of the slice's curvature from 2 to 1, beside that from 1 to .1."""
    found = _by_temperature(results, "curvature_mean")
    above, below = found[:, 1] / found[:, 0] - 1, found[:, 3] / found[:, 1] - 1
    holds = (np.abs(above) < 0.1) & (np.abs(above) < np.abs(below))
    values: dict[str, Any] = {
        "change from 2 to 1": float(np.median(above)),
        "change from 1 to .1": float(np.median(below)),
        "holds in": f"{holds.sum()} of {len(holds)} draws",
    }
    return Measured(values, YES if holds.mean() > 0.5 else NO, "medians over the draws")


ENTRY = PaperEntry(
    name="fig3",
    title="The PLD loss over a slice of logit space at four temperatures of the teacher",
    source="arXiv 2506.12542, Fig. 3",
    compute=compute,
    settings={"classes": 10, "steps": 51, "span": 5.0, "seed": 0, "draws": 20},
    drawings=(Drawing("both", "surface", ("surface",)),),
    claims=(
        Claim(
            "a temperature of 2 or 1 makes little difference",
            "Fig. 3",
            "the slice's mean curvature changes by less than a tenth from 2 to 1, and by less than from 1 to .1, in"
            " most draws",
            _little,
        ),
        Claim(
            "below 1 a lower temperature flattens the convexity",
            "Fig. 3",
            "the slice's mean curvature falls from 1 to .5 to .1 in most draws",
            _flattens("curvature_mean"),
        ),
        Claim(
            "the same, read where teacher and student agree",
            "Fig. 3",
            "the mean curvature at the teacher's logits falls from 1 to .5 to .1 in most draws",
            _flattens("curvature_origin"),
        ),
    ),
    choices=(
        "number of classes: not stated; {classes}",
        "label: not stated; the teacher's argmax",
        "seed of teacher and directions: not stated; {seed} drawn, {draws} behind the findings",
        "grid: not stated; {steps} × {steps} over [-{span:g}, {span:g}]² in lengths of the teacher's logits t",
        "heights: each panel on its own scale",
    ),
)
