"""The parts of an audit against closed forms, plain loops and other libraries."""

import itertools
import json

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import special, stats
from torch import nn

from kdviz import metrics, plots
from kdviz.analysis import audit
from kdviz.analysis.audit.calibration import wilson
from kdviz.analysis.audit.correlation import correlation_matrix
from kdviz.analysis.audit.embeddings import nearest, pooled
from kdviz.analysis.audit.numbers import Estimate, bootstrapped, correlation_of, estimate, mean_of, ratio_of
from kdviz.analysis.audit.opened import one_cycle
from kdviz.analysis.audit.sentences import contrast, shown
from kdviz.analysis.audit.stages import stages
from kdviz.analysis.bootstrap import Bootstrap, jackknife
from kdviz.base.check import KdvizError
from kdviz.base.files import read_dataset, write_dataset
from kdviz.data import Data
from kdviz.models import build
from kdviz.plots.style import VENUES

FEW = Bootstrap(resamples=60)
LOGIT_PARTS = [name for name, part in audit.PARTS.items() if not part.nets]


def logits(noise=1.0, n=80, k=8, seed=0):
    draw = np.random.default_rng(seed)
    target = draw.integers(0, k, n)
    teacher = draw.standard_normal((n, k))
    teacher[np.arange(n), target] += 2
    return (teacher + noise * draw.standard_normal((n, k))).astype("f4"), teacher.astype("f4"), target


def against(n=80, k=8):
    _, teacher, target = logits(n=n, k=k)
    return np.random.default_rng(5).standard_normal((n, k)).astype("f4") + 2 * np.eye(k)[target], teacher, target


@pytest.fixture(scope="module")
def opened():
    return audit.open_audit(logits(), against=against())


@pytest.fixture(scope="module")
def results(opened):
    return {name: audit.measure(name, opened, bootstrap=FEW) for name in LOGIT_PARTS}


def value(result, measure, column="student"):
    return estimate(result, measure, column).value


def softmax(x, temperature=1.0):
    return special.softmax(x.astype(float) / temperature, axis=1)


# Numbers of each part


def test_fidelity_by_scipy(results):
    student, teacher, _ = logits()
    found = results["fidelity"]
    assert value(found, "agreement") == pytest.approx((student.argmax(1) == teacher.argmax(1)).mean())
    kl = special.rel_entr(softmax(teacher), softmax(student)).sum(1)
    assert value(found, "kl") == pytest.approx(kl.mean())
    pairs = list(zip(student, teacher, strict=True))
    assert value(found, "tau") == pytest.approx(np.mean([stats.kendalltau(s, t).statistic for s, t in pairs]))
    order = [np.argsort(-t)[:3] for _, t in pairs]  # a third of eight channels, rounded up
    top = [stats.kendalltau(s[o], t[o]).statistic for (s, t), o in zip(pairs, order, strict=True)]
    assert value(found, "tau_top") == pytest.approx(np.mean(top))
    other, _, _ = against()
    assert value(found, "agreement", "without_teacher") == pytest.approx((other.argmax(1) == teacher.argmax(1)).mean())


def test_the_random_teacher_is_the_teacher_of_another_sample(opened):
    order = one_cycle(80, "random teacher")
    assert sorted(order) == list(range(80))
    assert (order != np.arange(80)).all()
    _, random = opened.pairs["random_teacher"]
    assert torch.equal(random, opened.teacher[order])


def test_calibration_error_is_the_metric_and_a_loop(results):
    student, teacher, target = logits()
    found = results["calibration"]
    for name, one in (("student", student), ("teacher", teacher)):
        tensor = torch.from_numpy(one)
        assert value(found, "ece", name) == pytest.approx(float(metrics.ece(tensor, torch.from_numpy(target))))
    sure, right = softmax(student).max(1), student.argmax(1) == target
    at = np.digitize(sure, np.linspace(0, 1, 16), right=True) - 1
    by_loop = sum(abs((right - sure)[at == b].sum()) for b in range(15)) / 80
    assert value(found, "ece") == pytest.approx(by_loop)
    assert value(found, "overconfidence") == pytest.approx((sure - right).mean())
    taught = softmax(teacher).max(1)
    gaps = right - sure, (teacher.argmax(1) == target) - taught
    at = np.digitize(taught, np.linspace(0, 1, 16), right=True) - 1
    sums = np.array([[gap[at == b].sum() for b in range(15)] for gap in gaps])
    common = np.where(sums[0] * sums[1] > 0, np.abs(sums).min(0), 0).sum() / np.abs(sums[1]).sum()
    assert value(found, "inherited") == pytest.approx(common)


