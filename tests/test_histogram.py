"""Histograms of logits against numpy, loops and closed forms; streams of any length in bounded memory."""

import tracemalloc
import weakref

import numpy as np
import pytest
from scipy import special, stats

from kdviz import plots
from kdviz.analysis.counts import Counts, quantiles, shared
from kdviz.analysis.histogram import histogram
from kdviz.base.check import KdvizError


def pair(n=300, k=12, seed=0, scale=4.0):
    generator = np.random.default_rng(seed)
    teacher = scale * generator.standard_normal((n, k))
    return (teacher + generator.standard_normal((n, k))).astype("f4"), teacher.astype("f4")


@pytest.mark.parametrize("cuts", [1, 3, 50])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 3e4])
def test_counts_are_numpys_whatever_the_cuts(cuts, scale):
    values = np.random.default_rng(1).standard_normal((200, 4)) * scale * np.linspace(0.01, 3, 200)[:, None]
    table = Counts(4, bins=64)
    for part in np.array_split(values, cuts):
        table.add(part)
    left, width, counts = shared([table])
    assert np.log2(width) == round(np.log2(width))
    assert 32 < len(left) <= 64
    for row in range(4):
        expected, _ = np.histogram(values[:, row], bins=np.append(left, left[-1] + width))
        np.testing.assert_array_equal(counts[0, row], expected)
    assert counts.sum() == 800


def test_tables_of_different_widths_share_bins():
    narrow, wide = Counts(1, bins=32), Counts(1, bins=32)
    a, b = np.random.default_rng(2).normal(5, 0.1, (500, 1)), np.random.default_rng(3).normal(0, 30, (500, 1))
    narrow.add(a)
    wide.add(b)
    left, width, counts = shared([narrow, wide])
    edges = np.append(left, left[-1] + width)
    np.testing.assert_array_equal(counts[0, 0], np.histogram(a, edges)[0])
    np.testing.assert_array_equal(counts[1, 0], np.histogram(b, edges)[0])


def test_columns_share_rows_evenly():
    table = Counts(3, bins=16)
    table.add(np.tile(np.arange(6.0), (2, 1)))
    left, _, counts = shared([table])
    means = (counts[0] * left).sum(1) / counts[0].sum(1)
    np.testing.assert_allclose(means, [0.5, 2.5, 4.5], atol=0.5)


def test_equal_values_take_one_bin():
    table = Counts(1)
    table.add(np.full((5, 1), -3.25))
    left, width, counts = shared([table])
    assert counts.tolist() == [[[5]]]
    assert left[0] <= -3.25 < left[0] + width


def test_quantiles_to_within_a_bin():
    values = np.random.default_rng(4).normal(size=(4000, 2)) * [1, 3]
    table = Counts(2, bins=512)
    table.add(values)
    left, width, counts = shared([table])
    found = quantiles(counts[0], left, width, (0.05, 0.5, 0.95))
    np.testing.assert_allclose(found, np.quantile(values, (0.05, 0.5, 0.95), axis=0).T, atol=1.01 * width + 5e-3)


def test_values_follow_their_distribution():
    """Independent standard normal logits: each bin's share is the normal's, within four standard errors."""
    generator = np.random.default_rng(5)
    shape = (4000, 50)
    result = histogram((generator.standard_normal(shape), 2 * generator.standard_normal(shape)), rank_samples=0)
    left, width = result.logit.values, result.logit.attrs["width"]
    for net, scale in (("student", 1), ("teacher", 2)):
        expected = np.diff(stats.norm.cdf(np.append(left, left[-1] + width), scale=scale)) * 200_000
        counts = result.counts_logit.sel(net=net).values
        assert counts.sum() == 200_000
        big = expected > 20
        assert (np.abs(counts - expected)[big] < 4.5 * np.sqrt(expected[big])).all()


