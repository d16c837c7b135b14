"""A net's maps, stage by stage, and the features that its classifier sees, whatever library the net is of."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import local
from typing import Any

import torch
from torch import Tensor, nn

from kdviz.base.check import require
from kdviz.models import logits_of

STAGES = 8  # at most so many of a net that does not name its own
POOLED, LOGITS = "pooled", "logits"
Stages = Callable[[Tensor], dict[str, Tensor]]


@contextmanager
def stages(net: nn.Module) -> Iterator[Stages]:
    """A function from images [n, c, h, w] to the net's maps by stage, each as [n, d], "pooled" and "logits" last.

    A net of ours has its own stages ("stem", "stage 1", ...). Of any other they are the outputs of its direct parts
    that have weights, of a long sequence four of its blocks, 8 at most; "pooled" is what its last linear layer sees,
    which gives the logits.

    Args: net: in eval mode (`evaluating`); its hooks are gone afterwards.
    """
    if "features" in inspect.signature(net.forward).parameters:
        yield partial(_own, net)
        return
    seen = local()  # each thread's own
    with ExitStack() as stack:
        for name, module in _parts(net).items():
            hook = module.register_forward_hook(partial(_keep, seen, name))
            stack.callback(hook.remove)
        linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
        if linear:
            hook = linear[-1].register_forward_pre_hook(lambda _module, given: vars(seen).update({POOLED: given[0]}))
            stack.callback(hook.remove)
        yield partial(_foreign, net, seen)


def _own(net: nn.Module, images: Tensor) -> dict[str, Tensor]:
    outputs = net(images.to(_device(net)), features=True)
    names = ["stem", *(f"stage {at}" for at in range(1, len(outputs.features)))]
    found = dict(zip(names, outputs.features, strict=True))
    found |= {} if outputs.pooled is None else {POOLED: outputs.pooled}
    return {name: one.flatten(1) for name, one in (found | {LOGITS: outputs.logits}).items()}


def _foreign(net: nn.Module, seen: local, images: Tensor) -> dict[str, Tensor]:
    vars(seen).clear()
    logits = logits_of(net(images.to(_device(net))))
    whole = {name: one for name, one in vars(seen).items() if _is_map(one, logits) and name != POOLED}
    found = {name: one.flatten(1) for name, one in whole.items()}
    pooled = vars(seen).get(POOLED)
    if isinstance(pooled, Tensor) and pooled.ndim == 2 and len(pooled) == len(logits):
        found[POOLED] = pooled
    require(found, f"{type(net).__name__}: none of its direct parts gives a map of its own for each image")
    return found | {LOGITS: logits}


def _is_map(one: Any, logits: Tensor) -> bool:
    """Whether a part gave one tensor for each image, other than the logits themselves."""
    return isinstance(one, Tensor) and one.ndim >= 2 and len(one) == len(logits) and one.shape != logits.shape


def _keep(seen: local, name: str, _module: nn.Module, _given: Any, output: Any) -> None:
    vars(seen)[name] = output if name not in vars(seen) else None  # a part that runs twice has no map of its own


def _parts(net: nn.Module) -> dict[str, nn.Module]:
    """The parts with weights, in the order of the net: its children, or those of the one child that it wraps."""
    prefix = ""
    while len(children := dict(net.named_children())) == 1:
        ((name, net),) = children.items()
        prefix += f"{name}."
    found: dict[str, nn.Module] = {}
    for name, child in children.items():
        blocks = list(child.children())
        if isinstance(child, nn.Sequential) and len(blocks) > STAGES - 2:
            for at in (len(blocks) * quarter // 4 - 1 for quarter in range(1, 5)):
                found[f"{prefix}{name}.{at}"] = blocks[at]
        elif next(child.parameters(), None) is not None:
            found[f"{prefix}{name}"] = child
    chosen = list(found)
    if len(chosen) > STAGES:
        chosen = [chosen[round(at * (len(chosen) - 1) / (STAGES - 1))] for at in range(STAGES)]
    return {name: found[name] for name in chosen}


def _device(net: nn.Module) -> torch.device:
    first = next(net.parameters(), None)
    return torch.device("cpu") if first is None else first.device
