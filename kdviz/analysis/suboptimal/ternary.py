"""Every student over three classes: which are nearer to the teacher than a right one and yet wrong."""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from kdviz.analysis.attributes import meaning
from kdviz.analysis.suboptimal.criteria import (
    EXAMPLE,
    LOSS,
    NAMES,
    PROBABILITY,
    CriteriaSettings,
    attributes,
    criteria,
    criterion_coordinate,
    distribution,
)
from kdviz.base.check import require

TEACHER = (0.40, 0.35, 0.25)
RIGHT = (0.70, 0.18, 0.12)
CHUNK = 1 << 16


def ternary(
    teacher: Sequence[float] = TEACHER,
    right: Sequence[float] = RIGHT,
    settings: CriteriaSettings = EXAMPLE,
    *,
    steps: int = 100,
    fine: int = 300,
) -> xr.Dataset:
    """Each criterion over the simplex of students, and the area where it misleads.

    The region of a criterion L holds the students p with L(p) < L(right) whose argmax is not the teacher's: L prefers
    them to a right student. Its area is a share of the simplex, counted over the centroids of fine^2 equal triangles.

    Args:
        teacher: probabilities of three classes.
        right: a student with the teacher's argmax.
        settings: of `criteria`.
        steps: triangles along a side of the map that is kept.
        fine: triangles along a side for the areas.
    Returns: dataset: probability (point, channel), loss (criterion, point), misled (criterion, point); level
        (criterion), the loss of `right`; area (criterion) and, per wrong class, area_by_class (criterion, channel).
    Raises: KdvizError for what is not a distribution of three classes, or a `right` that is wrong.
    Source: RKKD sec. 1 and fig. 2 tell of one such student; the map is ours.

    >>> float(ternary(steps=20, fine=60)["area"].sel(criterion="kl")) > 0.05
    True
    """
    who = "ternary"
    require(min(steps, fine) >= 2, f"{who}: steps and fine must be 2 or more, got {steps} and {fine}")
    t, r = distribution(who, "teacher", teacher), distribution(who, "right", right)
    require(tuple(t.shape) == tuple(r.shape) == (3,), f"{who}: teacher and right must have three classes each")
    label = int(t.argmax())
    require(int(r.argmax()) == label, f"{who}: right has class {int(r.argmax())}, the teacher {label}; it must agree")
    level = _losses(r[None], t, label, settings)
    points = _centroids(steps)
    loss = _losses(points, t, label, settings)
    areas = _areas(t, level, label, fine, settings)
    misled = meaning("1", "whether a student is preferred and wrong")
    area = meaning("fraction", "share of all students that are preferred and wrong", "metric")
    return xr.Dataset(
        {
            "probability": (("point", "channel"), points.numpy(), PROBABILITY),
            "loss": (("criterion", "point"), loss.numpy(), LOSS),
            "misled": (("criterion", "point"), _misled(loss, level, points, label).numpy(), misled),
            "level": ("criterion", level[:, 0].numpy(), LOSS),
            "area": ("criterion", areas.sum(1), area),
            "area_by_class": (("criterion", "channel"), areas, area),
            "teacher": ("channel", t.numpy(), PROBABILITY),
            "right": ("channel", r.numpy(), PROBABILITY),
        },
        {"criterion": criterion_coordinate(), "channel": np.arange(3)},
        attributes(
            "ternary",
            "Students over three classes; level lines of each criterion; shaded: students that it prefers to the right"
            f" student (ring) although their argmax is wrong, as a share of all. Teacher {_listed(t)}, right student"
            f" {_listed(r)}, KL at temperature {settings.temperature:g}.",
            settings,
            label=label,
            steps=steps,
            fine=fine,
        ),
    )


def _listed(values: Tensor) -> str:
    return "(" + ", ".join(f"{float(one):.2f}" for one in values) + ")"


def _centroids(steps: int) -> Tensor:
    """Centroids `[steps^2, 3]` of the equal triangles that the simplex falls into; none is on its border."""
    i, j = torch.meshgrid(torch.arange(steps), torch.arange(steps), indexing="ij")
    parts = []
    for shift in (1 / 3, 2 / 3):  # triangles that point up, then down
        keep = i + j + 3 * shift <= steps
        first, second = i[keep] + shift, j[keep] + shift
        parts.append(torch.stack([first, second, steps - first - second], 1))
    return torch.cat(parts).double() / steps


def _losses(points: Tensor, teacher: Tensor, label: int, settings: CriteriaSettings) -> Tensor:
    """Every criterion `[criterion, n]` of students given as probabilities `[n, 3]`."""
    logits = points.log()
    target = torch.full((len(points),), label)
    found = criteria(logits, teacher.log().expand_as(logits), target, settings)
    return torch.stack([found[name] for name in NAMES])


def _misled(loss: Tensor, level: Tensor, points: Tensor, label: int) -> Tensor:
    return (loss < level) & (points.argmax(1) != label)


def _areas(teacher: Tensor, level: Tensor, label: int, fine: int, settings: CriteriaSettings) -> np.ndarray:
    """The misled share of the simplex `[criterion, class that wins]`."""
    counts = torch.zeros(len(NAMES), 3, dtype=torch.float64)
    points = _centroids(fine)
    for part in points.split(CHUNK):
        misled = _misled(_losses(part, teacher, label, settings), level, part, label)
        for winner in range(3):
            counts[:, winner] += (misled & (part.argmax(1) == winner)).sum(1)
    return (counts / len(points)).numpy()
