"""Metrics against scipy, definitions written out as loops, and values known on paper."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kdviz import metrics
from kdviz.base.check import KdvizError
from kdviz.metrics import kendall
from kdviz.metrics.inversions import inversions


def reference(x, y, variant):
    """scipy row by row; tau-a, which it lacks, by its definition over all pairs."""
    if variant != "a":
        return np.array([stats.kendalltau(a, b, variant=variant).statistic for a, b in zip(x, y, strict=True)])
    k = x.shape[1]
    i, j = np.triu_indices(k, 1)
    x, y = x.astype(float), y.astype(float)
    surplus = np.sign(x[:, i] - x[:, j]) * np.sign(y[:, i] - y[:, j])
    return surplus.sum(1) / (k * (k - 1) / 2)


def rows(n, k, *, ties, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((n, k))
    y = x + generator.standard_normal((n, k))
    return (x.round(1), y.round(1)) if ties else (x, y)


@pytest.mark.parametrize("variant", "abc")
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [2, 3, 7, 100, 128, 129, 257, 1000])
def test_tau_is_scipys(k, ties, variant):
    x, y = rows(7, k, ties=ties)
    ours = metrics.kendall_tau(torch.from_numpy(x), torch.from_numpy(y), variant=variant)
    assert ours.dtype == torch.float64
    np.testing.assert_allclose(ours, reference(x, y, variant), atol=1e-12, rtol=0)


@pytest.mark.parametrize("k", [4096, 32768, 33000, 70000])  # one integer holds two ranks up to the second
def test_tau_of_long_rows(k):
    x, y = rows(3, k, ties=True)
    x[0, ::3], y[0, 1::3], x[1] = -np.inf, np.inf, 2.0
    ours = metrics.kendall_tau(torch.from_numpy(x), torch.from_numpy(y))
    np.testing.assert_allclose(ours, reference(x, y, "b"), atol=1e-12, rtol=0)
    assert ours[1].isnan()


@pytest.mark.parametrize("k", [1, 2, 64, 127, 128, 129, 145, 1023, 1024, 1025, 2049, 2500])
@pytest.mark.parametrize("below", [1, 3, 100, 1 << 16, 1 << 20])
def test_inversions_are_those_of_the_pairs_themselves(k, below):
    """Lengths around the ends of leaves, stretches and groups; values from all alike to hardly any alike."""
    found = np.random.default_rng(k).integers(0, below, (3, k))
    found[1] = np.sort(found[1])[::-1]
    upper = np.triu_indices(k, 1)
    expected = [(row[upper[0]] > row[upper[1]]).sum() for row in found]
    assert inversions(found, below).tolist() == expected


@pytest.fixture
def two_threads():
    kept = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(kept)


def test_threads_count_what_one_counts(two_threads, monkeypatch):
    monkeypatch.setattr(kendall, "BLOCK", 2000)  # two rows of the long ones
    for k in (40, 1000):
        x, y = rows(31, k, ties=True)
        ours = metrics.kendall_tau(torch.from_numpy(x), torch.from_numpy(y))
        np.testing.assert_allclose(ours, reference(x, y, "b"), atol=1e-12, rtol=0)


def test_the_memory_of_tau_does_not_grow_with_the_rows(monkeypatch):
    """Of numpy's arrays, which are all that is large here: bounded by the block, and far below the pairs."""
    monkeypatch.setattr(kendall, "BLOCK", 1 << 14)

    def peak(n, k):
        x, y = (torch.from_numpy(one) for one in rows(n, k, ties=True))
        tracemalloc.start()
        metrics.kendall_tau(x, y)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(8, 1024)  # what is made once
    assert (
        peak(160, 1024) < peak(16, 1024) + 160 * 1000
    )  # an eighth of a row for each, where all rows at once would be six
    assert peak(16, 1024) < 100 * (1 << 14)  # bytes for each number of the block
    assert peak(1, 16384) < 100 * 16384  # all pairs of one row would be 268 million


@pytest.mark.parametrize("k", [130, 1000, 40000])
def test_tau_of_a_reversed_row_is_minus_one(k):
    x = torch.arange(k, dtype=torch.float64).expand(2, k)
    assert metrics.kendall_tau(x, -x).tolist() == [-1, -1]
    assert metrics.kendall_tau(x, 2 * x + 1).tolist() == [1, 1]


