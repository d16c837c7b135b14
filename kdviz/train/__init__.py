"""The trainer: recipe + data -> checkpoint. Recipes load without torch; the loop loads when it is asked for."""

import importlib
from typing import TYPE_CHECKING, Any

from kdviz.train.recipe import Recipe, load_recipe, recipes

if TYPE_CHECKING:
    from kdviz.train.loop import train
    from kdviz.train.score import evaluate

__all__ = ["Recipe", "evaluate", "load_recipe", "recipes", "train"]

_LATE = {"evaluate": "kdviz.train.score", "train": "kdviz.train.loop"}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module 'kdviz.train' has no attribute {name!r}")
