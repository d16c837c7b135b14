"""Losses against published golden numbers (float64), closed forms and, for every registry entry, the same contracts."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from kdviz import losses
from kdviz.base.check import KdvizError
from kdviz.losses import LOSSES, validate_logits

S = [[1, 0.2, -0.5, 0.3, 2], [0.1, -1.2, 0.7, 1.5, -0.3], [2.2, 0.4, 0, -0.6, 1.1], [-0.9, 0.8, 1.9, 0.25, -1.4]]
T = [[0.5, 2.5, -1, 0, 1.2], [-0.4, 0.3, 3, 1.1, -2], [1.7, -0.2, 0.6, -1.5, 0.9], [0.2, -0.7, 0.4, 2.1, -1.3]]
s, t = torch.tensor(S, dtype=torch.float64), torch.tensor(T, dtype=torch.float64)
y = torch.tensor([1, 2, 0, 2])
OFFSETS = torch.tensor([[3.0], [-7.0], [0.5], [100.0]], dtype=torch.float64)  # one for each row

GOLDEN = [
    (losses.kd, (s, t), {}, 0.7452179207446731),
    (losses.kd, (s, t), {"temperature": 1.0}, 0.7234760610814843),
    (losses.dkd, (s, t, y), {}, 3.5984404331556132),
    (losses.lskd, (s, t), {}, 0.44101754612189326),
    (losses.kd, (s, t), {"temperature": 2.0, "normalize": "zscore"}, 0.44101754612189326),
    (losses.normkd, (s, t), {}, 0.9169647058444279),
    (losses.dist, (s, t), {}, 1.478261044703863),
    (losses.dist, (s, t), {"temperature": 4.0}, 17.864929879213587),
    (losses.class_gram, (s, t), {"temperature": 4.0}, 0.002407456830048223),
    (losses.batch_gram, (s, t), {"temperature": 4.0}, 0.0003162591673243499),
    (losses.rkd, (s, t), {}, 1.875078499270773),
    (losses.pld, (s, t, y), {}, 1.1943177296753),
    (losses.pld, (s, t, y), {"temperature": 4.0}, 0.8669177264272895),
    (losses.pld, (s, t, y), {"temperature": 0.5}, 1.350183759429843),
    (losses.list_mle, (s, t, y), {}, 3.6188193945942797),
    (losses.p_list_mle, (s, t, y), {"normalize": False}, 27.48248858331083),
    (losses.ce, (s, y), {}, 1.2100210266539),
] + [
    (losses.rank_kendall, (s, t), {"form": form, "normalize": normalize, "pairs": "ordered"}, value)
    for normalize, values in (
        ("none", (-0.40316254107511923, -0.7239731294710878, -0.6480709989514727)),
        ("zscore", (-0.3252303994143974, -0.6337460980277971, -0.6203640967552189)),
    )
    for form, value in zip((1, 2, 3), values, strict=True)
]


@pytest.mark.parametrize(("loss", "tensors", "settings", "value"), GOLDEN)
def test_golden_numbers(loss, tensors, settings, value):
    assert float(loss(*tensors, **settings)) == pytest.approx(value, rel=3e-7)  # 1e-7 in a std is the loosest of them


def filled(salt, scale):
    """Logits `[8, 10]` by the formula that the numbers of golden_logit_methods.json were computed with."""
    i = torch.arange(80, dtype=torch.float64)
    wave = (torch.sin(12.9898 * (i + 1) + salt) + 1) * 43758.5453
    return scale * (2 * torch.frac(wave) - 1).view(8, 10)


KNOWN = json.loads((Path(__file__).parent / "data/golden_logit_methods.json").read_text())["logit_methods"]["n8 C10"]
ROWS, COLUMNS = KNOWN["mrkd kendall rows, mean"], KNOWN["mrkd kendall columns, mean"]


@pytest.mark.parametrize(
    ("loss", "settings", "value"),
    [
        (losses.ttm, {"power": 0.2}, KNOWN["ttm l=0.2"]),
        (losses.ttm, {"power": 0.5}, KNOWN["ttm l=0.5"]),
        (losses.wttm, {"power": 0.2}, KNOWN["wttm l=0.2"]),
        (losses.wttm, {"power": 0.5}, KNOWN["wttm l=0.5"]),
        (losses.mrkd, {"ranking": 0.0}, KNOWN["mrkd similarity (x16)"]),
        (losses.mrkd, {"similarity": 0.0}, 32 * (ROWS + COLUMNS)),
        (losses.mrkd, {}, KNOWN["mrkd similarity (x16)"] + 32 * (ROWS + COLUMNS)),
    ],
)
def test_numbers_of_the_authors_code(loss, settings, value):
    assert float(loss(filled(1, 3), filled(3, 5), **settings)) == pytest.approx(value, rel=1e-9)


def test_diff_kendall_is_the_mean_tanh_of_the_products():
    ds, dt = (np.array(net)[:, :, None] - np.array(net)[:, None, :] for net in (S, T))
    upper = np.triu_indices(5, 1)
    expected = -np.tanh(0.7 * ds * dt)[:, *upper].mean(1)
    np.testing.assert_allclose(losses.diff_kendall(s, t, steepness=1.4, reduction="none"), expected, rtol=1e-12)


def test_nkd_by_its_formula():
    for row, (student, teacher, label) in enumerate(zip(np.array(S), np.array(T), y.tolist(), strict=True)):
        others = [c for c in range(5) if c != label]
        p, q = scipy.special.softmax(teacher)[label], scipy.special.softmax(student)[label]
        target = scipy.special.softmax(teacher[others] / 2)
        rest = -(target * scipy.special.log_softmax(student[others] / 2)).sum()
        found = losses.nkd(s, t, y, temperature=2.0, gamma=1.3, reduction="none")[row]
        assert float(found) == pytest.approx(-p * np.log(q) + 1.3 * 4 * rest, rel=1e-12)


def test_rld_by_its_formula():
    label = torch.tensor([1, 1, 2, 2])  # a sure teacher, one that ranks the label second, one fourth, one third
    found = losses.rld(s, t, label, alpha=0.7, beta=3.0, temperature=2.0, confidence_temperature=1.5, reduction="none")
    for row, (student, teacher, chosen) in enumerate(zip(np.array(S), np.array(T), label.tolist(), strict=True)):
        p, q = scipy.special.softmax(teacher / 1.5).max(), scipy.special.softmax(student / 1.5)[chosen]
        confidence = scipy.stats.entropy([p, 1 - p], [q, 1 - q])
        below = teacher < teacher[chosen]
        ranked = scipy.stats.entropy(
            *(scipy.special.softmax(each[below] / 2) if below.any() else [1.0] for each in (teacher, student))
        )
        assert float(found[row]) == pytest.approx(0.7 * 1.5**2 * confidence + 3.0 * 4 * ranked, rel=1e-12)


def test_rld_teaches_nothing_of_what_a_wrong_teacher_prefers_to_the_label():
    last = t.argmin(1)
    only_confidence = losses.rld(s, t, last, alpha=0.0)
    assert float(only_confidence) == 0.0
    wrong = gradient_of("rld", s, t, t.argsort(1)[:, 2], settings={"alpha": 0.0})
    preferred = t.argsort(1)[:, 2:]
    assert wrong.gather(1, preferred).abs().max() == 0
    assert wrong.abs().max() > 1e-3


def value_of(name, student, teacher=t, target=y, **rest):
    """The loss of whatever it takes; logits stand for pooled features, and for maps of one channel and row, as well."""
    features = {
        f"features_{net}": [logits[:, None, None]] * 2 for net, logits in (("student", student), ("teacher", teacher))
    }
    pooled = {"pooled_student": student, "pooled_teacher": teacher}
    return losses.loss_value(name, student, teacher, target, **pooled, **features, **rest)


def gradient_of(name, student, teacher=t, target=y, **rest):
    student = student.detach().clone().requires_grad_()
    value_of(name, student, teacher, target, **rest).backward()
    return student.grad


def test_plds_golden_gradient():
    golden = torch.tensor([0.034434, -0.149338, 0.016835, 0.023967, 0.074102], dtype=torch.float64)
    torch.testing.assert_close(gradient_of("pld", s)[0], golden, atol=1e-6, rtol=0)


@pytest.mark.parametrize("form", [1, 2, 3])
@pytest.mark.parametrize("normalize", ["none", "zscore", "l2"])
def test_the_ranking_loss_tends_to_kendalls_tau(form, normalize):
    taus = np.array([scipy.stats.kendalltau(a, b).statistic for a, b in zip(S, T, strict=True)])

    def gap(steepness):
        settings = {"form": form, "normalize": normalize, "steepness": steepness}
        return np.abs(-losses.rank_kendall(s, t, reduction="none", **settings).numpy() - taus).max()

    assert gap(10.0) > gap(100.0) > gap(1000.0)
    assert gap(1e6) < 1e-12


def test_ties_count_nothing():
    student, teacher = np.array([1.0, 1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0, 0.0])
    signs = np.sign(student[:, None] - student) * np.sign(teacher[:, None] - teacher)
    rows = [torch.from_numpy(net)[None] for net in (student, teacher)]
    for form in (1, 2, 3):
        assert -float(losses.rank_kendall(*rows, form=form, steepness=1e4)) == pytest.approx(signs.sum() / 12)


def test_ranking_of_the_top_channels_and_of_unit_rows():
    highest, lowest = t.sort(descending=True).indices[:, :3], t.sort().indices[:, :2]
    for share, index in ((("top", 0.6), highest), (("min", 0.3), lowest)):
        few = losses.rank_kendall(s, t, normalize="none", channels=share)
        assert float(few) == float(losses.rank_kendall(s.gather(1, index), t.gather(1, index), normalize="none"))
    rows = [each / each.square().sum(1, keepdim=True).sqrt() for each in (s, t)]
    unit = losses.rank_kendall(s, t, normalize="l2")
    assert float(unit) == pytest.approx(float(losses.rank_kendall(*rows, normalize="none")), rel=1e-12)


@pytest.mark.parametrize("k", [0.3, 1.0, 4.0])
def test_rkkds_closed_form_gradient(k):
    """dL/ds_m = -2 / (C (C - 1)) * sum_j a_mj (k / 2) (1 - b_mj^2), over the batch's mean."""
    a, b = (np.tanh(k * (z[:, :, None] - z[:, None, :]) / 2) for z in (np.array(T), np.array(S)))
    expected = -2 / (5 * 4) * (a * k / 2 * (1 - b**2)).sum(2) / 4
    found = gradient_of("rank_kendall", s, settings={"steepness": k, "normalize": "none"})
    np.testing.assert_allclose(found, expected, atol=1e-15)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_plds_closed_form_gradient(temperature):
    """sum_k alpha_k (sigma_k - e_k), sigma_k the softmax over the places from k on."""
    expected = np.zeros((4, 5))
    for row, (student, teacher, label) in enumerate(zip(np.array(S), np.array(T), y.tolist(), strict=True)):
        order = [label, *(c for c in np.argsort(-teacher) if c != label)]
        alpha = np.exp(teacher / temperature) / np.exp(teacher / temperature).sum()
        for place, chosen in enumerate(order):
            left = order[place:]
            expected[row, left] += alpha[chosen] * np.exp(student[left]) / np.exp(student[left]).sum() / 4
            expected[row, chosen] -= alpha[chosen] / 4
    found = gradient_of("pld", s, settings={"temperature": temperature})
    np.testing.assert_allclose(found, expected, atol=1e-15)
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-15)


