"""Stages whose maps are wanted before their last activation as well."""

from collections.abc import Iterable
from typing import Protocol, cast

import torch.nn.functional as F
from torch import Tensor, nn


class Block(Protocol):
    """A block that ends in a ReLU and can stop before it."""

    def preactivation(self, maps: Tensor) -> Tensor: ...


def with_preactivations(
    stem: Tensor, stages: Iterable[Iterable[nn.Module]]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The maps of a net after and before their activations, stem first.

    Nothing is computed twice: each stage runs up to its last block's sum, whose ReLU follows here.

    Args:
        stem: `[n, c, h, w]`, before its ReLU.
        stages: each a sequence of modules, the last of which offers `preactivation(maps)`.

    Returns: (features, preactivations), each one map longer than `stages`.
    """
    features, preactivations = [F.relu(stem)], [stem]
    for stage in stages:
        *blocks, last = stage
        maps = features[-1]
        for block in blocks:
            maps = block(maps)
        preactivations.append(cast(Block, last).preactivation(maps))
        features.append(F.relu(preactivations[-1]))
    return tuple(features), tuple(preactivations)
