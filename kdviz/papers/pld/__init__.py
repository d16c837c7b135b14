"""PLD: Bassam et al., Plackett-Luce distillation (arXiv 2506.12542, NeurIPS 2025)."""

from kdviz.base.registry import Registry
from kdviz.papers.entry import PaperEntry, PaperRecord
from kdviz.papers.pld import fig1, fig2, fig3, fig4, tables

PAPER = PaperRecord(
    name="pld",
    title="PLD: A Choice-Theoretic List-Wise Knowledge Distillation",
    cite="bassam2025pld",
    entries=Registry[PaperEntry]("figure or table of pld"),
)
for _entry in (fig1.FIG1A, fig1.FIG1B, fig2.ENTRY, fig3.ENTRY, fig4.ENTRY, *tables.ENTRIES):
    PAPER.entries.add(_entry.name, _entry)
