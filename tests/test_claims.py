"""Claims about runs: permutation tests against scipy, verdicts by hand, groups, the command."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from test_plots import words

from kdviz import plots
from kdviz.analysis.claims import from_comparisons, least_p, of_logits, permutation_p, rows, sentences, verdicts
from kdviz.base.check import KdvizError
from kdviz.cli.claims import grouped, split


def scipys(first, second, **options):
    def difference(x, y, axis):
        return np.mean(y, axis=axis) - np.mean(x, axis=axis)

    kind = {"permutation_type": "independent", "alternative": "two-sided"}
    return stats.permutation_test((first, second), difference, vectorized=True, **kind, **options)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 3), (5, 5)])
def test_p_values_are_scipys(n, m):
    for seed in range(5):
        generator = np.random.default_rng(seed)
        first, second = generator.normal(size=n), generator.normal(0.7, size=m)
        expected = scipys(first, second, n_resamples=np.inf).pvalue
        assert permutation_p(first, second) == pytest.approx(expected)


def test_many_runs_are_drawn_and_close_to_the_t_test():
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=30), generator.normal(0.5, size=30)
    assert permutation_p(first, second) == pytest.approx(stats.ttest_ind(first, second).pvalue, abs=0.01)


def test_equal_values_are_never_told_apart_and_separate_ones_reach_the_least_p():
    assert permutation_p([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]) == 1
    assert permutation_p([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]) == pytest.approx(least_p(4, 4))
    assert permutation_p([1.0, 2.0], [5.0, 6.0, 7.0]) == pytest.approx(least_p(2, 3))
    with pytest.raises(KdvizError, match="needs a run of each"):
        permutation_p([], [1.0])


def test_a_value_that_is_not_finite_tells_nothing():
    assert np.isnan(permutation_p([1.0, 2.0, 3.0, np.nan], [7.0, 8.0, 9.0, 10.0]))
    broken = values(kl=[5, 6, 7, np.nan, 1, 2, 3, 4], tau_b=[1, 2, 3, 4, 5, 6, 7, 8])
    found = verdicts(broken, GROUPS, ["closer"])
    assert list(found["told"].sel(other="kd+rk").values) == ["yes", UNCLEAR]
    assert found["verdict"].item() == UNCLEAR


GROUPS = {"kd": ["a", "b", "c", "d"], "kd+rk": ["e", "f", "g", "h"]}


def values(**by_name):
    nets = [net for members in GROUPS.values() for net in members]
    return xr.Dataset({name: ("net", np.array(column, dtype=float)) for name, column in by_name.items()}, {"net": nets})


LOW, HIGH = [1, 2, 1, 2, 8, 9, 8, 9], [9, 8, 9, 8, 1, 2, 1, 2]  # the second group is above, below the first
UNCLEAR = "not told apart"


@pytest.mark.parametrize(
    ("eigenvalue", "trace", "radius", "verdict", "told"),
    [
        (HIGH, HIGH, LOW, "yes", ["yes", "yes", "yes"]),
        (LOW, HIGH, LOW, UNCLEAR, ["no", "yes", "yes"]),
        (HIGH, [1, 2, 3, 4, 1, 2, 3, 4], LOW, UNCLEAR, ["yes", UNCLEAR, "yes"]),
    ],
)
def test_a_claim_holds_where_all_of_its_quantities_do(eigenvalue, trace, radius, verdict, told):
    found = verdicts(values(top_eigenvalue=eigenvalue, trace=trace, flatness_radius=radius), GROUPS, ["flatter"])
    assert list(found["told"].sel(other="kd+rk").values) == told
    assert found["verdict"].item() == verdict
    assert f"kd+rk lies in a flatter minimum than kd: {verdict}" in sentences(found)
    assert float(found["difference"].sel(quantity="trace")[0]) == np.mean(trace[4:]) - np.mean(trace[:4])


def test_a_clear_loss_is_a_no_and_a_single_quantity_decides_alone():
    worse = values(ece=[0.1, 0.11, 0.12, 0.13, 0.2, 0.21, 0.22, 0.23])
    found = verdicts(worse, GROUPS, ["calibrated"])
    assert found["verdict"].item() == "no"  # p = 2 / 70
    assert float(found["p"][0, 0]) == pytest.approx(2 / 70)
    strict = verdicts(worse, GROUPS, ["calibrated"], level=0.01)
    assert strict["verdict"].item() == "not told apart"
    said = next(line for line in sentences(strict) if "no p-value can be below 0.029" in line)
    assert "5 runs of each can" in said  # 2 / C(10, 5) is .008, 2 / C(8, 4) is .029
    text = rows(found)
    assert text[0][:3] == ["quantity", "claimed", "group"]
    assert text[2][-3:] == ["+0.1", "0.029", "no"]


@pytest.mark.parametrize(
    ("groups", "claims", "level", "message"),
    [
        ({"kd": ["a", "b"]}, ["flatter"], 0.05, "compares runs of two methods or more, got runs of kd alone"),
        (GROUPS, ["flater"], 0.05, "did you mean 'flatter'"),
        (GROUPS, ["flatter"], 1.5, "level must be in"),
    ],
)
def test_what_cannot_be_tested_is_refused(groups, claims, level, message):
    with pytest.raises(KdvizError, match=message):
        verdicts(values(trace=range(8)), groups, claims, level=level)


def test_planes_and_subsets_are_averaged():
    def comparison(add):
        data = {"minima": (("net", "loss", "seed"), np.array([[[1.0, 3.0]], [[2.0, 6.0]]]) + add)}
        data["top_eigenvalue"] = (("net", "loss", "rank"), np.array([[[5.0]], [[7.0]]]) + add)
        return xr.Dataset(data, {"net": ["a", "b"], "loss": ["ce"], "seed": [0, 1], "rank": [1]})

    found = from_comparisons([comparison(0), comparison(10)], "ce")
    assert list(found["minima"].values) == [7, 9]
    assert list(found["top_eigenvalue"].values) == [10, 12]


def test_logits_give_tau_kl_and_ece_as_scipy_has_them():
    import torch
    from torch import nn

    from kdviz.data import Data

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (30, 3, 2, 2), generator=generator, dtype=torch.uint8)
    data = Data("noise", "test", images, torch.arange(30) % 5, (0.5,) * 3, (0.5,) * 3, tuple("abcde"))
    nets = {name: nn.Sequential(nn.Flatten(), nn.Linear(12, 5)) for name in ("student", "other", "teacher")}
    found = of_logits({"student": nets["student"], "other": nets["other"]}, data, nets["teacher"])
    flat = next(data.batches(30))[0]
    for name in ("student", "other"):
        student, teacher = (nets[one](flat).detach().numpy() for one in (name, "teacher"))
        tau = np.mean([stats.kendalltau(x, y).statistic for x, y in zip(student, teacher, strict=True)])
        p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (teacher, student))
        assert float(found["tau_b"].sel(net=name)) == pytest.approx(tau)
        assert float(found["kl"].sel(net=name)) == pytest.approx(np.mean(stats.entropy(p, q, axis=1)), rel=1e-5)


def test_groups_are_methods_or_those_that_were_named(tmp_path):
    (tmp_path / "x=1").mkdir()
    assert split([str(tmp_path / "x=1"), "g=runs/a"])[0] == [None, "g"]

    def run(method, **settings):
        return SimpleNamespace(method=method, recipe={"settings": settings}, path="x.pt")

    runs = [run("kd", **{"kd.weight": 1}), run("kd", **{"kd.weight": 2}), run("ce"), run("kd", **{"kd.weight": 1})]
    nets = SimpleNamespace(checkpoints=runs, labels=["a", "b", "c", "d"])
    assert grouped(nets, [None] * 4) == {"kd, kd.weight 1": ["a", "d"], "kd, kd.weight 2": ["b"], "ce": ["c"]}
    assert grouped(nets, ["x", "y", "x", "y"]) == {"x": ["a", "c"], "y": ["b", "d"]}
    with pytest.raises(KdvizError, match="does not say its method"):
        grouped(SimpleNamespace(checkpoints=[run(None)], labels=["a"]), [None])


def test_the_figure_shows_every_run_and_the_verdict():
    found = verdicts(values(tau_b=[1, 2, 3, 4, 5, 6, 7, 8], kl=[5, 6, 7, 8, 5, 6, 7, 8]), GROUPS, ["closer"])
    first, second = plots.draw(found.assign_attrs(data="glyphs100", synthetic=1), "claims").axes
    assert [list(line.get_ydata()) for line in first.get_lines()[::2]] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert "yes (p = 0.029)" in first.get_title(loc="left")
    assert "not told apart (p = 1)" in second.get_title(loc="left")
    assert "glyphs100 (synthetic)" in first.figure.get_suptitle()


def test_verdicts_of_many_groups_are_beside_no_other_panel():
    numbers = values(tau_b=range(8), kl=range(8), ece=range(8), minima=range(8))
    names = list(map(str, numbers["net"].values))
    groups = {"kd": names[:2], "kd+rk": names[2:4], "a long name": names[4:6], "pld": names[6:]}
    fig = plots.draw(verdicts(numbers, groups, ["closer", "calibrated"]), "claims")
    titles = {text: box for text, box in words(fig) if "than KD?" in text}
    assert len(titles) == 3
    for text, box in titles.items():
        assert text.count("(p = ") == 3
        assert 0 <= box.x0 < box.x1 <= fig.get_size_inches()[0]
        assert not [other for other, place in words(fig) if other != text and place.overlaps(box)], text


def test_counts_stand_at_whole_numbers():
    (axis,) = plots.draw(verdicts(values(minima=[1] * 8), GROUPS, ["fewer-minima"]), "claims").axes
    low, high = axis.get_ylim()
    assert [tick for tick in axis.get_yticks() if low <= tick <= high] == [1]


def test_the_command_tests_shipped_students(tmp_path):
    from pathlib import Path

    shipped = Path(__file__).parent.parent / "checkpoints"
    words = [f"a={shipped}/resnet8_kd.pt", f"a={shipped}/resnet8_ce.pt", f"b={shipped}/resnet8_pld.pt"]
    command = ["-m", "kdviz", "compare", *words, "--claim", "closer", "--claim", "fewer-minima"]
    small = ["--steps", "3", "--planes", "1", "--subsets", "1", "--samples", "20", "--format", "png", "-o", "out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command, *small], cwd=tmp_path, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "b is closer to its teacher than a is: not told apart" in done.stdout
    assert "with 2 and 1 runs no p-value can be below 0.33" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"claims.nc", "claims.png", "claims.tex"}
