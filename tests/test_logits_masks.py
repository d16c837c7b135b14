"""Logits of other layouts: masked channels, [batch, time, channels], the k largest alone. Truth: scipy, row by row."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import log_softmax, softmax

from kdviz.analysis.histogram import histogram
from kdviz.analysis.logits import load_logits
from kdviz.analysis.ranks import tau
from kdviz.analysis.sources import chunks, open_logits
from kdviz.analysis.suboptimal import mine_samples, mine_students
from kdviz.base.check import KdvizError

N, K = 40, 12


@pytest.fixture
def arrays():
    """Student, teacher, labels; about a third of the channels masked, never the label's."""
    generator = np.random.default_rng(3)
    t = generator.standard_normal((N, K))
    s = t + generator.standard_normal((N, K))
    y = generator.integers(0, K, N)
    s[0, :] = t[0, :]  # a whole row among the masked ones
    for net in (s, t):
        hidden = generator.random((N, K)) < 0.2
        hidden[np.arange(N), y], hidden[0] = False, False
        net[hidden] = -np.inf
    return s, t, y


def kept(s, t):
    return np.isfinite(s) & np.isfinite(t)


def test_tau_is_over_the_channels_of_both(arrays):
    s, t, y = arrays
    result = tau(arrays, topk=(1, 3), shares=(0.5,), smooth_samples=N).sortby("sample")
    rows = [(a[m], b[m]) for a, b, m in zip(s, t, kept(s, t), strict=True)]
    expected = [stats.kendalltau(a, b).statistic for a, b in rows]
    np.testing.assert_allclose(result.tau_b, expected, atol=1e-12)
    np.testing.assert_allclose(result.spearman, [stats.spearmanr(a, b).statistic for a, b in rows], atol=1e-12)
    assert result.target.values.tolist() == y.tolist()
    right = [np.argmax(np.where(m, a, -np.inf)) == label for a, m, label in zip(s, kept(s, t), y, strict=True)]
    assert result.correct.values.tolist() == [int(one) for one in right]
    np.testing.assert_allclose(result.confidence, [softmax(b).max() for _, b in rows], rtol=1e-6)
    tops = [len({*np.argsort(-a)[:3]} & {*np.argsort(-b)[:3]}) / 3 for a, b in rows]
    assert float(result["mean"].sel(measure="top3")) == pytest.approx(np.mean(tops))
    halves = [np.argsort(-b)[: int(np.ceil(len(b) / 2))] for _, b in rows]
    shares = [stats.kendalltau(a[h], b[h]).statistic for (a, b), h in zip(rows, halves, strict=True)]
    assert float(result.share_mean.sel(end="top", share=0.5)) == pytest.approx(np.nanmean(shares), abs=1e-12)
    assert result.attrs["masked"] == (~kept(s, t)).any(1).sum()
    assert f"In {result.attrs['masked']} samples some channels are masked" in result.attrs["caption"]
    pairs = [np.triu_indices(len(a), 1) for a, _ in rows]
    smooth = [np.mean(np.tanh(b[i] - b[j]) * np.tanh(a[i] - a[j])) for (a, b), (i, j) in zip(rows, pairs, strict=True)]
    assert float(result.smooth_mean.sel(steepness=2.0)) == pytest.approx(np.mean(smooth), abs=1e-9)


def test_a_masked_channel_is_in_no_bin_and_has_no_probability(arrays):
    s, t, _ = arrays
    result = histogram(arrays, temperature=2.0)
    for net, logits in (("student", s), ("teacher", t)):
        both = np.where(kept(s, t), logits, -np.inf)
        assert int(result.counts_logit.sel(net=net).sum()) == kept(s, t).sum()
        assert int(result.counts_probability.sel(net=net).sum()) == kept(s, t).sum()
        expected = -np.sort(-softmax(both / 2.0, axis=1), axis=1).mean(0)
        np.testing.assert_allclose(result["mass"].sel(net=net), expected, rtol=1e-5, atol=1e-9)
    gradient = np.abs(
        softmax(np.where(kept(s, t), s, -np.inf) / 2, 1) - softmax(np.where(kept(s, t), t, -np.inf) / 2, 1)
    )
    order = np.argsort(-np.where(kept(s, t), t, -np.inf), axis=1, kind="stable")
    shares = np.take_along_axis(gradient / gradient.sum(1, keepdims=True).clip(1e-300), order, 1).mean(0)
    np.testing.assert_allclose(result.gradient.sel(loss="kd"), shares, atol=1e-6)
    # the ranking loss' shares are those of the same rows without their masked channels, one by one
    total = np.zeros(K)
    for a, b, m in zip(s, t, kept(s, t), strict=True):
        alone = histogram((a[m][None].repeat(2, 0), b[m][None].repeat(2, 0))).gradient.sel(loss="rank_kendall")
        total[: m.sum()] += alone.values
    np.testing.assert_allclose(result.gradient.sel(loss="rank_kendall"), total / N, atol=1e-9)


