"""Figures of accuracy tables: printed and measured panels, and what the readings make of measured numbers."""

import numpy as np
import pytest
import xarray as xr

from kdviz import plots
from kdviz.base.check import KdvizError
from kdviz.base.files import read_dataset, write_dataset
from kdviz.base.statistics import told
from kdviz.papers import PAPERS, Inputs, findings, published
from kdviz.papers.accuracies import NothingMeasured
from kdviz.tables.published import from_paper

PLD, RKKD = PAPERS["pld"].entries, PAPERS["rkkd"].entries


def write(folder, paper, name, value):
    """A measured table at small scale: `value(row, column, seed)` in per cent."""
    table = from_paper(paper, name, scale="small")
    found = np.array(
        [[[value(row, column, seed) for seed in range(3)] for column in table.columns] for row in table.rows]
    )
    dims, shape = ("row", "column"), found.shape[:2]
    empty = {key: (dims, np.full(shape, np.nan)) for key in ("published", "gain", "low", "high", "t_low", "t_high")}
    measured = {"measured": (dims, found.mean(-1)), "std": (dims, found.std(-1, ddof=1))}
    rest = {
        "last_by_seed": ((*dims, "seed"), found),
        "clear": (dims, np.zeros(shape)),
        "base": ("row", [""] * shape[0]),
    }
    coords = {"row": list(table.rows), "column": list(table.columns), "seed": [0, 1, 2]}
    attrs = {"kind": "table", "scale": "small", "title": table.title, "metric": table.metric, "data": "glyphs100"}
    result = xr.Dataset({**empty, **measured, **rest}, coords, {**attrs, "note": table.note})
    return write_dataset(result, folder / table.name / "table.nc")


def test_printed_panels_hold_the_papers_numbers():
    results = PLD["fig1a"].results(Inputs())
    assert list(results) == ["printed_tab8"]
    panel = results["printed_tab8"]["value"]
    assert float(panel.sel(row="DIST", column="0.3")) == 74.88
    assert set(panel.sel(row="PLD").to_numpy()) == {77.30}  # Table 6 at temperature 1
    both = PLD["fig2"].results(Inputs())
    assert float(both["printed_tab2"]["value"].sel(row="PLD", column="ViT-L > ViT-S")) == 75.63
    assert float(both["printed_tab3"]["value"].sel(row="PLD", column="ViT-L")) == 77.38
    assert float(PLD["fig1b"].results(Inputs())["printed_tab4"]["value"].sel(row="KD", column="300 epochs")) == 76.14


def test_measured_panels_stand_beside_them_with_their_spread(tmp_path):
    write(tmp_path, "pld", "tab8", lambda row, column, seed: 80 + 10 * float(column) + seed)
    write(tmp_path, "pld", "tab6", lambda row, column, seed: 70 if row == "PLD T 1" else 0)
    results = PLD["fig1a"].results(Inputs(tables=tmp_path))
    assert list(results) == ["printed_tab8", "measured_tab8"]
    panel = results["measured_tab8"]
    assert panel["value"].sel(row="KD", column="0.4").item() == pytest.approx(85)  # 84, 85, 86
    assert panel["std"].sel(row="KD", column="0.4").item() == pytest.approx(1)
    assert set(panel["value"].sel(row="PLD").to_numpy()) == {70}
    assert "small scale, glyphs100 (synthetic)" in panel.attrs["title"]
    first, second = plots.draw(list(results.values()), "lines").axes
    assert first.get_title(loc="left").replace("\n", " ").startswith("(a) printed")
    assert [line.get_markerfacecolor() for line in first.get_lines()[:2]] == ["white"] * 2
    shown = second.containers[0].lines[0]
    assert list(shown.get_xdata()) == pytest.approx(np.arange(10) / 10)
    assert list(shown.get_ydata()) == pytest.approx(81 + np.arange(10))
    ends = [segment[:, 1] for segment in second.containers[0].lines[2][0].get_segments()]
    assert np.allclose(np.diff(ends), 2)  # one standard deviation each way


def test_bars_stand_at_their_values_and_say_that_the_axis_is_cut(tmp_path):
    write(tmp_path, "pld", "tab4", lambda row, column, seed: {"CE": 60, "KD": 70, "DIST": 71, "PLD": 72}[row] + seed)
    results = PLD["fig1b"].results(Inputs(tables=tmp_path))
    first, second = plots.draw(list(results.values()), "bars").axes
    assert [bar.get_height() for bar in first.patches] == [72.37, 73.04, 74.86, 76.14, 75.40, 76.56, 75.72, 76.94]
    assert [bar.get_height() for bar in second.patches] == [61, 61, 71, 71, 72, 72, 73, 73]
    assert "axis cut" in first.get_ylabel()
    assert first.get_ylim()[0] > 0
    assert [text.get_text() for text in second.texts][:2] == ["61.0", "61.0"]


