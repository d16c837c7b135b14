"""The statistical figures: what is drawn is what the data hold, on the axis that says so."""

import itertools

import numpy as np
import pytest
import xarray as xr

from kdviz import plots
from kdviz.analysis.bootstrap import Bootstrap
from kdviz.analysis.ranks import tau
from kdviz.analysis.suboptimal import mine_samples, mine_students, ternary


def arrays(noise=1.0, n=60, k=10, seed=0):
    generator = np.random.default_rng(seed)
    teacher = 3 * np.random.default_rng(7).standard_normal((n, k))
    student = teacher + noise * generator.standard_normal((n, k))
    return student, teacher, teacher.argmax(1)


@pytest.fixture(scope="module")
def duels():
    return mine_students([arrays(1.0, seed=1), arrays(2.0, seed=2), arrays(4.0, seed=3)], labels=["kd", "ce", "pld"])


def test_the_matrix_has_the_nearer_student_in_its_row(duels):
    fig = plots.draw(duels, "matrix")
    axes = [axis for axis in fig.axes if axis.get_label() != "<colorbar>"]
    assert [axis.get_title(loc="left") for axis in axes] == ["(a) KL", "(b) KL+ranking", "(c) PLD"]
    for axis, name in zip(axes, ("kl", "kl+rk", "pld"), strict=True):
        pairs, share = (duels[key].sel(criterion=name).values for key in ("pairs", "share"))
        assert not np.array_equal(pairs, pairs.T)
        shown = np.ma.filled(axis.collections[0].get_array().reshape(3, 3), np.nan)
        outside = ~np.eye(3, dtype=bool) & np.isfinite(share)
        np.testing.assert_allclose(shown[outside], 100 * share[outside])
        assert np.isnan(shown[~outside]).all()
        counts = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axis.texts}
        for row, column in zip(*np.nonzero(outside), strict=True):
            assert counts[row + 0.5, column + 0.5] == str(pairs[row, column])
        assert [text.get_text() for text in axis.get_xticklabels()] == ["KD", "CE", "PLD"]
    assert axes[0].get_ylabel() == "wrong, smaller loss"
    assert axes[0].get_xlabel() == "right, larger loss"
    assert [text.get_text() for text in axes[0].get_yticklabels()] == ["KD", "CE", "PLD"]
    assert axes[0].yaxis_inverted()  # the first student above


def test_kl_of_right_and_wrong_samples_by_numpy():
    found = mine_samples(arrays(3.0), label="kd")
    left = plots.draw(found, "overlap").axes[0]
    right = found["right"].values
    kl = found["loss"].sel(criterion="kl").values
    names = dict(zip(*reversed(left.get_legend_handles_labels()), strict=True))
    assert list(names) == [f"right class ({right.sum()})", f"wrong class ({(~right).sum()})"]
    for chosen, area in zip((right, ~right), left.collections, strict=True):
        corners = area.get_paths()[0].vertices
        edges = np.unique(corners[:, 0])
        share = np.histogram(np.clip(kl[chosen], edges[0], edges[-1]), edges)[0] / chosen.sum()
        middle = np.sqrt(edges[1:] * edges[:-1])
        drawn = [max(y for (x, y) in corners if low - 1e-12 <= x <= high + 1e-12) for low, high in _bins(edges)]
        assert np.all(np.array(drawn) >= share - 1e-9), middle
        assert corners[:, 1].max() == pytest.approx(share.max())
    assert (left.get_xlabel(), left.get_ylabel()) == ("KL to the teacher (nats)", "share of samples")


def _bins(edges):
    return list(itertools.pairwise(edges))


def test_angles_are_cumulated_in_per_cent():
    found = mine_samples(arrays(3.0), label="kd")
    (axis,) = plots.draw(found, "angles").axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("angle to CE's gradient (°)", "samples below (%)")
    lines = {line.get_label(): line for line in axis.lines}
    assert list(lines) == ["KL", "ranking", "KL+ranking", "PLD"]
    x, y = lines["KL"].get_data()
    expected = np.sort(found["angle"].sel(criterion="kl").values)
    np.testing.assert_allclose(x[1:], expected)
    np.testing.assert_allclose(y[1:], 100 * np.arange(1, len(expected) + 1) / len(expected))


def test_error_bars_reach_from_the_lower_to_the_upper_end():
    found = tau(arrays(4.0), label="kd", steepness=(1,), smooth_samples=0, bootstrap=Bootstrap(resamples=50))
    ends = {"mean": 0.5, "mean_low": 0.45, "mean_high": 0.8}  # lopsided, so that swapped arms show
    for name, value in ends.items():
        found[name] = xr.full_like(found["mean"], value)
    panels = plots.draw(found, "breakdown").axes
    bars = panels[0].containers[0].lines[2][0].get_segments()
    assert all(np.allclose(bar[:, 1], (0.45, 0.8)) for bar in bars)
    (axis,) = plots.draw(found, "distribution").axes
    (bar,) = axis.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose(bar[:, 0], (0.45, 0.8))
    assert axis.get_xlabel().startswith("Kendall's")


def test_shares_run_from_the_smallest_channels_to_the_largest():
    found = tau(arrays(4.0), label="kd", shares=(0.3, 0.5, 1.0), smooth_samples=0, bootstrap=Bootstrap(resamples=20))
    panel = plots.draw(found, "breakdown").axes[1]
    names = [text.get_text() for text in panel.get_xticklabels()]
    assert names == ["min 30%", "min 50%", "all", "top 50%", "top 30%"]
    expected = [
        float(found["share_mean"].sel(end=end, share=share))
        for end, share in (("min", 0.3), ("min", 0.5), ("top", 1.0), ("top", 0.5), ("top", 0.3))
    ]
    np.testing.assert_allclose(np.array(panel.containers[0].lines[0].get_ydata(), dtype=float), expected)
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("share of the channels", r"mean $\tau_b$")


def test_areas_are_written_in_per_cent():
    found = ternary(steps=12, fine=24)
    fig = plots.draw(found, "maps")
    notes = [text.get_text() for axis in fig.axes for text in axis.texts if "misled" in text.get_text()]
    assert notes == [f"misled: {100 * float(area):.1f} %" for area in found["area"].values]
    assert [axis.get_title(loc="left")[4:] for axis in fig.axes] == ["KL", "ranking", "KL+ranking", "PLD"]


def test_training_curves_are_in_per_cent_over_epochs():
    epochs = [1, 2, 3]
    variables = {
        "ce": ("epoch", [3.0, 2.0, 1.0], {"role": "loss", "title": "CE"}),
        "total": ("epoch", [3.0, 2.0, 1.0], {"role": "metric"}),
        "val_top1": ("epoch", [0.1, 0.5, 0.25], {"role": "metric"}),
    }
    run = xr.Dataset(variables, {"epoch": epochs}, {"kind": "training", "label": "a", "method": "ce"})
    left, right = plots.draw(run, "curves").axes
    np.testing.assert_allclose(left.lines[0].get_xydata(), [(1, 10), (2, 50), (3, 25)])
    np.testing.assert_allclose(right.lines[0].get_xydata(), [(1, 3), (2, 2), (3, 1)])
    assert (left.get_xlabel(), left.get_ylabel()) == ("epoch", "top-1 on val (%)")
    assert [axis.get_title(loc="left") for axis in plots.draw(run, "terms").axes] == ["(a) CE", "(b) sum"]
