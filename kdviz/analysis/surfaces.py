"""A loss over a plane of logits through the teacher's: its values, its convexity, where its minimum lies."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.optimize import minimize
from torch import Tensor

from kdviz.analysis.attributes import loss_naming, meaning
from kdviz.analysis.grid import curvatures
from kdviz.base.check import one_of, positive, require
from kdviz.base.files import versions
from kdviz.base.seeds import torch_generator
from kdviz.base.threads import in_threads
from kdviz.losses import loss_value, resolve, validate_logits

# Values and ranges are in the unit of each panel's loss, which the coordinate `unit` names.
MEANINGS = {
    "value": {"long_name": "loss", "role": "loss"},
    "convex_share": meaning("fraction", "convex share of the slice", "metric"),
    "minimum_alpha": meaning("lengths of t", "minimum along direction 1", "mark"),
    "minimum_beta": meaning("lengths of t", "minimum along direction 2", "mark"),
    "minimum_value": {"long_name": "loss at the minimum", "role": "metric"},
    "minimum_distance": meaning("lengths of t", "distance of the minimum from t", "metric"),
    "minimum_on_edge": meaning("1", "whether the minimum is on the edge of the slice"),
    "curvature_minimum": {"long_name": "curvature at the minimum, per |t|^2", "role": "metric"},
    "curvature_origin": {"long_name": "curvature at t, per |t|^2", "role": "metric"},
    "range": {"long_name": "range of the loss", "role": "metric"},
}
LOGITS = ("logits_student", "logits_teacher", "target")
STEP = 1e-3  # of the second differences, in lengths of t but 3e-3 logits at most: rounding and truncation are small
TRUNCATION = 1e-4  # of the larger curvature, which second differences over such a step may miss
NUMBERS = 1 << 18  # numbers of one batch of points, which a thread takes
Evaluate = Callable[[Tensor], Tensor]

LARGEST = 1e6  # of span and temperatures; far beyond, logits overflow
MOST_STEPS = 2001  # along an axis; a surface of so many is 32 MB


@dataclass(frozen=True, eq=False)
class Sample:
    """What a slice is drawn around.

    Attributes:
        label: the target class; None takes the teacher's argmax.
        logits_teacher: `[k]` of a real sample instead of a drawn t; their mean over the classes is removed.
        logits_student: `[k]` of the same sample, marked on the slice and needed by directions="student".
    """

    label: int | None = None
    logits_teacher: Any = None
    logits_student: Any = None


DRAWN = Sample()


def surface(
    losses: str | Sequence[str] = "pld",
    *,
    temperatures: Sequence[float] | None = None,
    settings: Mapping[str, Any] | None = None,
    classes: int = 100,
    steps: int = 51,
    span: float = 5.0,
    seed: int = 0,
    directions: str = "random",
    around: Sample = DRAWN,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """The slice s(a, b) = t + a |t| d1 + b |t| d2 of one or several losses L(s, t), a and b in [-span, span].

    Args:
        losses: names of the registry whose losses take logits (and labels) alone; each is drawn at every temperature.
        temperatures: of the losses that have one, above 0; None takes each loss's own default.
        settings: further settings, given to the losses that know them.
        classes: length k of t where it is drawn, a normal vector scaled to unit length.
        steps: points along a and along b, odd, so that t itself is one of them.
        span: half the width of the slice, in lengths of t.
        seed: of t and of random directions.
        directions: "random" (orthonormal), "class" (towards the label and the teacher's strongest other class) or
            "student" (towards logits_student, and a random one).
        around: the label, and the logits of a real sample instead of a drawn t.
        progress: called with (panels done, panels in all).
    Returns:
        dataset (panel, alpha, beta) with `value` in the loss's unit; per panel convex_share (fraction of the inner
        points), minimum_alpha, _beta, _value, _distance (in |t|), minimum_on_edge, curvature_minimum (eigenvalue: low,
        high) and curvature_origin in units per |t|^2, and range; teacher and direction (axis, channel).
    Raises:
        KdvizError: an unknown loss or setting, a loss of features, even steps, logits that do not fit.
    Source: Bassam et al. 2025, figs. 3 and 4; they leave k, seed, grid, label and KD's temperature open.
    Differs from: the mean is removed from real logits, which no loss here sees but the length of t does.

    >>> import kdviz.losses
    >>> found = surface("kd", temperatures=[1.0], steps=5, classes=4)
    >>> round(float(found["value"].sel(alpha=0, beta=0)[0]), 12), float(found["convex_share"][0])
    (0.0, 1.0)
    """
    who = "surface"
    require(
        5 <= steps <= MOST_STEPS and steps % 2,
        f"{who}: steps must be odd, so that t is on the grid, and 5 to {MOST_STEPS}, got {steps}",
    )
    positive(who, span=span, **{f"temperature {at}": value for at, value in enumerate(temperatures or ())})
    for name, value in (("span", span), *((f"temperature {at}", value) for at, value in enumerate(temperatures or ()))):
        require(value <= LARGEST, f"{who}: {name} must be at most {LARGEST:g}, got {value:g}")
    one_of(who, ("random", "class", "student"), directions=directions)
    teacher, student = _centre(who, classes, seed, around)
    target = int(teacher.argmax()) if around.label is None else around.label
    require(0 <= target < len(teacher), f"{who}: label {target} is outside 0..{len(teacher) - 1}")
    axes = _plane(who, directions, teacher, student, target, seed)
    panels = list(_panels(who, [losses] if isinstance(losses, str) else losses, temperatures, settings or {}))
    grid = np.linspace(-span, span, steps)
    grid[steps // 2] = 0.0
    measured, step = [], STEP * min(1.0, 3.0 / float(teacher.norm()))
    for done, (name, options) in enumerate(panels):
        measured.append(_measure(_plane_function(name, options, teacher, target, axes), grid, step))
        if progress:
            progress(done + 1, len(panels))
    dataset = _dataset(panels, grid, measured)
    dataset["teacher"] = ("channel", teacher.numpy())
    dataset["direction"] = (("axis", "channel"), axes.numpy())
    if student is not None:
        dataset["student"] = ("channel", student.numpy())
        dataset["student_position"] = ("axis", (axes @ (student - teacher) / (axes * axes).sum(1)).numpy())
    origin = (
        "a drawn vector of unit length" if around.logits_teacher is None else "a real sample's logits, mean removed"
    )
    return dataset.assign_attrs(
        kind="surface",
        seed=seed,
        classes=len(teacher),
        steps=steps,
        span=span,
        label=target,
        directions=directions,
        settings=json.dumps(dict(settings or {})),
        difference_step=step,
        versions=json.dumps(versions()),
        length=float(teacher.norm()),
        caption=_caption(dataset, len(teacher), origin, target, directions, seed),
    )


def _centre(who: str, classes: int, seed: int, around: Sample) -> tuple[Tensor, Tensor | None]:
    teacher, student = around.logits_teacher, around.logits_student
    if teacher is None:
        require(classes >= 3, f"{who}: a plane needs 3 classes or more, got {classes}")
        require(student is None, f"{who}: logits_student needs logits_teacher of the same sample")
        drawn = torch.randn(classes, generator=torch_generator(seed, who, "teacher"), dtype=torch.float64)
        return drawn / drawn.norm(), None
    many = [torch.as_tensor(np.asarray(one)).double().clone() for one in (teacher, student) if one is not None]
    for one in many:
        require(
            one.ndim == 1 and len(one) >= 3, f"{who}: logits of one sample must be [k >= 3], got {tuple(one.shape)}"
        )
    validate_logits(many[-1][None], many[0][None], who=who)
    many = [one - one.mean() for one in many]
    require(many[0].norm() > 0, f"{who}: the teacher's logits are all equal, so that the slice has no scale")
    return many[0], many[1] if student is not None else None


def _plane(who: str, kind: str, teacher: Tensor, student: Tensor | None, label: int, seed: int) -> Tensor:
    """Two orthogonal directions [2, k] of the length of t."""
    k = len(teacher)
    first, second = torch.randn(2, k, generator=torch_generator(seed, who, "directions"), dtype=torch.float64)
    if kind == "class":
        rival = teacher.clone()
        rival[label] = -torch.inf
        first, second = torch.eye(k, dtype=torch.float64)[[label, int(rival.argmax())]] - 1 / k
    elif kind == "student":
        if student is None or not (student - teacher).norm() > 0:
            require(False, f"{who}: directions 'student' needs logits_student that differ from the teacher's")
        else:
            first = student - teacher
    first = first / first.norm()
    second = second - (second @ first) * first
    return torch.stack([first, second / second.norm()]) * teacher.norm()


def _panels(
    who: str, names: Sequence[str], temperatures: Sequence[float] | None, settings: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(loss, its settings) of every panel: losses first, temperatures within a loss."""
    require(names, f"{who}: name a loss")
    known = {key for name in names for key in resolve(name).defaults}
    for key in settings:
        require(key in known, f"{who}: no setting {key!r} in {', '.join(names)}; they have {', '.join(sorted(known))}")
    for name in names:
        loss = resolve(name)
        require(set(loss.takes) <= set(LOGITS), f"{who}: {loss.name} takes {', '.join(loss.takes)}, not logits alone")
        chosen = {key: value for key, value in settings.items() if key in loss.defaults}
        if "temperature" not in loss.defaults:
            yield loss.name, chosen
            continue
        for temperature in temperatures or [chosen.get("temperature", loss.defaults["temperature"])]:
            yield loss.name, {**chosen, "temperature": float(temperature)}


