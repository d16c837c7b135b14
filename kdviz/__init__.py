"""See what a distilled student learnt from its teacher.

The public names are loaded on first use, so that `import kdviz` and `kdviz --help` never wait for torch.

>>> import kdviz
>>> "landscape" in dir(kdviz)
True
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdviz import analysis, checkpoints, data, losses, methods, metrics, models, plots, train
    from kdviz.analysis.landscape import landscape
    from kdviz.analysis.logits import collect_logits
    from kdviz.base.check import KdvizError
    from kdviz.checkpoints import load_checkpoint
    from kdviz.data import load_data
    from kdviz.viewer import view

__version__ = "0.1.0"

_NAMES = {
    "KdvizError": "kdviz.base.check",
    "collect_logits": "kdviz.analysis.logits",
    "landscape": "kdviz.analysis.landscape",
    "load_checkpoint": "kdviz.checkpoints",
    "load_data": "kdviz.data",
    "view": "kdviz.viewer",
}
_MODULES = ("analysis", "checkpoints", "data", "losses", "methods", "metrics", "models", "plots", "train")

__all__ = [
    "KdvizError",
    "analysis",
    "checkpoints",
    "collect_logits",
    "data",
    "landscape",
    "load_checkpoint",
    "load_data",
    "losses",
    "methods",
    "metrics",
    "models",
    "plots",
    "train",
    "view",
]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"kdviz.{name}")
    raise AttributeError(f"module 'kdviz' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
