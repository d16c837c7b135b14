"""Outputs of any net in a training step, in float32 at least."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kdviz.methods import Batch
from kdviz.models import Outputs, evaluating, logits_of
from kdviz.train.device import autocast

FEATURES = frozenset({"features", "preactivations", "pooled"})


def gives_features(net: nn.Module) -> bool:
    """Whether the net's forward takes `features=True`, as all of ours and those with `--features-at` do."""
    return "features" in inspect.signature(net.forward).parameters


def outputs(net: Callable[..., Any], images: Tensor, *, features: bool = False) -> Outputs:
    """What `net` returns for the images, its tensors in float32 at least."""
    found = net(images, features=True) if features else net(images)
    if not isinstance(found, Outputs):
        return Outputs(logits_of(found).float())
    return Outputs(
        found.logits.float(),
        tuple(maps.float() for maps in found.features),
        None if found.pooled is None else found.pooled.float(),
        tuple(maps.float() for maps in found.preactivations),
    )


@torch.no_grad()
def outputs_of_images(net: nn.Module, images: Tensor, precision: str) -> Outputs:
    """The logits of a frozen net, computed as a training step computes them."""
    with autocast(precision, images.device):
        return outputs(net, images)


def outputs_of_batch(net: Callable[..., Any], batch: Batch, needs: frozenset[str], precision: str) -> Outputs:
    """Outputs for a batch, its strong view's beside them where there is one."""
    with autocast(precision, batch.images.device):
        found = outputs(net, batch.images, features=bool(needs & FEATURES))
        if batch.strong is None:
            return found
        return found._replace(strong=outputs(net, batch.strong))


@torch.no_grad()
def probe_outputs(net: nn.Module, images: Tensor) -> Outputs:
    """Outputs for two images in eval mode, with all the features that the net gives; its mode is restored."""
    with evaluating(net):
        return outputs(net, images, features=gives_features(net))
