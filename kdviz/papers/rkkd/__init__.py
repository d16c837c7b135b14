"""RKKD: Guan et al., Kendall's tau ranking loss (arXiv 2409.17823, ICML 2025)."""

from kdviz.base.registry import Registry
from kdviz.papers.entry import PaperEntry, PaperRecord
from kdviz.papers.rkkd import fig1, fig2, fig3, fig4, tables

PAPER = PaperRecord(
    name="rkkd",
    title="Kendall's tau Coefficient for Logits Distillation",
    cite="guan2025enhancing",
    entries=Registry[PaperEntry]("figure or table of rkkd"),
)
for _entry in (fig1.ENTRY, fig2.ENTRY, fig3.ENTRY, fig4.ENTRY, *tables.ENTRIES):
    PAPER.entries.add(_entry.name, _entry)
