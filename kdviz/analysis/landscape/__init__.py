"""Loss landscapes in weight space: any number of losses over a line or a plane through a trained net.

`landscape` does it in one call; `Evaluator` (weights -> losses), directions and `sweep` are its parts.
"""

from kdviz.analysis.landscape.build import describe, landscape, profiles, remembered, survey
from kdviz.analysis.landscape.directions import random_direction, random_pair
from kdviz.analysis.landscape.evaluate import Evaluator
from kdviz.analysis.landscape.interop import export, from_metric
from kdviz.analysis.landscape.sweep import assemble, axis, sweep

__all__ = [
    "Evaluator",
    "assemble",
    "axis",
    "describe",
    "export",
    "from_metric",
    "landscape",
    "profiles",
    "random_direction",
    "random_pair",
    "remembered",
    "survey",
    "sweep",
]
