"""Measurements of a net or of its logits; each returns an xarray.Dataset that `kdviz.plots.draw` draws.

logits: `collect_logits`, `load_logits`.  sources: logits from files, arrays or streams, in checked chunks.
histogram: sizes of logits.  ranks: Kendall's tau and what it goes with.  suboptimal: where KL prefers the wrong class.
surfaces: losses over slices of logit space.  landscape: losses over slices of weight space.  audit: student and teacher
in depth.

>>> import kdviz
>>> callable(kdviz.analysis.ranks.tau)
True
"""

import importlib
from types import ModuleType

_MODULES = ("audit", "histogram", "landscape", "logits", "ranks", "sources", "suboptimal", "surfaces")


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(f"kdviz.analysis.{name}")
    raise AttributeError(f"module 'kdviz.analysis' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_MODULES]
