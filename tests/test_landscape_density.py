"""Spectral density against matrices whose eigenvalues are known, and a small net's Hessian by textbook autograd."""

import numpy as np
import pytest
import torch
from test_landscape_sharpness import closed_form, images_of, softmax_regression
from torch import nn

from kdviz.analysis.landscape.density import lanczos, quadrature, smoothed
from kdviz.analysis.landscape.hessian_product import HessianProduct
from kdviz.analysis.landscape.sharpness import spectral_quadrature
from kdviz.base.check import KdvizError
from kdviz.base.seeds import numpy_generator


def quadratic(matrix):
    """The product of the Hessian of x'Ax / 2, which is A."""
    tensor = torch.tensor(matrix)
    point = {"x": torch.zeros(len(matrix), dtype=torch.float64)}
    return HessianProduct([lambda at: at["x"] @ tensor @ at["x"] / 2], point)


def symmetric(values, seed=0):
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))
    return basis @ np.diag(values) @ basis.T


def gaussian(t, mean, sigma):
    return np.exp(-0.5 * ((t - mean) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))


def test_a_quadrature_of_m_nodes_gives_2m_moments_of_the_vector():
    matrix = symmetric(np.random.default_rng(1).uniform(-2, 5, 40))
    start = np.random.default_rng(2).standard_normal(40)
    nodes, weights = lanczos(matrix.__matmul__, start, 6)
    assert len(nodes) == 6
    for power in range(12):
        true = start @ np.linalg.matrix_power(matrix, power) @ start / (start @ start)
        assert np.sum(weights * nodes**power) == pytest.approx(true, rel=1e-9)
    true = start @ np.linalg.matrix_power(matrix, 12) @ start / (start @ start)
    assert np.sum(weights * nodes**12) != pytest.approx(true, rel=1e-6)


def test_all_products_give_all_eigenvalues_and_a_multiple_of_one_ends_at_once():
    values = np.sort(np.random.default_rng(3).uniform(-1, 1, 30))
    nodes, _ = lanczos(symmetric(values).__matmul__, np.random.default_rng(4).standard_normal(30), 100)
    np.testing.assert_allclose(nodes, values, atol=1e-9)
    found = quadrature(quadratic(3.0 * np.eye(20)), probes=2, iterations=10)
    np.testing.assert_allclose(found["node"].isel(step=0), 3.0)
    assert found["weight"].sum("step").values.tolist() == [1.0, 1.0]
    assert int(found["node"].count()) == 2
    (curve,) = smoothed([found], width=0.5)
    np.testing.assert_allclose(curve["density"], gaussian(curve["eigenvalue"], 3.0, 0.5), atol=1e-12)
    assert float(curve["trace"]) == pytest.approx(60)


def test_a_large_random_matrix_has_wigners_semicircle():
    size, radius = 500, 2.0
    noise = np.random.default_rng(5).standard_normal((size, size))
    matrix = (noise + noise.T) / np.sqrt(2 * size)
    (found,) = smoothed([quadrature(quadratic(matrix), probes=6, iterations=40)], width=0.15)
    t = found["eigenvalue"].values
    fine = np.linspace(-radius, radius, 4001)
    circle = 2 / (np.pi * radius**2) * np.sqrt(radius**2 - fine**2)
    expected = np.trapezoid(circle * gaussian(t[:, None], fine, 0.15), fine, axis=1)
    beyond = (
        np.abs(found["density"] - expected) > 4 * found["density_stderr"] + 0.005
    )  # 500 rows are not infinitely many
    assert float(beyond.mean()) < 0.02
    assert float(np.trapezoid(found["density"], t)) == pytest.approx(1, abs=1e-3)
    assert float(found["negative_curvature"]) == pytest.approx(0.5, abs=0.03)


def test_density_and_what_is_negative_agree_with_the_eigenvalues_within_the_standard_error():
    rng = np.random.default_rng(6)
    values = np.concatenate([rng.uniform(-3, -1, 30), np.zeros(150), rng.uniform(1, 4, 120)])
    (found,) = smoothed([quadrature(quadratic(symmetric(values)), probes=30, iterations=80)], width=0.2)
    assert float(found["negative_mass"]) == pytest.approx(0.1, abs=4 * float(found["negative_mass_stderr"]))
    assert 0 < float(found["negative_mass_stderr"]) < 0.02
    share = -values[values < 0].sum() / np.abs(values).sum()
    assert float(found["negative_curvature"]) == pytest.approx(share, abs=4 * float(found["negative_curvature_stderr"]))
    assert float(found["trace"]) == pytest.approx(values.sum(), abs=4 * float(found["trace_stderr"]))
    exact = gaussian(found["eigenvalue"].values[:, None], values, 0.2).mean(axis=1)
    beyond = np.abs(found["density"] - exact) > 4 * found["density_stderr"] + 1e-4
    assert float(beyond.mean()) < 0.02
    assert float(found["largest"]) == pytest.approx(values.max(), abs=1e-4)
    assert float(found["smallest"]) == pytest.approx(values.min(), abs=1e-4)


