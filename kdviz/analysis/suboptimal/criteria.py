"""What a student is judged by, sample by sample: KL, the ranking loss, their sum, PLD."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdviz.base.check import positive, require
from kdviz.base.files import versions
from kdviz.losses import kd, pld, rank_kendall

NAMES = ("kl", "rank_kendall", "kl+rk", "pld")
ALPHA = GAMMA = 0.9


def criteria(
    logits_student: Tensor,
    logits_teacher: Tensor,
    target: Tensor,
    *,
    temperature: float = 4.0,
    alpha: float = ALPHA,
    gamma: float = GAMMA,
    ranking: Mapping[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Each criterion of each sample, smaller being better.

    kl = KL(softmax(t/T) || softmax(s/T)), the ranking loss L_RK, their sum alpha T^2 kl + gamma L_RK, and PLD at
    teacher temperature 1.

    Args:
        logits_student, logits_teacher: `[n, k]`.
        target: labels `[n]`, for PLD.
        temperature: T of KL, above 0.
        alpha, gamma: weights of the sum.
        ranking: settings of `kdviz.losses.rank_kendall`.
    Returns: name -> `[n]`; kl and pld in nats, rank_kendall in [-1, 1].
    Source: RKKD eqs. 7 and 8 without the cross-entropy; PLD eq. 9.

    >>> import torch
    >>> found = criteria(torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([0]))
    >>> [*found], round(found["pld"].item(), 4)  # (log 3 + log 2 + log 1) / 3
    (['kl', 'rank_kendall', 'kl+rk', 'pld'], 0.5973)
    """
    options = {"temperature": temperature, "alpha": alpha, "gamma": gamma, "ranking": ranking}
    return {name: criterion(name, logits_student, logits_teacher, target, **options) for name in NAMES}


def criterion(
    name: str,
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    temperature: float,
    alpha: float,
    gamma: float,
    ranking: Mapping[str, Any] | None,
) -> Tensor:
    """One of `criteria`, `[n]`."""
    if name == "pld":
        return pld(student, teacher, target, reduction="none")
    if name == "rank_kendall":
        return rank_kendall(student, teacher, reduction="none", **(ranking or {}))
    divergence = kd(student, teacher, temperature=temperature, reduction="none")
    if name == "kl":
        return divergence / temperature**2
    return alpha * divergence + gamma * rank_kendall(student, teacher, reduction="none", **(ranking or {}))


def distribution(who: str, name: str, values: Any) -> Tensor:
    """Probabilities as float64, `[k]` or `[n, k]`, positive and summing to one."""
    found = torch.as_tensor(np.asarray(values, dtype=np.float64))
    good = bool(torch.isfinite(found).all() and (found > 0).all())
    require(good, f"{who}: {name} must be probabilities above 0, got {np.asarray(values).tolist()}")
    total = found.sum(-1)
    require(bool(((total - 1).abs() < 1e-6).all()), f"{who}: {name} must sum to 1, got {total.tolist()}")
    return found / total[..., None]


def attributes(kind: str, caption: str, **settings: Any) -> dict[str, Any]:
    """The attributes of a result: what it is, what it was computed with, what its caption must say."""
    plain = {
        key: json.dumps(dict(value)) if isinstance(value, Mapping) else value
        for key, value in settings.items()
        if value is not None
    }
    return {"kind": kind, **plain, "versions": json.dumps(versions()), "caption": caption}


def weights(who: str, temperature: float, alpha: float, gamma: float) -> None:
    """Refuse a temperature or weights that are not above 0."""
    positive(who, temperature=temperature, alpha=alpha, gamma=gamma)
