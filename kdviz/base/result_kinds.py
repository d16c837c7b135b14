"""What each kind of result holds: its axes, its variables and their values, its attributes."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Variable(BaseModel):
    """What one variable of a result must be.

    Attributes:
        dims: its dimensions, in any order; None where the kind leaves them open.
        type: numbers (truth values and integers too) or texts.
        finite: all values, at least one, or any number of them.
        low, high: bounds of the finite values.
        needed: whether a result without it is refused.
        unique: no two values are equal; increasing: each is above the one before.
        least: how many values there must be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dims: tuple[str, ...] | None = None
    type: Literal["numbers", "texts"] = "numbers"
    finite: Literal["all", "one", "any"] = "one"
    low: float = float("-inf")
    high: float = float("inf")
    needed: bool = True
    unique: bool = False
    increasing: bool = False
    least: int = 1


class Kind(BaseModel):
    """What a result of one kind must hold; further variables and attributes of plain types are welcome.

    Attributes:
        variables: by name; those of attributes `attrs`.
        attrs: attributes that its figures need, by name, with their bounds.
        grid: the axes that its losses lie on, where any variable over them may be drawn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    variables: dict[str, Variable] = {}
    attrs: dict[str, tuple[float, float]] = {}
    grid: tuple[str, ...] = ()


def _axis(name: str, *, least: int = 2, needed: bool = True) -> dict[str, Variable]:
    return {name: Variable(dims=(name,), finite="all", unique=True, increasing=True, least=least, needed=needed)}


def _names(*names: str) -> dict[str, Variable]:
    return {name: Variable(dims=(name,), type="texts", unique=True) for name in names}


def _numbers(dims: str, *names: str, **limits: Any) -> dict[str, Variable]:
    return {name: Variable(dims=tuple(dims.split()), **limits) for name in names}


def _texts(dims: str, *names: str, needed: bool = True) -> dict[str, Variable]:
    return {name: Variable(dims=tuple(dims.split()), type="texts", needed=needed) for name in names}


_SHARE = {"low": 0.0, "high": 1.0, "finite": "any"}
_COUNT = {"low": 0.0, "finite": "all"}
_PLANE = _axis("alpha") | _axis("beta")
_MARKS = _names("mark") | _numbers("mark", "mark_alpha", "mark_beta", finite="all")
_CASE = {
    **_numbers("case side net channel", "probability", low=0.0, high=1.0, finite="all"),
    **_numbers("case side colour row column", "image", low=0.0, high=255.0, finite="all", needed=False),
    **_texts("channel", "class_name", needed=False),
    **_numbers("case side criterion", "case_loss", finite="any"),
    **_numbers("case side", "case_label", **_COUNT),
}
_DUEL = {
    **_numbers("case net channel", "probability", low=0.0, high=1.0, finite="all"),
    **_numbers("case colour row column", "image", low=0.0, high=255.0, finite="all", needed=False),
    **_texts("channel", "class_name", needed=False),
    **_numbers("case side criterion", "case_loss", finite="any"),
    **_numbers("case", "case_label", **_COUNT),
    **_texts("case", "case_this", "case_that"),
}
_TRAJECTORY = _numbers(
    "checkpoint", *(f"trajectory_{name}" for name in ("alpha", "beta", "epoch", "loss", "projected")), finite="all"
)

_NUMBERS = {
    **_names("measure", "compared"),
    **_numbers(
        "measure compared", *(f"{name}{end}" for name in ("value", "difference") for end in ("", "_low", "_high"))
    ),
}
_NUMBERS = {name: one.model_copy(update={"finite": "any"}) for name, one in _NUMBERS.items()}

KINDS: dict[str, Kind] = {
    "landscape": Kind(variables=_axis("alpha") | _axis("beta", needed=False), grid=("alpha", "beta", "seed")),
    "profile": Kind(variables=_axis("alpha"), grid=("alpha", "seed")),
    "plane": Kind(variables=_PLANE | _MARKS | _numbers("mark", "mark_loss", "mark_accuracy"), grid=("alpha", "beta")),
    "path": Kind(
        variables=_axis("alpha")
        | {"mark": Variable(dims=("mark",), type="texts", least=2)}
        | _numbers("alpha", "accuracy"),
        grid=("alpha",),
    ),
    "trajectory": Kind(variables=_PLANE | _TRAJECTORY, grid=("alpha", "beta")),
    "sharpness": Kind(
        variables=_axis("rank", least=1)
        | _numbers("rank", "eigenvalue")
        | _numbers("", "trace", "trace_stderr", needed=False, finite="any")
    ),
    "topology": Kind(
        variables=_axis("minimum", least=1)
        | _numbers("minimum", "birth", "parent", finite="all")
        | _numbers("minimum", "death", "persistence", "threshold", finite="any")
        | _numbers("minimum", "counted", "at_edge", low=0.0, high=1.0, finite="all"),
        attrs={"highest": (-1e300, 1e300)},
    ),
    "density": Kind(
        variables=_axis("eigenvalue")
        | _numbers("eigenvalue", "density", low=0.0, finite="all")
        | _numbers("eigenvalue", "density_stderr", low=0.0, finite="any")
        | _numbers("", "negative_mass", "negative_curvature", low=0.0, high=1.0, finite="all")
        | _numbers("", "negative_mass_stderr", "negative_curvature_stderr", low=0.0, finite="any"),
        attrs={"weights": (1, 1e300), "width": (1e-300, 1e300)},
    ),
    "comparison": Kind(
        variables=_names("net", "loss")
        | {name: Variable(needed=False) for name in ("centre", "convex_share", "flatness_radius", "minima", "trace")}
    ),
    "histogram": Kind(
        variables=_names("net")
        | _axis("logit", least=1)
        | _axis("probability", least=1)
        | _axis("rank", least=1)
        | _numbers("net logit", "counts_logit", **_COUNT)
        | _numbers("net probability", "counts_probability", **_COUNT)
        | _numbers("net rank quantile", "band_logit", "band_probability")
        | _numbers("net", "small_mass", **_SHARE),
        attrs={"temperature": (0.0, float("inf")), "small": (0.0, 1.0)},
    ),
    "tau": Kind(
        variables=_names("measure")
        | _numbers("sample", "tau_b", low=-1.0, high=1.0, finite="any")
        | _numbers("measure", "mean", finite="any")
    ),
    "suboptimal": Kind(
        variables=_names("net", "student", "criterion")
        | _numbers("net channel", "probability", low=0.0, high=1.0, finite="all")
        | _numbers("criterion student", "loss", finite="all")
        | _numbers("student", "right", finite="all")
    ),
    "ternary": Kind(
        variables=_names("criterion")
        | _numbers("point channel", "probability", low=0.0, high=1.0, finite="all")
        | _numbers("criterion point", "loss", finite="all")
        | _numbers("criterion point", "misled", finite="all")
        | _numbers("criterion", "level", "area", finite="all")
        | _numbers("channel", "teacher", "right", low=0.0, high=1.0, finite="all")
    ),
    "descent": Kind(
        variables=_names("loss")
        | _numbers("loss start step channel", "probability", low=0.0, high=1.0, finite="all")
        | _numbers("loss start", "right_from", "changes", "to_teacher", finite="any")
        | _numbers("channel", "teacher", low=0.0, high=1.0, finite="all"),
        attrs={"label": (0.0, 2.0)},
    ),
    "cases": Kind(
        variables=_names("criterion", "side", "net")
        | _numbers("criterion sample", "loss", "angle", finite="any")
        | _numbers("sample", "right", finite="all")
        | _numbers("criterion", "pairs", **_COUNT)
        | _numbers("criterion", "share", **_SHARE)
        | _CASE
    ),
    "duels": Kind(
        variables=_names("criterion", "this", "that", "side", "net")
        | _numbers("criterion this that", "pairs", **_COUNT)
        | _numbers("this that", "candidates", **_COUNT)
        | _numbers("criterion this that", "share", **_SHARE)
        | _DUEL
    ),
    "surface": Kind(
        variables=_PLANE
        | {"panel": Variable(dims=("panel",), type="texts")}
        | _numbers("panel alpha beta", "value")
        | _texts("panel", "loss", "unit")
        | _numbers("panel", "temperature", "minimum_alpha", "minimum_beta", finite="any")
    ),
    "table": Kind(
        variables=_names("row", "column")
        | _numbers("row column", "published", "measured", "gain", "low", "high", "t_low", "t_high", finite="any")
        | _numbers("row column", "clear", low=0.0, high=1.0, finite="all")
        | _texts("row", "base")
    ),
    "claims": Kind(
        variables=_names("quantity", "net", "other", "of_group", "claim")
        | _numbers("quantity net", "value", finite="any")
        | _numbers("quantity other", "p", low=0.0, high=1.0, finite="any")
        | _texts("quantity other", "told")
        | _texts("quantity", "long_name", "units", "wanted")
        | _texts("claim other", "verdict")
        | _texts("net", "group")
    ),
    "accuracies": Kind(
        variables=_names("row", "column")
        | _numbers("row column", "value")
        | _numbers("row column", "std", low=0.0, finite="any")
        | _numbers("row column seed", "by_seed", finite="any", needed=False)
    ),
    "training": Kind(variables=_axis("epoch", least=1) | _numbers("epoch", "total")),
    "logits": Kind(variables=_numbers("sample channel", "logits_student", finite="any")),
    # the parts of an audit
    "fidelity": Kind(variables=_NUMBERS),
    "calibration": Kind(
        variables=_NUMBERS
        | _names("net")
        | _numbers("net bin", "reliability", "reliability_low", "reliability_high", "confidence", **_SHARE)
        | _numbers("net bin", "count", **_COUNT)
    ),
    "cells": Kind(
        variables=_NUMBERS
        | _names("net")
        | _numbers("flip", "flip_sample", "flip_label", **_COUNT)
        | _texts("flip", "flip_side")
        | _numbers("flip rank", "flip_teacher", "flip_student", **_COUNT)
        | _texts("case", "case_side")
        | _numbers("case", "case_sample", "case_label", **_COUNT)
        | _numbers("case net channel", "probability", low=0.0, high=1.0, finite="all")
        | _numbers("case colour row column", "image", low=0.0, high=255.0, finite="all", needed=False)
        | _texts("channel", "class_name")
    ),
    "rank_confusion": Kind(
        variables=_NUMBERS
        | _axis("rank", least=1)
        | _numbers("rank pair", "pair_teacher", "pair_student", low=-1.0, finite="all")
        | _numbers("rank pair", "pair_count", **_COUNT)
        | _numbers("rank pair", "pair_share", "pair_low", "pair_high", "pair_without", **_SHARE)
        | _numbers("rank teacher_class student_class", "counts", low=0.0, finite="all", needed=False)
        | _texts("channel", "class_name")
    ),
    "margins": Kind(
        variables=_NUMBERS
        | _names("net")
        | _axis("rank", least=1)
        | _numbers("net sample", "margin", finite="all")
        | _numbers("net rank", "gap", "gap_low", "gap_high", finite="any")
    ),
    "class_correlation": Kind(
        variables=_NUMBERS
        | _names("net")
        | _numbers("net class_row class_column", "correlation", low=-1.0, high=1.0, finite="all")
        | _numbers("net class_row class_column", "class_mean", finite="any", needed=False)
        | _texts("class_row", "class_name")
    ),
    "temperature_curves": Kind(
        variables=_NUMBERS
        | _axis("temperature")
        | _numbers("compared temperature", "kl", "entropy", finite="any")
        | _numbers("compared temperature", "smooth", finite="any", needed=False)
    ),
    "cka": Kind(variables=_NUMBERS | _numbers("teacher_student student_student", "cka_student", high=1.01)),
    "embeddings": Kind(
        variables=_NUMBERS
        | _names("method", "net")
        | _numbers("method net sample axis", "position", finite="all")
        | _numbers("sample", "target", **_COUNT)
        | _numbers("channel", "kept", **_SHARE)
        | _texts("channel", "class_name")
    ),
    "samples": Kind(
        variables=_axis("rank", least=1)
        | _numbers("sample", "image", **_COUNT)
        | _numbers("sample", "target", "correct", "correct_teacher", low=0.0, finite="all", needed=False)
        | _numbers("sample", "tau", low=-1.0, high=1.0, finite="any")
        | _numbers("sample", "kl", finite="all")
        | _numbers("sample rank", "top_student", "top_teacher", **_COUNT)
        | _numbers("sample rank", "probability_student", "probability_teacher", low=0.0, high=1.0, finite="all")
        | _texts("channel", "class_name")
    ),
}