def test_plds_special_cases():
    sure = torch.nn.functional.one_hot(y, 5) * 1e4
    assert float(losses.pld(s, sure.double(), y)) == pytest.approx(float(torch.nn.functional.cross_entropy(s, y)))
    ranked = losses.pld(s, t, y, temperature=1e9)  # uniform weights
    assert float(ranked) == pytest.approx(float(losses.list_mle(s, t, y)) / 5, rel=1e-7)
    places = 2.0 ** (5 - np.arange(1, 6)) - 1
    assert float(losses.p_list_mle(s, t, y, normalize=False)) == pytest.approx(
        float(losses.p_list_mle(s, t, y)) * places.sum()
    )


def test_list_losses_are_safe_with_many_classes():
    many = 32768
    flat, target = torch.zeros(1, many), torch.tensor([7])
    factorial = math.lgamma(many + 1)  # log of how many rankings there are, all alike
    assert float(losses.list_mle(flat, flat, target)) == pytest.approx(factorial, rel=1e-5)
    assert float(losses.pld(flat, flat, target)) == pytest.approx(factorial / many, rel=1e-5)
    wild = 100 * torch.randn(2, many, generator=torch.Generator().manual_seed(0))
    for name in ("pld", "list_mle", "p_list_mle"):
        assert torch.isfinite(gradient_of(name, wild[:1], wild[1:], target)).all()
    with pytest.raises(KdvizError, match=r"weights up to 2\^32767 leave the range"):
        losses.p_list_mle(flat, flat, target, normalize=False)


