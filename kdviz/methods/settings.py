"""Settings of terms: typed values, checked against the annotations of the function that takes them."""

import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from kdviz.base.check import KdvizError, require

Setting = bool | int | float | str | None | tuple["Setting", ...]
INTERNAL = ("reduction",)


@cache
def signature(function: Callable[..., Any]) -> Mapping[str, tuple[Any, Any]]:
    """Keyword-only settings of a loss or of a term's constructor: name -> (annotation, default).

    >>> def mine(logits_student, *, temperature: float = 4.0): ...
    >>> signature(mine)
    {'temperature': (<class 'float'>, 4.0)}
    """
    hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    return {
        entry.name: (hints.get(entry.name, Any), entry.default)
        for entry in inspect.signature(function).parameters.values()
        if entry.kind is entry.KEYWORD_ONLY and entry.name not in INTERNAL
    }


def checked(key: str, value: Any, annotation: Any) -> Any:
    """`value` as the type that `annotation` names; lists become tuples, whole numbers floats where floats are due.

    Args:
        key: the setting's full name, for the message; a ".temperature" may be several numbers.
        value: from TOML, JSON, Python or the command line, where "none" stands for None.
        annotation: of the parameter that takes it.

    Raises: KdvizError that says what was expected.

    >>> checked("rank_kendall.channels", ["top", 0.3], tuple[str, float] | None)
    ('top', 0.3)
    >>> checked("kd.temperature", [2, 4], float)
    (2.0, 4.0)
    """
    several = key.endswith(".temperature") and isinstance(value, list | tuple)
    wanted = tuple[annotation, ...] if several else annotation
    if value == "none" and type(None) in get_args(annotation):
        return None
    try:
        return TypeAdapter(wanted).validate_json(json.dumps(value), strict=True)
    except (ValidationError, TypeError, ValueError) as error:
        hint = ", or several as in 2,3,4" if key.endswith(".temperature") else ""
        raise KdvizError(f"{key} must be {described(annotation)}{hint}, got {value!r}") from error


def as_text(value: Any) -> str:
    """A setting as `--set` takes it: a list with commas, true, false and none in small letters.

    >>> as_text(("top", 0.3)), as_text(True)
    ('top,0.3', 'true')
    """
    if isinstance(value, list | tuple):
        return ",".join(map(as_text, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def described(annotation: Any) -> str:
    """A type in words, for a message.

    >>> described(bool), described(Literal["top", "min"]), described(tuple[str, float] | None)
    ('true or false', 'one of top, min', 'a list of text and a number, or none')
    """
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "none"}
    if annotation in words:
        return words[annotation]
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(map(str, get_args(annotation)))}"
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return ", or ".join(described(one) for one in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"a list of {' and '.join(described(one) for one in get_args(annotation) if one is not Ellipsis)}"
    return str(annotation)


def finite(key: str, value: Any) -> float:
    """A finite number, not negative where it is a weight or a warm-up."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    require(good, f"{key} must be a finite number, got {value!r}")
    if key.endswith((".weight", ".warmup")):
        require(value >= 0, f"{key} must not be negative, got {value}")
    return float(value)
