"""The numbers that a run is judged by, under the names that its metrics have, and what they are called."""

from collections.abc import Mapping
from typing import Any

CALLED = {"top1": "top-1", "ap": "AP", "ap50": "AP50", "ap75": "AP75"}
MAIN = ("top1", "ap")  # which number of a run stands for all: that of a classifier, that of a detector


def in_words(scores: Mapping[str, Any], measures: tuple[str, ...] = tuple(CALLED)) -> str:
    """The numbers among `scores`, fractions, that have a name.

    >>> in_words({"ap": 0.5851, "ap50": 0.9, "loss": 1.0})
    'AP 58.51%, AP50 90.00%'
    """
    return ", ".join(f"{CALLED[name]} {scores[name]:.2%}" for name in measures if name in scores)


def main_measure(scores: Mapping[str, Any]) -> str:
    """The measure that stands for the run; top-1 where there is none.

    >>> main_measure({"ap": 0.5851, "ap50": 0.9}), main_measure({})
    ('ap', 'top1')
    """
    return next((name for name in MAIN if name in scores), MAIN[0])