def test_a_copy_inherits_all_of_the_miscalibration_and_an_unsure_one_of_a_sure_teacher_nothing():
    _, teacher, target = logits()
    wrong = (target + 1) % 8
    sure = 9.0 * np.eye(8)[wrong]  # always wrong, and too sure
    unsure = 0.01 * np.eye(8)[target]  # always right, and not sure enough
    assert value(audit.calibration((teacher, teacher, target), bootstrap=FEW), "inherited") == 1
    assert value(audit.calibration((unsure, sure, target), bootstrap=FEW), "inherited") == 0


def test_wilson_is_scipys():
    for successes, count in ((0, 5), (3, 7), (40, 40)):
        expected = stats.binomtest(successes, count).proportion_ci(0.9, method="wilson")
        np.testing.assert_allclose(wilson(np.array(successes), np.array(count), 0.9), expected, atol=1e-12)


def test_cells_and_flips_by_counting(results):
    student, teacher, target = logits()
    found = results["cells"]
    right, taught = student.argmax(1) == target, teacher.argmax(1) == target
    counts = {
        "both_right": right & taught,
        "lost": ~right & taught,
        "gained": right & ~taught,
        "both_wrong": ~right & ~taught,
    }
    for name, cell in counts.items():
        assert value(found, name) == pytest.approx(cell.mean())
    same = (student.argmax(1) == teacher.argmax(1))[counts["both_wrong"]].mean()
    assert value(found, "same_error") == pytest.approx(same)
    lost = found["flip_side"].values == "lost"
    assert set(found["flip_sample"].values[lost]) == set(np.flatnonzero(counts["lost"]))
    assert set(found["flip_sample"].values[~lost]) == set(np.flatnonzero(counts["gained"]))
    sure = softmax(teacher).max(1)[found["flip_sample"].values[lost]]
    assert (np.diff(sure) <= 1e-6).all()  # the teacher's surest first
    np.testing.assert_allclose(found["flip_teacher_probability"].values[lost, 0], sure, rtol=1e-5)


def test_rank_confusion_by_loops(results):
    student, teacher, _ = logits()
    found = results["confusion"]
    own, theirs = np.argsort(-student, axis=1), np.argsort(-teacher, axis=1)
    for rank in (1, 2, 3):
        assert value(found, f"same_{rank}") == pytest.approx((own[:, rank - 1] == theirs[:, rank - 1]).mean())
        places = [list(row).index(first) for row, first in zip(own, theirs[:, rank - 1], strict=True)]
        assert value(found, f"moved_{rank}") == pytest.approx(np.mean(np.abs(np.array(places) - rank + 1)))
        counts = np.zeros((8, 8))
        np.add.at(counts, (theirs[:, rank - 1], own[:, rank - 1]), 1)
        np.testing.assert_array_equal(found["counts"].sel(rank=rank), counts)
    first = found.isel(rank=0, pair=0)
    counts = found["counts"].values[0] * (1 - np.eye(8))
    assert int(first["pair_count"]) == counts.max()
    a, b = int(first["pair_teacher"]), int(first["pair_student"])
    assert counts[a, b] == counts.max()
    assert float(first["pair_share"]) == pytest.approx(counts[a, b] / (theirs[:, 0] == a).sum())


def test_margins_by_a_loop(results):
    student, teacher, target = logits()
    found = results["margins"]

    def margin(rows):
        return np.array([row[t] - np.delete(row, t).max() for row, t in zip(rows, target, strict=True)])

    np.testing.assert_allclose(found["margin"].sel(net="student"), margin(student), rtol=1e-5, atol=1e-6)
    assert value(found, "margin") == pytest.approx(margin(student).mean(), rel=1e-5)
    assert value(found, "relative_margin", "teacher") == pytest.approx(
        (margin(teacher) / teacher.std(1)).mean(), rel=1e-4
    )
    assert value(found, "correlation") == pytest.approx(stats.pearsonr(margin(student), margin(teacher))[0], rel=1e-5)
    falling = -np.sort(-student, axis=1)
    np.testing.assert_allclose(found["gap"].sel(net="student"), (falling[:, :-1] - falling[:, 1:]).mean(0), rtol=1e-5)


