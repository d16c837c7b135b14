"""Nets by name: the 23 CIFAR nets of the distillation literature, ImageNet students, any other by `timm:`,
`torchvision:` or a path.

>>> build("resnet8", classes=10, seed=0).fc
Linear(in_features=64, out_features=10, bias=True)
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from kdviz.base.check import require
from kdviz.base.registry import Registry
from kdviz.base.seeds import derive
from kdviz.models import (
    mobilenetv1,
    mobilenetv2,
    mobilenetv2_tiny,
    pvt,
    resnet,
    resnet_imagenet,
    resnet_torchvision,
    shufflev1,
    shufflev2,
    shufflev2_torchvision,
    t2t,
    vgg,
    wrn,
)
from kdviz.models.detection import DETECTORS, is_detector
from kdviz.models.evaluation import evaluating
from kdviz.models.external import build_external, is_external, takes_drop_path
from kdviz.models.features import with_features
from kdviz.models.outputs import Outputs, logits_of, net_of

__all__ = ["LIBRARY_NAMES", "MODELS", "Outputs", "build", "evaluating", "logits_of", "net_of", "with_features"]

MODELS: Registry[Callable[..., nn.Module]] = Registry("model")
for _family in (
    *(resnet, resnet_imagenet, wrn, vgg, mobilenetv2, shufflev1, shufflev2),
    *(resnet_torchvision, shufflev2_torchvision, mobilenetv1, mobilenetv2_tiny, t2t, pvt),  # for 224 px and 64 px
):
    for _name, _net in _family.NETS.items():
        MODELS.add(_name, _net)
MODELS.accept((*DETECTORS, "timm:NAME", "torchvision:NAME", "package.module:function"))
# names that torchvision and timm have for nets of `MODELS`
LIBRARY_NAMES = {**resnet_torchvision.LIBRARY_NAMES, **shufflev2_torchvision.LIBRARY_NAMES}


def build(name: str, *, classes: int = 100, seed: int | None = None, drop_path: float = 0.0) -> nn.Module:
    """A net with fresh weights, in training mode.

    Args:
        name: of `MODELS`, of `kdviz.models.detection.DETECTORS`, or "timm:NAME", "torchvision:NAME",
            "package.module:function".
        classes: number of classes, 2 or more; of a detector, of objects, 1 or more.
        seed: the same seed gives the same weights and leaves torch's global random state as it was; None draws from it.

        drop_path: how often the last block's branch is left out in training, 0 to 1, where the net has drop-path.

    Raises: KdvizError for an unknown name, a library that is not installed, drop-path of a net without.
    """
    least = 1 if is_detector(name) else 2
    enough = isinstance(classes, int) and classes >= least
    require(enough, f"{name}: classes must be a whole number above {least - 1}, got {classes}")
    make = partial(build_external, name) if is_external(name) else DETECTORS.get(name) or MODELS[name]
    if drop_path:
        require(is_external(name) or takes_drop_path(make), f"{name}: has no drop-path; leave drop_path at 0")
        make = partial(make, drop_path=drop_path)
    if seed is None:
        return make(classes)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "weights", name))
        return make(classes)