APART = 100 * t.argsort(1).argsort(1).double()  # rows so spread that every choice is sure
BEST = {  # a student that nothing improves on, and the loss there; the others want the label and the order, surely
    "kd": (t + OFFSETS, 0),
    "dkd": (t + OFFSETS, 0),
    "lskd": (3 * t + OFFSETS, 0),
    "normkd": (3 * t + OFFSETS, 0),
    "dist": (t + OFFSETS, 0),
    "class_gram": (t + OFFSETS, 0),
    "batch_gram": (t + OFFSETS, 0),
    "rkd": (3 * t + 1, 0),
    "ttm": (0.1 * t + OFFSETS, 0),
    "wttm": (0.2 * t + OFFSETS, 0),
    "mrkd": (3 * t + 1, 0),
    "nkd": (t + 1e3 * torch.nn.functional.one_hot(y, 5), None),
    "rld": (t + OFFSETS, 0),
    "at": (3 * t, 0),
    "nst": (3 * t, 0),
    "sp": (3 * t, 0),
    "pkt": (3 * t, 0),
}
LABELS = {"rld": t.argmax(1)}  # where the teacher is right its own logits are best


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_vanishes_at_the_optimum(name):
    student, least = BEST.get(name, (APART, -1 if name in ("rank_kendall", "diff_kendall") else 0))
    steep = {"steepness": 1e4} if "steepness" in LOSSES[name].defaults else {}
    target = LABELS.get(name, y) if name in BEST else t.argmax(1)
    if name == "nkd":  # 1.5 times the teacher's entropy among the other classes
        rest = t.masked_fill(torch.nn.functional.one_hot(y, 5).bool(), -torch.inf).softmax(1)
        least = 1.5 * scipy.stats.entropy(rest, axis=1).mean()
    assert float(value_of(name, student, t, target, settings=steep)) == pytest.approx(least, abs=1e-6)
    assert gradient_of(name, student, t, target, settings=steep).abs().max() < 1e-6
    assert gradient_of(name, s, t, target).abs().max() > 1e-4


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_the_derivative(name):
    settings = [{"form": form, "normalize": how} for form in (1, 2, 3) for how in ("none", "zscore", "l2")]
    for each in settings if name == "rank_kendall" else [{}]:
        assert torch.autograd.gradcheck(
            lambda x, each=each: value_of(name, x, settings=each), s.clone().requires_grad_()
        )