def test_class_correlations_are_numpys(results):
    student, teacher, _ = logits()
    a, b = np.corrcoef(student.T.astype(float)), np.corrcoef(teacher.T.astype(float))
    np.testing.assert_allclose(correlation_matrix(torch.from_numpy(student)), a, atol=1e-9)
    above = np.triu_indices(8, 1)
    found = results["correlation"]
    assert value(found, "difference") == pytest.approx(np.abs(a - b)[above].mean())
    assert value(found, "likeness") == pytest.approx(np.corrcoef(a[above], b[above])[0, 1])

    def without(group):  # the jackknife again, from the samples themselves
        kept = np.arange(80) % 40 != group
        both = [np.corrcoef(one[kept].T.astype(float))[above] for one in (student, teacher)]
        return np.abs(both[0] - both[1]).mean()

    left = np.array([without(group) for group in range(40)])
    error = np.sqrt(39 / 40 * ((left - left.mean()) ** 2).sum())
    assert estimate(found, "difference").high == pytest.approx(
        np.abs(a - b)[above].mean() + stats.t.ppf(0.975, 39) * error
    )


def test_a_class_whose_logit_never_changes_has_no_correlations():
    student, teacher, _ = logits()
    student[:, 2] = 1.5
    found = audit.class_correlation((student, teacher), bootstrap=FEW)["correlation"].sel(net="student").values
    assert found[2, 2] == 1
    assert (np.delete(found[2], 2) == 0).all()


def test_temperature_curves_by_scipy(results):
    student, teacher, _ = logits()
    found = results["temperature"]
    for at in (0.5, 4.0):
        kl = special.rel_entr(softmax(teacher, at), softmax(student, at)).sum(1).mean()
        assert float(found["kl"].sel(compared="student", temperature=at)) == pytest.approx(kl)
        entropy = stats.entropy(softmax(student, at), axis=1).mean()
        assert float(found["entropy"].sel(compared="student", temperature=at)) == pytest.approx(entropy)
    pairs = list(itertools.combinations(range(8), 2))
    smooth = [
        np.mean([np.tanh((t[i] - t[j]) / 4) * np.tanh((s[i] - s[j]) / 4) for i, j in pairs])
        for s, t in zip(student.astype(float), teacher.astype(float), strict=True)
    ]
    assert float(found["smooth"].sel(compared="student", temperature=2.0)) == pytest.approx(np.mean(smooth), rel=1e-6)
    assert float(found["smooth"].sel(compared="student", temperature=0.25)) < float(
        found["exact"].sel(compared="student")
    )


def test_samples_hold_what_both_nets_say():
    student, teacher, target = logits()
    found = audit.samples((student, teacher, target))
    assert found["top_student"].dims == found["probability_teacher"].dims == ("sample", "rank")
    assert found["image"].dims == found["target"].dims == found["tau"].dims == found["kl"].dims == ("sample",)
    np.testing.assert_array_equal(found["top_student"], np.argsort(-student, axis=1)[:, :5])
    np.testing.assert_allclose(found["probability_teacher"], -np.sort(-softmax(teacher), axis=1)[:, :5], rtol=1e-5)
    np.testing.assert_array_equal(found["correct"], student.argmax(1) == target)
    assert float(found["tau"][3]) == pytest.approx(stats.kendalltau(student[3], teacher[3]).statistic)


# Intervals


def test_intervals_are_scipys_bootstrap_and_cover():
    x = np.random.default_rng(3).exponential(size=300)
    found, _ = bootstrapped({"m": {"student": mean_of(x)}}, Bootstrap(resamples=4000))
    rng = np.random.default_rng(0)
    expected = stats.bootstrap((x,), np.mean, method="percentile", n_resamples=4000, rng=rng).confidence_interval
    assert found["m"]["student"].low == pytest.approx(expected.low, abs=0.01)
    assert found["m"]["student"].high == pytest.approx(expected.high, abs=0.01)


