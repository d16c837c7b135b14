"""The parts of an audit by name, in the order in which a page shows them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import xarray as xr

from kdviz.analysis.audit.calibration import calibration
from kdviz.analysis.audit.cells import cells
from kdviz.analysis.audit.cka import cka
from kdviz.analysis.audit.confusion import rank_confusion
from kdviz.analysis.audit.correlation import class_correlation
from kdviz.analysis.audit.embeddings import check_installed, embeddings
from kdviz.analysis.audit.fidelity import fidelity
from kdviz.analysis.audit.margins import margins
from kdviz.analysis.audit.opened import Opened
from kdviz.analysis.audit.temperature import temperatures
from kdviz.analysis.bootstrap import INTERVALS, Bootstrap
from kdviz.base.check import KdvizError, require, unknown

if TYPE_CHECKING:
    from kdviz.data import Data


WITHOUT_NETS = "needs both nets; name the student's checkpoint instead of its logits"


@dataclass(frozen=True)
class Part:
    """One question of an audit.

    Attributes:
        title: the question.
        function: answers it.
        labels: whether it needs the samples' labels.
        nets: whether it needs the nets and images, instead of logits.
        images: whether it shows images, where there are any.
    """

    title: str
    function: Callable[..., xr.Dataset]
    labels: bool = False
    nets: bool = False
    images: bool = False


PARTS: dict[str, Part] = {
    "fidelity": Part("Does it follow its teacher?", fidelity),
    "calibration": Part("How often is it right, and does it know when?", calibration, labels=True),
    "cells": Part("Where do they differ on what is right?", cells, labels=True, images=True),
    "confusion": Part("Which class stands where the teacher has another?", rank_confusion),
    "margins": Part("By how much does the right class lead?", margins, labels=True),
    "correlation": Part("Do the same classes rise and fall together?", class_correlation),
    "temperature": Part("What does the temperature change?", temperatures),
    "cka": Part("Are their features alike?", cka, nets=True),
    "embeddings": Part("Do their features have the same neighbours?", embeddings, nets=True),
}


@dataclass(frozen=True, eq=False)
class Nets:
    """The nets of an audit and the images that their features are compared on.

    Attributes:
        student, teacher: nets, or `Checkpoint`s.
        data: the images.
        against: a student without a teacher, or None.
        untrained: a net of the teacher's architecture with fresh weights, or None.
    """

    student: Any
    teacher: Any
    data: "Data"
    against: Any = None
    untrained: Any = None


def choose(
    names: Sequence[str] | None, opened: Opened, *, nets: bool, without: str | None = None
) -> tuple[list[str], dict[str, str]]:
    """The parts to measure, and why each of the others of all of them cannot be.

    Args:
        names: of the parts that are wanted; None for all that can be measured.
        opened: the logits.
        nets: whether the nets are there.
        without: what is said of the parts that need them, where they are not [default: that they are needed].
    Raises: KdvizError for an unknown part, or one that is named and cannot be measured.
    """
    for name in names or ():
        if name not in PARTS:
            raise unknown("part of an audit", name, PARTS)
    left_out: dict[str, str] = {}
    for name, part in PARTS.items():
        try:
            if part.labels:
                opened.labels(name)
            require(nets or not part.nets, f"{name}: {without or WITHOUT_NETS}")
            if part.function is embeddings:
                check_installed()
        except KdvizError as error:
            if name in (names or ()):
                raise
            left_out[name] = str(error).removeprefix(f"{name}: ")
    if names:
        return [name for name in PARTS if name in names], {}
    return [name for name in PARTS if name not in left_out], left_out


def measure(
    name: str,
    opened: Opened,
    *,
    nets: Nets | None = None,
    images: "Data | None" = None,
    bootstrap: Bootstrap = INTERVALS,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """One part of an audit.

    Args:
        name: of `PARTS`.
        opened: the logits.
        nets: for the parts that need them.
        images: of the samples, for the part that shows some.
        bootstrap: coverage, draws and their seed.
        settings: further keywords of the part's function.
        progress: called with (done, all) by parts that take long.
    """
    part = PARTS[name]
    given: dict[str, Any] = {"bootstrap": bootstrap, **(settings or {})}
    if not part.nets:
        return part.function(opened, **given, **({"data": images} if part.images else {}))
    if nets is None:
        raise KdvizError(f"{name}: needs both nets")
    others = {"teacher": nets.teacher, "against": nets.against, "untrained": nets.untrained, "progress": progress}
    return part.function(nets.student, nets.data, **others, **given).assign_attrs(
        {key: opened.attrs[key] for key in ("label", "title") if key in opened.attrs}
    )
