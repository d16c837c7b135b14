"""What both nets say of every sample, for looking at single ones."""

from typing import Any

import numpy as np
import torch
import xarray as xr

from kdviz.analysis.attributes import meaning
from kdviz.analysis.audit.fidelity import kl_per_sample
from kdviz.analysis.audit.numbers import finished
from kdviz.analysis.audit.opened import open_audit
from kdviz.analysis.bootstrap import INTERVALS
from kdviz.base.check import require
from kdviz.metrics import kendall_tau


def samples(source: Any, *, against: Any = None, top: int = 5) -> xr.Dataset:
    """The largest classes of student and teacher, Kendall's tau and KL, of every sample.

    Args:
        source, against: as `open_audit`; labels are not needed.
        top: classes of each net, at most as many as there are.
    Returns: kind "samples": over sample and rank, top_student, top_teacher (classes) and probability_student,
        probability_teacher at temperature 1; over sample, image (its number in the data set), tau (tau-b), kl =
        KL(teacher || student) in nats and, with labels, target, correct and correct_teacher (1 where the student, or
        the teacher, is right); class_name (channel).
    Raises: KdvizError as `open_audit`.
    Source: ours.
    """
    require(top >= 1, f"samples: top must be 1 or more, got {top}")
    opened = open_audit(source, against=against)
    depth = min(top, opened.student.shape[1])
    found: dict[str, Any] = {"image": ("sample", opened.ids, meaning("1", "number in the data set"))}
    for name, logits in (("student", opened.student), ("teacher", opened.teacher)):
        largest = logits.argsort(dim=1, descending=True, stable=True)[:, :depth]
        chance = logits.double().softmax(1).gather(1, largest).float()
        found[f"top_{name}"] = (("sample", "rank"), largest.numpy(), meaning("1", f"{name}'s class"))
        means = meaning("fraction", f"{name}'s probability", "metric")
        found[f"probability_{name}"] = (("sample", "rank"), chance.numpy(), means)
    tau = kendall_tau(opened.student, opened.teacher).numpy()
    found["tau"] = ("sample", tau, meaning("1", "Kendall's tau-b", "metric"))
    parts = zip(opened.student.split(4096), opened.teacher.split(4096), strict=True)
    kl = torch.cat([kl_per_sample(*pair) for pair in parts])
    found["kl"] = ("sample", kl.numpy(), meaning("nats", "KL(teacher || student)", "metric"))
    if opened.target is not None:
        found["target"] = ("sample", opened.target.numpy(), meaning("1", "label"))
        for name, logits in (("correct", opened.student), ("correct_teacher", opened.teacher)):
            right = (logits.argmax(1) == opened.target).numpy().astype(np.int8)
            found[name] = ("sample", right, meaning("1", "1 where right"))
    names = np.array(opened.class_names, dtype=object)
    coordinates = {"sample": opened.ids, "rank": np.arange(1, depth + 1), "class_name": ("channel", names)}
    result = xr.Dataset(found, coordinates)
    return finished(result, opened, "samples", "The largest classes of both nets for every sample.", INTERVALS)