@pytest.mark.parametrize("variant", "abc")
@pytest.mark.parametrize(("k", "ties"), [(5, True), (90, False), (90, True), (300, True)])
def test_pair_blocks_are_the_same_function(k, ties, variant, monkeypatch):
    """The path of other devices, run on this one, with blocks so small that all of their edges are crossed."""
    monkeypatch.setattr(kendall, "_cpu_blocks", kendall._pair_blocks)
    monkeypatch.setattr(kendall, "PAIRS", 40 * k)
    x, y = rows(11, k, ties=ties)
    x[3], y[4, 1] = 1.0, np.nan
    ours = metrics.kendall_tau(torch.from_numpy(x), torch.from_numpy(y), variant=variant)
    expected = reference(x, y, variant)
    expected[4] = np.nan
    np.testing.assert_allclose(ours, expected, atol=1e-12, rtol=0)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_tau_of_any_small_integers(data):
    k = data.draw(st.integers(2, 12))
    numbers = st.lists(st.integers(-3, 3), min_size=k, max_size=k)
    x, y = (np.array([data.draw(numbers), data.draw(numbers)]) for _ in range(2))
    for variant in "abc":
        ours = metrics.kendall_tau(torch.from_numpy(x), torch.from_numpy(y), variant=variant)
        np.testing.assert_allclose(ours, reference(x, y, variant), atol=1e-12, rtol=0)


@pytest.mark.parametrize("variant", "abc")
def test_tau_is_nan_where_scipys_is(variant):
    x = np.array([[1.0, 1, 1], [1, 2, np.nan], [1, 2, 3], [np.inf, -np.inf, 0]])
    y = np.array([[1.0, 2, 3], [1, 2, 3], [np.nan, 1, 2], [3, 1, 2]])
    ours = metrics.kendall_tau(torch.from_numpy(x), torch.from_numpy(y), variant=variant)
    assert ours.isnan().tolist() == [variant != "a", True, True, False]
    assert ours[3] == 1 or variant == "c"
    wide = [np.tile(one, (1, 60)) for one in (x, y)]  # long rows take another way
    found = metrics.kendall_tau(*map(torch.from_numpy, wide), variant=variant)
    assert found.isnan().tolist() == [variant != "a", True, True, False]
    assert math.isnan(metrics.kendall_tau(torch.ones(1), torch.ones(1), variant=variant))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int64])
def test_tau_of_every_type(dtype):
    x, y = (torch.from_numpy(one * 8).to(dtype) for one in rows(5, 40, ties=False))
    np.testing.assert_allclose(
        metrics.kendall_tau(x, y), reference(x.double().numpy(), y.double().numpy(), "b"), atol=1e-12, rtol=0
    )


def test_tau_shapes_and_settings():
    x, y = map(torch.from_numpy, rows(3, 9, ties=False))
    assert metrics.kendall_tau(x[0], y[0]) == metrics.kendall_tau(x, y)[0]
    assert metrics.kendall_tau(x[:0], y[:0]).shape == (0,)
    assert metrics.kendall_tau(x.requires_grad_(), y).requires_grad is False
    strided = torch.stack([x, y], dim=2)
    torch.testing.assert_close(metrics.kendall_tau(strided[..., 0], strided[..., 1]), metrics.kendall_tau(x, y))
    with pytest.raises(KdvizError, match=r"x is \(3, 9\) but y is \(3, 8\)"):
        metrics.kendall_tau(x, y[:, :8])
    with pytest.raises(KdvizError, match="variant must be one of a, b, c, got 'd'"):
        metrics.kendall_tau(x, y, variant="d")


def test_tau_of_the_published_example():
    """The mean of four rows is .5."""
    student = [
        [1, 0.2, -0.5, 0.3, 2],
        [0.1, -1.2, 0.7, 1.5, -0.3],
        [2.2, 0.4, 0, -0.6, 1.1],
        [-0.9, 0.8, 1.9, 0.25, -1.4],
    ]
    teacher = [
        [0.5, 2.5, -1, 0, 1.2],
        [-0.4, 0.3, 3, 1.1, -2],
        [1.7, -0.2, 0.6, -1.5, 0.9],
        [0.2, -0.7, 0.4, 2.1, -1.3],
    ]
    assert metrics.kendall_tau(torch.tensor(student), torch.tensor(teacher)).mean().item() == pytest.approx(
        0.5, abs=1e-12
    )


