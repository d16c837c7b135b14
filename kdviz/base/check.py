"""Errors of one line: who, what was expected, what came, the likely next step."""

import os
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any


class KdvizError(ValueError):
    """Bad input, described in one line; the command line prints it and exits with 1."""

    def __init__(self, message: object) -> None:
        super().__init__(one_line(str(message)))


def one_line(text: str) -> str:
    r"""`text` without control characters, which a file could use to write over the terminal: line ends become spaces.

    >>> one_line("a\n  b\x1b[2J" + chr(0xD800))
    'a b\\x1b[2J\\ud800'
    """
    if text.isprintable():
        return text
    joined = " ".join(line.strip() for line in text.splitlines())
    return "".join(
        char if char.isprintable() or unicodedata.category(char) == "Zs" else char.encode("unicode_escape").decode()
        for char in joined
    )


def require(condition: object, message: str) -> None:
    """Raise KdvizError(message) unless condition holds."""
    if not condition:
        raise KdvizError(message)


def unknown(kind: str, name: object, known: Iterable[str], *, most: int | None = None) -> KdvizError:
    """The error for a name that nobody has registered, with a close match.

    Args:
        kind: what it should be the name of.
        name: the name.
        known: all names that would do.
        most: of a long list, how many of the closest are named instead of all.

    >>> print(unknown("loss", "kdd", ["kd", "dkd", "ce"]))
    unknown loss 'kdd'; did you mean 'kd'? known: ce, dkd, kd
    """
    names = sorted(known)
    lowered = {candidate.lower(): candidate for candidate in names}
    close = get_close_matches(str(name).lower(), lowered, n=most or 1, cutoff=0.5)
    hint = f"; did you mean '{lowered[close[0]]}'?" if close else ";"
    if most is not None and len(names) > most:
        others = ", ".join(lowered[one] for one in close[1:])
        return KdvizError(
            f"unknown {kind} {str(name)!r}{hint} {f'close to it: {others}; ' if others else ''}{len(names):,} are known"
        )
    return KdvizError(f"unknown {kind} {str(name)!r}{hint} known: {', '.join(names) or 'none'}")


def same_shape(who: str, **arrays: Any) -> None:
    """Refuse arrays of different shapes; the message names the first array and the first that differs from it.

    >>> import numpy as np
    >>> same_shape("kd", logits_student=np.zeros((2, 3)), logits_teacher=np.zeros((2, 4)))
    Traceback (most recent call last):
    kdviz.base.check.KdvizError: kd: logits_student is (2, 3) but logits_teacher is (2, 4); were they trained on
    different data sets?
    """
    (first, a), *rest = arrays.items()
    for name, b in rest:
        if tuple(a.shape) != tuple(b.shape):
            raise KdvizError(
                f"{who}: {first} is {tuple(a.shape)} but {name} is {tuple(b.shape)};"
                " were they trained on different data sets?"
            )


def positive(who: str, **values: float) -> None:
    """Refuse settings that are not finite numbers above 0, by name.

    >>> positive("kd", temperature=0.0)
    Traceback (most recent call last):
    kdviz.base.check.KdvizError: kd: temperature must be a finite number above 0, got 0.0
    """
    for name, value in values.items():
        require(0 < value < float("inf"), f"{who}: {name} must be a finite number above 0, got {value}")


def one_of(who: str, known: Iterable[object], **values: object) -> None:
    """Refuse a setting outside its list of choices, by name."""
    choices = list(known)
    for name, value in values.items():
        require(value in choices, f"{who}: {name} must be one of {', '.join(map(str, choices))}, got {value!r}")


def existing(path: str | os.PathLike, *, what: str = "file") -> Path:
    """`path`, or KdvizError when there is nothing there."""
    found = Path(path)
    require(found.exists(), f"{what} not found: {found}")
    return found