def _plane_function(
    name: str, settings: dict[str, Any], teacher: Tensor, label: int, axes: Tensor
) -> Callable[[np.ndarray], np.ndarray]:
    """The loss of each (a, b) of an array [..., 2]; in one batch, or one point at a time where a batch would couple."""
    separable = resolve(name).separable

    def single(row: Tensor) -> Tensor:
        return loss_value(name, row[None], teacher[None], torch.tensor([label]), settings=settings)

    def batch(rows: Tensor) -> Tensor:
        n = len(rows)
        labels = torch.full((n,), label)
        return loss_value(name, rows, teacher.expand(n, -1), labels, settings=settings, reduction="none")

    values: Evaluate = batch if separable else torch.vmap(single)
    held = len(teacher) if separable else len(teacher) ** 2  # for each point: what couples may hold a matrix of classes

    def work(part: Tensor) -> np.ndarray:
        with torch.no_grad():
            return values(teacher + part @ axes).numpy().copy()  # a view would keep what it was taken from

    def function(points: np.ndarray) -> np.ndarray:
        flat = torch.from_numpy(np.ascontiguousarray(points, dtype=np.float64)).reshape(-1, 2)
        parts = in_threads(work, flat.split(max(1, NUMBERS // held)))
        return np.concatenate(parts).reshape(points.shape[:-1])

    return function


def _measure(function: Callable[[np.ndarray], np.ndarray], grid: np.ndarray, step: float) -> dict[str, Any]:
    """Values on the grid, and the numbers that say how convex they are and where they are least."""
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1)
    values = function(points)
    low, high = _curvature(function, points[1:-1, 1:-1], step)
    noise = 64 * np.finfo(float).eps * max(1.0, np.abs(values).max()) / step**2
    start = points[np.unravel_index(values.argmin(), values.shape)]
    bound = (grid[0], grid[-1])
    options = {"xatol": 1e-7, "fatol": 1e-13, "initial_simplex": _simplex(start, grid)}
    best = minimize(lambda at: float(function(at)), start, method="Nelder-Mead", bounds=(bound, bound), options=options)
    # a plateau of equal values has no better point than the grid's own
    least = best.x if best.fun < values.min() - 1e-12 else start
    inside = np.clip(least, grid[0] + step, grid[-1] - step)
    return {
        "value": values,
        "convex_share": float(np.mean(low >= -noise - TRUNCATION * high)),
        "minimum_alpha": float(least[0]),
        "minimum_beta": float(least[1]),
        "minimum_value": float(min(best.fun, values.min())),
        "minimum_distance": float(np.hypot(*least)),
        "minimum_on_edge": bool(np.abs(least).max() > 0.999 * grid[-1]),
        "curvature_minimum": [float(one) for one in _curvature(function, inside, step)],
        "curvature_origin": [float(one) for one in _curvature(function, np.zeros(2), step)],
        "range": float(np.ptp(values)),
    }


def _simplex(start: np.ndarray, grid: np.ndarray) -> np.ndarray:
    step = (grid[1] - grid[0]) * np.where(start > 0, -1, 1)
    return start + np.array([[0, 0], [step[0], 0], [0, step[1]]])


def _curvature(
    function: Callable[[np.ndarray], np.ndarray], points: np.ndarray, step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (low, high) of the Hessian at points [..., 2], by second differences."""
    near = np.array([-step, 0.0, step])
    stencil = np.stack(np.meshgrid(near, near, indexing="ij"), -1)  # [3, 3, 2]
    low, high = curvatures(function(points[..., None, None, :] + stencil), near, near)
    return low[..., 0, 0], high[..., 0, 0]


def _dataset(panels: list[tuple[str, dict[str, Any]]], grid: np.ndarray, measured: list[dict[str, Any]]) -> xr.Dataset:
    names = [name for name, _ in panels]
    warm = np.array([options.get("temperature", np.nan) for _, options in panels])
    labels = [name if np.isnan(at) else f"{name} T={at:g}" for name, at in zip(names, warm, strict=True)]
    wide = {"value": ("alpha", "beta"), "curvature_minimum": ("eigenvalue",), "curvature_origin": ("eigenvalue",)}
    dataset = xr.Dataset(
        {
            key: (("panel", *wide.get(key, ())), np.array([one[key] for one in measured]), MEANINGS[key])
            for key in measured[0]
        },
        {
            "panel": np.array(labels, dtype=object),
            "loss": ("panel", np.array(names, dtype=object), loss_naming(names)),
            "temperature": ("panel", warm),
            "unit": ("panel", np.array([resolve(name).unit for name in names], dtype=object)),
            "alpha": grid,
            "beta": grid,
            "eigenvalue": np.array(["low", "high"], dtype=object),
            "axis": np.array(["alpha", "beta"], dtype=object),
        },
    )
    for axis, direction in (("alpha", 1), ("beta", 2)):
        dataset[axis].attrs |= meaning("lengths of t", f"coefficient of direction {direction}")
    return dataset


def _caption(dataset: xr.Dataset, k: int, origin: str, label: int, directions: str, seed: int) -> str:
    panels = "; ".join(str(one) for one in dataset["panel"].values)
    steps, span = dataset.sizes["alpha"], float(dataset["alpha"][-1])
    text = (
        f"Losses ({panels}) of s = t + a |t| d1 + b |t| d2 over [-{span:g}, {span:g}]^2, {steps} x {steps} points; t is"
        f" {origin}, {k} classes, label {label}; {directions} directions; seed {seed}. Open in the paper and chosen"
        " here: number of classes, seed, grid, label, temperature of each loss."
    )
    if "dist" in dataset["loss"].values:
        text += (
            " A slice holds one sample, so that DIST's intra-class term is a constant and only its shape in s shows."
        )
    return text