def test_differences_are_paired():
    """The difference of a column and itself plus one is -1 in every draw, however much both vary."""
    x = np.random.default_rng(4).standard_normal(50)
    _, differences = bootstrapped({"m": {"student": mean_of(x), "without_teacher": mean_of(x + 1)}}, FEW)
    np.testing.assert_allclose(differences["m"]["without_teacher"], (-1, -1, -1))


def test_statistics_of_means_are_the_statistics():
    draw = np.random.default_rng(6)
    x, y = draw.standard_normal(60), draw.standard_normal(60)
    found, _ = bootstrapped({"r": {"student": correlation_of(x, y + x)}, "q": {"student": ratio_of(x > 1, y > 0)}}, FEW)
    assert found["r"]["student"].value == pytest.approx(stats.pearsonr(x, y + x)[0])
    assert found["q"]["student"].value == pytest.approx((x > 1).sum() / (y > 0).sum())
    empty, _ = bootstrapped({"q": {"student": ratio_of(x > 9, x > 9)}}, FEW)
    assert np.isnan(empty["q"]["student"].value)


def test_a_calibrated_nets_error_is_not_told_from_none():
    """Right as often as it says: its calibration error is 0, which the basic interval must reach and a percentile one
    does not."""
    draw, n = np.random.default_rng(8), 4000
    sure = draw.uniform(0.55, 0.95, n)
    rows = np.log(np.stack([sure, 1 - sure], axis=1))
    target = (draw.random(n) > sure).astype(int)
    found = audit.calibration((rows, rows, target), bootstrap=Bootstrap(resamples=300))
    ece = estimate(found, "ece")
    assert ece.value > 0.005
    assert ece.low == 0
    assert ece.high < 0.03


def test_the_jackknife_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(9).standard_normal(30)
    left = np.array([np.delete(x, at).mean() for at in range(30)])
    low, high = jackknife(x.mean(), left, 0.95)
    reach = stats.t.ppf(0.975, 29) * x.std(ddof=1) / np.sqrt(30)
    np.testing.assert_allclose((low, high), (x.mean() - reach, x.mean() + reach))


# Nets


def test_hsic_is_the_sum_over_distinct_samples():
    """Song et al. (2012), eq. 4: averages over pairs, quadruples and triples without repetition."""
    draw = np.random.default_rng(1)
    n = 6
    k, l = (one @ one.T for one in (draw.standard_normal((n, 3)), draw.standard_normal((n, 4))))  # noqa: E741

    def mean(size, term):
        return np.mean([term(*indices) for indices in itertools.permutations(range(n), size)])

    expected = (
        mean(2, lambda i, j: k[i, j] * l[i, j])
        + mean(4, lambda i, j, q, r: k[i, j] * l[q, r])
        - 2 * mean(3, lambda i, j, q: k[i, j] * l[i, q])
    )
    assert audit.unbiased_hsic(torch.from_numpy(k), torch.from_numpy(l)) == pytest.approx(expected)


def pictures(n=64, classes=5):
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, 8, 8), generator=draw, dtype=torch.uint8)
    labels = torch.arange(n) % classes
    names = tuple(f"c{at}" for at in range(classes))
    return Data("made", "test", images, labels, (0.5,) * 3, (0.3,) * 3, names, synthetic=True)


class Small(nn.Module):
    """A net that names no stages."""

    def __init__(self, seed=0, width=6, classes=5):
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(width, width, 3), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(width, classes)

    def forward(self, images):
        return self.head(self.pool(self.second(self.first(images))).flatten(1))