@pytest.mark.parametrize("loss", [losses.rank_kendall, losses.mrkd])
def test_losses_of_rankings_take_torchs_vmap(loss):
    students = torch.stack([s, s.flip(0), 2 * s])
    alone = [loss(student, t) for student in students]
    torch.testing.assert_close(torch.vmap(loss, in_dims=(0, None))(students, t), torch.stack(alone))
    teachers = torch.stack([t, t.flip(1), -t], 1)
    alone = [loss(s, teacher) for teacher in teachers.unbind(1)]
    torch.testing.assert_close(torch.vmap(loss, in_dims=(None, 1))(s, teachers), torch.stack(alone))
    slopes = torch.vmap(torch.func.grad(loss), in_dims=(0, None))(students, t)
    student = students[1].clone().requires_grad_()
    loss(student, t).backward()
    torch.testing.assert_close(slopes[1], student.grad)


@pytest.mark.parametrize("form", [1, 2, 3])
def test_the_ranking_loss_can_be_differentiated_twice(form):
    student = s[:2, :4].clone().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: losses.rank_kendall(x, t[:2, :4], form=form), student)


SCALES = ("at", "nst", "sp", "pkt")  # of features as they are: a factor is nothing to them, a shift is something


@pytest.mark.parametrize("name", SCALES)
def test_common_factors_of_features_are_nothing(name):
    before = float(value_of(name, s, t))
    assert float(value_of(name, 3 * s, t)) == pytest.approx(before, rel=1e-6)
    assert float(value_of(name, s, 0.1 * t)) == pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_only_the_student_learns_and_common_shifts_are_nothing(name):
    student, teacher = s.clone().requires_grad_(), t.clone().requires_grad_()
    value = value_of(name, student, teacher)
    value.backward()
    assert value.shape == ()
    assert teacher.grad is None
    before = float(value.detach())
    if not LOSSES[name].shift_invariant:  # what declares so is so
        assert float(value_of(name, s + OFFSETS, t)) != pytest.approx(before, rel=1e-3)
        return
    offsets = OFFSETS if "logits_student" in LOSSES[name].takes else 3.0  # features of all samples share one origin
    assert float(value_of(name, s + offsets, t)) == pytest.approx(before, rel=1e-6)
    assert float(value_of(name, s, t - offsets)) == pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_separable_losses_are_means_over_samples(name):
    if not LOSSES[name].separable:
        with pytest.raises(KdvizError, match=f"{name} couples the samples"):
            value_of(name, s, reduction="none")
        return
    rows = value_of(name, s, reduction="none")
    alone = [float(value_of(name, s[i : i + 1], t[i : i + 1], y[i : i + 1])) for i in range(4)]
    np.testing.assert_allclose(rows, alone, rtol=1e-12)
    assert float(value_of(name, s)) == pytest.approx(np.mean(alone), rel=1e-12)
    with pytest.raises(KdvizError, match=f"{name}: reduction must be one of mean, none, got 'sum'"):
        value_of(name, s, reduction="sum")


