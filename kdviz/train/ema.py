"""The exponential moving average of a net's weights."""

import copy
import itertools

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from kdviz.base.check import require


def averaged(model: nn.Module) -> nn.Module:
    """The average at its start: a copy of `model` in eval mode that takes no gradient.

    Evaluate and save it like any net; its `state_dict()` is what resuming needs.
    """
    return copy.deepcopy(model).eval().requires_grad_(False)


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, *, decay: float) -> None:
    """After a step of the optimizer: average <- decay average + (1 - decay) weights, in place.

    Running statistics of batch normalisation are averaged like weights; counters are copied. Nothing waits for the
    device, so a captured step may hold it.

    Args:
        average: of `averaged(model)`.
        model: the net that is trained.
        decay: 0 to 1, exclusive; 0.999 averages over about a thousand steps.
    Raises: KdvizError for another decay.
    Source: Polyak and Juditsky 1992; `ModelEmaV2` of timm for the buffers.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> average = averaged(net)
    >>> _ = nn.init.zeros_(average.weight), nn.init.ones_(net.weight)
    >>> follow(average, net, decay=0.75)
    >>> average.weight.item()
    0.25
    """
    require(0 < decay < 1, f"ema: the decay must be above 0 and below 1, got {decay}")
    own = itertools.chain(average.parameters(), average.buffers())
    seen = itertools.chain(model.parameters(), model.buffers())
    pairs = [(a, b.detach()) for a, b in zip(own, seen, strict=True)]
    moving = [pair for pair in pairs if pair[0].is_floating_point()]
    get_ema_multi_avg_fn(decay)([a for a, _ in moving], [b for _, b in moving], 0)  # the count is not used
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)
