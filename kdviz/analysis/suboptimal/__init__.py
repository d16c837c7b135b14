"""Where a smaller KL has the wrong class: the toy case, the three-class maps, descent, and cases in real logits."""

from kdviz.analysis.suboptimal.angles import gradients
from kdviz.analysis.suboptimal.criteria import CriteriaSettings, criteria
from kdviz.analysis.suboptimal.descent import descent
from kdviz.analysis.suboptimal.duels import mine_students
from kdviz.analysis.suboptimal.mining import mine_samples
from kdviz.analysis.suboptimal.ternary import ternary
from kdviz.analysis.suboptimal.toy import toy

__all__ = ["CriteriaSettings", "criteria", "descent", "gradients", "mine_samples", "mine_students", "ternary", "toy"]