def test_fig4_is_measured_alone_and_asks_for_it(tmp_path):
    with pytest.raises(NothingMeasured, match="kdviz table rkkd fig4 --scale small"):
        RKKD["fig4"].results(Inputs(tables=tmp_path))
    heights = {"KD": 50, "top 10 %": 51, "top 30 %": 53, "top 50 %": 55, "min 10 %": 61, "min 30 %": 63, "min 50 %": 65}
    heights["KD+RKKD"] = 70
    write(tmp_path, "rkkd", "fig4", lambda row, column, seed: heights[row] + 0.1 * seed)
    results = RKKD["fig4"].results(Inputs(tables=tmp_path))
    assert list(results) == [f"measured_pair{place}" for place in (1, 2, 3, 4)]
    panel = results["measured_pair2"]["value"]
    assert panel.sel(row="top k").to_numpy() == pytest.approx(np.array([50, 51, 53, 55, 70]) + 0.1)
    assert panel.sel(row="min k").to_numpy() == pytest.approx(np.array([50, 61, 63, 65, 70]) + 0.1)
    assert findings(RKKD["fig4"], results)[0]["agrees"] == "yes"
    heights["min 30 %"] = 71
    write(tmp_path, "rkkd", "fig4", lambda row, column, seed: heights[row] + 0.1 * seed)
    assert findings(RKKD["fig4"], RKKD["fig4"].results(Inputs(tables=tmp_path)))[0]["agrees"] == "no"


def test_a_file_that_is_no_measured_table_is_refused(tmp_path):
    (tmp_path / "pld_tab8").mkdir()
    (tmp_path / "pld_tab8" / "table.nc").write_bytes(b"CDF no")
    with pytest.raises(KdvizError, match=r"table\.nc"):
        PLD["fig1a"].results(Inputs(tables=tmp_path))


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [
        ([[1.0, 1.1, 0.9], [0.5, 0.6, 0.7]], "yes"),
        ([[1.0, 1.1, 0.9], [-0.5, -0.6, -0.7]], "no"),
        ([[1.0, 1.1, 0.9], [1.0, -1.0, 0.5]], "not told apart"),
        ([[1.0]], "not told apart"),  # one seed
        ([], ""),
    ],
)
def test_a_verdict_needs_every_interval_on_one_side(gaps, verdict):
    assert told([np.array(one) for one in gaps]) == verdict


def verdict(folder, paper, table, at=0):
    entry = PAPERS[paper].entries[table]
    return findings(entry, entry.results(Inputs(tables=folder)))[at]


def test_claims_of_tables_read_what_was_measured(tmp_path):
    order = {"KD": 1, "KD+form 3": 2, "KD+form 2": 3, "KD+form 1": 4}
    assert verdict(tmp_path, "rkkd", "tab6")["measured_agrees"] == ""
    write(tmp_path, "rkkd", "tab6", lambda row, column, seed: 80 + order[row] + 0.01 * seed * order[row])
    found = verdict(tmp_path, "rkkd", "tab6")
    assert found["measured_agrees"] == "yes"
    assert found["measured"]["measured KD+form 2"] == pytest.approx(83.03)
    order["KD+form 3"] = 5
    write(tmp_path, "rkkd", "tab6", lambda row, column, seed: 80 + order[row] + 0.01 * seed * order[row])
    assert verdict(tmp_path, "rkkd", "tab6")["measured_agrees"] == "no"


def test_a_table_of_some_rows_can_only_contradict_a_claim_about_all(tmp_path):
    order = {"KD": 1, "KD+form 3": 2, "KD+form 2": 3, "KD+form 1": 4}
    path = write(tmp_path, "rkkd", "tab6", lambda row, column, seed: 80 + order[row] + 0.01 * seed * order[row])
    whole = read_dataset(path)
    write_dataset(whole.sel(row=["KD", "KD+form 3", "KD+form 2"]), path)
    assert verdict(tmp_path, "rkkd", "tab6")["measured_agrees"] == ""
    whole["last_by_seed"].loc[{"row": "KD"}] = 99.0
    write_dataset(whole.sel(row=["KD", "KD+form 3", "KD+form 2"]), path)
    assert verdict(tmp_path, "rkkd", "tab6")["measured_agrees"] == "no"


@pytest.mark.parametrize(("rows", "agrees"), [(None, "yes"), (["KD", "KD+RKKD"], "")])
def test_gains_of_all_methods_are_told_from_all_of_them(rows, agrees, tmp_path):
    path = write(tmp_path, "rkkd", "tab2", lambda row, column, seed: 80 + 3 * ("+RKKD" in row) + 0.1 * seed)
    if rows is not None:
        write_dataset(read_dataset(path).sel(row=rows), path)
    assert verdict(tmp_path, "rkkd", "tab2")["measured_agrees"] == agrees


def test_the_highest_column_is_told_of_printed_and_measured(tmp_path):
    def value(row, column, seed):  # .1 against .2 is .9, .1, -.7 over the seeds
        return 80 - 9 * abs(float(column) - 0.1) + 8 * float(column) * seed

    write(tmp_path, "pld", "tab8", value)
    found = verdict(tmp_path, "pld", "tab8")
    assert (found["agrees"], found["measured_agrees"]) == ("yes", "not told apart")
    assert found["measured"]["measured KD highest at"] == "0.1"
    write(tmp_path, "pld", "tab8", lambda row, column, seed: 80 + 9 * float(column) + 0.1 * float(column) * seed)
    found = verdict(tmp_path, "pld", "tab8")
    assert (found["measured_agrees"], found["measured"]["measured DIST highest at"]) == ("no", "0.9")


def test_every_small_form_of_a_figures_tables_has_the_rows_that_it_draws():
    for paper, name, rows in (
        ("pld", "tab8", ("KD", "DIST")),
        ("pld", "tab6", ("PLD T 1",)),
        ("pld", "tab4", ("PLD",)),
    ):
        assert set(rows) <= set(from_paper(paper, name, scale="small").rows)
    assert published.tables("rkkd")["fig4"].columns == published.tables("rkkd")["tab7"].columns
