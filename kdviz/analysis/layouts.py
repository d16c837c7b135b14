"""Layouts of logits other than [samples, channels]: [batch, time, channels], and the k largest alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from kdviz.base.check import KdvizError, one_of, require

IGNORED = -100  # the label of padding, by torch's and Hugging Face's convention
# what becomes of the channels that sparse logits leave out
RESTS = {
    "mask": "Channels that are not stored are masked",
    "floor": "Channels that are not stored have the smallest stored logit of their sample, which no true one passes",
    "spread": "Channels that are not stored share the probability that the stored ones leave, evenly",
}


def flattened(parts: tuple[Any, ...], start: int = 0) -> tuple[tuple[Any, ...], int]:
    """(student, teacher, target, ids) with logits [b, t, k] as [b t, k], and how many positions were padding.

    A position with the label -100 is padding. Ids are positions in the flattened order, from `start`.
    """
    student, teacher, target, ids = (*parts, None, None, None)[:4]
    if student is None or getattr(student, "ndim", 0) != 3:
        return (student, teacher, target, ids), 0
    b, t = student.shape[:2]
    student, teacher, target = (_plain(one) for one in (student, teacher, target))
    student, teacher = (
        one if one is None or one.ndim != 3 else one.reshape(-1, one.shape[-1]) for one in (student, teacher)
    )
    target = target.reshape(-1) if target is not None and tuple(target.shape) == (b, t) else target
    first = np.arange(start, start + b * t, t) if ids is None else np.asarray(ids) * t
    ids = np.repeat(first, t) + np.tile(np.arange(t), b)
    if target is None or len(target) != b * t:
        return (student, teacher, target, ids), 0
    kept = np.asarray(target) != IGNORED
    rows = np.flatnonzero(kept)
    parts = tuple(None if one is None else one[rows] for one in (student, teacher, target, ids))
    return parts, int((~kept).sum())


def _plain(array: Any) -> Any:
    """A tensor, or a NumPy array of anything else."""
    return array if array is None or isinstance(array, Tensor) else np.asarray(array)


@dataclass(frozen=True, eq=False)
class TopK:
    """Sparse logits as an array [n, k] (or [b, t, k]) whose rows are made when they are asked for.

    Args:
        indices, values: [n, m] (or [b, t, m]); an index below 0 stands for none.
        classes: k.
        rest: of `RESTS`; "spread" takes values for logarithms of probabilities.
        name: who to name in errors.
    """

    indices: Any
    values: Any
    classes: int
    rest: str
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, k)."""
        return (*self.values.shape[:-1], self.classes)

    @property
    def ndim(self) -> int:
        """2, or 3."""
        return len(self.shape)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, part: slice) -> np.ndarray:
        """Those rows, dense."""
        index, value = np.array(self.indices[part]), np.array(self.values[part])
        flat, values = index.reshape(-1, index.shape[-1]).astype(np.int64), value.reshape(-1, value.shape[-1])
        stored = flat >= 0
        require(bool((flat < self.classes).all()), f"{self.name}: index {flat.max()}, but {self.classes} classes")
        ordered = np.sort(np.where(stored, flat, -1 - np.arange(flat.shape[1])), axis=1)  # absent ones all differ
        require((np.diff(ordered, axis=1) > 0).all(), f"{self.name}: a sample names one channel twice")
        dense = np.full((len(flat), self.classes + 1), -np.inf, values.dtype)  # the last column takes what is absent
        dense[:] = self._fill(np.where(stored, values, -np.inf))[:, None]
        np.put_along_axis(dense, np.where(stored, flat, self.classes), values, axis=1)
        return dense[:, :-1].reshape(*index.shape[:-1], self.classes)

    def _fill(self, values: np.ndarray) -> np.ndarray:
        """What the channels that are not stored get, [n]; `values` has -inf where there is none."""
        if self.rest == "mask":
            return np.full(len(values), -np.inf, values.dtype)
        if self.rest == "floor":
            return np.where(np.isfinite(values), values, np.inf).min(axis=1)
        probability = np.exp(values.astype(np.float64)).sum(axis=1)
        require(
            bool((probability <= 1 + 1e-3).all()),
            f"{self.name}: rest spread takes logarithms of probabilities, but they sum to {probability.max():.4g}",
        )
        absent = np.maximum(self.classes - np.isfinite(values).sum(axis=1), 1)
        return np.log(np.maximum(1 - probability, 1e-12) / absent).astype(values.dtype)


def sparse(found: Mapping[str, Any], name: str, rest: str) -> dict[str, Any]:
    """The arrays of a file with sparse logits (student_indices and student_values, teacher_... likewise) made dense.

    `classes` in the file says how many there are; else the other net's dense logits do, or the largest index.

    Raises: KdvizError for values without indices, of another shape or type, or an unknown `rest`.
    """
    one_of("logits", RESTS, rest=rest)
    dense = {key: value for key, value in found.items() if not key.endswith(("_indices", "_values"))}
    pairs = {}
    for net in ("student", "teacher"):
        index, value = found.get(f"{net}_indices"), found.get(f"{net}_values")
        if index is None and value is None:
            continue
        if index is None or value is None:
            raise KdvizError(f"{name}: has one of {net}_indices and {net}_values; sparse logits need both")
        index, value = np.asarray(index), np.asarray(value)
        fits = index.shape == value.shape and index.ndim in (2, 3)
        require(
            fits, f"{name}: {net}_indices are {index.shape} but {net}_values {value.shape}; expected [n, k] of both"
        )
        require(np.issubdtype(index.dtype, np.integer), f"{name}: {net}_indices must be whole numbers")
        require(np.issubdtype(value.dtype, np.floating), f"{name}: {net}_values must be real numbers")
        pairs[net] = (index, value)
    if not pairs:
        return dense
    full = [dense[key].shape[-1] for net in ("student", "teacher") for key in (net, f"logits_{net}") if key in dense]
    stated = [int(dense[key]) for key in ("classes", "num_classes") if key in dense]
    classes = next(iter([*stated, *full]), None) or 1 + max(int(index.max()) for index, _ in pairs.values())
    made = {
        f"logits_{net}": TopK(index, value, classes, rest, f"{name}: {net}") for net, (index, value) in pairs.items()
    }
    return {**dense, **made}
