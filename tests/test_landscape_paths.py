"""Lines, planes and trajectories through nets against losses worked out in numpy at every point."""

import numpy as np
import pytest
import torch
from torch import nn

from kdviz.analysis.landscape import paths
from kdviz.analysis.landscape.network import Network
from kdviz.analysis.landscape.options import Grid, Measurement
from kdviz.analysis.landscape.trajectory import principal, trajectory
from kdviz.base.check import KdvizError
from kdviz.data.base import Data
from kdviz.models import build


def images_of(count=40, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 2, 3), generator=generator, dtype=torch.uint8)
    return Data("noise", "test", images, torch.arange(count) % classes, (0.5,), (0.25,), tuple("abcdefgh"[:classes]))


def filled(net, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                drawn = scale * torch.randn(tensor.shape, generator=generator)
                tensor.copy_(drawn.abs() + 0.5 if name.endswith("running_var") else drawn)
    return net.eval()


def deep(seed, scale=1.0):
    return filled(nn.Sequential(nn.Flatten(), nn.Linear(6, 5, bias=False), nn.Linear(5, 4, bias=False)), seed, scale)


def normed(seed):
    return filled(nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4)), seed)


DATA = images_of()
X = ((DATA.images.numpy() / 255 - 0.5) / 0.25).reshape(40, 6)
Y = DATA.labels.numpy()


def arrays(net):
    return {name: t.detach().numpy().astype(float) for name, t in net.state_dict().items() if t.is_floating_point()}


def mix(shares, nets):
    return {name: sum(s * net[name] for s, net in zip(shares, nets, strict=True)) for name in nets[0]}


def cross_entropy(z):
    z = z - z.max(1, keepdims=True)
    return float(np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), Y]))


def loss_of(w):
    """Both kinds of net, in float64; batch norm with the statistics in `w` where there are any."""
    if "2.running_var" not in w:
        return cross_entropy(X @ w["1.weight"].T @ w["2.weight"].T)
    h = X @ w["1.weight"].T + w["1.bias"]
    h = (h - w["2.running_mean"]) / np.sqrt(w["2.running_var"] + 1e-5) * w["2.weight"] + w["2.bias"]
    return cross_entropy(np.maximum(h, 0) @ w["4.weight"].T + w["4.bias"])


def fresh(w):
    """The same weights with the statistics of all images, as training mode has them (unbiased variance)."""
    h = X @ w["1.weight"].T + w["1.bias"]
    return {**w, "2.running_mean": h.mean(0), "2.running_var": h.var(0, ddof=1)}


@pytest.mark.parametrize("make", [deep, normed])
def test_a_line_has_the_losses_of_mixed_weights_and_its_barrier(make):
    first, second = make(1), make(2)
    line = paths.interpolation(first, second, DATA, grid=Grid(steps=9), labels=("ce", "kd"))
    nets = arrays(first), arrays(second)
    expected = np.array([loss_of(mix((1 - a, a), nets)) for a in np.linspace(0, 1, 9)])
    assert line.attrs["kind"] == "path"
    np.testing.assert_allclose(line.ce, expected, rtol=2e-6)
    chord = np.linspace(expected[0], expected[-1], 9)
    assert line.ce.attrs["barrier"] == pytest.approx(max((expected - chord).max(), 0), rel=1e-5, abs=1e-6)
    assert line.mark.values.tolist() == ["ce", "kd"]
    np.testing.assert_allclose(line.mark_loss, expected[[0, -1]], rtol=2e-6)
    squares = sum(((a - b) ** 2).sum() for n, a in nets[0].items() for b in [nets[1][n]] if "running" not in n)
    assert line.attrs["distance"] == pytest.approx(np.sqrt(squares), rel=1e-6)


def test_permuted_hidden_units_have_a_barrier_and_one_linear_layer_has_none():
    # Both ends compute the same function; halfway the hidden units of opposite sign cancel and the logits vanish.
    net = deep(3, scale=0.3)
    flipped = deep(3, scale=0.3)
    with torch.no_grad():
        for tensor in flipped.parameters():
            tensor.neg_()
    line = paths.interpolation(net, flipped, DATA, grid=Grid(steps=5))
    ends = loss_of(arrays(net))
    np.testing.assert_allclose(line.ce.values[[0, 2, 4]], [ends, np.log(4), ends], rtol=1e-6)
    assert line.ce.attrs["barrier"] == pytest.approx(max(np.log(4) - ends, 0), abs=1e-6)
    convex = [filled(nn.Sequential(nn.Flatten(), nn.Linear(6, 4)), seed) for seed in (1, 2)]
    assert paths.interpolation(*convex, DATA, grid=Grid(steps=7)).ce.attrs["barrier"] == 0


def test_the_barrier_of_known_values():
    alphas = np.linspace(-0.5, 1.5, 9)
    assert paths.barrier(alphas, 3 + 2 * alphas) == (0.0, pytest.approx(0, abs=1))
    assert paths.barrier(alphas, alphas * (1 - alphas)) == pytest.approx((0.25, 0.5))
    assert np.isnan(paths.barrier(alphas, np.full(9, np.nan))[0])