def test_losses_of_suboptimal_cases_are_of_the_unmasked_channels(arrays):
    s, t, y = arrays
    masks = kept(s, t)
    result = mine_samples(arrays).sortby("sample")
    expected = []
    for a, b, m in zip(s, t, masks, strict=True):
        q, p = log_softmax(b[m] / 4.0), log_softmax(a[m] / 4.0)
        expected.append(np.sum(np.exp(q) * (q - p)))
    found = result.loss.sel(criterion="kl").values
    ratio = found / np.where(np.array(expected) > 1e-12, expected, np.nan)
    assert np.nanmin(ratio) == pytest.approx(np.nanmax(ratio), rel=1e-5)  # KL, times the same T^2 or 1
    right = [np.argmax(np.where(m, a, -np.inf)) == label for a, m, label in zip(s, masks, y, strict=True)]
    assert result.right.values.tolist() == right
    for case in range(result.sizes["case"]):
        ids, labels = (result[name].values[case] for name in ("case_sample", "case_label"))
        assert labels.tolist() == y[ids].tolist()


def test_students_with_masks_of_their_own_are_compared_sample_by_sample(arrays):
    s, t, y = arrays
    other = np.where(np.arange(K) == (y[:, None] + 1) % K, -np.inf, s[::-1].copy())
    other[np.arange(N), y] = 0.5
    found = mine_students([(s, t, y), (other, t, y)], drop_nonfinite=True)
    rights = [mine_samples(one).sortby("sample").right.values for one in ((s, t, y), (other, t, y))]
    assert int(found.candidates.values[0, 1]) == (~rights[0] & rights[1]).sum()


def test_what_a_mask_leaves_too_little_of_is_refused_or_left_out():
    s, t = np.zeros((3, 4)), np.arange(12.0).reshape(3, 4)
    s[0, 1:] = -np.inf  # one channel is left
    s[1, 2] = -np.inf  # the label's
    y = np.array([0, 2, 1])
    with pytest.raises(KdvizError, match=r"2 of 3 samples have their label's channel or all but one at -inf; leave"):
        list(chunks(open_logits((s, t, y)), who="x"))
    tally = {}
    found = list(chunks(open_logits((s, t, y)), who="x", drop_nonfinite=True, least=1, tally=tally))
    assert [chunk.ids.tolist() for chunk in found] == [[2]]
    assert tally == {"samples": 1, "dropped": 2}


def test_masks_stay_where_logits_are_only_loaded(arrays):
    s, t, _ = arrays
    loaded = load_logits(arrays)
    assert np.array_equal(np.isfinite(loaded.logits_student), kept(s, t))
    assert np.array_equal(np.isfinite(loaded.logits_teacher), kept(s, t))


def test_time_becomes_samples_and_padding_is_left_out(monkeypatch):
    generator = np.random.default_rng(0)
    s, t = generator.standard_normal((2, 5, 4, 6))
    y = generator.integers(0, 6, (5, 4))
    y[1, 2:] = -100
    monkeypatch.setattr("kdviz.analysis.sources.NUMBERS", 50)  # two sequences in a chunk
    loaded = load_logits((s, t, y))
    rows = [i for i in range(20) if i not in (6, 7)]
    np.testing.assert_array_equal(loaded.logits_student, s.reshape(20, 6)[rows])
    np.testing.assert_array_equal(loaded.logits_teacher, t.reshape(20, 6)[rows])
    assert loaded.target.values.tolist() == y.reshape(20)[rows].tolist()
    assert loaded.sample.values.tolist() == rows
    assert loaded.attrs["layout"] == "5 x 4 positions, each a sample"
    result = tau((torch.tensor(s), torch.tensor(t), torch.tensor(y)))
    assert (result.attrs["samples"], result.attrs["dropped"], result.attrs["padding"]) == (18, 0, 2)
    assert "The logits are 5 x 4 positions, each a sample." in result.attrs["caption"]
    stream = load_logits([(s[:2], t[:2]), (s[2:], t[2:])])
    assert stream.sizes["sample"] == 20
    with pytest.raises(KdvizError, match=r"logits_student is \(20, 6\) but logits_teacher is \(15, 6\)"):
        load_logits([(s, t[:, :3])])


