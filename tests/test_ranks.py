"""Tau's breakdowns against scipy loops and closed forms; bootstrap intervals against normal theory."""

import math

import numpy as np
import pytest
from scipy import special, stats

from kdviz.analysis import bootstrap
from kdviz.analysis.bootstrap import Bootstrap, mean_interval
from kdviz.analysis.ranks import over_epochs, tau
from kdviz.base.check import KdvizError


def logits(n=60, k=20, seed=0, noise=1.0):
    """Teacher and student with ties, labels that the student gets right about half of the time."""
    generator = np.random.default_rng(seed)
    teacher = (3 * generator.standard_normal((n, k))).round(1)
    student = (teacher + noise * generator.standard_normal((n, k))).round(1)
    target = np.where(np.arange(n) % 2, student.argmax(1), generator.integers(0, k, n))
    return student, teacher, target


def scipy_taus(student, teacher, variant="b"):
    return np.array([stats.kendalltau(s, t, variant=variant).statistic for s, t in zip(student, teacher, strict=True)])


def test_taus_of_samples_and_their_means():
    s, t, y = logits()
    result = tau((s, t, y))
    for variant in "bc":
        expected = scipy_taus(s, t, variant)
        np.testing.assert_allclose(result[f"tau_{variant}"], expected, atol=1e-12)
        assert float(result["mean"].sel(measure=f"tau_{variant}")) == pytest.approx(expected.mean(), abs=1e-12)
    spearman = [stats.spearmanr(a, b).statistic for a, b in zip(s, t, strict=True)]
    np.testing.assert_allclose(result.spearman, spearman, atol=1e-12)
    np.testing.assert_allclose(result.confidence, special.softmax(t, axis=1).max(1), atol=1e-12)
    assert result.correct.values.tolist() == (s.argmax(1) == y).astype(int).tolist()
    assert result.measure.values.tolist() == ["tau_a", "tau_b", "tau_c", "spearman", "top1", "top5", "top10"]
    tops = [len(set(np.argsort(-a)[:1]) & set(np.argsort(-b)[:1])) for a, b in zip(s, t, strict=True)]
    assert float(result["mean"].sel(measure="top1")) == pytest.approx(np.mean(tops))


def test_tau_of_normal_rows_has_its_closed_form():
    """E tau = 2/pi arcsin(rho) for pairs drawn from a bivariate normal distribution of correlation rho."""
    generator = np.random.default_rng(1)
    for rho in (0.0, 0.5, 0.9):
        t = generator.standard_normal((400, 40))
        s = rho * t + math.sqrt(1 - rho**2) * generator.standard_normal((400, 40))
        result = tau((s, t), smooth_samples=0)
        low, high = (float(result[f"mean_{end}"].sel(measure="tau_b")) for end in ("low", "high"))
        middle = 2 / math.pi * math.asin(rho)
        assert low - 0.003 < middle < high + 0.003
        assert float(result["mean"].sel(measure="tau_b")) == pytest.approx(middle, abs=0.02)


