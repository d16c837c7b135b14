"""PLD Fig. 2: KD, DIST and PLD on ImageNet, (a) within a family of nets, (b) from five teachers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kdviz.papers.accuracies import CHOICE, Get, panels, rows_of
from kdviz.papers.entry import Claim, Drawing, Inputs, PaperEntry, Results
from kdviz.papers.gains import above

if TYPE_CHECKING:
    import xarray as xr

ROWS = ("KD", "DIST", "PLD")
PAIRS = (("KD", "PLD"), ("DIST", "PLD"))


def _build(get: Get) -> dict[str, "xr.Dataset"]:
    found = {"tab2": rows_of(get("tab2"), ROWS, ""), "tab3": rows_of(get("tab3"), ROWS, "")}
    return {name: panel for name, panel in found.items() if panel is not None}


def compute(inputs: Inputs, _settings: Mapping[str, Any]) -> Results:
    """Results "printed_tab2", "printed_tab3" and, where `kdviz table` was run, "measured_tab2", "measured_tab3"."""
    return panels(inputs, "pld", "fig2", _build)


ENTRY = PaperEntry(
    name="fig2",
    title="KD, DIST and PLD (a) within a family of nets and (b) from five teachers to one student",
    source="arXiv 2506.12542, Fig. 2",
    compute=compute,
    tables=True,
    drawings=(Drawing("bars", "bars"),),
    claims=(
        Claim("consistent gains in pairs of one family", "Fig. 2a", "PLD is higher", above(*PAIRS, key="tab2")),
        Claim(
            "consistent gains over teachers of other families", "Fig. 2b", "PLD is higher", above(*PAIRS, key="tab3")
        ),
    ),
    choices=("the printed numbers are those of Tables 2 and 3", CHOICE),
)
