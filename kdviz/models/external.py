"""Nets from outside: `timm:NAME`, `torchvision:NAME`, `package.module:function` or `:Class.method`."""

import ast
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

from torch import nn

from kdviz.base.check import KdvizError, require, unknown

_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def is_external(name: str) -> bool:
    """Whether a model's name is that of another library or of the user's own code."""
    return ":" in name


def build_external(name: str, classes: int, *, drop_path: float = 0.0) -> nn.Module:
    """A net of another library, or the user's own.

    Args:
        name: "timm:NAME", "torchvision:NAME", or "package.module:function" for a function, a class or a method of one
            ("package.module:Class.from_name") that is called with `classes`, `num_classes` or, having neither argument,
            with the number of classes alone; modules in the working folder are found too. Arguments before it may stand
            in parentheses: "efficientnet_pytorch:EfficientNet.from_name('efficientnet-b0')", literals alone.
        classes: number of classes.
        drop_path: of the last block; timm's `drop_path_rate`, an own function's argument `drop_path`.

    Raises: KdvizError where the library is not installed or does not know the name, or no net is returned.
    """
    library, _, net = name.partition(":")
    require(
        library and net, f"{name!r} names no model; expected timm:NAME, torchvision:NAME or package.module:function"
    )
    make = {"timm": _timm, "torchvision": _torchvision}.get(library, _own)
    model = make(library, net, classes, drop_path)
    require(isinstance(model, nn.Module), f"{name}: returned a {type(model).__name__}; expected a torch.nn.Module")
    return model


def _library(name: str) -> ModuleType:
    # torchvision built for another torch raises RuntimeError ("operator ... does not exist"), not ImportError
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == name
        reason = "is not installed" if missing else f"cannot be imported ({_line(error)})"
        raise KdvizError(f"{name} {reason}; install one that fits your torch: pip install {name}") from error


def _timm(library: str, net: str, classes: int, drop_path: float) -> nn.Module:
    timm = _library(library)
    if not _NAME.fullmatch(net) or not timm.is_model(net.split(".")[0]):  # hf-hub:... would be downloaded
        raise unknown("timm model", net, timm.list_models(), most=5)
    settings = {"drop_path_rate": drop_path} if drop_path else {}  # nets without it do not know the argument
    return _called(lambda: timm.create_model(net, pretrained=False, num_classes=classes, **settings), f"timm:{net}")


def _torchvision(library: str, net: str, classes: int, drop_path: float) -> nn.Module:
    require(not drop_path, f"torchvision:{net}: its drop-path cannot be set by name; use timm:NAME, or leave it at 0")
    models = _library(library).models
    classifiers = models.list_models(models)  # the others download their backbone's weights
    if net not in classifiers:
        raise unknown("torchvision model", net, classifiers, most=5)
    return _called(lambda: models.get_model(net, weights=None, num_classes=classes), f"torchvision:{net}")


def _own(library: str, net: str, classes: int, drop_path: float) -> Any:
    if os.getcwd() not in sys.path:  # the console script starts without it, `python -m kdviz` with it
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(library)
    except (ImportError, RuntimeError) as error:
        raise KdvizError(f"{library}:{net}: cannot import {library} ({_line(error)})") from error
    path, given = _call(f"{library}:{net}", net)
    make: Any = module
    found = make
    for step in path.split("."):
        found, make = make, getattr(make, step, None)
        if make is None:
            raise unknown(f"name in {library}:", step, (key for key in vars(found) if not key.startswith("_")))
    require(callable(make), f"{library}:{path} is a {type(make).__name__}; expected a function, a class or its method")
    taken = _arguments(make)
    keyword = next((key for key in ("classes", "num_classes") if key in taken), None)
    if keyword is None and given and any(kind is inspect.Parameter.VAR_KEYWORD for kind in taken.values()):
        keyword = "num_classes"  # given the name of a net, functions take the rest as keywords
    settings = {"drop_path": drop_path} if drop_path else {}
    places = sum(
        kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in taken.values()
    )
    full = bool(given) and places <= len(given)  # the literals say all, as in Net.from_name('small')
    arguments = given if keyword or full else (*given, classes)
    named = {keyword: classes} if keyword else {}
    return _called(lambda: make(*arguments, **named, **settings), f"{library}:{net}")


def _call(name: str, net: str) -> tuple[str, tuple[Any, ...]]:
    """The dotted path and the literal arguments of "Class.method" or "Class.method('literal', 2)"."""
    path, opening, _ = net.partition("(")
    if not opening:
        return net, ()
    try:
        call = ast.parse(net, mode="eval").body
        require(isinstance(call, ast.Call) and not call.keywords, f"{name}: expected function(literal, ...)")
        return path, tuple(ast.literal_eval(argument) for argument in cast(ast.Call, call).args)
    except (SyntaxError, ValueError) as error:
        raise KdvizError(f"{name}: expected function('text', 2) with literals alone ({_line(error)})") from error


def takes_drop_path(make: Callable) -> bool:
    """Whether a net's constructor has the argument `drop_path`."""
    return "drop_path" in _arguments(make)


def _arguments(function: Callable) -> dict[str, Any]:
    """The kinds of a function's arguments by name; {} where it does not say."""
    try:
        return {name: one.kind for name, one in inspect.signature(function).parameters.items()}
    except (TypeError, ValueError):
        return {}


def _called(make: Callable[[], Any], name: str) -> Any:
    try:
        return make()
    except (TypeError, ValueError, RuntimeError) as error:
        raise KdvizError(f"{name}: cannot be built ({_line(error)})") from error


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
