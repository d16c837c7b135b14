"""Losses against published golden numbers (float64), closed forms and, for every registry entry, the same contracts."""

import numpy as np
import pytest
import scipy.stats
import torch

from kdviz import losses
from kdviz.base.check import KdvizError
from kdviz.losses import LOSSES

S = [[1, 0.2, -0.5, 0.3, 2], [0.1, -1.2, 0.7, 1.5, -0.3], [2.2, 0.4, 0, -0.6, 1.1], [-0.9, 0.8, 1.9, 0.25, -1.4]]
T = [[0.5, 2.5, -1, 0, 1.2], [-0.4, 0.3, 3, 1.1, -2], [1.7, -0.2, 0.6, -1.5, 0.9], [0.2, -0.7, 0.4, 2.1, -1.3]]
s, t = torch.tensor(S, dtype=torch.float64), torch.tensor(T, dtype=torch.float64)
y = torch.tensor([1, 2, 0, 2])
LOGIT_LOSSES = [name for name, loss in LOSSES.items() if not any("pooled" in one for one in loss.takes)]

GOLDEN = [
    (losses.kd, (s, t), {}, 0.7452179207446731),
    (losses.kd, (s, t), {"temperature": 1.0}, 0.7234760610814843),
    (losses.dkd, (s, t, y), {}, 3.5984404331556132),
    (losses.lskd, (s, t), {}, 0.44101754612189326),
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


def test_the_ranking_loss_tends_to_kendalls_tau():
    taus = [scipy.stats.kendalltau(a, b).statistic for a, b in zip(S, T, strict=True)]
    assert -float(losses.rank_kendall(s, t, steepness=1e5)) == pytest.approx(np.mean(taus), abs=1e-9)


def test_plds_special_cases():
    sure = torch.nn.functional.one_hot(y, 5) * 1e4
    assert float(losses.pld(s, sure.double(), y)) == pytest.approx(float(torch.nn.functional.cross_entropy(s, y)))
    ranked = losses.pld(s, t, y, temperature=1e9)  # uniform weights
    assert float(ranked) == pytest.approx(float(losses.list_mle(s, t, y)) / 5, rel=1e-7)


@pytest.mark.parametrize("form", [1, 2, 3])
@pytest.mark.parametrize("normalize", ["none", "zscore", "l2"])
def test_the_hand_written_gradient_is_the_derivative(form, normalize):
    student = s.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: losses.rank_kendall(x, t, form=form, normalize=normalize), student)


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_contracts_of_every_logit_loss(name):
    student, teacher = s.clone().requires_grad_(), t.clone().requires_grad_()
    value = losses.evaluate(name, student, teacher, y)
    value.backward()
    assert teacher.grad is None
    assert torch.isfinite(student.grad).all()
    shifted = losses.evaluate(name, s + 3.0, t, y)
    assert float(shifted) == pytest.approx(float(value.detach()), rel=1e-9)
    if LOSSES[name].separable:
        rows = losses.evaluate(name, s, t, y, reduction="none")
        assert rows.shape == (4,)
        assert float(rows.mean()) == pytest.approx(float(value.detach()))
    for scale, dtype in ((1e4, torch.float32), (1.0, torch.bfloat16), (0.0, torch.float32)):
        big = (scale * s).to(dtype).requires_grad_()
        found = losses.evaluate(name, big, (scale * t).to(dtype), y)
        found.backward()
        assert torch.isfinite(found)
        assert torch.isfinite(big.grad).all()
    if "logits_teacher" in LOSSES[name].takes:
        with pytest.raises(KdvizError, match=r"is \(4, 5\) but logits_teacher is \(4, 3\)"):
            losses.evaluate(name, s, t[:, :3], y)