def test_the_standard_error_is_that_of_a_mean_of_independent_probes():
    matrix = symmetric(np.random.default_rng(7).uniform(-1, 1, 50))
    (found,) = smoothed([quadrature(quadratic(matrix), probes=9, iterations=30, seed=3)])
    starts = [numpy_generator(3, "spectrum", probe).choice((-1.0, 1.0), 50) for probe in range(9)]
    traces = [start @ matrix @ start for start in starts]
    assert float(found["trace"]) == pytest.approx(np.mean(traces))
    assert float(found["trace_stderr"]) == pytest.approx(np.std(traces, ddof=1) / 3)
    (one,) = smoothed([quadrature(quadratic(matrix), probes=1, iterations=30)])
    assert np.isnan(one["density_stderr"]).all()


def test_softmax_regression_has_no_negative_curvature_and_the_density_of_its_closed_form():
    net, data = softmax_regression(), images_of()
    found = spectral_quadrature(net, data, probes=40, iterations=35)
    (curve,) = smoothed([found], width=0.05)
    values = np.linalg.eigvalsh(closed_form(net, data))
    exact = gaussian(curve["eigenvalue"].values[:, None], values, 0.05).mean(axis=1)
    beyond = np.abs(curve["density"] - exact) > 4 * curve["density_stderr"] + 1e-3
    assert float(beyond.mean()) < 0.02
    assert float(curve["negative_mass"]) == 0
    assert float(curve["negative_curvature"]) < 1e-5
    assert curve["eigenvalue"].attrs["units"] == "nats per squared unit of weight"


def test_a_net_with_a_hidden_layer_against_its_whole_hessian():
    data = images_of()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 5)).double()
    flat = nn.utils.parameters_to_vector(net.parameters()).detach()
    images = data.normalize(data.images).double()

    def loss(vector):
        named, at = {}, 0
        for name, tensor in net.named_parameters():
            named[name], at = vector[at : at + tensor.numel()].view_as(tensor), at + tensor.numel()
        return nn.functional.cross_entropy(torch.func.functional_call(net, named, (images,)), data.labels)

    values = np.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat).numpy())
    found = spectral_quadrature(net.float(), data, probes=25, iterations=65)
    (curve,) = smoothed([found], width=0.01)
    assert 0 < float(curve["negative_mass"]) < 1
    near = 4 * float(curve["negative_mass_stderr"])
    assert float(curve["negative_mass"]) == pytest.approx(np.mean(values < -0.01), abs=near)
    share = np.abs(values[values < 0]).sum() / np.abs(values).sum()
    assert float(curve["negative_curvature"]) == pytest.approx(share, abs=4 * float(curve["negative_curvature_stderr"]))
    assert float(curve["largest"]) == pytest.approx(values.max(), rel=1e-4)


def test_several_nets_share_eigenvalues_and_kernel():
    pair = [quadrature(quadratic(symmetric(np.linspace(low, high, 30)))) for low, high in ((-1, 1), (0, 9))]
    first, second = smoothed(pair)
    np.testing.assert_array_equal(first["eigenvalue"], second["eigenvalue"])
    assert first.attrs["width"] == second.attrs["width"] == pytest.approx(10 / 200, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"probes": 0}, "probes must be"), ({"iterations": -1}, "iterations must be"), ({"steps": 3}, "unknown keyword")],
)
def test_wrong_counts_are_refused(options, says):
    with pytest.raises(KdvizError, match=says):
        spectral_quadrature(softmax_regression(), images_of(), **options)
    with pytest.raises(KdvizError, match="width must be"):
        smoothed([quadrature(quadratic(np.eye(3)))], width=0.0)


def test_more_memory_than_there_is_is_refused_before_it_is_taken(monkeypatch):
    from kdviz.analysis.landscape import density

    monkeypatch.setattr(density, "MOST", 30 * 8 * 7)
    with pytest.raises(KdvizError, match="iterations of up to 7 fit"):
        quadrature(quadratic(np.eye(30)), iterations=8)
