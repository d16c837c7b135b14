"""Logits of every student beside those of their one teacher, which runs once."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kdviz.papers.entry import Inputs

if TYPE_CHECKING:
    import xarray as xr

    from kdviz.data import Data


def chosen(inputs: Inputs, settings: Mapping[str, Any]) -> "Data":
    """The images: all, or `settings["samples"]` of them, stratified by class."""
    data: Any = inputs.data
    return data.subset(settings["samples"], seed=settings["seed"]) if settings["samples"] else data


def collect(inputs: Inputs, data: "Data") -> "dict[str, xr.Dataset]":
    """label -> logits (sample, channel) of student and teacher."""
    from kdviz.analysis.logits import collect_logits

    taught: Any = inputs.teacher
    found = {}
    for label, student in inputs.students.items():
        one = collect_logits(student, data, teacher=taught, label=label, progress=inputs.progress)
        origin = {key: value for key, value in one.attrs.items() if str(key).startswith("teacher_")}
        taught = one["logits_teacher"].assign_attrs(origin)
        found[label] = one
    return found
