"""What the trainer minimises: named sums of loss terms, some with weights of their own. Its modules fill METHODS.

>>> objective = build("kd+rk", classes=10)
>>> {key: value for key, value in objective.settings.items() if key.endswith("weight")}
{'ce.weight': 0.1, 'kd.weight': 0.9, 'rank_kendall.weight': 0.9}
"""

from kdviz.methods import crd, crld, declared, detection, fgfi, fitnet, fpn_fitnet, mlkd, ofd, reviewkd, vid  # noqa: F401
from kdviz.methods.batch import Batch, Scene
from kdviz.methods.build import build, canonical, settings_in_force
from kdviz.methods.method import METHODS, Method, Term
from kdviz.methods.objective import Objective
from kdviz.methods.term import LossTerm, Probe

__all__ = [
    "METHODS",
    "Batch",
    "LossTerm",
    "Method",
    "Objective",
    "Probe",
    "Scene",
    "Term",
    "build",
    "canonical",
    "settings_in_force",
]