@pytest.mark.gpu
def test_tau_on_a_gpu():
    x, y = map(torch.from_numpy, rows(50, 1000, ties=True))
    for variant in "abc":
        there = metrics.kendall_tau(x.cuda(), y.cuda(), variant=variant)
        assert there.is_cuda
        torch.testing.assert_close(there.cpu(), metrics.kendall_tau(x, y, variant=variant), atol=1e-12, rtol=0)


@pytest.mark.parametrize("ties", [False, True])
def test_spearman_is_scipys(ties):
    x, y = rows(8, 60, ties=ties)
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(metrics.spearman(torch.from_numpy(x), torch.from_numpy(y)), expected, atol=1e-12)


def test_spearman_of_a_constant_row_is_nan():
    assert metrics.spearman(torch.ones(1, 4), torch.arange(4.0)[None]).isnan().all()
    assert metrics.spearman(torch.tensor([[1.0, torch.nan, 2]]), torch.arange(3.0)[None]).isnan().all()


@pytest.mark.parametrize("ties", [False, True])
def test_overlap_counts_common_channels(ties):
    x, y = (torch.from_numpy(one.round() if ties else one) for one in rows(30, 12, ties=False))
    for k in (1, 5, 12):
        sets = [[set(np.argsort(-row, kind="stable")[:k]) for row in one.numpy()] for one in (x, y)]
        expected = [len(a & b) / k for a, b in zip(*sets, strict=True)]
        assert metrics.topk_overlap(x, y, k=k).tolist() == pytest.approx(expected)
    with pytest.raises(KdvizError, match="k must be from 1 to the 12 classes, got 13"):
        metrics.topk_overlap(x, y, k=13)


def test_agreement_and_top1():
    student = torch.tensor([[2.0, 1, 0], [0, 2, 1], [0, 1, 2], [5, 0, 0]])
    teacher = torch.tensor([[9.0, 1, 0], [3, 2, 1], [0, 1, 2], [0, 0, 1]])
    assert metrics.agreement(student, teacher) == 0.5
    assert metrics.top1(student, torch.tensor([0, 1, 2, 2])) == 0.75
    with pytest.raises(KdvizError, match="were they trained on different"):
        metrics.agreement(student, teacher[:, :2])
    with pytest.raises(KdvizError, match=r"got \(4, 3\) and \(3,\)"):
        metrics.top1(student, torch.zeros(3, dtype=torch.int64))


def test_ece_of_known_confidences():
    """Ten samples at confidence .75 of which half are right, ten at .95, all right: .5 * .25 + .5 * .05."""
    logits = torch.tensor([[math.log(3), 0.0]] * 10 + [[math.log(19), 0.0]] * 10)
    target = torch.tensor([0, 1] * 5 + [0] * 10)
    assert metrics.ece(logits, target).item() == pytest.approx(0.15, abs=1e-7)


def test_ece_is_the_loop_over_bins():
    generator = np.random.default_rng(3)
    logits, target = 2 * generator.standard_normal((300, 6)), generator.integers(0, 6, 300)
    p = np.exp(logits / 1.7) / np.exp(logits / 1.7).sum(1, keepdims=True)
    expected = 0.0
    for low, high in itertools.pairwise(np.linspace(0, 1, 11)):
        inside = (p.max(1) > low) & (p.max(1) <= high)
        if inside.any():
            expected += inside.mean() * abs((p.argmax(1) == target)[inside].mean() - p.max(1)[inside].mean())
    ours = metrics.ece(torch.from_numpy(logits), torch.from_numpy(target), bins=10, temperature=1.7)
    assert ours.item() == pytest.approx(expected, abs=1e-12)
    with pytest.raises(KdvizError, match="temperature must be a finite number above 0"):
        metrics.ece(torch.from_numpy(logits), torch.from_numpy(target), temperature=0)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    """Bins are ((i - 1) / bins, i / bins]: .5 is in the first of two, .6 in the second, so that they do not cancel."""
    logits = torch.tensor([[0.0, 0.0], [math.log(0.6), math.log(0.4)]], dtype=torch.float64)
    target = torch.tensor([1, 0])  # the first is wrong (argmax takes the first of equals), the second right
    assert metrics.ece(logits, target, bins=2).item() == pytest.approx((0.5 + 0.4) / 2)
