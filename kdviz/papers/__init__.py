"""Every figure and table of the two papers, declared: inputs, computation, caption, claims, published numbers."""

from kdviz.base.registry import Registry
from kdviz.papers import pld, rkkd
from kdviz.papers.entry import Claim, Drawing, Inputs, Measured, PaperEntry, PaperRecord, findings
from kdviz.papers.produce import produce

PAPERS: Registry[PaperRecord] = Registry("paper")
for _paper in (rkkd.PAPER, pld.PAPER):
    PAPERS.add(_paper.name, _paper)

__all__ = ["PAPERS", "Claim", "Drawing", "Inputs", "Measured", "PaperEntry", "PaperRecord", "findings", "produce"]
