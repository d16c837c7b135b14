"""Numbers about logits: how alike two rankings are, how often a net is right and how honest its confidence is."""

from kdviz.metrics.agreement import agreement, spearman, top1, topk_overlap
from kdviz.metrics.calibration import ece
from kdviz.metrics.kendall import kendall_tau, kendall_taus

__all__ = ["agreement", "ece", "kendall_tau", "kendall_taus", "spearman", "top1", "topk_overlap"]
