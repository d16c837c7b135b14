"""Does a student know what its teacher knows, and what did it lose? Each part of the answer is one function.

Of logits: `fidelity`, `calibration`, `cells`, `rank_confusion`, `margins`, `class_correlation`, `temperatures`,
`samples`. Of nets and images: `cka`, `embeddings`. Every number has an interval and stands beside two
controls, a student that was trained without a teacher and a random teacher (`Opened` says which, and why).
"""

from kdviz.analysis.audit.calibration import calibration
from kdviz.analysis.audit.cells import cells
from kdviz.analysis.audit.cka import cka, unbiased_hsic
from kdviz.analysis.audit.confusion import rank_confusion
from kdviz.analysis.audit.correlation import class_correlation
from kdviz.analysis.audit.embeddings import embeddings
from kdviz.analysis.audit.fidelity import fidelity
from kdviz.analysis.audit.margins import margins
from kdviz.analysis.audit.opened import Opened, open_audit
from kdviz.analysis.audit.parts import PARTS, Nets, Part, choose, measure
from kdviz.analysis.audit.samples import samples
from kdviz.analysis.audit.temperature import temperatures

__all__ = [
    "PARTS",
    "Nets",
    "Opened",
    "Part",
    "calibration",
    "cells",
    "choose",
    "cka",
    "class_correlation",
    "embeddings",
    "fidelity",
    "margins",
    "measure",
    "open_audit",
    "rank_confusion",
    "samples",
    "temperatures",
    "unbiased_hsic",
]
