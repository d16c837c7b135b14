"""Hessian spectra against matrices that are known: a quadratic, softmax regression, textbook autograd."""

import numpy as np
import pytest
import torch
from torch import nn

from kdviz.analysis.landscape import hessian_product, loss_parts, sharpness
from kdviz.analysis.landscape.spectrum import spectrum
from kdviz.base.check import KdvizError
from kdviz.data.base import Data


def images_of(count=24, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 2, 3), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % classes
    return Data("noise", "test", images, labels, (0.5,), (0.25,), tuple("abcde"[:classes]))


def softmax_regression(seed=1):
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 5))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return net


def closed_form(net, data):
    """Mean over samples of (diag p - p p') kron (x, 1)(x, 1)', rows of weights first as torch stores them."""
    x = ((data.images.numpy() / 255 - 0.5) / 0.25).reshape(len(data), -1)
    weight, bias = (tensor.detach().numpy().astype(float) for tensor in net[1].parameters())
    z = x @ weight.T + bias
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    ones = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    blocks = np.einsum("nk,kl->nkl", p, np.eye(5)) - np.einsum("nk,nl->nkl", p, p)
    matrix = np.einsum("nkl,ni,nj->kilj", blocks, ones, ones).reshape(35, 35) / len(x)
    order = [7 * k + i for k in range(5) for i in range(6)] + [7 * k + 6 for k in range(5)]
    return matrix[np.ix_(order, order)]


@pytest.fixture(scope="module")
def quadratic():
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((60, 60)))
    values = np.concatenate([[9.0, 4.0, 2.5], rng.uniform(-20, 1, 57)])  # the largest in magnitude are negative
    return values, basis, torch.tensor(basis @ np.diag(values) @ basis.T)


@pytest.mark.parametrize("exact", [True, False])
def test_the_top_of_a_known_spectrum_by_value_not_by_magnitude(quadratic, exact):
    values, basis, matrix = quadratic
    weights = {"a": torch.ones(4, 10, dtype=torch.float64), "b": torch.zeros(20, dtype=torch.float64)}

    def bowl(at):
        x = torch.cat([at["a"].flatten(), at["b"]])
        return x @ matrix @ x / 2 + x.sum()

    result, vectors = spectrum([bowl], weights, eigenvalues=3, probes=0, exact=exact, tolerance=1e-8)
    np.testing.assert_allclose(result.eigenvalue, values[:3], rtol=1e-6)
    assert float(result.residual.max()) < 1e-4
    assert "trace" not in result
    for found, true in zip(vectors, basis.T, strict=False):
        assert found["a"].shape == (4, 10)
        flat = torch.cat([found["a"].flatten(), found["b"]]).numpy()
        assert abs(flat @ true) == pytest.approx(1, abs=1e-5)
    assert torch.equal(weights["a"], torch.ones(4, 10, dtype=torch.float64))


def test_the_trace_of_a_known_matrix_lies_within_its_standard_error(quadratic):
    values, _, matrix = quadratic
    parts = [lambda at: at["x"] @ matrix @ at["x"] / 4] * 2  # two parts sum to the loss
    weights = {"x": torch.zeros(60, dtype=torch.float64)}
    result, _ = spectrum(parts, weights, eigenvalues=1, probes=200)
    stderr = float(result.trace_stderr)
    # Var(z'Az) = 2 (|A|_F^2 - sum of squared diagonal entries) for Rademacher z.
    square = matrix.numpy() ** 2
    assert stderr == pytest.approx(np.sqrt(2 * (square.sum() - np.trace(square)) / 200), rel=0.2)
    assert abs(float(result.trace) - values.sum()) < 4 * stderr


def test_a_diagonal_hessian_has_an_exact_trace_and_a_linear_loss_none():
    weights = {"x": torch.zeros(30)}
    bowl, plane = (lambda at: (torch.arange(30.0) * at["x"] ** 2).sum() / 2), (lambda at: 3 * at["x"].sum())
    result, _ = spectrum([bowl, plane], weights, eigenvalues=2, probes=5, tolerance=1e-6)
    np.testing.assert_allclose(result.eigenvalue, [29, 28], rtol=1e-5)
    assert float(result.trace) == pytest.approx(435)
    assert float(result.trace_stderr) == pytest.approx(0, abs=1e-4)
    flat, _ = spectrum([plane], {"x": torch.zeros(5)}, eigenvalues=2)
    assert flat.eigenvalue.values.tolist() == [0, 0]