@pytest.fixture
def sparse(tmp_path):
    """The three largest log-probabilities of a teacher of 8 classes, in any order; the student's are dense."""
    generator = np.random.default_rng(5)
    teacher = log_softmax(2 * generator.standard_normal((30, 8)), axis=1)
    student = generator.standard_normal((30, 8))
    index = np.argsort(-teacher, axis=1)[:, :3]
    index = generator.permuted(index, axis=1)
    values = np.take_along_axis(teacher, index, 1)
    path = tmp_path / "sparse.npz"
    np.savez(path, student=student, teacher_indices=index, teacher_values=values)
    return path, student, teacher, index


@pytest.mark.parametrize("rest", ["mask", "floor", "spread"])
def test_sparse_logits_and_their_rest(sparse, rest):
    path, student, teacher, index = sparse
    stored = np.zeros((30, 8), bool)
    np.put_along_axis(stored, index, True, 1)
    result = tau(open_logits(str(path), rest=rest)).sortby("sample")
    left = 1 - (np.exp(teacher) * stored).sum(1, keepdims=True)
    filled = {
        "mask": np.full((30, 8), np.nan),
        "floor": np.broadcast_to(np.where(stored, teacher, np.inf).min(1, keepdims=True), (30, 8)),
        "spread": np.broadcast_to(np.log(left / 5), (30, 8)),
    }[rest]
    dense = np.where(stored, teacher, filled)
    expected = [
        stats.kendalltau(a[~np.isnan(b)], b[~np.isnan(b)]).statistic for a, b in zip(student, dense, strict=True)
    ]
    np.testing.assert_allclose(result.tau_b, expected, atol=1e-12)
    assert "that are not stored" in result.attrs["rest"]
    assert result.attrs["rest"] in result.attrs["caption"]
    if rest == "spread":
        loaded = load_logits(open_logits(str(path), rest=rest)).logits_teacher
        np.testing.assert_allclose(np.exp(loaded).sum("channel"), 1, atol=1e-5)


def test_sparse_sequences_of_torch_and_absent_places(tmp_path):
    index = torch.tensor([[[0, 2], [1, -1]]])
    torch.save(
        {"student_indices": index, "student_values": torch.tensor([[[1.0, 2], [3, 9]]]), "classes": torch.tensor(4)}
        | {"logits_teacher": torch.zeros(1, 2, 4)},
        tmp_path / "a.pt",
    )
    loaded = load_logits(open_logits(str(tmp_path / "a.pt"), rest="floor"))
    assert loaded.logits_student.values.tolist() == [[1, 1, 2, 1], [3, 3, 3, 3]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher_values": None}, "has one of teacher_indices and teacher_values"),
        ({"teacher_values": np.zeros((30, 2))}, r"teacher_indices are \(30, 3\) but teacher_values \(30, 2\)"),
        ({"teacher_indices": np.zeros((30, 3), int)}, "a sample names one channel twice"),
        ({"teacher_indices": np.array([[0, 1, 8]] * 30)}, "index 8, but 8 classes"),
        ({"teacher_indices": np.zeros((30, 3))}, "teacher_indices must be whole numbers"),
        ({"teacher_values": np.ones((30, 3))}, "rest spread takes logarithms of probabilities, but they sum to 8.15"),
    ],
)
def test_sparse_logits_that_are_none(sparse, tmp_path, change, message):
    arrays = dict(np.load(sparse[0])) | change
    np.savez(tmp_path / "bad.npz", **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(KdvizError, match=message):
        load_logits(open_logits(str(tmp_path / "bad.npz"), rest="spread"))


def test_an_unknown_rest_is_one_line(sparse):
    with pytest.raises(KdvizError, match="rest must be one of mask, floor, spread, got 'zero'"):
        open_logits(str(sparse[0]), rest="zero")
