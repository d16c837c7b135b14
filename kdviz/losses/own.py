"""Losses of the user's own code: `package.module:function`."""

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor

from kdviz.base.check import KdvizError, require, unknown
from kdviz.losses.entry import LOSSES, Loss

TENSORS = ("logits_student", "logits_teacher", "target")
OWN: dict[str, Loss] = {}  # by the function's name, which is what results call the loss
FAULTS = (TypeError, ValueError, RuntimeError, LookupError, AttributeError, ArithmeticError)


def own_loss(name: str) -> Loss:
    """The loss that `package.module:function` computes; modules in the working folder are found too.

    The function takes some of logits_student, logits_teacher and target by position, and settings by keyword, each with
    a default; a mean over independent samples also takes reduction="mean" | "none". Its attributes `unit`, `long_name`
    and `title`, where it has them, name it in figures.

    Raises: KdvizError for a module that cannot be imported, a function that is not there, takes anything else, or has
        the name of another loss.
    """
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:  # the console script starts without it, `python -m kdviz` with it
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's module raises
        said = (str(error).splitlines() or [""])[0]
        raise KdvizError(f"{name}: cannot import {module_name} ({type(error).__name__}: {said})") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise unknown(f"function in {module_name}:", attribute, _public(module))
    known = LOSSES.get(attribute)
    if known is not None and known.function is function:  # registered by its module's own @loss
        return known
    require(known is None, f"{name}: kdviz has a loss called {attribute}; give yours another name")
    held = OWN.get(attribute)
    earlier = None if held is None else inspect.unwrap(held.function)
    other = earlier is not None and getattr(earlier, "__module__", None) != getattr(function, "__module__", None)
    require(not other, f"{name}: two of the losses are called {attribute}; give them different names")
    if held is None or earlier is not function:  # the first time, or reloaded
        _check_signature(name, function)
        title = str(getattr(function, "title", attribute))
        held = OWN[attribute] = Loss(
            attribute,
            _checked(name, function),
            str(getattr(function, "unit", "1")),
            str(getattr(function, "long_name", attribute.replace("_", " "))),
            title,
        )
    return held


def _public(module: Any) -> list[str]:
    return [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]


def _check_signature(name: str, function: Callable) -> None:
    expected = "expected (logits_student, logits_teacher, target) or some of them, then settings after *"
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise KdvizError(f"{name}: its arguments cannot be read; {expected}") from error
    tensors = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    others = [one for one in parameters if one.name not in tensors]
    settings = all(one.kind is one.KEYWORD_ONLY and one.default is not one.empty for one in others)
    good = tensors and settings and all(one in TENSORS for one in tensors) and "logits_student" in tensors
    require(good, f"{name}: takes {inspect.signature(function)}; {expected}, each with a default")


def _checked(name: str, function: Callable[..., Any]) -> Callable[..., Tensor]:
    """The function, whose failures are named as its own and whose value is checked."""

    @functools.wraps(function)
    def loss(**given: Any) -> Tensor:
        logits = given["logits_student"]
        try:
            value = function(**given)
        except FAULTS as error:
            said = (str(error).splitlines() or [""])[0]
            where = f"on logits {tuple(logits.shape)}"
            raise KdvizError(f"{name}: failed {where} with {type(error).__name__}: {said}") from error
        shape = logits.shape[:1] if given.get("reduction") == "none" else ()
        good = isinstance(value, Tensor) and value.shape == shape and value.is_floating_point()
        came = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        require(good, f"{name}: must return a real tensor of shape {tuple(shape)}, got {came}")
        return value

    return loss
