"""Parts of a detector's backbone that training leaves as they are: its first stages, its batch normalisation."""

from typing import Any

from torch import nn

from kdviz.models.detection.library import torchvision_detection

STAGES = 5  # the stem, then one for each of the strides 4, 8, 16 and 32
STEM = frozenset({"conv1", "bn1", "relu", "maxpool", "0"})  # names in a ResNet, and in a MobileNetV2


def freeze(detector: Any, *, trainable_layers: int, frozen_bn: bool) -> None:
    """Freeze the backbone's first stages, in place, with their batch normalisation.

    Frozen batch normalisation keeps its running statistics and its weights. Tensors' names stay, but for the counters
    of batches, which it has not.

    Args:
        detector: of `kdviz.models.detection.DETECTORS`.
        trainable_layers: how many of the five stages are trained, from the last one: 5 all, 3 all but the stem and the
            stage of stride 4.
        frozen_bn: whether the batch normalisation of the other stages is frozen too.
    Source: torchvision's `trainable_layers` of ResNets, detectron2's FREEZE_AT (5 less this number).
    Differs from: torchvision for MobileNetV2, whose last convolution, which is not in these detectors, it counts too.
    """
    torchvision_detection()
    from torchvision.ops import FrozenBatchNorm2d

    def fixed(module: nn.Module) -> nn.Module:
        if isinstance(module, nn.BatchNorm2d):
            norm = FrozenBatchNorm2d(module.num_features, eps=module.eps)
            norm.load_state_dict(module.state_dict())
            return norm
        for name, child in list(module.named_children()):
            setattr(module, name, fixed(child))
        return module

    body, stage = detector.backbone.body, 0
    for name, child in list(body.named_children()):
        stage = max(stage, int(name not in STEM))
        frozen = stage < STAGES - trainable_layers
        if frozen or frozen_bn:
            setattr(body, name, child := fixed(child))
        if frozen:
            child.requires_grad_(False)
        stage += name in body.return_layers
