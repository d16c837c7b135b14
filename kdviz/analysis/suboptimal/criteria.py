"""What a student is judged by, sample by sample: KL, the ranking loss, their sum, PLD."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdviz.analysis.attributes import meaning, naming
from kdviz.base.check import positive, require
from kdviz.base.files import versions
from kdviz.losses import LOSSES, kd, pld, rank_kendall

_LOSS = {name: (LOSSES[name].title, LOSSES[name].unit) for name in ("rank_kendall", "pld")}
CRITERIA = {  # name -> title and unit
    "kl": ("KL", "nats"),
    "rank_kendall": _LOSS["rank_kendall"],
    "kl+rk": ("KL+ranking", "1"),
    "pld": _LOSS["pld"],
}
NAMES = tuple(CRITERIA)
RANKING = ("rank_kendall", "kl+rk")  # those whose cost is quadratic in channels


@dataclass(frozen=True)
class CriteriaSettings:
    """The settings of the criteria.

    Attributes:
        temperature: T of KL, above 0.
        alpha, gamma: weights of T^2 KL and of the ranking loss in their sum, above 0.
        ranking: settings of `kdviz.losses.rank_kendall`.
    """

    temperature: float = 4.0
    alpha: float = 0.9
    gamma: float = 0.9
    ranking: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        positive("suboptimal", temperature=self.temperature, alpha=self.alpha, gamma=self.gamma)


PROBABILITY = meaning("fraction", "probability")
LOSS = {"long_name": "loss", "role": "loss"}  # its units are those that the criterion's coordinate names
REAL = CriteriaSettings()
EXAMPLE = CriteriaSettings(temperature=1.0)  # at which KL compares the probabilities as given


def criteria(
    logits_student: Tensor, logits_teacher: Tensor, target: Tensor, settings: CriteriaSettings = REAL
) -> dict[str, Tensor]:
    """Each criterion of each sample, smaller being better.

    kl = KL(softmax(t/T) || softmax(s/T)), the ranking loss L_RK, their sum alpha T^2 kl + gamma L_RK, and PLD at
    teacher temperature 1.

    Args:
        logits_student, logits_teacher: `[n, k]`.
        target: labels `[n]`, for PLD.
        settings: temperature, weights of the sum, settings of the ranking loss.
    Returns: name -> `[n]`; kl and pld in nats, rank_kendall in [-1, 1].
    Source: RKKD eqs. 7 and 8 without the cross-entropy; PLD eq. 9.

    >>> import torch
    >>> found = criteria(torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([0]))
    >>> [*found], round(found["pld"].item(), 4)  # (log 3 + log 2 + log 1) / 3
    (['kl', 'rank_kendall', 'kl+rk', 'pld'], 0.5973)
    """
    return {name: criterion(name, logits_student, logits_teacher, target, settings) for name in NAMES}


def criterion(name: str, student: Tensor, teacher: Tensor, target: Tensor, settings: CriteriaSettings) -> Tensor:
    """One of `criteria`, `[n]`."""
    if name == "pld":
        return pld(student, teacher, target, reduction="none")
    if name == "rank_kendall":
        return rank_kendall(student, teacher, reduction="none", **(settings.ranking or {}))
    divergence = kd(student, teacher, temperature=settings.temperature, reduction="none")
    if name == "kl":
        return divergence / settings.temperature**2
    ranking = rank_kendall(student, teacher, reduction="none", **(settings.ranking or {}))
    return settings.alpha * divergence + settings.gamma * ranking


def criterion_coordinate(
    names: Sequence[str] = NAMES, dim: str = "criterion"
) -> tuple[str, np.ndarray, dict[str, str]]:
    """The coordinate of the criteria `names`, with their titles and units."""
    titles, units = ({name: CRITERIA[name][at] for name in names} for at in (0, 1))
    return dim, np.array(names, dtype=object), meaning("1", dim) | naming(titles, units)


def distribution(who: str, name: str, values: Any) -> Tensor:
    """Probabilities as float64, `[k]` or `[n, k]`, positive and summing to one."""
    found = torch.as_tensor(np.asarray(values, dtype=np.float64))
    good = bool(torch.isfinite(found).all() and (found > 0).all())
    require(good, f"{who}: {name} must be probabilities above 0, got {np.asarray(values).tolist()}")
    total = found.sum(-1)
    require(bool(((total - 1).abs() < 1e-6).all()), f"{who}: {name} must sum to 1, got {total.tolist()}")
    return found / total[..., None]


def attributes(kind: str, caption: str, settings: CriteriaSettings, **others: Any) -> dict[str, Any]:
    """The attributes of a result: what it is, what it was computed with, what its caption must say."""
    simple = {
        key: json.dumps(dict(value)) if isinstance(value, Mapping) else value
        for key, value in {**others, **asdict(settings)}.items()
        if value is not None
    }
    return {"kind": kind, **simple, "versions": json.dumps(versions()), "caption": caption}
