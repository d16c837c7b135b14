"""The comparison of nets against softmax regressions, whose losses are convex and known."""

import numpy as np
import pytest
import torch
from torch import nn

from kdviz import plots
from kdviz.analysis.landscape.compare import Statistics, compare, rows
from kdviz.analysis.landscape.options import Grid, Measurement
from kdviz.base.check import KdvizError
from kdviz.data.base import Data


def images_of(count=40, classes=4):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, 2, 3), generator=generator, dtype=torch.uint8)
    return Data("noise", "test", images, torch.arange(count) % classes, (0.5,), (0.25,), tuple("abcd"))


def regression(scale, seed=1):
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 4, bias=False))
    with torch.no_grad():
        net[1].weight.copy_(scale * torch.randn(4, 6, generator=torch.Generator().manual_seed(seed)))
    return net


def closed_form(net, data):
    """Loss and Hessian of softmax regression, in numpy."""
    x = ((data.images.numpy() / 255 - 0.5) / 0.25).reshape(len(data), -1)
    z = x @ net[1].weight.detach().numpy().astype(float).T
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    loss = -np.log(p[np.arange(len(x)), data.labels.numpy()]).mean()
    blocks = np.einsum("nk,kl->nkl", p, np.eye(4)) - np.einsum("nk,nl->nkl", p, p)
    return loss, np.einsum("nkl,ni,nj->kilj", blocks, x, x).reshape(24, 24) / len(x)


@pytest.fixture(scope="module")
def compared():
    data, nets = images_of(), {"ce": regression(0.2), "kd": regression(1.0)}
    seen = []
    statistics = Statistics(eigenvalues=3, probes=200)
    found, planes = compare(
        nets,
        data,
        Measurement(),
        Grid(steps=7, seed=3),
        statistics,
        planes=2,
        progress=lambda k, n: seen.append((k, n)),
    )
    return data, nets, found, planes, seen


def test_convex_losses_are_found_to_be_so_with_their_hessian(compared):
    data, nets, found, planes, seen = compared
    assert found.sizes == {"net": 2, "loss": 1, "seed": 2, "rank": 3}
    for label, net in nets.items():
        loss, matrix = closed_form(net, data)
        one = found.sel(net=label, loss="ce")
        np.testing.assert_allclose(one.centre, loss, rtol=1e-6)
        assert one.convex_share.values.tolist() == [1, 1]
        assert one.minima.values.tolist() == [1, 1]
        np.testing.assert_allclose(one.top_eigenvalue, np.linalg.eigvalsh(matrix)[::-1][:3], rtol=0.02)
        assert abs(float(one.trace) - np.trace(matrix)) < 4 * float(one.trace_stderr)
    assert [plane.attrs["label"] for plane in planes] == ["ce", "ce", "kd", "kd"]
    assert [plane.attrs["seed"] for plane in planes] == [3, 4, 3, 4]
    assert seen[-1] == (294, 294), "two planes and a spectrum of each net"
    assert seen == sorted(seen)
    # Planes of different seeds differ, so there is a spread to tell.
    assert float(found.curvature_high.std("seed").min()) > 0


def test_the_table_has_a_row_for_every_net_and_loss(compared):
    _, _, found, _, _ = compared
    table = rows(found)
    assert [row[:2] for row in table] == [["loss", "net"], ["ce", "ce"], ["ce", "kd"]]
    assert len({len(row) for row in table}) == 1
    spread = found.flatness_radius.sel(net="kd", loss="ce").values
    cell = table[2][table[0].index("flatness radius")]
    assert cell == f"{spread.mean():.3g} ± {spread.std(ddof=1):.2g}"


def test_the_figure_has_a_panel_for_every_measure(compared):
    with plots.style():
        fig = plots.draw(compared[2])
    found = compared[2].sel(loss="ce")
    same = len(np.unique(found.minima)) == 1  # then it is said in a word, as dots would not add to it
    titles = [axis.get_title(loc="left") for axis in fig.axes]
    assert titles[:2] == ["loss\nnats", "convex share\nfraction"]
    assert fig.subfigs[0].get_suptitle().startswith("cross-entropy")
    assert (f"minima: {float(found.minima[0, 0]):g} on every plane" in fig.subfigs[0].get_suptitle()) == same
    assert len(titles) == 6 - same
    dots = [line for line in fig.axes[2].lines if line.get_linestyle() == "None"]
    np.testing.assert_allclose(dots[1].get_ydata(), compared[2].flatness_radius.sel(net="kd", loss="ce"))


def test_without_the_hessian_and_bad_input(tmp_path):
    found, _ = compare(
        {"a": regression(1.0)}, images_of(), Measurement(samples=20), Grid(steps=3), Statistics(eigenvalues=0), planes=1
    )
    assert "trace" not in found
    assert "±" not in " ".join(rows(found)[1])
    with pytest.raises(KdvizError, match="at least one"):
        compare({}, images_of())