def test_ranks_are_each_nets_own():
    student, teacher = pair()
    result = histogram((student, teacher), temperature=4)
    for net, logits in (("student", student), ("teacher", teacher)):
        falling = -np.sort(-logits, axis=1)
        chances = special.softmax(falling.astype(float) / 4, axis=1)
        np.testing.assert_allclose(
            result.band_logit.sel(net=net, quantile=0.5),
            np.quantile(falling, 0.5, axis=0, method="inverted_cdf"),
            atol=result.logit.attrs["width"],
        )
        np.testing.assert_allclose(
            result.band_probability.sel(net=net, quantile=0.95),
            np.quantile(chances, 0.95, axis=0, method="inverted_cdf"),
            rtol=0.02,  # bins of ln p
        )
        np.testing.assert_allclose(result.mass.sel(net=net), chances.mean(0), rtol=1e-5)
        assert float(result.small_mass.sel(net=net)) == pytest.approx(chances[:, 2:].sum(1).mean(), rel=1e-5)
        assert int(result.counts_probability.sel(net=net).sum()) == chances.size
    assert result["rank"].values.tolist() == list(range(1, 13))


def rank_loss(s, t):
    """The ranking loss of one row by its definition: z-scores, form 1, k = 1, pairs i < j."""
    s, t = ((z - z.mean()) / (z.std(ddof=1) + 1e-7) for z in (s, t))
    i, j = np.triu_indices(len(s), 1)
    return -(np.tanh((t[i] - t[j]) / 2) * np.tanh((s[i] - s[j]) / 2)).mean()


def test_bands_of_small_probabilities_are_not_those_of_a_bin():
    """Three channels at 0, -8 and -16: p = softmax, far below the width of a bin of probabilities."""
    logits = np.tile(np.array([0.0, -8, -16]), (5, 1)) + np.linspace(-1, 1, 5)[:, None]
    result = histogram((logits, logits), temperature=1, rank_samples=0, bins=64)
    expected = special.softmax([0.0, -8, -16])
    for quantile in result["quantile"].values:
        found = result.band_probability.sel(net="student", quantile=quantile)
        np.testing.assert_allclose(found, expected, rtol=0.5)


def test_gradients_shares_by_the_teachers_rank():
    student, teacher = (one.astype(float) for one in pair(n=9, k=6))
    result = histogram((student, teacher), temperature=4)
    kl, ranking = np.zeros(6), np.zeros(6)
    for s, t in zip(student, teacher, strict=True):
        order = np.argsort(-t)
        gap = np.abs(special.softmax(s / 4) - special.softmax(t / 4))[order]
        kl += gap / gap.sum() / 9
        steps = np.eye(6) * 1e-5
        slope = np.abs([(rank_loss(s + step, t) - rank_loss(s - step, t)) / 2e-5 for step in steps])[order]
        ranking += slope / slope.sum() / 9
    np.testing.assert_allclose(result.gradient.sel(loss="kd"), kl, atol=1e-12)
    np.testing.assert_allclose(result.gradient.sel(loss="rank_kendall"), ranking, atol=1e-7)
    assert float(result.small_gradient.sel(loss="kd")) == pytest.approx(kl[1:].sum())


def test_a_student_alone_and_one_without_the_ranking_loss():
    import xarray as xr

    alone = histogram(xr.Dataset({"logits_student": (("sample", "channel"), pair()[0])}))
    assert alone.net.values.tolist() == ["student"]
    assert "gradient" not in alone
    assert histogram(pair(), rank_samples=0).loss.values.tolist() == ["kd"]


def test_any_cut_of_a_stream_is_the_same_result():
    student, teacher = pair(n=90)
    cuts = [(student[i : i + 7], teacher[i : i + 7]) for i in range(0, 90, 7)]
    whole, streamed = histogram((student, teacher)), histogram(part for part in cuts)
    for name, values in whole.data_vars.items():
        np.testing.assert_allclose(streamed[name], values, rtol=1e-9, err_msg=str(name))
    np.testing.assert_array_equal(whole.logit, streamed.logit)


def test_many_ranks_share_rows():
    student, teacher = pair(n=4, k=3000)
    result = histogram((student, teacher), rank_samples=0, bins=64)
    assert result.sizes["rank"] == 1024
    assert float(result["rank"].mean()) == pytest.approx(1500.5, abs=2)
    assert result.mass.sel(net="teacher").sum() == pytest.approx(1, rel=1e-5)
    assert (result.band_logit.sel(net="teacher", quantile=0.5).diff("rank") <= result.logit.attrs["width"]).all()


