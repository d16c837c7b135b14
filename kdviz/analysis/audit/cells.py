"""Where student and teacher are right and wrong, and the samples on which they differ."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from kdviz.analysis.attributes import meaning
from kdviz.analysis.audit.numbers import Measure, Sampled, bootstrapped, estimate, finished, mean_of, ratio_of, table
from kdviz.analysis.audit.opened import WITHOUT, Opened, open_audit
from kdviz.analysis.audit.sentences import beside, value
from kdviz.analysis.bootstrap import INTERVALS, Bootstrap
from kdviz.analysis.suboptimal.mining import add_images

if TYPE_CHECKING:
    from kdviz.data import Data

MEASURES = {
    "both_right": Measure("both right", "fraction"),
    "lost": Measure("teacher right, student wrong", "fraction"),
    "gained": Measure("teacher wrong, student right", "fraction"),
    "both_wrong": Measure("both wrong", "fraction"),
    "same_error": Measure("of both wrong: the same class", "fraction"),
}
LISTED = 3  # classes of each net in the list of flips


def cells(
    source: Any, *, against: Any = None, bootstrap: Bootstrap = INTERVALS, data: "Data | None" = None, top: int = 6
) -> xr.Dataset:
    """The four cells of teacher right or wrong by student right or wrong, and every sample on which one is right alone.

    Args:
        source, against: as `open_audit`, with labels.
        bootstrap: coverage, draws and their seed.
        data: the images of the samples, kept for the cases; None for none.
        top: cases that are kept whole of each kind: the lost ones of which the teacher is surest, and the gained ones
            of which the student is surest.
    Returns: kind "cells": `table` of both_right, lost (teacher right, student wrong), gained (teacher wrong, student
        right), both_wrong (fractions of the samples), and same_error, the share of both wrong in which they name the
        same class. Of every flip: flip_sample, flip_side ("lost" or "gained"), flip_label and, over rank, flip_teacher
        and flip_student (classes), flip_teacher_probability and flip_student_probability. Of the cases: case_sample,
        case_label, case_side, probability (case, net, channel) and, with data, image.
    Raises: KdvizError as `open_audit`, without labels, or for images that do not fit.
    Source: ours; flips as in the negative flips of Yan et al. (2021).
    """
    opened = open_audit(source, against=against)
    target = opened.labels("cells")
    sampled: dict[str, dict[str, Sampled]] = {name: {} for name in MEASURES}
    for name, (student, teacher) in opened.pairs.items():
        s, t = (one.argmax(1) for one in (student, teacher))
        right, taught = (s == target).numpy(), (t == target).numpy()
        shares = (right & taught, ~right & taught, right & ~taught, ~right & ~taught)
        sampled |= {
            cell: {**sampled[cell], name: mean_of(share)} for cell, share in zip(MEASURES, shares, strict=False)
        }
        sampled["same_error"][name] = ratio_of(shares[-1] & (s == t).numpy(), shares[-1])
    result = table(opened, MEASURES, *bootstrapped(sampled, bootstrap)).merge(_flips(opened, target, data, top))
    caption = (
        "Samples by whether the teacher and the student are right. Lost: the teacher alone is right; gained: the"
        " student alone. The random teacher is the teacher's logits of another sample. Shown of each kind are those of"
        " which the net that is right is surest; probabilities at temperature 1."
    )
    result = finished(result, opened, "cells", caption, bootstrap)
    return result.assign_attrs(finding=_finding(result), finding_flips=_finding_flips(result))


def _flips(opened: Opened, target: Tensor, data: "Data | None", top: int) -> xr.Dataset:
    """Every sample on which student and teacher are not both right or wrong, surest first, and the cases."""
    nets = (opened.teacher, opened.student)
    taught, right = ((one.argmax(1) == target).numpy() for one in nets)
    sure = [one.double().softmax(1).amax(1).numpy() for one in nets]
    lost, gained = np.flatnonzero(taught & ~right), np.flatnonzero(right & ~taught)
    lost, gained = lost[np.argsort(-sure[0][lost], kind="stable")], gained[np.argsort(-sure[1][gained], kind="stable")]
    rows = np.concatenate([lost, gained])
    sides = np.array(["lost"] * len(lost) + ["gained"] * len(gained), dtype=object)
    depth = min(LISTED, opened.student.shape[1])
    found: dict[str, Any] = {
        "flip_sample": ("flip", opened.ids[rows]),
        "flip_label": ("flip", target.numpy()[rows]),
        "flip_side": ("flip", sides),
    }
    for name, logits in zip(("teacher", "student"), nets, strict=True):
        chance, classes = logits[rows].double().softmax(1).topk(depth, dim=1)
        found[f"flip_{name}"] = (("flip", "rank"), classes.numpy())
        means = meaning("fraction", f"{name}'s probability", "metric")
        found[f"flip_{name}_probability"] = (("flip", "rank"), chance.numpy(), means)
    cases = np.concatenate([lost[:top], gained[:top]])
    chosen = np.concatenate([np.arange(len(lost))[:top], len(lost) + np.arange(len(gained))[:top]]).astype(np.int64)
    probability = torch.stack([one[cases].double().softmax(1) for one in nets], dim=1).numpy()
    found |= {
        "case_sample": ("case", opened.ids[cases]),
        "case_label": ("case", target.numpy()[cases]),
        "case_side": ("case", sides[chosen]),
        "probability": (("case", "net", "channel"), probability, meaning("fraction", "probability", "metric")),
    }
    coordinates: dict[str, Any] = {
        "net": ["teacher", "student"],
        "rank": np.arange(1, depth + 1),
        "class_name": ("channel", np.array(opened.class_names, dtype=object)),
    }
    result = xr.Dataset(found, coordinates)
    result["net"].attrs = opened.naming(["teacher", "student"])
    add_images("cells", result, data, opened.ids[cases], target.numpy()[cases], ("case",), "label")
    return result


def _finding(result: xr.Dataset) -> str:
    text = (
        f"Of all samples the student loses {value(result, 'lost')} (teacher right, student wrong)"
        f"{beside(result, 'lost', (WITHOUT,), verb='loses')}. It gains {value(result, 'gained')} (teacher wrong,"
        f" student right){beside(result, 'gained', (WITHOUT,), verb='gains')}."
    )
    same = estimate(result, "same_error")
    if np.isnan(same.value):
        return f"{text} There is no sample on which both are wrong."
    copied = f" Where both are wrong, they name the same class for {value(result, 'same_error')} of the samples"
    return f"{text}{copied}{beside(result, 'same_error', verb='does for')}."


def _finding_flips(result: xr.Dataset) -> str:
    counts = {side: int((result["flip_side"] == side).sum()) for side in ("lost", "gained")}
    if not sum(counts.values()):
        return "There is no sample on which only one of the two is right."
    text = f"{counts['lost']:,} samples are lost and {counts['gained']:,} are gained"
    lost = result["flip_side"].values == "lost"
    if not lost.any():
        return f"{text}."
    names, labels = result["class_name"].values, result["flip_label"].values[lost]
    taken = result["flip_student"].values[lost, 0]
    pairs, counted = np.unique(np.stack([labels, taken], axis=1), axis=0, return_counts=True)
    label, other = pairs[counted.argmax()]
    often = int(counted.max())
    if often < 2:
        return f"{text}; no two of the lost ones are of the same class and taken for the same other."
    return f"{text}; most often lost: class {names[label]}, taken for {names[other]} ({often} of {counts['lost']:,})."