def test_cka_of_a_whole_batch_is_the_closed_form():
    """Linear CKA of one minibatch from the U-centred Gram matrices (Szekely and Rizzo, 2014), whose inner products are
    the unbiased HSIC but for a factor."""
    data, student, teacher = pictures(), Small(1).eval(), Small(2, width=9).eval()
    found = audit.cka(student, data, teacher=teacher, batch=64, bootstrap=FEW)

    def centred(features):
        gram = features @ features.T
        n = len(gram)
        np.fill_diagonal(gram, 0)
        rows = gram.sum(0) / (n - 2)
        whole = gram - rows[:, None] - rows[None] + gram.sum() / ((n - 1) * (n - 2))
        np.fill_diagonal(whole, 0)
        return whole

    images = data.normalize(data.images)
    with torch.no_grad():
        maps = {
            "first": (teacher.first(images), student.first(images)),
            "second": (teacher.second(teacher.first(images)), student.second(student.first(images))),
            "logits": (teacher(images), student(images)),
        }
    flat = {name: [centred(one.flatten(1).double().numpy()) for one in both] for name, both in maps.items()}
    matrix = found["cka_student"]
    for (a, (t, _)), (b, (_, s)) in itertools.product(flat.items(), repeat=2):
        expected = (t * s).sum() / np.sqrt((t * t).sum() * (s * s).sum())
        assert float(matrix.sel(teacher_student=a, student_student=b)) == pytest.approx(expected, abs=1e-5)


def test_cka_of_a_net_with_itself_is_one_whatever_the_minibatches():
    net = build("resnet8", classes=5, seed=0).eval()
    for size in (8, 16):
        found = audit.cka(net, pictures(32), teacher=net, batch=size, bootstrap=FEW)
        np.testing.assert_allclose(np.diag(found["cka_student"]), 1, atol=1e-9)
        assert value(found, "stages") == pytest.approx(1)


