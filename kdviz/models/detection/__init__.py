"""Detectors: Faster R-CNN of torchvision's classes, and the passes that distillation needs of them.

Nothing here imports torchvision before a detector is built.
"""

from kdviz.models.detection.freezing import freeze
from kdviz.models.detection.library import FALLBACK, torchvision_detection
from kdviz.models.detection.nets import DETECTORS, at_size, is_detector
from kdviz.models.detection.passes import Seen, backbone_maps, logits_at, train_pass

__all__ = [
    "DETECTORS",
    "FALLBACK",
    "Seen",
    "at_size",
    "backbone_maps",
    "freeze",
    "is_detector",
    "logits_at",
    "torchvision_detection",
    "train_pass",
]
