"""Suboptimal cases against scipy, closed forms and brute force over small inputs."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy, mannwhitneyu
from typer.testing import CliRunner

from kdviz.analysis.suboptimal import (
    CriteriaSettings,
    criteria,
    descent,
    gradients,
    mine_samples,
    mine_students,
    ternary,
    toy,
)
from kdviz.analysis.suboptimal.angles import angle
from kdviz.analysis.suboptimal.mining import count_pairs
from kdviz.analysis.suboptimal.ternary import _centroids
from kdviz.base.check import KdvizError
from kdviz.base.files import read_dataset
from kdviz.cli.app import app
from kdviz.data import Data

T = np.array([0.40, 0.35, 0.15, 0.10])
S = np.array([[0.36, 0.39, 0.15, 0.10], [0.70, 0.15, 0.10, 0.05]])


def random_logits(n=40, k=5, seed=0, noise=1.2):
    rng = np.random.default_rng(seed)
    target = rng.integers(k, size=n)
    teacher = rng.normal(size=(n, k)) + 3 * np.eye(k)[target]
    return teacher + noise * rng.normal(size=(n, k)), teacher, target


def kl(teacher, student, temperature):
    rows = zip(teacher / temperature, student / temperature, strict=True)
    return np.array([entropy(softmax(t), softmax(s)) for t, s in rows])


# --- the example -----------------------------------------------------------------------------------------------------


def test_the_example_has_the_kl_of_scipy_and_the_smaller_one_is_wrong():
    found = toy()
    values = found["loss"].sel(criterion="kl").values
    assert values == pytest.approx([entropy(T, S[0]), entropy(T, S[1])], rel=1e-12)
    assert values == pytest.approx([0.00427, 0.20284], abs=5e-6)  # as published with the example
    assert found["right"].values.tolist() == [False, True]


def test_the_example_has_the_ranking_loss_and_pld_of_their_definitions():
    found = toy()
    for at, s in enumerate(S):
        zs, zt = (np.log(one) for one in (s, T))
        zs, zt = ((z - z.mean()) / z.std(ddof=1) for z in (zs, zt))
        pairs = [
            np.tanh((zt[i] - zt[j]) / 2) * np.tanh((zs[i] - zs[j]) / 2) for i, j in itertools.combinations(range(4), 2)
        ]
        rank = -np.mean(pairs)
        pld = sum(T[i] * -np.log(s[i] / s[i:].sum()) for i in range(4))  # T is in falling order, the label first
        assert found["loss"].sel(criterion="rank_kendall").values[at] == pytest.approx(rank, rel=1e-6)
        assert found["loss"].sel(criterion="pld").values[at] == pytest.approx(pld, rel=1e-12)
        total = 0.9 * entropy(T, s) + 0.9 * rank
        assert found["loss"].sel(criterion="kl+rk").values[at] == pytest.approx(total, rel=1e-6)


def test_the_example_at_a_temperature_softens_the_probabilities():
    found = toy(settings=CriteriaSettings(4.0))["loss"].sel(criterion="kl").values
    assert found == pytest.approx([entropy(T**0.25, one**0.25) for one in S], rel=1e-10)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"teacher": (0.5, 0.6)}, "sum to 1"),
        ({"teacher": (1.0, 0.0)}, "above 0"),
        ({"students": [(0.5, 0.5)]}, "4 channels but the students 2"),
    ],
)
def test_the_example_refuses_what_is_no_distribution(arguments, told):
    with pytest.raises(KdvizError, match=told):
        toy(**arguments)


def test_settings_out_of_range_are_refused():
    for settings in ({"temperature": 0.0}, {"gamma": -1.0}, {"alpha": float("nan")}):
        with pytest.raises(KdvizError, match=next(iter(settings))):
            CriteriaSettings(**settings)


# --- the triangle ----------------------------------------------------------------------------------------------------


def test_the_triangle_falls_into_equal_parts():
    points = _centroids(7).numpy()
    assert points.shape == (49, 3)
    assert points.sum(1) == pytest.approx(np.ones(49))
    assert points.min() > 0
    assert points.mean(0) == pytest.approx(np.full(3, 1 / 3))


def test_the_misled_area_in_closed_form_for_a_certain_teacher():
    # KL = CE = -log p1, so that p1 > a and another class above p1: two triangles, 4 (1/2 - a)^2 of the simplex
    found = ternary((1 - 2e-12, 1e-12, 1e-12), (0.4, 0.3, 0.3), steps=10, fine=200)
    assert found["area"].sel(criterion="kl").item() == pytest.approx(0.04, abs=1e-3)
    assert found["area"].sel(criterion="pld").item() == pytest.approx(0.04, abs=1e-3)
    assert found["area_by_class"].sel(criterion="kl").values == pytest.approx([0, 0.02, 0.02], abs=1e-3)


def test_the_misled_area_of_kl_by_monte_carlo():
    teacher, right = np.array([0.40, 0.35, 0.25]), np.array([0.70, 0.18, 0.12])
    points = np.random.default_rng(0).dirichlet(np.ones(3), 200_000)
    misled = (entropy(teacher[None], points, axis=1) < entropy(teacher, right)) & (points.argmax(1) != 0)
    error = 4 * np.sqrt(misled.mean() * (1 - misled.mean()) / len(points))
    found = ternary(teacher, right, steps=10, fine=150)
    assert found["area"].sel(criterion="kl").item() == pytest.approx(misled.mean(), abs=error + 1e-3)
    assert found["level"].sel(criterion="kl").item() == pytest.approx(entropy(teacher, right))


def test_the_map_marks_the_points_below_the_level_with_another_class():
    found = ternary(steps=12, fine=12)
    below = found["loss"].values < found["level"].values[:, None]
    wrong = found["probability"].values.argmax(1) != 0
    np.testing.assert_array_equal(found["misled"].values, below & wrong)
    assert found["misled"].mean("point").values == pytest.approx(found["area"].values)  # the same lattice here


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"right": (0.2, 0.7, 0.1)}, "must agree"),
        ({"teacher": (0.4, 0.3, 0.2, 0.1)}, "three classes"),
        ({"steps": 1}, "2 or more"),
    ],
)
def test_the_triangle_refuses(arguments, told):
    with pytest.raises(KdvizError, match=told):
        ternary(**arguments)


# --- descent ---------------------------------------------------------------------------------------------------------


def test_descent_of_kl_follows_its_closed_gradient():
    teacher, start, rate, steps = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7]), 0.3, 60
    found = descent(teacher, [start], losses=["kl"], rate=rate, steps=steps, keep=500)
    s, path = np.log(start), []
    for _ in range(steps + 1):
        path.append(softmax(s))
        s = s - rate * (softmax(s) - teacher)
    winners = np.argmax(path, 1)
    one = found.sel(loss="kl").isel(start=0)
    assert found["step"].values.tolist() == list(range(steps + 1))
    np.testing.assert_allclose(one["probability"].values, path, rtol=1e-9)
    np.testing.assert_array_equal(one["winner"].values, winners)
    assert one["changes"].item() == (np.diff(winners) != 0).sum() > 0
    assert one["right_from"].item() == np.flatnonzero(winners != 0).max() + 1
    assert one["to_teacher"].item() == pytest.approx(np.abs(path[-1] - teacher).sum() / 2)


def test_descent_of_kl_is_the_same_at_any_temperature_scale_of_its_end():
    found = descent(settings=CriteriaSettings(2.0), losses=["kl"], rate=1.0, steps=300, keep=2)
    assert float(found["to_teacher"].max()) < 1e-2


def test_descent_says_never_where_the_class_stays_wrong():
    found = descent((0.5, 0.3, 0.2), [(0.01, 0.01, 0.98)], losses=["kl"], rate=1e-4, steps=3, keep=3)
    assert found["right_from"].item() == -1
    assert found["changes"].item() == 0


def test_descent_refuses_unknown_losses_and_other_class_counts():
    with pytest.raises(KdvizError, match="loss must be one of"):
        descent(losses=["kll"], steps=1)
    with pytest.raises(KdvizError, match="starts must be"):
        descent(starts=[(0.5, 0.5)], steps=1)


# --- gradients and angles --------------------------------------------------------------------------------------------


def test_gradients_are_the_differences_of_the_losses():
    student, teacher, target = (torch.from_numpy(one) for one in random_logits(6, 4, seed=1))
    found = gradients(student, teacher, target, CriteriaSettings(3.0, 0.7, 0.4))
    losses = {
        "ce": lambda s: -torch.from_numpy(log_softmax(s.numpy(), 1))[torch.arange(6), target],
        "kl": lambda s: 9 * torch.from_numpy(kl(teacher.numpy(), s.numpy(), 3.0)),
        **{
            name: lambda s, name=name: criteria(s, teacher, target, CriteriaSettings(3.0, 0.7, 0.4))[name]
            for name in ("rank_kendall", "kl+rk", "pld")
        },
    }
    for name, function in losses.items():
        for channel in range(4):
            step = torch.zeros(4, dtype=torch.float64)
            step[channel] = 1e-5
            slope = (function(student + step) - function(student - step)) / 2e-5
            np.testing.assert_allclose(found[name][:, channel], slope, atol=2e-9, err_msg=name)
        assert found[name].sum(1).abs().max() < 1e-9


def test_angles_are_exact_at_both_ends():
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 1e-9], [0.0, 0.0]], dtype=torch.float64)
    others = torch.tensor([[-1.0, 0.0], [0.0, 2.0], [1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    found = angle(rows, others).numpy()
    assert found[:3] == pytest.approx([180.0, 90.0, np.degrees(1e-9)], rel=1e-9)
    assert np.isnan(found[3])


# --- pairs of samples ------------------------------------------------------------------------------------------------


def test_counting_pairs_agrees_with_brute_force_and_with_the_u_statistic():
    rng = np.random.default_rng(3)
    wrong, right = rng.integers(6, size=30).astype(float), rng.integers(6, size=50).astype(float)
    assert count_pairs(wrong, right) == sum(w < r for w in wrong for r in right)
    wrong, right = rng.normal(size=30), rng.normal(size=50)
    assert count_pairs(wrong, right) == mannwhitneyu(right, wrong).statistic


def test_counting_pairs_of_a_million_samples_is_exact():
    n = 1_000_000
    assert count_pairs(np.arange(0.0, 2 * n, 2), np.arange(1.0, 2 * n, 2)) == n * (n + 1) // 2


def test_pairs_and_regret_agree_with_brute_force():
    student, teacher, target = random_logits(60, seed=2)
    found = mine_samples((student, teacher, target), CriteriaSettings(2.0), top=5)
    values = kl(teacher, student, 2.0)
    right = student.argmax(1) == target
    np.testing.assert_allclose(found["loss"].sel(criterion="kl").values, values, rtol=1e-9)
    np.testing.assert_array_equal(found["right"].values, right)
    wrong, good = np.flatnonzero(~right), np.flatnonzero(right)
    pairs = sum(values[i] < values[j] for i in wrong for j in good)
    assert found["pairs"].sel(criterion="kl").item() == pairs
    assert found["share"].sel(criterion="kl").item() == pytest.approx(pairs / (len(wrong) * len(good)))
    # no five disjoint pairs can have more regret than the five smallest wrong with the five largest right
    best = np.sort(values[good])[::-1][:5] - np.sort(values[wrong])[:5]
    assert found["regret"].values == pytest.approx(best)
    first = found["case_sample"].values[0]
    assert first.tolist() == [wrong[values[wrong].argmin()], good[values[good].argmax()]]
    expected = [[softmax(net[at] / 2.0) for net in (teacher, student)] for at in first]
    np.testing.assert_allclose(found["probability"].values[0], expected, rtol=1e-9)


def test_chunks_of_samples_give_what_all_samples_give():
    student, teacher, target = random_logits(50, seed=4)
    whole = mine_samples((student, teacher, target))
    parts = mine_samples(lambda: ((student[i : i + 7], teacher[i : i + 7], target[i : i + 7]) for i in range(0, 50, 7)))
    for name in ("loss", "pairs", "case_sample", "probability", "angle"):
        np.testing.assert_allclose(parts[name].values, whole[name].values, rtol=1e-12)


def test_without_the_ranking_loss_it_is_not_computed_and_the_rest_stays(monkeypatch):
    from kdviz.analysis import cost

    module = sys.modules["kdviz.analysis.suboptimal.criteria"]  # the package gives its name to the function
    nets = random_logits(50, seed=4)
    whole, both = mine_samples(nets), mine_students([nets, nets])

    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(module, "rank_kendall", never)
    monkeypatch.setattr(cost, "SURELY_SHORT", 0)
    monkeypatch.setattr(cost, "seconds_per_pair", never)
    few = mine_samples(nets, ranking=False, announce=never)
    assert few["criterion"].values.tolist() == ["kl", "pld"]
    for name in ("loss", "angle", "pairs", "share", "case_loss"):
        np.testing.assert_array_equal(few[name], whole[name].sel(criterion=["kl", "pld"]), err_msg=name)
    duels = mine_students([nets, nets], ranking=False)
    np.testing.assert_array_equal(duels["mean"], both["mean"].sel(criterion=["kl", "pld"]))


def test_the_ranking_loss_says_what_it_costs_and_threads_change_nothing(monkeypatch):
    from kdviz.analysis import cost
    from kdviz.analysis.suboptimal import mining

    nets, said, told = random_logits(50, seed=4), [], []
    whole = mine_samples(nets)
    monkeypatch.setattr(cost, "SURELY_SHORT", 0)
    monkeypatch.setattr(cost, "seconds_per_pair", lambda *, gradient: 1.0)
    monkeypatch.setattr(mining, "NUMBERS", 5 * 8)  # eight samples
    kept = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        pieces = mine_samples(nets, announce=said.append, progress=lambda *numbers: told.append(numbers))
    finally:
        torch.set_num_threads(kept)
    # 50 samples of 5 * 4 / 2 pairs, at a second each
    assert said == ["the ranking loss over 50 samples of 5 channels will take about 8 min 20 s"]
    assert told[-1] == (50, 50)
    for name in ("loss", "angle", "pairs", "case_sample"):
        np.testing.assert_allclose(pieces[name].values, whole[name].values, rtol=1e-12)


def test_truth_by_teacher_and_by_both():
    student, teacher, target = random_logits(60, seed=5)
    best = teacher.argmax(1)
    by_teacher = mine_samples((student, teacher), truth="teacher")
    np.testing.assert_array_equal(by_teacher["right"].values, student.argmax(1) == best)
    agreed = mine_samples((student, teacher, target), truth="agreed")
    kept = np.flatnonzero(best == target)
    assert 0 < len(kept) < 60
    np.testing.assert_array_equal(agreed["sample"].values, kept)
    np.testing.assert_array_equal(agreed["right"].values, (student.argmax(1) == target)[kept])


def test_a_student_without_errors_has_no_case():
    _, teacher, _ = random_logits(20)
    found = mine_samples((teacher, teacher, teacher.argmax(1)))
    assert found["pairs"].values.tolist() == [0, 0, 0, 0]
    assert found.sizes["case"] == 0
    assert np.isnan(found["share"].values).all()
    assert np.isnan(found["angle"].sel(criterion="kl").values).all()  # no gradient, no angle


def test_cases_carry_their_own_images():
    student, teacher, target = random_logits(30, seed=6)
    images = torch.arange(30, dtype=torch.uint8)[:, None, None, None].expand(30, 3, 4, 4).clone()
    data = Data("numbers", "test", images, torch.from_numpy(target), (0.5,) * 3, (0.2,) * 3, tuple("abcde"))
    found = mine_samples((student, teacher, target), data=data)
    np.testing.assert_array_equal(found["image"].values[..., 0, 0, 0], found["case_sample"].values)
    assert found["class_name"].values.tolist() == list("abcde")
    other = Data("others", "test", images, torch.from_numpy((target + 1) % 5), (0.5,) * 3, (0.2,) * 3, tuple("abcde"))
    with pytest.raises(KdvizError, match="another split"):
        mine_samples((student, teacher, target), data=other)
    with pytest.raises(KdvizError, match="not in numbers"):
        mine_samples((student, teacher, target), data=data.take(torch.arange(3)))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda s, t, y: (s, t[:, :4], y), "different data sets"),
        (lambda s, t, y: (np.where(s > 4, np.nan, s), t, y), "--drop-nonfinite"),
        (lambda s, t, y: (s[:0], t[:0], y[:0]), "no samples"),
        (lambda s, t, y: (s[:1], t[:1], y[:1]), "2 samples or more"),
        (lambda s, t, y: (s, t, y + 3), "labels outside 0..4"),
        (lambda s, t, y: (s, t), "--truth teacher"),
    ],
)
def test_bad_logits_are_one_clear_line(spoil, told):
    with pytest.raises(KdvizError, match=told) as caught:
        mine_samples(spoil(*random_logits()))
    assert "\n" not in str(caught.value)


def test_nonfinite_samples_are_left_out_on_request():
    student, teacher, target = random_logits()
    student[3, 2] = np.nan
    found = mine_samples((student, teacher, target), drop_nonfinite=True)
    kept = np.delete(np.arange(40), 3)
    np.testing.assert_array_equal(found["sample"].values, kept)
    assert found.attrs["dropped"] == 1


# --- pairs of students -----------------------------------------------------------------------------------------------


def test_pairs_of_students_agree_with_brute_force():
    _, teacher, target = random_logits(80, seed=7)
    rng = np.random.default_rng(8)
    students = [teacher + noise * rng.normal(size=teacher.shape) for noise in (0.8, 1.6, 2.4)]
    found = mine_students(
        [(s, teacher, target) for s in students], settings=CriteriaSettings(1.0), labels=["a", "b", "c"], top=4
    )
    values = [kl(teacher, s, 1.0) for s in students]
    right = [s.argmax(1) == target for s in students]
    best = {}
    for i, j in itertools.permutations(range(3), 2):
        eligible = ~right[i] & right[j]
        cases = eligible & (values[i] < values[j])
        at = {"this": "abc"[i], "that": "abc"[j]}
        assert found["candidates"].sel(**at).item() == eligible.sum()
        assert found["pairs"].sel(criterion="kl", **at).item() == cases.sum()
        for sample in np.flatnonzero(cases):
            best[sample] = max(best.get(sample, 0), values[j][sample] - values[i][sample])
    assert found["regret"].values == pytest.approx(sorted(best.values(), reverse=True)[:4])
    assert found.sizes["case"] > 1
    for case in range(found.sizes["case"]):
        sample, this, that = (found[f"case_{name}"].values[case] for name in ("sample", "this", "that"))
        nets = [teacher, students["abc".index(this)], students["abc".index(that)]]
        np.testing.assert_allclose(found["probability"].values[case], [softmax(net[sample]) for net in nets])
        assert found["regret"].values[case] == pytest.approx(best[sample])


def test_students_of_other_samples_are_refused():
    first, second = random_logits(seed=1), random_logits(seed=2)
    with pytest.raises(KdvizError, match="other labels"):
        mine_students([first, second])
    with pytest.raises(KdvizError, match="two students"):
        mine_students([first])


def test_students_are_compared_on_the_samples_they_share():
    student, teacher, target = random_logits()
    broken = student.copy()
    broken[5] = np.inf
    found = mine_students([(student, teacher, target), (broken, teacher, target)], drop_nonfinite=True)
    assert found.attrs["samples"] == 39
    assert int(found["pairs"].sum()) == 0  # elsewhere they are the same student


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_without_a_student_draws_the_example(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "kdviz", "suboptimal", "-o", str(tmp_path), "--format", "pdf"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "student 1 0.00427  student 2 0.20284  prefers the wrong one" in done.stdout
    names = {path.name for path in tmp_path.iterdir() if path.suffix != ".tex"}
    assert names == {"toy.nc", "ternary.nc", "descent.nc", "toy_bars.pdf", "ternary_maps.pdf", "descent_paths.pdf"}
    assert done.stderr == ""


def test_the_command_on_logits_of_two_students(tmp_path):
    student, teacher, target = random_logits(seed=9)
    for name, net in (("one", student), ("two", student[:, ::-1])):
        np.savez(tmp_path / f"{name}.npz", logits_student=net, logits_teacher=teacher, target=target)
    files = [str(tmp_path / f"{name}.npz") for name in ("one", "two")]
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["suboptimal", *files, "--top", "2", "-o", str(out), "--format", "png"])
    assert done.exit_code == 0, done.output
    found = read_dataset(out / "suboptimal_one.nc")
    right = student.argmax(1) == target
    assert int(found["candidates"]) == right.sum() * (~right).sum()
    assert f"{int(found['pairs'].sel(criterion='kl')):,}" in done.output
    assert {path.name for path in out.glob("*.png")} == {
        "suboptimal_overlap.png",
        "suboptimal_angles.png",
        "suboptimal_one_gallery.png",
        "suboptimal_two_gallery.png",
        "suboptimal_matrix.png",
        "suboptimal_duels.png",
    }


def test_the_command_refuses_bad_logits():
    done = CliRunner().invoke(app, ["suboptimal", "--logits", "nowhere.npz"])
    assert isinstance(done.exception, KdvizError)
    assert "nowhere.npz" in str(done.exception)