def test_a_measurement_leaves_the_nets_as_they_were():
    net, other = Small(1).train(), build("resnet8", classes=5, seed=0).train()
    before = {name: one.clone() for name, one in other.state_dict().items()}
    audit.cka(net, pictures(16), teacher=other, batch=8, bootstrap=FEW)
    assert net.training
    assert other.training
    assert all(torch.equal(before[name], one) for name, one in other.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_stages_of_a_net_of_another_library():
    net, images = Small().eval(), torch.zeros(2, 3, 8, 8)
    with torch.no_grad(), stages(net) as look:
        found = look(images)
        assert list(found) == ["first", "second", "pooled", "logits"]
        assert torch.equal(found["pooled"], net.pool(net.second(net.first(images))).flatten(1))
    with stages(nn.Flatten()) as look, pytest.raises(KdvizError, match="none of its direct parts"):
        look(images)


def test_neighbours_by_sorting():
    rows = np.random.default_rng(2).standard_normal((40, 3))
    distance = ((rows[:, None] - rows[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    expected = np.argsort(distance, axis=1)[:, :4]
    np.testing.assert_array_equal(np.sort(nearest(rows, 4)), np.sort(expected))


def test_embeddings_say_what_is_missing(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(KdvizError, match=r"umap-learn is not installed.*pip install 'kdviz\[embeddings\]'"):
        audit.embeddings(Small(), pictures(), teacher=Small())
    opened = audit.open_audit(logits())
    chosen, left_out = audit.choose(None, opened, nets=True)
    assert "embeddings" not in chosen
    assert "umap-learn" in left_out["embeddings"]
    with pytest.raises(KdvizError, match="umap-learn"):
        audit.choose(["embeddings"], opened, nets=True)


def test_embeddings_of_a_copy_are_the_same_and_share_all_neighbours():
    pytest.importorskip("sklearn")
    net = Small(3).eval()
    found = audit.embeddings(net, pictures(), teacher=net, methods=("tsne",), neighbours=5, bootstrap=FEW)
    assert value(found, "shared") == 1
    a, b = (found["position"].sel({"method": "tsne", "net": one}).values for one in ("teacher", "student"))
    np.testing.assert_allclose(a, b, atol=1e-5)
    labels = np.arange(64) % 5
    near = nearest(pooled(net, pictures()), 5)
    assert value(found, "pure") == pytest.approx((labels[near] == labels[:, None]).mean())
    again = audit.embeddings(net, pictures(), teacher=net, methods=("tsne",), neighbours=5, bootstrap=FEW)
    np.testing.assert_array_equal(found["position"], again["position"])


# What is refused


@pytest.mark.parametrize(
    ("source", "other", "line"),
    [
        ({"logits_student": logits()[0]}, None, "no teacher's beside"),
        (logits(), against(k=7), "has 8 classes, the one without teacher 7"),
        (logits(), against(n=60), "are of 80 samples, those of the one without teacher of 60"),
        (logits(n=3), None, "needs 4 samples or more, got 3"),
        ((np.full((9, 4), np.nan), np.zeros((9, 4))), None, "NaN or Inf"),
        ((np.array([[1, -np.inf, 0]] * 9), np.zeros((9, 3))), None, "--rest floor"),
    ],
)
def test_what_cannot_be_audited_is_one_line(source, other, line):
    with pytest.raises(KdvizError, match=line) as caught:
        audit.open_audit(source, against=other)
    assert "\n" not in str(caught.value)


def test_parts_that_need_labels_say_so():
    opened = audit.open_audit(logits()[:2])
    for name, part in audit.PARTS.items():
        if part.labels:
            with pytest.raises(KdvizError, match=f"{name}: needs the samples' labels"):
                audit.measure(name, opened)
    chosen, left_out = audit.choose(None, opened, nets=False)
    assert set(chosen) | set(left_out) == set(audit.PARTS)
    assert left_out["cka"] == "needs both nets; name the student's checkpoint instead of its logits"
    assert not set(chosen) & set(left_out)
    with pytest.raises(KdvizError, match="unknown part of an audit 'calibrated'; did you mean 'calibration'"):
        audit.choose(["calibrated"], opened, nets=False)


# Sentences


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (Estimate(0.2, 0.1, 0.3), "0.200 less [0.100, 0.300]"),
        (Estimate(-0.2, -0.3, -0.1), "0.200 more [0.100, 0.300]"),
        (
            Estimate(-0.01, -0.03, 0.01),
            "0.010 more, which its interval [-0.030, 0.010] does not tell from no difference",
        ),
        (Estimate(0.0, 0.0, 0.0), "just as much"),
        (Estimate(0.4), "0.400 less"),
    ],
)
def test_a_control_is_compared_in_words_that_fit(difference, said):
    assert contrast(difference) == said


def test_no_number_is_minus_zero():
    assert shown(Estimate(-0.0001, -0.00049, 0.2)) == "0.000 [0.000, 0.200]"


@pytest.mark.parametrize("noise", [0.0, 1.0, 60.0])
def test_findings_hold_for_a_copy_a_student_and_a_stranger(noise):
    source = logits(noise)
    for name in LOGIT_PARTS:
        finding = audit.measure(name, audit.open_audit(source, against=against()), bootstrap=FEW).attrs["finding"]
        assert "nan" not in finding.lower().replace("nand", "")
        assert finding.endswith(".")
        assert ".." not in finding
        assert "  " not in finding
    alone = audit.measure("fidelity", audit.open_audit(source), bootstrap=FEW)
    assert "without teacher" not in alone.attrs["finding"]


# Files and figures


@pytest.mark.parametrize("name", LOGIT_PARTS)
def test_a_part_is_saved_checked_and_drawn_again(results, tmp_path, name):
    one = results[name]
    write_dataset(one, tmp_path / "a.nc")
    again = read_dataset(tmp_path / "a.nc")
    xr.testing.assert_equal(
        again.drop_vars("class_name", errors="ignore"), one.drop_vars("class_name", errors="ignore")
    )
    assert json.loads(again["compared"].attrs["titles"])["without_teacher"] == "student without teacher"
    for figure in plots.FIGURES[str(one.attrs["kind"])]:
        fig = plots.draw(again, figure, venue="cvpr")
        assert fig.get_figwidth() == pytest.approx(VENUES["cvpr"][1])
        fig.canvas.draw()
    with pytest.raises(KdvizError, match="shows one student, got 2"):
        plots.draw([again, again])


def test_every_number_of_an_audit_says_what_it_is(results):
    for name, one in results.items():
        for key, values in one.data_vars.items():
            if key.startswith(("flip_", "case_")) or values.dtype == object:
                continue
            assert values.attrs.get("long_name"), (name, key)
            assert "units" in values.attrs, (name, key)


def test_reliability_shows_the_bins(results):
    found = results["calibration"]
    fig = plots.draw(found)
    student = list(found["net"].values).index("student")
    points = fig.axes[student].containers[0][0]
    shown_x, shown_y = points.get_data()
    np.testing.assert_allclose(shown_x, found["confidence"].sel(net="student"))
    np.testing.assert_allclose(shown_y, found["reliability"].sel(net="student"))


def test_the_cells_fill_the_bar(results):
    fig = plots.draw(results["cells"], "cells")
    widths = [patch.get_width() for patch in fig.axes[0].patches[:4]]
    assert sum(widths) == pytest.approx(100)


def test_flips_that_are_none_are_said(tmp_path):
    source = (logits()[1], logits()[1], logits()[2])
    found = audit.cells(source, bootstrap=FEW)
    assert found.attrs["finding_flips"] == "There is no sample on which only one of the two is right."
    fig = plots.draw(found, "flips")
    assert fig.texts[0].get_text() == "there is no sample on which only one of the two is right"
    plots.save(fig, tmp_path / "flips", ("png",))
    confusion = plots.draw(audit.rank_confusion(source, bootstrap=FEW))
    assert confusion.texts[0].get_text() == "student and teacher have the same class at rank 1 of every sample"


def test_a_page_says_what_was_not_measured_and_escapes_names(results):
    from test_report import EVIL, Reader

    from kdviz.report.audit import audit_page, verdict

    some = {name: results[name] for name in ("fidelity", "correlation")}
    text = audit_page(
        some, title=EVIL, lead=EVIL, facts={EVIL: EVIL}, left_out={"cka": f"needs {EVIL}"}, notes=[f"Of {EVIL}."]
    )
    page = Reader(text)
    assert "script" not in page.tags
    assert page.text.count(EVIL) >= 6
    assert "Are their features alike?" in page.text
    for one in some.values():
        assert str(one.attrs["finding"]) in page.text
    for sentence in verdict(some):
        assert sentence in page.text


def test_the_verdict_follows_the_differences(results):
    from kdviz.report.audit import verdict

    def said(agreement, tau):
        """The verdict for differences to the student without teacher of these signs."""
        one = results["fidelity"].copy(deep=True)
        for measure, sign in (("agreement", agreement), ("tau", tau)):
            at = {"measure": measure, "compared": "without_teacher"}
            for end, middle in (("", sign), ("_low", sign - 0.5), ("_high", sign + 0.5)):
                one[f"difference{end}"].loc[at] = 0.1 * middle
        return verdict({"fidelity": one})[0]

    assert said(1, 1).startswith("It knows more of its teacher than the task alone teaches.")
    assert said(-1, -1).startswith("It knows less of its teacher than a student that was trained without one.")
    assert said(0, 0).startswith("It cannot be told from a student that was trained without a teacher.")
    assert "closer to its teacher in the first class, and farther in the order" in said(1, -1)
    assert "no closer to its teacher in the first class, and closer in the order" in said(0, 1)
    assert "farther from its teacher in the first class, and no closer in the order" in said(-1, 0)
    alone = verdict({"fidelity": results["fidelity"].sel(compared=["student", "random_teacher"])})
    assert alone[0].endswith("name one with --against FILE.")


def test_class_means_by_grouping(results):
    student, teacher, target = logits()
    found = results["correlation"]
    means = [np.stack([one[target == at].mean(0) for at in range(8)]) for one in (student, teacher)]
    np.testing.assert_allclose(found["class_mean"].sel(net="student"), means[0], rtol=1e-5, atol=1e-6)
    gap = np.abs(means[0] - means[1])[~np.eye(8, dtype=bool)]
    assert value(found, "class_means") == pytest.approx(gap.mean(), rel=1e-6)

    def without(group):
        kept = np.arange(80) % 40 != group
        both = [np.stack([one[kept & (target == at)].mean(0) for at in range(8)]) for one in (student, teacher)]
        return np.abs(both[0] - both[1])[~np.eye(8, dtype=bool)].mean()

    left = np.array([without(group) for group in range(40)])
    error = np.sqrt(39 / 40 * ((left - left.mean()) ** 2).sum())
    assert estimate(found, "class_means").low == pytest.approx(gap.mean() - stats.t.ppf(0.975, 39) * error, rel=1e-5)
    assert "class_means" not in audit.class_correlation(logits()[:2], bootstrap=FEW)["measure"].values
