"""The net that tensors belong to, by their names and shapes, and the number of classes with it."""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import torch

from kdviz.models import MODELS

Shapes = Mapping[str, tuple[int, ...]]
CLASSES = 100  # of the reference nets
COUNTER = "num_batches_tracked"  # a counter that files older than torch 0.4.1, and some exports, lack


class Match(NamedTuple):
    """A net that the tensors fit."""

    name: str
    classes: int


def shapes_of(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes by name, in order, without BatchNorm's counters."""
    return {key: tuple(tensor.shape) for key, tensor in state.items() if not key.endswith(COUNTER)}


@cache
def signature(name: str) -> dict[str, tuple[int, ...]]:
    """Shapes of a net of the registry at 100 classes; its last two tensors are the classifier's."""
    with torch.device("meta"):
        return shapes_of(MODELS[name](CLASSES).state_dict())


def classes_for(name: str, shapes: Shapes) -> int | None:
    """The class count with which net `name` has exactly these shapes; None when it never has.

    >>> classes_for("resnet8", {**signature("resnet8"), "fc.weight": (10, 64), "fc.bias": (10,)})
    10
    """
    expected = signature(name)
    if expected.keys() != shapes.keys():
        return None
    head = list(expected)[-2:]
    if any(expected[key] != shapes[key] for key in expected if key not in head):
        return None
    counts = {shapes[key][0] if shapes[key] else 0 for key in head}
    rest = all(expected[key][1:] == shapes[key][1:] for key in head)
    return counts.pop() if len(counts) == 1 and rest else None


def with_classes(name: str, classes: int) -> dict[str, tuple[int, ...]]:
    """The signature of a net of the registry at another class count."""
    expected = dict(signature(name))
    for key in list(expected)[-2:]:
        expected[key] = (classes, *expected[key][1:])
    return expected


def infer(shapes: Shapes) -> Match | None:
    """The net of the registry that has exactly these shapes."""
    for name in MODELS:
        classes = classes_for(name, shapes)
        if classes is not None:
            return Match(name, classes)
    return None


def head_size(shapes: Shapes) -> int:
    """Rows of the last matrix, which is the classifier's in nearly every net; 0 where there is none."""
    return next((shape[0] for shape in reversed(list(shapes.values())) if len(shape) == 2), 0)


def differences(expected: Shapes, shapes: Shapes) -> str:
    """The differences between two sets of shapes, in one line.

    >>> differences({"a": (1,), "b": (2,)}, {"b": (3,), "c": (4,)})
    'lacks a; has c beside it; b is (3,), expected (2,)'
    """
    lacking = [key for key in expected if key not in shapes]
    extra = [key for key in shapes if key not in expected]
    other = [key for key in expected if key in shapes and shapes[key] != expected[key]]
    parts = []
    if lacking:
        parts.append(f"lacks {_few(lacking)}")
    if extra:
        parts.append(f"has {_few(extra)} beside it")
    if other:
        key = other[0]
        more = f" (and {len(other) - 1} more)" if len(other) > 1 else ""
        parts.append(f"{key} is {shapes[key]}, expected {expected[key]}{more}")
    return "; ".join(parts)


def nearest(shapes: Shapes) -> tuple[str, float]:
    """The net of the registry that shares most tensors, and the share of them in the union."""

    def share(name: str) -> float:
        expected = signature(name)
        same = sum(shapes.get(key) == shape for key, shape in expected.items())
        return same / max(len(expected.keys() | shapes.keys()), 1)

    return max(((name, share(name)) for name in MODELS), key=lambda pair: pair[1])


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
