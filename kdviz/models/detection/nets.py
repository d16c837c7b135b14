"""Faster R-CNN with a feature pyramid, of torchvision's classes, on the backbones of the papers' tables."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kdviz.base.registry import Registry
from kdviz.models.detection.library import torchvision_detection
from kdviz.models.detection.sampling import RegionSampler

FULL = 800  # px, the shorter side at which anchors and numbers of boxes are torchvision's own
CHANNELS = 256  # of every map of the pyramid
DETECTORS: Registry[Callable[[int], nn.Module]] = Registry("detector")
MOBILENET_STAGES = {"3": 24, "6": 32, "13": 96, "17": 320}  # last block of each stride, 4 to 32: its channels


def is_detector(name: str | None) -> bool:
    """Whether a net's name is of a detector.

    >>> is_detector("fasterrcnn_resnet18_fpn"), is_detector("resnet18")
    (True, False)
    """
    return name in DETECTORS


def resnet(name: str, classes: int) -> nn.Module:
    """Faster R-CNN on a ResNet, every weight fresh and trainable.

    Args:
        name: of torchvision's ResNet, "resnet18".
        classes: of objects, without background.
    Raises: KdvizError where torchvision does not load.
    """
    detection = torchvision_detection()
    backbone = detection.backbone_utils.resnet_fpn_backbone(
        backbone_name=name, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    return _detector(backbone, classes)


def mobilenet_v2(classes: int) -> nn.Module:
    """Faster R-CNN on MobileNetV2, the pyramid on the last block of each stride.

    Args:
        classes: of objects, without background.
    Raises: KdvizError where torchvision does not load.
    """
    detection = torchvision_detection()
    from torchvision.models import mobilenet_v2 as whole

    features = whole(weights=None).features[:18]  # the last convolution, to 1280 channels, is the classifier's
    layers = {name: str(level) for level, name in enumerate(MOBILENET_STAGES)}
    utils = detection.backbone_utils
    backbone = utils.BackboneWithFPN(features, layers, list(MOBILENET_STAGES.values()), CHANNELS)
    return _detector(backbone, classes)


def _detector(backbone: nn.Module, classes: int) -> nn.Module:
    """The detector on a backbone; what its convolutions hand to the code of boxes is float32, under autocast too."""
    detector = torchvision_detection().FasterRCNN(backbone, classes + 1)
    for part in (detector.backbone, detector.rpn.head, detector.roi_heads.box_predictor):
        part.register_forward_hook(_in_float32)
    for part in (detector.rpn, detector.roi_heads):
        given = part.fg_bg_sampler
        part.fg_bg_sampler = RegionSampler(given.batch_size_per_image, given.positive_fraction)
    return at_size(detector, FULL)


def _in_float32(_part: nn.Module, _given: Any, found: Any) -> Any:
    """A forward hook that widens every tensor of half precision in what the module returned."""
    if isinstance(found, Tensor):
        return _wide(found)
    if isinstance(found, Mapping):
        return OrderedDict((name, _wide(maps)) for name, maps in found.items())
    return type(found)(_in_float32(_part, _given, one) for one in found)


def _wide(tensor: Tensor) -> Tensor:
    """The tensor in float32 at least."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


for _name in ("resnet18", "resnet50", "resnet101"):
    DETECTORS.add(f"fasterrcnn_{_name}_fpn", partial(resnet, _name))
DETECTORS.add("fasterrcnn_mobilenet_v2_fpn", mobilenet_v2)


def at_size(
    detector: Any, size: int, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Any:
    """The detector itself, which from now on resizes images to this shorter side; none of it is in its weights.

    Anchors have sides of 32 to 512 px at 800 px, and in proportion at another size; so are the numbers of boxes that
    are proposed and sampled, below 800 px. The longer side is at most 1333/800 of `size`.

    Args:
        detector: torchvision's FasterRCNN with a pyramid of five maps.
        size: shorter side in pixels.
        mean, std: constants of images scaled to [0, 1] [default: as they were].
    Source: torchvision's numbers at 800 px; the proportion is ours.
    """
    share = size / FULL
    transform, rpn, heads = detector.transform, detector.rpn, detector.roi_heads
    transform.min_size, transform.max_size = (size,), round(1333 * share)
    transform.image_mean = list(mean or transform.image_mean)
    transform.image_std = list(std or transform.image_std)
    sides = tuple((32.0 * 2**level * share,) for level in range(5))
    rpn.anchor_generator = type(rpn.anchor_generator)(sides, ((0.5, 1.0, 2.0),) * 5).train(rpn.training)
    count = partial(_count, min(share, 1.0))
    rpn._pre_nms_top_n = {"training": count(2000), "testing": count(1000)}
    rpn._post_nms_top_n = {"training": count(2000), "testing": count(1000)}
    rpn.fg_bg_sampler.batch_size_per_image = count(256)
    heads.fg_bg_sampler.batch_size_per_image = count(512)
    return detector


def _count(share: float, full: int) -> int:
    return max(32, round(share * full))
