"""The suboptimal case in four channels: the student nearer in KL has the wrong class."""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

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

TEACHER = (0.40, 0.35, 0.15, 0.10)
STUDENTS = ((0.36, 0.39, 0.15, 0.10), (0.70, 0.15, 0.10, 0.05))


def toy(
    teacher: Sequence[float] = TEACHER,
    students: Sequence[Sequence[float]] = STUDENTS,
    settings: CriteriaSettings = EXAMPLE,
) -> xr.Dataset:
    """KL, ranking loss and PLD of given students against a given teacher; the label is the teacher's argmax.

    Args:
        teacher: probabilities `[k]`, all above 0.
        students: probabilities `[m, k]`; their logits are the logarithms.
        settings: of `criteria`.
    Returns: dataset: probability (net, channel), the teacher first; loss (criterion, net) and right (net) of students.
    Raises: KdvizError for what is not a distribution, class counts that differ, fewer than one student.
    Source: RKKD fig. 2; the numbers are ours.

    >>> toy()["loss"].sel(criterion="kl").values.round(5).tolist()
    [0.00427, 0.20284]
    """
    who = "toy"
    t, s = distribution(who, "teacher", teacher), distribution(who, "students", students)
    require(t.ndim == 1 and s.ndim == 2 and len(s), f"{who}: expected a teacher [k] and students [m, k]")
    require(len(t) == s.shape[1], f"{who}: the teacher has {len(t)} channels but the students {s.shape[1]}")
    label = int(t.argmax())
    target = torch.full((len(s),), label)
    found = criteria(s.log(), t.log().expand_as(s), target, settings)
    names = [f"student {at + 1}" for at in range(len(s))]
    return xr.Dataset(
        {
            "probability": (("net", "channel"), torch.cat([t[None], s]).numpy(), PROBABILITY),
            "loss": (("criterion", "student"), torch.stack([found[name] for name in NAMES]).numpy(), LOSS),
            "right": ("student", (s.argmax(1) == label).numpy()),
        },
        {
            "net": np.array(["teacher", *names], dtype=object),
            "student": np.array(names, dtype=object),
            "criterion": criterion_coordinate(),
            "channel": np.arange(len(t)),
        },
        attributes(
            "suboptimal",
            "Class probabilities of a teacher and students, with each student's KL (nats), ranking loss, weighted sum"
            f" and PLD (nats); KL at temperature {settings.temperature:g}. The numbers are an example of ours.",
            settings,
            label=label,
        ),
    )
