"""RKKD Fig. 4: accuracy against the share of channels that the ranking loss compares, from the top and from below."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kdviz.base.statistics import NO, YES, told
from kdviz.papers.accuracies import CHOICE, Get, panels
from kdviz.papers.entry import OPEN, Claim, Drawing, Inputs, Measured, PaperEntry, Results
from kdviz.papers.gains import by_seed

if TYPE_CHECKING:
    import xarray as xr

SHARES = ("0", "10", "30", "50", "100")
NAMES = {"top k": "top", "min k": "min"}  # row of a panel -> how the table's rows begin


def _build(get: Get) -> dict[str, "xr.Dataset"]:
    """A panel per pair of nets: rows top k and min k, columns the shares in per cent."""
    import xarray as xr

    table = get("fig4")
    if table is None:
        return {}
    ends = {"0": "KD", "100": "KD+RKKD"}
    found = {}
    for place, pair in enumerate(table["column"].values):
        at = table.sel(column=pair)
        rows = [[ends.get(share, f"{name} {share} %") for share in SHARES] for name in NAMES.values()]
        panel = at.drop_vars("column").sel(row=xr.DataArray(rows, dims=("way", "column"))).drop_vars("row")
        panel = panel.rename(way="row").assign_coords(row=list(NAMES), column=list(SHARES))
        title = f"{table.attrs['title']}, {pair}"
        found[f"pair{place + 1}"] = panel.assign_attrs(table.attrs, xlabel="share of channels, %", title=title)
    return found


def compute(inputs: Inputs, _settings: Mapping[str, Any]) -> Results:
    """Results "measured_pair1", ...: a panel per pair of nets that `kdviz table rkkd fig4` has measured."""
    return panels(inputs, "rkkd", "fig4", _build)


def _whole(results: Results) -> Measured:
    """All channels against each smaller share, and against none, in every pair."""
    values, gaps = {}, []
    for name in results:
        key = name.removeprefix("measured_")
        table = by_seed(results, key)
        if table is None:
            continue
        for row in NAMES:
            means = table.sel(row=row).mean("seed")
            values |= {f"{key}, {row}, {share} %": round(float(means.sel(column=share)), 2) for share in SHARES}
            whole = table.sel(row=row, column="100")
            gaps += [(whole - table.sel(row=row, column=share)).dropna("seed").to_numpy() for share in SHARES[:-1]]
    verdict = told([one for one in gaps if len(one)])
    agrees = verdict if verdict in (YES, NO) else OPEN
    return Measured(values, agrees, "the paper draws these numbers and prints none", verdict)


ENTRY = PaperEntry(
    name="fig4",
    title="Accuracy against the share of channels that the ranking loss compares, the largest (top k) or the smallest"
    " (min k) ones",
    source="arXiv 2409.17823, Fig. 4",
    compute=compute,
    tables=True,
    drawings=(Drawing("lines", "shares"),),
    claims=(
        Claim(
            "comparing all channels does better than comparing a part of them",
            "Fig. 4",
            "all channels are above every smaller share, top or min, in every pair",
            _whole,
        ),
    ),
    choices=(
        "pairs: not named; those of Tables 7 and 8",
        "which channels are top and which min: not stated; by the teacher's ranking",
        "0 % is KD alone, 100 % is KD with the whole ranking loss",
        CHOICE,
    ),
)