@pytest.mark.parametrize(("bn", "statistics"), [("recompute", fresh), ("frozen", None)])
def test_batch_norm_follows_the_policy(bn, statistics):
    first, second = normed(1), normed(2)
    nets = arrays(first), arrays(second)
    line = paths.interpolation(first, second, DATA, Measurement(bn=bn), Grid(steps=3))
    kept = {name: nets[0][name] for name in ("2.running_mean", "2.running_var")}
    mixed = [mix((1 - a, a), nets) for a in (0, 0.5, 1)]
    expected = [loss_of(statistics(w) if statistics else {**w, **kept}) for w in mixed]
    np.testing.assert_allclose(line.ce, expected, rtol=2e-5)
    np.testing.assert_allclose(line.mark_loss, [loss_of(w) for w in nets], rtol=2e-6)
    assert line.attrs["bn"] == bn


def test_a_plane_holds_its_three_nets_at_their_distances():
    nets = [normed(seed) for seed in (1, 2, 3)]
    found = paths.plane(nets, DATA, grid=Grid(steps=7, margin=0.1), labels=("ce", "kd", "kd+rk"))
    w = [arrays(net) for net in nets]
    flat = np.stack([np.concatenate([one[n].ravel() for n, _ in nets[0].named_parameters()]) for one in w])
    places = np.stack([found.mark_alpha, found.mark_beta], axis=1)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.linalg.norm(places[i] - places[j]) == pytest.approx(np.linalg.norm(flat[i] - flat[j]), rel=1e-6)
    np.testing.assert_allclose(found.mark_loss, [loss_of(one) for one in w], rtol=2e-6)
    for name in ("alpha", "beta"):
        assert 0 in found[name].values
        assert found[name].values.min() <= found[f"mark_{name}"].values.min()
        assert found[name].values.max() >= found[f"mark_{name}"].values.max()
    # Every point is a mix of the three nets: solve for the shares and compare; no variance falls below all three.
    corners = np.vstack([places.T, np.ones(3)])
    for i, j in ((0, 0), (2, 4), (6, 6)):
        shares = np.linalg.solve(corners, [float(found.alpha[i]), float(found.beta[j]), 1.0])
        mixed = mix(shares, w)
        mixed["2.running_var"] = np.maximum(mixed["2.running_var"], np.min([one["2.running_var"] for one in w], axis=0))
        assert float(found.ce[i, j]) == pytest.approx(loss_of(mixed), rel=1e-4)


def test_a_trajectory_is_projected_as_numpy_does_it():
    rng = np.random.default_rng(0)
    nets = [deep(seed, 0.5) for seed in range(5)]
    found = trajectory(nets, DATA, grid=Grid(steps=5), epochs=[1, 2, 4, 8, 16])
    w = [arrays(net) for net in nets]
    flat = np.stack([np.concatenate([one["1.weight"].ravel(), one["2.weight"].ravel()]) for one in w])
    _, sizes, rows = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    np.testing.assert_allclose(found.attrs["explained_variance"], (sizes**2 / (sizes**2).sum())[:2], rtol=1e-6)
    places = (flat - flat[-1]) @ rows[:2].T
    mine = np.stack([found.trajectory_alpha, found.trajectory_beta], axis=1)
    np.testing.assert_allclose(np.abs(mine), np.abs(places), atol=1e-5)
    assert found.trajectory_epoch.values.tolist() == [1, 2, 4, 8, 16]
    np.testing.assert_allclose(found.trajectory_loss, [loss_of(one) for one in w], rtol=2e-6)
    shadows = flat[-1] + places @ rows[:2]
    projected = [loss_of({"1.weight": s[:30].reshape(5, 6), "2.weight": s[30:].reshape(4, 5)}) for s in shadows]
    np.testing.assert_allclose(found.trajectory_projected, projected, rtol=1e-5)
    np.testing.assert_allclose(found.trajectory_off_plane, np.linalg.norm(flat - shadows, axis=1), atol=1e-5)
    assert float(found.trajectory_off_plane[-1]) == pytest.approx(0, abs=1e-6)
    components, _ = principal(rng.standard_normal((6, 50)))
    np.testing.assert_allclose(components @ components.T, np.eye(2), atol=1e-10)


def test_models_are_left_as_they_were_and_bad_input_is_refused():
    nets = [normed(seed).train() for seed in (1, 2, 3)]
    before = [{n: t.clone() for n, t in net.state_dict().items()} for net in nets]
    paths.plane(nets, DATA, Measurement(bn="recompute"), Grid(steps=3))
    for net, kept in zip(nets, before, strict=True):
        assert net.training
        assert all(torch.equal(kept[n], t) for n, t in net.state_dict().items())
    with pytest.raises(KdvizError, match="different forms"):
        paths.interpolation(normed(1), deep(1), DATA)
    with pytest.raises(KdvizError, match="one line"):
        trajectory([deep(1)] * 3, DATA)
    with pytest.raises(KdvizError, match="same weights"):
        paths.plane([deep(1), deep(1), deep(2)], DATA)
    with pytest.raises(KdvizError, match="three saved epochs"):
        trajectory([deep(1), deep(2)], DATA)
    with pytest.raises(KdvizError, match="bn must be one of"):
        paths.interpolation(deep(1), deep(2), DATA, Measurement(bn="train"))


def test_batch_norm_that_does_not_fold_follows_its_new_statistics():
    net = build("wrn_16_1", classes=5, seed=0).eval()
    images = torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network = Network(net, images[:4])
    network.recompute([images])
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    with torch.no_grad():
        net.train()(images)
        expected = net.eval()(images).logits
    torch.testing.assert_close(network(network.prepare(images)), expected, rtol=1e-4, atol=1e-4)
