"""MobileNetV1 at full width, for ImageNet's 224x224 images."""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from kdviz.models.outputs import Outputs
from kdviz.models.weights import kaiming

# (width, stride) of each depthwise-separable block
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
STAGE_ENDS = (0, 3, 5, 11, 13)  # in `model`, whose first part is the stem


def _convolution(width_in: int, width: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(width_in, width, size, stride, size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU()]


class MobileNetV1(nn.Module):
    """Depthwise-separable convolutions, each with batch normalisation and ReLU.

    Args:
        classes: number of classes.

    Source: Howard et al. 2017 (arXiv 1704.04861), table 1; tensor names of mdistiller's ImageNet students.
    Differs from: mdistiller averages over 7x7 and so takes 224 px only; here the average is over the whole map.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        parts = [nn.Sequential(*_convolution(3, 32, 3, 2))]
        width_in = 32
        for width, stride in BLOCKS:
            depthwise = _convolution(width_in, width_in, 3, stride, groups=width_in)
            parts.append(nn.Sequential(*depthwise, *_convolution(width_in, width, 1)))
            width_in = width
        self.model = nn.Sequential(*parts)
        self.fc = nn.Linear(1024, classes)
        kaiming(self)

    def forward(self, images: Tensor, features: bool = False) -> Outputs:
        """Outputs of images `[n, 3, h, w]`; at 224 px the maps are 112, 56, 28, 14 and 7 px wide."""
        maps, before, after = images, [], []
        for number, part in enumerate(self.model):
            *layers, activation = cast(nn.Sequential, part)
            linear = maps
            for layer in layers:
                linear = layer(linear)
            maps = activation(linear)
            if number in STAGE_ENDS:
                before.append(linear)
                after.append(maps)
        pooled = F.adaptive_avg_pool2d(maps, 1).flatten(1)
        logits = self.fc(pooled)
        return Outputs(logits, tuple(after), pooled, tuple(before)) if features else Outputs(logits)

    def bn_before_relu(self) -> list[nn.BatchNorm2d]:
        """The batch norm that ends each stage, without the stem's."""
        return [cast(nn.BatchNorm2d, cast(nn.Sequential, self.model[end])[-2]) for end in STAGE_ENDS[1:]]


NETS = {"MobileNetV1": MobileNetV1}
