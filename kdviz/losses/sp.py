"""SP: which samples of a batch activate a net alike."""

from torch import Tensor
from torch.nn import functional

from kdviz.losses.entry import loss
from kdviz.losses.inputs import unmixed
from kdviz.losses.maps import Maps, map_pair, some_maps
from kdviz.losses.papers import SP


def _similarities(maps: Tensor) -> Tensor:
    """Inner products of the samples `[n, n]`, each row of unit L2 norm."""
    flat = maps.flatten(1)
    return functional.normalize(flat @ flat.mT)


@loss(SP, unit="1", long_name="similarity-preserving loss", shift_invariant=False)
def sp(features_student: Maps | Tensor, features_teacher: Maps | Tensor) -> Tensor:
    """Squared difference of the last maps' similarities between samples.

    L = ||G_s - G_t||^2 / n^2, G the n x n inner products of the flattened last maps, each row divided by its L2 norm.

    Args:
        features_student: maps `[n, c, h, w]`, of which the last counts, or that map itself.
        features_teacher: the same of the teacher, of any width and size; no gradient flows to it.

    Returns: a scalar, at least 0.

    Raises: KdvizError for wrong shapes or types.

    Source: Tung and Mori 2019, sec. 3.1, on the last stage alone.

    >>> import torch
    >>> maps = torch.rand(4, 3, 2, 2)
    >>> sp([2 * maps], [maps]).item() < 1e-12
    True
    """
    student, teacher = map_pair(
        "sp", _last("features_student", features_student), _last("features_teacher", features_teacher)
    )
    with unmixed(student.device):
        return (_similarities(student) - _similarities(teacher)).square().sum() / len(student) ** 2


def _last(name: str, features: Maps | Tensor) -> Tensor:
    if isinstance(features, Tensor):
        return features
    some_maps("sp", **{name: features})
    return features[-1]
