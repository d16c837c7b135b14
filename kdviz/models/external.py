"""Nets from outside: `timm:NAME`, `torchvision:NAME`, `package.module:function`."""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import nn

from kdviz.base.check import KdvizError, require, unknown

_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def is_external(name: str) -> bool:
    """Whether a model's name is that of another library or of the user's own code."""
    return ":" in name


def build_external(name: str, classes: int, *, drop_path: float = 0.0) -> nn.Module:
    """A net of another library, or the user's own.

    Args:
        name: "timm:NAME", "torchvision:NAME", or "package.module:function" for a function or class that is called with
            `classes`, `num_classes` or, having neither argument, with the number of classes alone; modules in the
            working folder are found too.
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
        raise unknown("timm model", net, timm.list_models())
    settings = {"drop_path_rate": drop_path} if drop_path else {}  # nets without it do not know the argument
    return _called(lambda: timm.create_model(net, pretrained=False, num_classes=classes, **settings), f"timm:{net}")


def _torchvision(library: str, net: str, classes: int, drop_path: float) -> nn.Module:
    require(not drop_path, f"torchvision:{net}: its drop-path cannot be set by name; use timm:NAME, or leave it at 0")
    models = _library(library).models
    classifiers = models.list_models(models)  # the others download their backbone's weights
    if net not in classifiers:
        raise unknown("torchvision model", net, classifiers)
    return _called(lambda: models.get_model(net, weights=None, num_classes=classes), f"torchvision:{net}")


def _own(library: str, net: str, classes: int, drop_path: float) -> Any:
    if os.getcwd() not in sys.path:  # the console script starts without it, `python -m kdviz` with it
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(library)
    except (ImportError, RuntimeError) as error:
        raise KdvizError(f"{library}:{net}: cannot import {library} ({_line(error)})") from error
    make = getattr(module, net, None)
    if not callable(make):
        raise unknown(f"function in {library}:", net, (key for key in vars(module) if not key.startswith("_")))
    keyword = next((key for key in ("classes", "num_classes") if key in _arguments(make)), None)
    settings = {"drop_path": drop_path} if drop_path else {}
    arguments = () if keyword else (classes,)
    named = {keyword: classes} if keyword else {}
    return _called(lambda: make(*arguments, **named, **settings), f"{library}:{net}")


def takes_drop_path(make: Callable) -> bool:
    """Whether a net's constructor has the argument `drop_path`."""
    return "drop_path" in _arguments(make)


def _arguments(function: Callable) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []


def _called(make: Callable[[], Any], name: str) -> Any:
    try:
        return make()
    except (TypeError, ValueError, RuntimeError) as error:
        raise KdvizError(f"{name}: cannot be built ({_line(error)})") from error


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
