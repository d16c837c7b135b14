"""Gradient descent of a three-class student's logits: its path under each loss, and the argmax along it."""

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
    criterion,
    criterion_coordinate,
    distribution,
)
from kdviz.analysis.suboptimal.ternary import TEACHER
from kdviz.base.check import one_of, positive, require

LOSSES = ("kl", "kl+rk", "pld")
STARTS = (
    (0.05, 0.90, 0.05),
    (0.05, 0.05, 0.90),
    (0.10, 0.60, 0.30),
    (0.10, 0.30, 0.60),
    (0.30, 0.65, 0.05),
    (0.35, 0.05, 0.60),
    (0.90, 0.05, 0.05),
)


def descent(
    teacher: Sequence[float] = TEACHER,
    starts: Sequence[Sequence[float]] = STARTS,
    settings: CriteriaSettings = EXAMPLE,
    *,
    losses: Sequence[str] = LOSSES,
    rate: float = 0.4,
    steps: int = 300,
    keep: int = 120,
) -> xr.Dataset:
    """Paths s <- s - rate dL/ds from the same starts under each loss.

    Args:
        teacher: probabilities `[k]`; the label is its argmax.
        starts: probabilities `[m, k]` of the students before the first step.
        settings: of `criteria`.
        losses: of the names of `criteria`; "kl" descends T^2 KL.
        rate: step size in logits, above 0.
        steps: how many.
        keep: how many of them are kept, evenly spaced in log time.
    Returns: dataset: probability (loss, start, step, channel) at the kept steps (coordinate `step`); winner (loss,
        start, step), the argmax; changes (loss, start), how often the argmax changed over all steps; right_from (loss,
        start), the first step from which it stays right, -1 if never; value (loss, start), the loss at the end;
        to_teacher (loss, start), the total variation between end and teacher.
    Raises: KdvizError for what is not a distribution, an unknown loss, or settings that are not above 0.
    Source: ours.

    >>> paths = descent(starts=[(0.05, 0.9, 0.05)], steps=50, keep=5)
    >>> paths["winner"].isel(step=0).values.ravel().tolist()
    [1, 1, 1]
    """
    who = "descent"
    positive(who, rate=rate, steps=steps, keep=keep)
    for name in losses:
        one_of(who, NAMES, loss=name)
    t, begun = distribution(who, "teacher", teacher), distribution(who, "starts", starts)
    require(begun.ndim == 2 and begun.shape[1:] == t.shape, f"{who}: starts must be [m, {len(t)}] probabilities")
    kept = np.unique(np.r_[0, np.round(np.geomspace(1, steps, keep)).astype(int)])
    runs = [_descend(name, begun.log(), t.log(), rate, steps, kept, settings) for name in losses]
    stacked = {key: np.stack([run[key] for run in runs]) for key in runs[0]}
    dims = {"probability": ("loss", "start", "step", "channel"), "winner": ("loss", "start", "step")}
    meanings = {
        "probability": PROBABILITY,
        "winner": meaning("1", "class of largest probability"),
        "changes": meaning("1", "changes of class", "count"),
        "right_from": meaning("1", "first step from which the class stays right"),
        "value": LOSS,
    }
    dataset = xr.Dataset(
        {key: (dims.get(key, ("loss", "start")), value, meanings[key]) for key, value in stacked.items()},
        {"loss": criterion_coordinate(losses, "loss"), "step": kept, "channel": np.arange(len(t))},
        attributes(
            "descent",
            f"Gradient descent of a student's logits (step size {rate:g}, {steps} steps) from the same starts under"
            f" each loss; teacher {tuple(round(float(one), 3) for one in t)}, KL at temperature"
            f" {settings.temperature:g}.",
            settings,
            label=int(t.argmax()),
            rate=rate,
            steps=steps,
        ),
    )
    dataset["teacher"] = ("channel", t.numpy(), PROBABILITY)
    distance = meaning("1", "total variation between end and teacher", "metric")
    ends = stacked["probability"][:, :, -1]
    dataset["to_teacher"] = (("loss", "start"), np.abs(ends - t.numpy()).sum(-1) / 2, distance)
    return dataset


def _descend(
    name: str, start: Tensor, teacher: Tensor, rate: float, steps: int, kept: np.ndarray, settings: CriteriaSettings
) -> dict[str, np.ndarray]:
    student = start.clone().requires_grad_()
    label, scale = int(teacher.argmax()), settings.temperature**2 if name == "kl" else 1.0
    target = torch.full((len(start),), label)
    against = teacher.expand_as(start)
    wanted = set(kept.tolist())
    paths: list[Tensor] = []
    winners = torch.empty(steps + 1, len(start), dtype=torch.int64)
    values = torch.zeros(len(start))
    for step in range(steps + 1):
        values = criterion(name, student, against, target, settings) * scale
        winners[step] = student.detach().argmax(1)
        if step in wanted:
            paths.append(student.detach().softmax(1))
        (gradient,) = torch.autograd.grad(values.sum(), student)
        student = (student.detach() - rate * gradient).requires_grad_()
    last_wrong = torch.where(winners != label, torch.arange(steps + 1)[:, None], -1).amax(0)
    return {
        "probability": torch.stack(paths, 1).numpy(),
        "winner": winners[kept].T.contiguous().numpy(),
        "changes": (winners[1:] != winners[:-1]).sum(0).numpy(),
        "right_from": torch.where(last_wrong == steps, -1, last_wrong + 1).numpy(),
        "value": values.detach().numpy(),
    }
