"""How far a plane around a net reaches, measured so that nets of different width compare.

A filter-normalised direction is as long as the weights, and a wider net has more of them: the same span is another
distance and, through the net, another change of the loss.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from kdviz.analysis.landscape.sweep import Weights
from kdviz.base.check import require

FIRST, GROWTH, FURTHEST = 0.02, 1.5, 100.0  # lengths of the directions between which the loss' rise is looked for
DIGITS = 3  # of the reach, so that rounding on another machine does not change it


def length(direction: Weights) -> float:
    """The Euclidean length of a direction over all weights."""
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in direction.values()))


def reach_of_loss(
    value: Callable[[dict[str, torch.Tensor]], float], weights: Weights, directions: Sequence[Weights], *, rise: float
) -> float:
    """How far along the directions a loss has risen by a share of itself, on average over both ways of each.

        the least s with  mean over directions d and signs of L(w +- s d) = (1 + rise) L(w)

    Args:
        value: weights -> loss, above 0 at `weights`; where it is not finite it counts as risen.
        weights: the net.
        directions: one or two.
        rise: relative, above 0; 1 is twice the loss.
    Returns:
        s in lengths of the directions, to three digits.
    Raises:
        KdvizError: a loss that is not above 0 at the weights, or has not risen that far at 100 lengths.
    Source: ours.

    >>> bowl = lambda at: 2 + float(at["x"].square().sum())
    >>> reach_of_loss(bowl, {"x": torch.zeros(2)}, [{"x": torch.tensor([0.5, 0.0])}], rise=1.0)
    2.83
    """
    from scipy.optimize import brentq

    centre = value({name: tensor.clone() for name, tensor in weights.items()})
    require(0 < centre < math.inf, f"landscape: the loss at the net is {centre:.3g}, which has no relative rise;"
            " choose span_by 'distance'")  # fmt: skip

    def missing(share: float) -> float:
        """The rise that is left, as a share of the loss at the net."""
        total = 0.0
        for direction in directions:
            for sign in (share, -share):
                placed = {name: tensor.add(direction[name], alpha=sign) if name in direction else tensor
                          for name, tensor in weights.items()}  # fmt: skip
                total += value(placed) / (2 * len(directions))
        return min(total / centre - 1 - rise, 1e6) if math.isfinite(total) else 1e6

    low, high = 0.0, FIRST
    while missing(high) < 0:
        low, high = high, high * GROWTH
        require(high < FURTHEST, f"landscape: the loss has not risen by {rise:.0%} at {low:.3g} lengths of the"
                " directions; choose a smaller span")  # fmt: skip
    found = brentq(missing, low, high, xtol=1e-4 * high)
    return float(f"{float(found):.{DIGITS}g}")  # pyright: ignore[reportArgumentType]


def unit_of(facts: dict[str, Any]) -> str:
    """What 1 is on the axes of a landscape with these attributes."""
    if facts.get("span_by") == "loss":
        return f"distance to +{facts['span']:.0%} loss".replace("%", " %")
    measured = facts.get("span_by") == "distance" or facts["normalize"] == "hessian"
    return "distance in weight space" if measured else "length of the direction"


def said(facts: dict[str, Any]) -> str:
    """What a caption says of the span, nothing where it is in lengths of the directions."""
    by = facts.get("span_by", "direction")
    if by == "loss":
        rise = f"{facts['span']:.0%}".replace("%", " %")
        return f", to where {facts['losses'].split()[0]} has risen by {rise}"
    return f", to a distance of {facts['span']:g} in weight space" if by == "distance" else ""