@pytest.mark.parametrize(("chunk", "kept"), [(7, hessian_product.KEPT), (7, 0), (24, hessian_product.KEPT)])
def test_softmax_regression_has_its_closed_form_spectrum(chunk, kept, monkeypatch):
    monkeypatch.setattr(
        hessian_product, "KEPT", kept
    )  # four parts in threads; the first kept, the others made anew; one
    net, data = softmax_regression(), images_of()
    matrix = closed_form(net, data)
    expected = np.linalg.eigvalsh(matrix)[::-1]
    result, vectors = sharpness.hessian(net, data, eigenvalues=4, probes=100, tolerance=1e-6, chunk=chunk)
    np.testing.assert_allclose(result.eigenvalue, expected[:4], rtol=1e-4)
    assert abs(float(result.trace) - np.trace(matrix)) < 4 * float(result.trace_stderr)
    first = torch.cat([vectors[0]["1.weight"].flatten(), vectors[0]["1.bias"]]).numpy()
    np.testing.assert_allclose(matrix @ first, expected[0] * first, atol=1e-4)
    assert result.attrs["samples"] == 24
    assert result.attrs["method"] == "second derivative"


class Square(torch.autograd.Function):
    """A loss with its gradient written by hand, which autograd cannot differentiate again."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square().sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, outer):
        return outer * 2 * ctx.saved_tensors[0]


def test_a_loss_with_a_gradient_written_by_hand_is_recognised(monkeypatch):
    assert loss_parts.differentiates_twice("ce", None)
    monkeypatch.setattr(loss_parts.losses, "loss_value", lambda name, student, *_, **__: Square.apply(student))
    assert not loss_parts.differentiates_twice("ce", None)


@pytest.mark.parametrize("differences", [False, True])
def test_a_ranking_loss_has_its_textbook_spectrum(monkeypatch, differences):
    if differences:
        monkeypatch.setattr(sharpness, "differentiates_twice", lambda *_: False)
    net, teacher, data = softmax_regression(), softmax_regression(seed=2), images_of()
    images = next(data.batches(24))[0].double().flatten(1)
    teach = images @ teacher[1].weight.detach().double().T + teacher[1].bias.detach().double()
    upper = torch.triu(torch.ones(5, 5, dtype=torch.float64), 1)

    def textbook(flat):
        z = images @ flat[:30].view(5, 6).T + flat[30:]
        a, b = (torch.tanh((x[:, :, None] - x[:, None, :]) / 2) for x in (teach, z))
        return -(a * b * upper).sum((1, 2)).mean() / 10

    point = torch.cat([net[1].weight.detach().flatten(), net[1].bias.detach()]).double()
    expected = np.linalg.eigvalsh(torch.autograd.functional.hessian(textbook, point).numpy())[::-1]
    result = sharpness.sharpness(
        net, data, loss="rk", teacher=teacher, settings={"normalize": "none"}, eigenvalues=3, probes=0, tolerance=1e-6
    )
    np.testing.assert_allclose(result.eigenvalue, expected[:3], rtol=1e-4)
    assert "central differences" in result.attrs["method"] or not differences
    assert float(result.loss) == pytest.approx(float(textbook(point)), rel=1e-6)


def test_the_model_is_left_as_it_was():
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 5))
    net[2].eval()
    net[1].bias.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    one = sharpness.sharpness(net, images_of(), samples=20, eigenvalues=1, probes=3)
    two = sharpness.sharpness(net, images_of(), samples=20, eigenvalues=1, probes=3)
    assert one.identical(two)
    assert [module.training for module in net] == [True, True, False, True, True, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert [p.requires_grad for p in net.parameters()] == [True, False] + [True] * 4
    assert all(p.grad is None for p in net.parameters())


def test_bad_input_is_refused():
    net, data = softmax_regression(), images_of()
    with pytest.raises(KdvizError, match="needs a teacher"):
        sharpness.sharpness(net, data, loss="kd")
    with pytest.raises(KdvizError, match="1 to 35"):
        sharpness.sharpness(net, data, eigenvalues=36)
    with torch.no_grad():
        net[1].bias[0] = float("nan")
    with pytest.raises(KdvizError, match="loss is nan"):
        sharpness.sharpness(net, data)