def peak(chunks):
    def stream():
        generator = np.random.default_rng(0)
        for index in range(chunks):
            teacher = generator.standard_normal((128, 200), dtype="f4") * (1 + index / 20)
            yield teacher + generator.standard_normal((128, 200), dtype="f4"), teacher

    tracemalloc.start()
    try:
        result = histogram(stream, rank_samples=0, bins=256)
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_stream():
    peak(2)
    few, _ = peak(3)
    many, result = peak(60)
    assert result.attrs["samples"] == 60 * 128
    assert many < 1.1 * few  # twenty times the samples; all of them would be 12 MiB


def test_no_chunk_outlives_its_turn():
    living, most = [], []

    def stream():
        for seed in range(12):
            parts = pair(n=50, seed=seed)
            living.extend(map(weakref.ref, parts))
            yield parts
            del parts
            most.append(sum(reference() is not None for reference in living))

    result = histogram(stream, rank_samples=30)
    assert result.attrs["samples"] == 600
    assert max(most) <= 4  # this chunk's two arrays and, at most, the one before it
    assert not any(reference() is not None for reference in living)


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e30])
def test_nets_of_very_different_scales_share_bins(scale):
    student, teacher = pair(n=50, k=10)
    result = histogram((scale * student.astype(float), teacher), rank_samples=0)
    edges = np.append(result.logit, result.logit[-1] + result.logit.attrs["width"])
    for net, values in (("student", scale * student.astype(float)), ("teacher", teacher)):
        expected, _ = np.histogram(values, edges)
        np.testing.assert_array_equal(result.counts_logit.sel(net=net), expected)
    assert float(result.band_probability.max()) <= 1
    plots.draw(result, "values").draw_without_rendering()


def test_bad_settings():
    for settings, message in (
        ({"temperature": 0}, "temperature must be a finite number above 0"),
        ({"small": 1.0}, "small must be between 0 and 1, got 1.0"),
        ({"bins": 3}, "bins must be 16 to 16384, got 3"),
    ):
        with pytest.raises(KdvizError, match=message):
            histogram(pair(), **settings)
    with pytest.raises(KdvizError, match="leave them out with --drop-nonfinite"):
        histogram((np.full((3, 4), np.nan), np.zeros((3, 4))))
    kept = histogram(
        (np.vstack([pair()[0], np.full((1, 12), np.inf)]), np.vstack([pair()[1], np.zeros((1, 12))])),
        drop_nonfinite=True,
    )
    assert (kept.attrs["samples"], kept.attrs["dropped"]) == (300, 1)


def drawn(label, seed, **settings):
    student, teacher = pair(seed=seed)
    return histogram((student, teacher), label=label, rank_samples=20, **settings)


def test_the_figure_shows_each_net_once_and_all_of_its_values():
    results = [drawn("kd", 0), drawn("kd+rk", 0), drawn("mine", 0, bins=128)]
    fig = plots.draw(results, "values")
    panels = [axis for axis in fig.axes if axis.get_ylabel() == "share of values"]
    assert len(panels) == 2
    for axis in panels:
        assert [one.get_label() for one in axis.lines] == ["teacher", "KD", "KD+RK", "mine"]
        for one in axis.lines:
            assert one.get_drawstyle() == "steps-post"  # a height holds from its bin's left edge to the next
            heights = one.get_ydata()[:-1]
            assert heights[heights > axis.get_ylim()[0]].sum() == pytest.approx(1)
        assert axis.get_yscale() == "log"
    assert [axis.get_xlabel() for axis in fig.axes if axis.get_xlabel()] == ["logit", "probability (fraction)"]
    masses = [results[0].small_mass.sel(net="teacher"), *(one.small_mass.sel(net="student") for one in results)]
    told = [text.get_text() for text in fig.legends[0].get_texts()]
    assert told == [
        f"{name} ({100 * float(mass):.2g}%)"
        for name, mass in zip(["teacher", "KD", "KD+RK", "mine"], masses, strict=True)
    ]
    assert fig.get_size_inches()[0] == 6.75


