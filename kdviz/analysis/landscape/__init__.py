"""Loss landscapes in weight space: any number of losses over a line or a plane through a trained net."""

from kdviz.analysis.landscape.directions import random_direction, random_pair
from kdviz.analysis.landscape.sweep import assemble, axis, sweep

__all__ = ["assemble", "axis", "random_direction", "random_pair", "sweep"]
