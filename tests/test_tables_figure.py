"""The figure of gains: what stands where, what is grey, what is said of the scale."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex

from kdviz import plots
from kdviz.base.check import KdvizError
from kdviz.plots.style import COLOURS, GREY


def table(**attributes):
    cells = {
        "published": [[70.0, 71.0], [72.0, np.nan], [73.0, 74.0]],
        "gain": [[np.nan, np.nan], [1.5, 0.2], [np.nan, -0.5]],
        "low": [[np.nan, np.nan], [1.0, -0.1], [np.nan, -0.7]],
        "high": [[np.nan, np.nan], [2.0, 0.5], [np.nan, -0.3]],
        "t_low": [[np.nan, np.nan], [0.5, -0.4], [np.nan, np.nan]],
        "t_high": [[np.nan, np.nan], [2.5, 0.8], [np.nan, np.nan]],
        "clear": [[0, 0], [1, 0], [0, 0]],
    }
    variables = {name: (("row", "column"), np.array(values)) for name, values in cells.items()}
    variables["base"] = ("row", ["", "KD", "KD"])
    attributes = {"kind": "table", "metric": "top-1 accuracy, %", "title": "t", "scale": "full", **attributes}
    return xr.Dataset(variables, {"row": ["KD", "a", "b"], "column": ["x > y", "z"]}, attributes)


def lines(axis):
    return [(line.get_xdata(), line.get_ydata(), line) for line in axis.get_lines()[1:]]  # the first is zero


def test_gains_stand_with_their_intervals_beside_the_printed_ones():
    first, second = plots.draw(table(), "gains").axes[:2]
    assert [text.get_text() for text in first.get_yticklabels()] == ["a − KD", "b − KD"]
    found = [(list(x), line.get_marker()) for x, y, line in lines(first) if y[0] == 0]
    assert found == [([0.5, 2.5], "None"), ([1.0, 2.0], "None"), ([1.5], "o"), ([2.0], "D")]
    assert [list(x) for x, y, line in lines(second) if line.get_marker() == "D"] == [[3.0]]  # no printed number of a
    assert first.get_xlabel() == "gain, points of top-1 accuracy"


def test_a_gain_inside_the_noise_is_grey():
    first, second = plots.draw(table(), "gains").axes[:2]
    colour = {axis: {to_hex(line.get_color()) for _, y, line in lines(axis)[:3]} for axis in (first, second)}
    assert colour == {first: {COLOURS[0]}, second: {GREY}}


def test_the_small_scale_is_said():
    small = table(scale="small", title="t: small scale, glyphs100 (synthetic)")
    assert plots.draw(small, "gains").get_suptitle().startswith("small scale, glyphs100 (synthetic); printed")
    assert plots.draw(table(), "gains").get_suptitle() == ""


def test_panels_have_one_scale_and_say_what_their_columns_are_values_of():
    first, second = plots.draw(table(axis="weight"), "gains").axes[:2]
    assert first.get_xlim() == second.get_xlim()
    assert [one.get_title(loc="left") for one in (first, second)] == ["(a) weight x to y", "(b) weight z"]


def test_a_table_without_gains_is_refused():
    empty = table()
    empty["gain"][:] = np.nan
    with pytest.raises(KdvizError, match="no gain of this table is measured"):
        plots.draw(empty, "gains")