def test_shares_of_the_teachers_channels():
    s, t, _ = logits()
    t += np.linspace(0, 0.01, 20)  # without ties there is one ranking
    result = tau((s, t), shares=(0.1, 0.3, 1.0))
    for share, count in ((0.1, 2), (0.3, 6), (1.0, 20)):
        for end, first in (("top", 0), ("middle", 10 - count // 2), ("min", 20 - count)):
            which = np.argsort(-t, axis=1)[:, first : first + count]
            expected = scipy_taus(np.take_along_axis(s, which, 1), np.take_along_axis(t, which, 1))
            found = float(result.share_mean.sel(end=end, share=share))
            assert found == pytest.approx(np.nanmean(expected), abs=1e-12)


def test_groups_classes_and_confidence():
    s, t, y = logits()
    result = tau((s, t, y))
    expected, right = scipy_taus(s, t), s.argmax(1) == y
    for group, mask in (("right", right), ("wrong", ~right)):
        assert float(result.group_mean.sel(group=group)) == pytest.approx(expected[mask].mean(), abs=1e-12)
        assert int(result.group_count.sel(group=group)) == mask.sum()
    for label in np.unique(y):
        assert float(result.class_mean.sel({"class": label})) == pytest.approx(expected[y == label].mean(), abs=1e-12)
    assert int(result.class_count.sum()) == 60
    by_confidence = expected[np.argsort(result.confidence.values, kind="stable")].reshape(10, 6).mean(1)
    np.testing.assert_allclose(result.confidence_mean, by_confidence, atol=1e-12)
    assert (result.confidence_at.diff("bin") > 0).all()


def test_smooth_tau_tends_to_the_exact_one():
    s, t, _ = logits(noise=3)
    result = tau((s, t), steepness=(0.5, 2.0, 1e5), smooth_samples=50)
    i, j = np.triu_indices(20, 1)
    expected = np.mean(np.tanh(t[:50, i] - t[:50, j]) * np.tanh(s[:50, i] - s[:50, j]))
    assert float(result.smooth_mean.sel(steepness=2.0)) == pytest.approx(expected, abs=1e-9)
    exact = np.mean(np.sign(t[:50, i] - t[:50, j]) * np.sign(s[:50, i] - s[:50, j]))
    assert float(result.smooth_exact) == pytest.approx(exact, abs=1e-12)
    assert float(result.smooth_mean.sel(steepness=1e5)) == pytest.approx(exact, abs=1e-9)
    assert float(result.smooth_error.sel(steepness=1e5)) < 1e-9 < float(result.smooth_error.sel(steepness=0.5))
    assert result.attrs["smooth_samples"] == 50
    assert "smooth_mean" not in tau((s, t), smooth_samples=0)


def test_threads_measure_what_one_measures_and_report_every_sample(monkeypatch):
    import torch

    from kdviz.analysis import ranks

    s, t, y = logits()
    whole, told = tau((s, t, y)), []
    monkeypatch.setattr(ranks, "PIECE", 20 * 7)  # seven samples
    kept = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        pieces = tau((s, t, y), progress=lambda *numbers: told.append(numbers))
    finally:
        torch.set_num_threads(kept)
    for name, values in whole.data_vars.items():
        np.testing.assert_array_equal(pieces[name], values, err_msg=str(name))
    assert len(told) == 9
    assert told[-1] == (60, 60)
    assert sorted(done for done, _ in told) == [done for done, _ in told]


def test_what_the_smooth_tau_costs_is_said_before_it_starts(monkeypatch):
    from kdviz.analysis import cost, ranks

    monkeypatch.setattr(cost, "seconds_per_pair", lambda *, gradient: 1e-9 if not gradient else None)
    said = []
    monkeypatch.setattr(ranks, "_smooth", lambda *_: said.append("starts") or [np.zeros(2)])
    generator = np.random.default_rng(0)
    s, t = generator.standard_normal((2, 3, 80_000)).astype(np.float32)
    tau((s, t), shares=(), steepness=(1.0, 2.0), bootstrap=Bootstrap(resamples=5), announce=said.append)
    # 3 samples, 80 000 * 79 999 / 2 pairs, twice: 19.2e9 pairs at 1 ns
    sentence = (
        "the differentiable tau (--no-smooth leaves it out) over 3 samples of 80,000 channels will take about 19 s"
    )
    assert said == [sentence, "starts"]


def test_a_smooth_tau_that_is_left_out_is_neither_computed_nor_announced(monkeypatch):
    from kdviz.analysis import cost, ranks

    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(ranks, "rank_kendall", never)
    monkeypatch.setattr(cost, "seconds_per_pair", never)
    assert "smooth_mean" not in tau(logits(), smooth_samples=0, announce=never)


def test_a_trial_of_the_cost_is_near_what_it_costs():
    """The trial's own pairs, by hand: 8 samples of 2048 channels; far wrong would be a factor of the channels."""
    import time

    import torch

    from kdviz.analysis.cost import seconds_per_pair
    from kdviz.losses import rank_kendall

    nets = torch.randn(2, 4, 3000, dtype=torch.float64)
    start = time.process_time()
    rank_kendall(*nets)
    spent = (time.process_time() - start) / (4 * 3000 * 2999 / 2)
    assert spent / 100 < seconds_per_pair(gradient=False) < 100 * spent


def test_a_stream_in_chunks_is_the_same_result():
    s, t, y = logits()
    whole = tau((s, t, y))
    parts = [(s[i : i + 13], t[i : i + 13], y[i : i + 13]) for i in range(0, 60, 13)]
    streamed = tau(part for part in parts)
    for name, values in whole.data_vars.items():
        np.testing.assert_allclose(streamed[name], values, rtol=1e-12, err_msg=str(name))


def test_rows_without_a_ranking_are_counted_and_left_out():
    s, t, y = logits()
    s[4] = 1.5
    result = tau((s, t, y))
    expected = scipy_taus(s, t)
    assert result.attrs["undefined"] == 1
    assert math.isnan(result.tau_b[4])
    assert float(result["mean"].sel(measure="tau_b")) == pytest.approx(np.nanmean(expected), abs=1e-12)


def test_epochs_in_order():
    s, t, y = logits()
    worse = logits(noise=6)[0]
    result = over_epochs({10: (s, t, y), 5: (worse, t, y)})
    assert result.epoch.values.tolist() == [5, 10]
    means = [scipy_taus(worse, t).mean(), scipy_taus(s, t).mean()]
    np.testing.assert_allclose(result.epoch_mean, means, atol=1e-12)
    np.testing.assert_allclose(result.epoch_top1, [(worse.argmax(1) == y).mean(), (s.argmax(1) == y).mean()])
    np.testing.assert_allclose(result.epoch_agreement, [(one.argmax(1) == t.argmax(1)).mean() for one in (worse, s)])
    with pytest.raises(KdvizError, match="train with --keep-epochs"):
        over_epochs({})


def test_the_interval_is_the_normal_ones_for_many_values(monkeypatch):
    values = np.random.default_rng(2).gamma(2, size=3000)
    half = 1.96 * values.std() / math.sqrt(3000)
    for groups in (3000, 256):  # each value by itself, then in groups
        monkeypatch.setattr(bootstrap, "GROUPS", groups)
        mean, low, high = mean_interval(values, Bootstrap(resamples=2000))
        assert mean == pytest.approx(values.mean(), rel=1e-12)
        assert high - mean == pytest.approx(half, rel=0.1)
        assert mean - low == pytest.approx(half, rel=0.1)
    assert mean_interval(values, Bootstrap(seed=3)) == mean_interval(values, Bootstrap(seed=3))
    assert mean_interval(values, Bootstrap(seed=3)) != mean_interval(values, Bootstrap(seed=4))
    wide = mean_interval(values, Bootstrap(level=0.99))
    assert wide[1] < low < high < wide[2]


def test_an_interval_of_few_values():
    assert [math.isnan(one) for one in mean_interval(np.array([np.nan]))] == [True] * 3
    assert mean_interval(np.array([np.nan, 2.0]))[0] == 2.0
    low, high = mean_interval(np.array([0.0, 1.0]), Bootstrap(resamples=4000))[1:]
    assert (low, high) == (0.0, 1.0)  # a quarter of the draws is all zeros, a quarter all ones


def test_bad_settings():
    for settings, message in (
        ({"shares": (0.0,)}, "share of channels must be above 0 and at most 1, got 0.0"),
        ({"steepness": (-1,)}, "steepness must be a finite number above 0, got -1"),
    ):
        with pytest.raises(KdvizError, match=message):
            tau(logits(), **settings)
    with pytest.raises(KdvizError, match="level must be between 0 and 1, got 1"):
        Bootstrap(level=1)
    with pytest.raises(KdvizError, match="resamples must be 1 or more, got 0"):
        Bootstrap(resamples=0)


def test_figures_draw_the_datasets_numbers():
    from kdviz import plots

    s, t, y = logits(n=200)
    results = [
        tau((s, t, y), label="kd", steepness=(1, 4), bootstrap=Bootstrap(resamples=50)),
        tau((logits(n=200, noise=4)[0], t, y), label="ce", steepness=(1, 4), bootstrap=Bootstrap(resamples=50)),
    ]
    (axis,) = plots.draw(results, "distribution").axes
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["CE", "KD"]
    means = [f"{scipy_taus(one, t).mean():.3f}" for one in (s, logits(n=200, noise=4)[0])]
    assert [text.get_text() for text in axis.texts] == [*means, "mean"]
    fig = plots.draw(results, "breakdown")
    assert [axis.get_title(loc="left")[:3] for axis in fig.axes] == ["(a)", "(b)", "(c)", "(d)", "(e)", "(f)"]
    for axis in fig.axes:  # nothing is drawn outside of its panel
        low, high = axis.get_ylim()
        assert all(low <= np.nanmin(line.get_ydata()) and np.nanmax(line.get_ydata()) <= high for line in axis.lines)
    epochs = over_epochs({1: (s, t, y), 2: (s, t, y)}, bootstrap=Bootstrap(resamples=50))
    assert len(plots.draw(results[0].merge(epochs), "breakdown").axes) == 7
    bare = tau((s, t), smooth_samples=0, shares=(), bootstrap=Bootstrap(resamples=50))
    assert len(plots.draw(bare, "breakdown").axes) == 2


def test_the_command_measures_several_students(tmp_path):
    import subprocess
    import sys

    s, t, y = logits()
    for name, noise in (("near", 1.0), ("far", 5.0)):
        np.savez(tmp_path / f"{name}.npz", student=logits(noise=noise)[0], teacher=t, labels=y)
    command = [
        sys.executable,
        "-m",
        "kdviz",
        "tau",
        "near.npz",
        "far.npz",
        "--style",
        "distribution",
        "--label",
        "a,b c",
        "--format",
        "svg",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    written = {path.name for path in (tmp_path / "reports" / "tau_near_far").iterdir()}
    assert written == {"tau_near.nc", "tau_far.nc", "tau_distribution.svg", "tau_distribution.tex"}
    assert f"a: mean tau-b {scipy_taus(s, t).mean():.4f} [" in done.stdout
    assert f"b c: mean tau-b {scipy_taus(logits(noise=5.0)[0], t).mean():.4f} [" in done.stdout


class Trained:
    """A run's folder as the trainer leaves it: a student at three epochs, its teacher beside it."""

    def __init__(self, folder):
        from kdviz.checkpoints import save_checkpoint
        from kdviz.models import build

        self.path = folder / "run"
        (self.path / "epochs").mkdir(parents=True)
        (self.path / "journal.jsonl").touch()
        facts = {"name": "resnet8", "classes": 5, "data": "tiny", "recipe": {}, "metrics": {}, "seed": 0}
        teacher = build("resnet8", classes=5, seed=9)
        self.teacher = save_checkpoint(folder / "t.pt", model=teacher, method="ce", epoch=1, **facts)
        files = {"epochs/epoch_0001.pt": 1, "epochs/epoch_0002.pt": 2, "last.pt": 2}
        for file, epoch in files.items():
            student = build("resnet8", classes=5, seed=epoch)
            save_checkpoint(self.path / file, model=student, method="kd", epoch=epoch, **facts)


def test_a_run_is_measured_at_its_epochs_and_logits_are_kept(tmp_path, monkeypatch):
    import torch

    from kdviz.cli import logits as front
    from kdviz.cli.options import FigureOptions
    from kdviz.data.base import Data

    generator = torch.Generator().manual_seed(0)
    data = Data(
        name="tiny",
        split="test",
        labels=torch.arange(20) % 5,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        class_names=tuple("abcde"),
        images=torch.randint(0, 256, (20, 3, 32, 32), generator=generator, dtype=torch.uint8),
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kdviz.checkpoints.related.load_measured_of", lambda *_, **__: data)
    run = Trained(tmp_path)
    named = front.LogitOptions(students=[str(run.path)], teacher=run.teacher)
    (student,) = front.gather(named, FigureOptions())
    assert (student.label, student.name) == ("kd", "run")
    by_epoch = over_epochs(student.epochs.logits())
    assert by_epoch.epoch.values.tolist() == [1, 2]
    assert float(by_epoch.epoch_mean.sel(epoch=2)) == pytest.approx(float(tau(student.logits).tau_b.mean()), abs=1e-6)
    kept = tmp_path / "reports" / "run" / "logits.nc"
    monkeypatch.setattr("kdviz.collect_logits", None)  # a second pass would fail
    (again,) = front.gather(named, FigureOptions())
    np.testing.assert_array_equal(again.logits.logits_student, student.logits.logits_student)
    (brought,) = front.gather(front.LogitOptions(students=[str(kept)]), FigureOptions())
    assert (brought.label, brought.name) == ("kd", "run")
    with pytest.raises(KdvizError, match="names no teacher; name its checkpoint with --teacher"):
        front.gather(front.LogitOptions(students=[str(run.path)]), FigureOptions(), needs_teacher=True)
    with pytest.raises(KdvizError, match="1 students but 2 labels"):
        front.gather(front.LogitOptions(students=[str(kept)], label=["a", "b"]), FigureOptions())
