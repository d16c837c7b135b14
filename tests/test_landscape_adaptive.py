"""Adaptive landscapes against surfaces that are known at every point."""

import numpy as np
import pytest
import torch

from kdviz.analysis.landscape import adaptive, sweep
from kdviz.base.check import KdvizError

EAST, NORTH = {"x": torch.tensor([1.0, 0.0])}, {"x": torch.tensor([0.0, 1.0])}
ORIGIN = {"x": torch.zeros(2, dtype=torch.float64)}


def axes_of(n):
    return np.linspace(-1, 1, n), np.linspace(-1, 1, n)


def soft(a, b):
    return np.log1p(np.exp(6 * (a**2 + 0.6 * b**2 + 0.4 * a * b))) + 0.3 * np.cos(4 * b) + 0.2 * np.sin(3 * a) * b


def funnel(a, b):
    return 8 * (1 - np.exp(-((a - 0.15) ** 2 + (b + 0.25) ** 2) / 0.08)) + a**2 + b**2


def measured_by(function, axes, seen):
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))

    def measure(batch):
        seen.extend(batch)
        return {"loss": function(*grid[list(batch)].T)}

    return measure, function(*grid.T)


@pytest.mark.parametrize(("function", "n"), [(soft, 21), (soft, 51), (funnel, 31)])
def test_a_third_of_the_points_gives_the_surface_to_a_hundredth_of_its_range(function, n):
    axes, seen = axes_of(n), []
    measure, truth = measured_by(function, axes, seen)
    filled = adaptive.refine(axes, measure, tolerance=0.002)
    error = np.abs(filled.values["loss"] - truth)
    assert len(seen) == len(set(seen)) == filled.measured.sum() <= n * n / 3
    assert error.max() < 0.01 * np.ptp(truth)
    assert error[filled.measured].max() == 0
    assert filled.error["loss"][filled.measured].max() == 0
    # The estimate is of the right size: it covers most errors, the largest one to a factor of three.
    rest = ~filled.measured
    assert np.mean(error[rest] <= filled.error["loss"][rest] + 1e-5 * np.ptp(truth)) > 0.85
    assert error.max() / 3 < filled.error["loss"].max() < 10 * error.max() + 1e-4 * np.ptp(truth)
    assert filled.estimate == pytest.approx(filled.error["loss"].max() / np.ptp(truth[filled.measured]))


def test_points_go_where_the_surface_bends():
    axes, seen = axes_of(41), []
    measure, _ = measured_by(lambda a, b: np.tanh(8 * (a + 0.5)) + 0 * b, axes, seen)
    filled = adaptive.refine(axes, measure, share=0.25, tolerance=1e-4)
    coarse = len(adaptive._coarse((41, 41), int(0.25 * 41**2) // 2))
    refined = axes[0][np.array(seen[coarse:]) // 41]
    assert len(refined) > 100
    assert np.mean(np.abs(refined + 0.5) < 0.35) > 0.8  # a third of the surface
    assert filled.measured.sum() == int(0.25 * 41**2)


def test_a_plain_surface_stops_early_and_a_line_works():
    axes, seen = axes_of(41), []
    measure, truth = measured_by(lambda a, b: a**2 + 2 * b**2 + 3, axes, seen)
    filled = adaptive.refine(axes, measure)
    assert len(seen) < 0.25 * 41**2
    np.testing.assert_allclose(filled.values["loss"], truth, atol=1e-6)
    line = np.linspace(-1, 1, 61)
    measure, truth = measured_by(lambda a: np.log1p(np.exp(9 * a**2)), [line], [])
    filled = adaptive.refine([line], measure)
    assert np.abs(filled.values["loss"] - truth).max() < 0.01 * np.ptp(truth)


def test_a_sweep_is_filled_without_gaps_and_goes_on_after_a_kill(tmp_path):
    calls = []

    def objective(at):
        calls.append(1)
        if len(calls) == stop:
            raise KeyboardInterrupt
        a, b = at["x"].tolist()
        return {"ce": soft(a, b), "accuracy": float(np.exp(-(a**2) - b**2))}

    objective.variables = {
        "ce": {"units": "nats", "long_name": "cross-entropy", "role": "loss"},
        "accuracy": {"units": "fraction", "long_name": "accuracy", "role": "metric"},
    }
    axes, stop, seen = axes_of(21), 90, []
    journal = tmp_path / "points.jsonl"
    with pytest.raises(KeyboardInterrupt):
        adaptive.adaptive(objective, ORIGIN, (EAST, NORTH), *axes, journal=journal)
    stop = 0
    found = adaptive.adaptive(
        objective, ORIGIN, (EAST, NORTH), *axes, journal=journal, progress=lambda k, n: seen.append((k, n))
    )
    assert len(calls) == int(found.measured.sum()) + 1 == found.attrs["points_done"] + 1
    assert found.attrs["adaptive_share"] <= 1 / 3
    assert seen[-1][0] <= seen[-1][1] == 147
    whole = sweep(objective, ORIGIN, (EAST, NORTH), *axes)
    assert found.attrs["kind"] == "landscape"
    error = abs(found.ce - whole.ce)
    assert float(error.max()) < 0.01 * float(whole.ce.max() - whole.ce.min())
    assert float(error.where(found.measured == 1).max()) == 0
    assert float(abs(found.accuracy - whole.accuracy).max()) < 0.01
    assert {"ce_error", "measured"} <= set(found.data_vars)
    assert "accuracy_error" not in found
    assert (found.ce_error.attrs["role"], found.ce_error.attrs["of"]) == ("error", "ce")
    assert found.measured.attrs["role"] == "mark"


def test_bad_input_is_refused():
    axes = axes_of(11)
    with pytest.raises(KdvizError, match="not finite"):
        adaptive.refine(axes, lambda batch: {"loss": np.full(len(batch), np.inf)})
    with pytest.raises(KdvizError, match="share must lie"):
        adaptive.refine(axes, lambda batch: {}, share=0)
    with pytest.raises(KdvizError, match="no loss to refine by"):
        adaptive.refine(axes, lambda batch: {"accuracy": np.ones(len(batch))}, watched=lambda name: False)