def test_densities_integrate_to_one():
    panels = [axis for axis in plots.draw(drawn("kd", 0), "density").axes if "teacher" not in axis.get_ylabel()]
    assert len(panels) == 2
    for axis in panels:
        assert len(axis.lines) == 2
        for one in axis.lines:
            edges, heights = one.get_data()
            assert (heights[:-1] * np.diff(edges)).sum() == pytest.approx(1, abs=1e-3)


def test_ranks_figure_draws_medians_and_gradients():
    result = drawn("kd", 0)
    raw, chances, gradient = plots.draw([result], "ranks").axes
    lines = {line.get_label(): line for line in raw.lines}
    np.testing.assert_array_equal(lines["KD"].get_ydata(), result.band_logit.sel(net="student", quantile=0.5))
    assert chances.get_yscale() == "log"
    np.testing.assert_array_equal(gradient.lines[0].get_ydata(), result.gradient.sel(loss="kd"))
    alone = histogram(pair(), rank_samples=0).drop_vars(["gradient", "small_gradient", "loss"])
    assert len(plots.draw(alone, "ranks").axes) == 2


def run(*arguments, cwd):
    import subprocess
    import sys

    return subprocess.run(
        [sys.executable, "-m", "kdviz", *map(str, arguments)], cwd=cwd, capture_output=True, text=True
    )


def test_the_command_takes_logits_alone(tmp_path):
    student, teacher = pair(n=40)
    np.savez(tmp_path / "mine.npz", student=student, teacher=teacher)
    done = run("histogram", tmp_path / "mine.npz", "--format", "png", "-o", tmp_path / "out", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    figures = {f"histogram_{name}.{suffix}" for name in ("values", "ranks") for suffix in ("png", "tex")}
    assert written == {"histogram.nc", *figures}
    assert all(str(tmp_path / "out" / name) in done.stdout for name in written)
    falling = np.sort(student, axis=1)[:, :-2].astype(float)  # all but the largest tenth
    mass = np.exp(falling / 4).sum(1) / np.exp(student.astype(float) / 4).sum(1)
    assert f"mine: {mass.mean():.1%} of probability in the smallest 90% of channels" in done.stdout


def test_the_command_refuses_in_one_line(tmp_path):
    np.savez(tmp_path / "bad.npz", student=np.full((9, 4), np.nan), teacher=np.zeros((9, 4)))
    done = run("histogram", "--logits", "bad.npz", cwd=tmp_path)
    expected = "kdviz: bad.npz: NaN or Inf in 9 of the student's 9 samples; leave them out with --drop-nonfinite\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


def test_quantiles_are_interpolated_within_a_bin():
    """Four values spread evenly over [2, 4) and four over [4, 6): the quarters lie in the middle of each bin."""
    from kdviz.analysis.counts import quantiles

    found = quantiles(np.array([[4, 4]]), np.array([2.0, 4.0]), 2.0, (0.25, 0.5, 0.75))
    assert found.tolist() == [[3.0, 4.0, 5.0]]


def test_the_ranking_losss_gradient_says_what_it_costs_and_may_be_left_out(monkeypatch):
    from kdviz.analysis import cost
    from kdviz.analysis import histogram as module

    generator = np.random.default_rng(0)
    nets, said = tuple(generator.standard_normal((2, 40, 6))), []
    monkeypatch.setattr(cost, "SURELY_SHORT", 0)
    monkeypatch.setattr(cost, "seconds_per_pair", lambda *, gradient: 1.0)
    module.histogram(nets, rank_samples=30, announce=said.append)
    # 30 samples of 6 * 5 / 2 pairs, at a second each
    assert said == ["the ranking loss' gradient over 30 samples of 6 channels will take about 7 min 30 s"]
    monkeypatch.setattr(module, "rank_kendall", None)  # a call would fail
    assert module.histogram(nets, rank_samples=0, announce=said.append)["loss"].values.tolist() == ["kd"]
    assert len(said) == 1
