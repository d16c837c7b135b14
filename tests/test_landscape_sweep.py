"""The bare engine against landscapes that are known in closed form."""

import json

import numpy as np
import pytest
import torch
import xarray as xr

from kdviz.analysis.landscape import axis, random_direction, random_pair, sweep
from kdviz.analysis.landscape.interval import halfwidth, share_halfwidth
from kdviz.base.check import KdvizError

WEIGHTS = {"x": torch.tensor([0.3, -0.2, 0.5]), "y": torch.tensor([[1.0, 2.0]])}
EAST = {"x": torch.tensor([1.0, 0.0, 2.0])}
NORTH = {"x": torch.tensor([0.0, 1.0, -1.0]), "y": torch.tensor([[0.5, 0.0]])}
CURVATURE = torch.tensor([1.0, 4.0, 0.25])


def bowl(at):
    return (CURVATURE * at["x"].square()).sum() + at["y"].square().sum()


def bowl_at(alpha, beta):
    """The same in float64, written out."""
    x = np.array([0.3, -0.2, 0.5]) + alpha * np.array([1, 0, 2.0]) + beta * np.array([0, 1, -1.0])
    y = np.array([1.0, 2.0]) + beta * np.array([0.5, 0.0])
    return float((np.array([1, 4, 0.25]) * x * x).sum() + (y * y).sum())


def test_a_quadratic_is_right_at_every_point_of_an_uneven_grid():
    alphas, betas = [-1.5, 0.0, 0.25, 3.0], [-2.0, 0.0, 0.5]
    found = sweep(bowl, WEIGHTS, (EAST, NORTH), alphas, betas)
    expected = [[bowl_at(a, b) for b in betas] for a in alphas]
    assert found.loss.dims == ("alpha", "beta")
    np.testing.assert_allclose(found.loss, expected, rtol=1e-6)
    np.testing.assert_array_equal(found.alpha, alphas)
    np.testing.assert_array_equal(found.beta, betas)


def test_a_line_takes_one_direction_and_several_values():
    found = sweep(lambda at: {"a": bowl(at), "b": 2 * bowl(at)}, WEIGHTS, NORTH, [-1, 0, 1])
    np.testing.assert_allclose(found.a, [bowl_at(0, b) for b in (-1, 0, 1)], rtol=1e-6)
    np.testing.assert_allclose(found.b, 2 * found.a)
    assert found.kind == "profile"


def test_the_centre_gets_the_weights_bit_for_bit_and_they_are_never_modified():
    weights = {"x": torch.tensor([0.1, -0.0, 1e-30]), "steps": torch.tensor(7)}
    before = {name: tensor.clone() for name, tensor in weights.items()}
    seen = []

    def spoil(at):
        seen.append({name: tensor.clone() for name, tensor in at.items()})
        for tensor in at.values():
            tensor.zero_()
        return 0.0

    sweep(spoil, weights, ({"x": torch.ones(3)}, {"x": torch.ones(3)}), axis(1, 3), axis(1, 3))
    assert all(torch.equal(weights[name], before[name]) for name in weights)
    assert torch.equal(seen[0]["x"].view(torch.int32), before["x"].view(torch.int32)), "the centre comes first, exact"
    assert seen[0]["steps"] == 7


