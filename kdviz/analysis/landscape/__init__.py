"""Loss landscapes in weight space: any number of losses over a line or a plane through a trained net.

`landscape` does it in one call. Its parts: `Measurement` (what is measured) and `Grid` (where), `Evaluator` (weights ->
losses), directions and `sweep`. Between nets: `interpolation`, `plane`, `trajectory`; their numbers: `compare`; minima
and merge tree: `topology`.
"""

from kdviz.analysis.landscape.build import landscape, profiles, resumed, survey
from kdviz.analysis.landscape.describe import describe
from kdviz.analysis.landscape.directions import random_direction, random_pair
from kdviz.analysis.landscape.engines import choose_engine
from kdviz.analysis.landscape.evaluate import Evaluator
from kdviz.analysis.landscape.interop import export, from_metric
from kdviz.analysis.landscape.options import Grid, Measurement
from kdviz.analysis.landscape.sweep import assemble, axis, sweep
from kdviz.analysis.landscape.topology import topology, uncertainty

__all__ = [
    "Evaluator",
    "Grid",
    "Measurement",
    "assemble",
    "axis",
    "choose_engine",
    "describe",
    "export",
    "from_metric",
    "landscape",
    "profiles",
    "random_direction",
    "random_pair",
    "resumed",
    "survey",
    "sweep",
    "topology",
    "uncertainty",
]