HARD = {
    "large": (1e4 * s, 1e4 * t, y),
    "opposed": (1e4 * s, -1e4 * s, y),
    "ties": (torch.full_like(s, 0.1), torch.full_like(t, 1e4), y),
    "flat teacher": (s, torch.zeros_like(t), y),
    "one sample": (s[:1], t[:1], y[:1]),
    "two classes": (s[:, :2], t[:, :2], y % 2),
    "the least": (s[:1, :2], t[:1, :2], y[:1]),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("hard", HARD)
@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_stay_finite(name, hard, dtype):
    student, teacher, target = HARD[hard]
    student, teacher = student.to(dtype), teacher.to(dtype)
    value, slope = value_of(name, student, teacher, target), gradient_of(name, student, teacher, target)
    assert torch.isfinite(value)
    assert slope.dtype == dtype
    assert torch.isfinite(slope).all()
    assert float(value) == float(value_of(name, student.float(), teacher.float(), target))  # computed wide


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_costs_no_digit(name):
    student, teacher = s.float(), t.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = value_of(name, student, teacher)
    assert float(mixed) == float(value_of(name, student, teacher))


@pytest.mark.parametrize("name", LOSSES)
def test_refusals_name_the_loss_and_the_input(name):
    takes, defaults = LOSSES[name].takes, LOSSES[name].defaults
    for setting in {"temperature", "confidence_temperature", "steepness", "scale", "power"} & set(defaults):
        for bad in (0.0, -1.0, math.inf, math.nan):
            with pytest.raises(KdvizError, match=f"{name}: {setting} must be a finite number above 0, got {bad}"):
                value_of(name, s, settings={setting: bad})
    for bad in (s[0], s[None], s[:0], s.long()):
        with pytest.raises(KdvizError, match=f"{name}: {takes[0]} must be"):
            value_of(name, bad)
    if "logits_teacher" in takes:
        with pytest.raises(KdvizError, match=r"is \(4, 5\) but logits_teacher is \(4, 3\)"):
            value_of(name, s, t[:, :3])
        with pytest.raises(KdvizError, match=f"{name}: needs at least 2 classes"):
            value_of(name, s[:, :1], t[:, :1], y)
    if "target" in takes:
        for bad in (y[:3], torch.eye(5)[y], y.float(), y.bool()):
            with pytest.raises(KdvizError, match=f"{name}: target must"):
                value_of(name, s, t, bad)
    with pytest.raises(KdvizError, match=f"unknown setting of {name} 'warmth'"):
        value_of(name, s, settings={"warmth": 1})
    with pytest.raises(KdvizError, match=f"{name} needs {takes[-1]}"):
        LOSSES[name](**dict.fromkeys(takes[:-1], s))


def test_ranking_settings_are_refused_by_name():
    for setting, bad in (
        ("form", 4),
        ("normalize", "max"),
        ("pairs", "all"),
        ("channels", ("top", 0.0)),
        ("channels", ("top", 1.5)),
        ("channels", ("mid", 0.5)),
        ("channels", 0.3),
    ):
        with pytest.raises(KdvizError, match=f"rank_kendall: {setting} must be"):
            losses.rank_kendall(s, t, **{setting: bad})


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ((s, t, torch.tensor([1, 2, 5, 2])), r"x: target has label 5 in row 2 but there are 5 classes \(0..4\)"),
        ((s, None, torch.tensor([1, -1, 0, 2])), r"x: target has label -1 in row 1"),
        ((s.clone().fill_(torch.nan), t), "x: logits_student has values that are not finite in 4 of 4 rows"),
        ((s, t.clone().index_fill_(0, torch.tensor([2]), torch.inf)), "x: logits_teacher .* first in row 2"),
        ((s, t[:, :4]), r"x: logits_student is \(4, 5\) but logits_teacher is \(4, 4\)"),
        ((s, t, y[:2]), r"x: target must hold one class index per row, \(4,\), got \(2,\)"),
    ],
)
def test_the_door_names_the_row(tensors, message):
    validate_logits(s, t, y, who="x")
    with pytest.raises(KdvizError, match=message):
        validate_logits(*tensors, who="x")


@pytest.mark.parametrize("name", ["dkd", "class_gram", "batch_gram"])
def test_standardised_logits_are_scipys_z_scores(name):
    net = LOSSES[name].function
    rest = (y,) if name == "dkd" else ()
    scored = (torch.from_numpy(scipy.stats.zscore(one, axis=1, ddof=1)) for one in (S, T))
    assert net(s, t, *rest, normalize="zscore").item() == pytest.approx(net(*scored, *rest).item(), rel=1e-6)