@pytest.mark.parametrize(("steps", "span"), [(51, 1.0), (7, 0.3), (3, 1e-3), (1, 2.0)])
def test_odd_axes_hold_zero_exactly_and_are_symmetric(steps, span):
    found = axis(span, steps)
    assert found[steps // 2] == 0
    np.testing.assert_array_equal(found, -found[::-1])
    np.testing.assert_allclose(found, np.linspace(-span, span, steps) if steps > 1 else [0], atol=1e-15)


def counted(objective):
    calls = []

    def call(at):
        calls.append(1)
        return objective(at)

    return call, calls


def test_a_stopped_sweep_goes_on_where_it_was_and_ends_the_same(tmp_path):
    axes = axis(1, 5), axis(2, 3)
    whole = sweep(bowl, WEIGHTS, (EAST, NORTH), *axes)
    journal = tmp_path / "points.jsonl"

    def stop(done, total):
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(bowl, WEIGHTS, (EAST, NORTH), *axes, journal=journal, progress=stop)
    with journal.open("ab") as stream:
        stream.write(b'{"point": 14, "values": {"lo')  # killed in the middle of a line
    call, calls = counted(bowl)
    resumed = sweep(call, WEIGHTS, (EAST, NORTH), *axes, journal=journal)
    assert len(calls) == 15 - 6
    xr.testing.assert_identical(resumed, whole)
    call, calls = counted(bowl)
    xr.testing.assert_identical(sweep(call, WEIGHTS, (EAST, NORTH), *axes, journal=journal), whole)
    assert not calls
    assert all(json.loads(line) for line in journal.read_text().splitlines())


@pytest.mark.parametrize("change", ["weights", "direction", "axis", "attrs"])
def test_a_journal_of_another_sweep_is_begun_anew(tmp_path, change):
    journal = tmp_path / "points.jsonl"
    sweep(bowl, WEIGHTS, EAST, [0.0, 1.0], journal=journal)
    call, calls = counted(bowl)
    weights, east, alphas = WEIGHTS, EAST, [0.0, 1.0]
    if change == "weights":
        weights = WEIGHTS | {"y": torch.tensor([[1.0, 2.0001]])}
    elif change == "direction":
        east = {"x": torch.tensor([1.0, 0.0, 2.5])}
    elif change == "axis":
        alphas = [0.0, 2.0]
    else:
        call.attrs = {"samples": 3}
    found = sweep(call, weights, east, alphas, journal=journal)
    assert len(calls) == 2
    xr.testing.assert_identical(found, sweep(call, weights, east, alphas))


def test_a_file_that_is_no_journal_is_left_alone(tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("milk\nbread\n")
    with pytest.raises(KdvizError, match="not a journal"):
        sweep(bowl, WEIGHTS, EAST, [0.0], journal=notes)
    assert notes.read_text() == "milk\nbread\n"


def test_values_that_are_not_finite_are_kept_and_count_as_done(tmp_path):
    journal = tmp_path / "points.jsonl"
    found = sweep(
        lambda at: torch.log(at["x"][0]), {"x": torch.zeros(1)}, {"x": torch.ones(1)}, [-1, 0], journal=journal
    )
    assert np.isnan(found.loss[0])
    assert found.loss[1] == -np.inf
    call, calls = counted(bowl)
    again = sweep(call, {"x": torch.zeros(1)}, {"x": torch.ones(1)}, [-1, 0], journal=journal)
    assert not calls
    np.testing.assert_array_equal(again.loss, found.loss)


def test_schedules_share_the_work():
    axes = [0.0, 1.0], [0.0, 1.0, 2.0]
    first = sweep(bowl, WEIGHTS, (EAST, NORTH), *axes, schedule=iter([4, 0]))
    rest = sweep(bowl, WEIGHTS, (EAST, NORTH), *axes, schedule=[1, 2, 3, 5])
    assert first.points_done == 2
    assert int(first.loss.notnull().sum()) == 2
    whole = sweep(bowl, WEIGHTS, (EAST, NORTH), *axes)
    xr.testing.assert_equal(first.fillna(rest), whole)


@pytest.mark.parametrize(
    ("weights", "directions", "alphas", "betas", "says"),
    [
        (WEIGHTS, EAST, [0.0], [0.0], "2 axes need 2 directions"),
        (WEIGHTS, (EAST, NORTH), [0.0], None, "1 axes need 1 directions"),
        (WEIGHTS, {"z": torch.zeros(1)}, [0.0], None, "'z', which the weights have not"),
        (WEIGHTS, {"x": torch.zeros(2)}, [0.0], None, r"'x' is \(2,\), the weights are \(3,\)"),
        ({"x": torch.tensor([torch.nan])}, {"x": torch.ones(1)}, [0.0], None, "holds NaN or infinity"),
        ({"x": torch.ones(1)}, {"x": torch.tensor([torch.inf])}, [0.0], None, "holds NaN or infinity"),
        (WEIGHTS, EAST, [], None, "alphas must be a list of finite numbers"),
        (WEIGHTS, EAST, [0.0, float("nan")], None, "alphas must be a list of finite numbers"),
    ],
)
def test_what_does_not_fit_is_refused(weights, directions, alphas, betas, says):
    with pytest.raises(KdvizError, match=says):
        sweep(bowl, weights, directions, alphas, betas)


LAYERS = {
    "conv": 0.1 * torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(1)),
    "depthwise": torch.randn(5, 1, 3, 3, generator=torch.Generator().manual_seed(2)),
    "fc": 3 * torch.randn(7, 5, generator=torch.Generator().manual_seed(3)),
    "bias": torch.ones(7),
    "scale": torch.ones(()),
    "count": torch.tensor([3]),
}
LAYERS["conv"][2] = 0  # a dead filter stays dead


def test_every_filter_of_a_direction_has_its_filters_norm_and_vectors_stay():
    direction = random_direction(LAYERS, seed=5)
    for name in ("conv", "depthwise", "fc"):
        own, theirs = (np.asarray(one[name].double()).reshape(len(one[name]), -1) for one in (direction, LAYERS))
        norms = np.linalg.norm(own, axis=1), np.linalg.norm(theirs, axis=1)
        np.testing.assert_allclose(*norms, rtol=1e-5)
    for name in ("bias", "scale", "count"):
        assert not direction[name].any()
        assert direction[name].dtype == LAYERS[name].dtype


def test_layers_and_plain_directions():
    layer = random_direction(LAYERS, seed=5, normalize="layer")
    assert float(layer["fc"].norm() / LAYERS["fc"].norm()) == pytest.approx(1, rel=1e-5)
    ratios = layer["fc"].norm(dim=1) / LAYERS["fc"].norm(dim=1)
    assert float(ratios.std()) > 0.05
    plain = random_direction({"w": torch.ones(400, 500)}, seed=1, normalize="none")["w"]
    assert float(plain.mean()) == pytest.approx(0, abs=0.01)
    assert float(plain.std()) == pytest.approx(1, abs=0.01)
    assert float((plain.double() ** 4).mean()) == pytest.approx(3, abs=0.06), "Gaussian: not U[0, 1), not U[-1, 1)"
    with pytest.raises(KdvizError, match="normalize must be one of filter, layer, none"):
        random_direction(LAYERS, seed=0, normalize="filters")


def test_directions_hang_on_seed_and_name_alone():
    one, again = random_direction(LAYERS, seed=3), random_direction(dict(reversed(LAYERS.items())), seed=3)
    assert all(torch.equal(one[name], again[name]) for name in LAYERS)
    assert not torch.equal(one["fc"], random_direction(LAYERS, seed=4)["fc"])
    doubled = random_direction({"fc": 2 * LAYERS["fc"].double()}, seed=3)
    torch.testing.assert_close(doubled["fc"].float(), 2 * one["fc"])
    east, north = random_pair({"w": torch.ones(1, 10_000)}, seed=0)
    cosine = torch.nn.functional.cosine_similarity(east["w"], north["w"])
    assert abs(float(cosine)) < 0.05


def test_the_interval_holds_the_whole_splits_mean_in_about_95_of_100_draws():
    """Classes of unequal size, mean and spread; a subset of 20 % by class."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), (400, 300, 200, 100))
    values = generator.gamma(2.0, size=len(labels)) * (1 + labels) + 5 * labels
    population, truth, inside = torch.from_numpy(np.bincount(labels)), values.mean(), 0
    for _ in range(600):
        taken = np.concatenate(
            [
                generator.choice(np.flatnonzero(labels == k), n // 5, replace=False)
                for k, n in enumerate((400, 300, 200, 100))
            ]
        )
        width = halfwidth(torch.from_numpy(values[taken]), torch.from_numpy(labels[taken]), population)
        inside += abs(values[taken].mean() - truth) <= width
    assert 0.925 <= inside / 600 <= 0.975


def test_shares_have_width_even_where_all_hit_unless_all_were_seen():
    assert 0 < share_halfwidth(100, 100, 4000) < 0.05
    assert share_halfwidth(100, 100, 100) == 0
