"""PLD Fig. 1: accuracy against the weight of cross-entropy (a), and after a short and a long training (b)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kdviz.papers.accuracies import CHOICE, Get, panels, rows_of
from kdviz.papers.entry import Claim, Drawing, Inputs, PaperEntry, Results
from kdviz.papers.gains import above, peak

if TYPE_CHECKING:
    import xarray as xr


def _weights(get: Get) -> dict[str, "xr.Dataset"]:
    """Table 8, and PLD's value of Table 6 beside it, which has no such weight."""
    import xarray as xr

    panel = rows_of(get("tab8"), ("KD", "DIST"), "weight of cross-entropy")
    if panel is None:
        return {}
    table6, attrs = get("tab6"), panel.attrs
    if table6 is not None:
        pld = table6.sel(row=["PLD T 1"], column="top-1").drop_vars("column").assign_coords(row=["PLD"])
        same = pld.expand_dims(column=panel["column"].values, axis=1)
        panel = xr.concat([panel, same.transpose("row", "column", ...)], "row", join="outer", coords="minimal")
    return {"tab8": panel.assign_attrs(attrs, constant="PLD")}


def _lengths(get: Get) -> dict[str, "xr.Dataset"]:
    panel = rows_of(get("tab4"), ("CE", "KD", "DIST", "PLD"), "length of training")
    return {} if panel is None else {"tab4": panel}


def compute_a(inputs: Inputs, _settings: Mapping[str, Any]) -> Results:
    """Results "printed_tab8" and, where `kdviz table pld tab8` was run, "measured_tab8"."""
    return panels(inputs, "pld", "fig1a", _weights)


def compute_b(inputs: Inputs, _settings: Mapping[str, Any]) -> Results:
    """Results "printed_tab4" and, where `kdviz table pld tab4` was run, "measured_tab4"."""
    return panels(inputs, "pld", "fig1b", _lengths)


FIG1A = PaperEntry(
    name="fig1a",
    title="Accuracy against the weight of cross-entropy in KD and DIST, and PLD, which has no such weight",
    source="arXiv 2506.12542, Fig. 1a",
    compute=compute_a,
    tables=True,
    drawings=(Drawing("lines", "weights"),),
    claims=(
        Claim(
            "KD and DIST both do best with a cross-entropy weight near .1 and lose with more",
            "Fig. 1a",
            "the weight of the highest accuracy is .1 for both",
            peak(("KD", "DIST"), expected="0.1", key="tab8"),
        ),
        Claim(
            "PLD is above KD and DIST under every weight",
            "Fig. 1a",
            "weights under which PLD is higher",
            above(("KD", "PLD"), ("DIST", "PLD"), key="tab8"),
        ),
    ),
    choices=("the printed numbers are Table 8's, PLD's line is Table 6's at temperature 1", CHOICE),
)
FIG1B = PaperEntry(
    name="fig1b",
    title="Accuracy after a short and a long training",
    source="arXiv 2506.12542, Fig. 1b",
    compute=compute_b,
    tables=True,
    drawings=(Drawing("bars", "epochs"),),
    claims=(
        Claim(
            "the gain over KD and DIST stays under longer training",
            "Fig. 1b",
            "lengths of training at which PLD is higher",
            above(("KD", "PLD"), ("DIST", "PLD"), ("CE", "PLD"), key="tab4"),
        ),
    ),
    choices=("the printed numbers are Table 4's", CHOICE),
)
