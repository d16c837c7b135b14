"""MobileNetV2 at half width, expansion 6, for 32x32 images."""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from kdviz.models.outputs import Outputs
from kdviz.models.weights import kaiming, small_linear

# (expansion, width, blocks, stride of the first) of each stage
STAGES = ((1, 8, 1, 1), (6, 12, 2, 1), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1))


def _normalised(width_in: int, width: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(width_in, width, size, stride, size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(width)]


class InvertedResidual(nn.Module):
    """1x1 up, 3x3 per channel, 1x1 down without activation; added to x where the shape stays."""

    def __init__(self, width_in: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width_in * expansion
        self.conv = nn.Sequential(
            *_normalised(width_in, inner, 1),
            nn.ReLU(),
            *_normalised(inner, inner, 3, stride, groups=inner),
            nn.ReLU(),
            *_normalised(inner, width, 1),
        )
        self.residual = stride == 1 and width_in == width

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.conv(maps) if self.residual else self.conv(maps)


class MobileNetV2(nn.Module):
    """The half-width net of the distillation literature, with plain ReLUs and a stem of stride 2.

    Args:
        classes: number of classes.

    Source: Sandler et al. 2018, table 2; names of RepDistiller's checkpoints (`mobile_half`).
    Differs from: RepDistiller averages over 2x2 and so takes 32 px only; here the average is over the whole map.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*_normalised(3, 16, 3, 2), nn.ReLU())
        self.blocks = nn.ModuleList()
        width_in = 16
        for expansion, width, count, first in STAGES:
            stage = nn.Sequential()
            for i in range(count):
                stage.append(InvertedResidual(width_in, width, 1 if i else first, expansion))
                width_in = width
            self.blocks.append(stage)
        self.conv2 = nn.Sequential(*_normalised(width_in, 1280, 1), nn.ReLU())
        head = nn.Linear(1280, classes)
        self.classifier = nn.Sequential(head)
        kaiming(self)
        small_linear(head)

    def forward(self, images: Tensor, features: bool = False) -> Outputs:
        """Outputs of images `[n, 3, h, w]`; at 32 px the maps are 16, 16, 8, 4 and 2 px wide."""
        convolution, normalisation, activation = self.conv1
        before = normalisation(convolution(images))
        stem = activation(before)
        first = self.blocks[1](self.blocks[0](stem))
        second = self.blocks[2](first)
        third = self.blocks[4](self.blocks[3](second))
        fourth = self.blocks[6](self.blocks[5](third))
        pooled = F.adaptive_avg_pool2d(self.conv2(fourth), 1).flatten(1)
        logits = self.classifier(pooled)
        if not features:
            return Outputs(logits)
        linear = (first, second, third, fourth)  # blocks end without an activation
        return Outputs(logits, (stem, *linear), pooled, (before, *linear))

    def bn_before_relu(self) -> list[nn.BatchNorm2d]:
        """The batch norm that ends each stage, without the stem's."""
        stages = [cast(nn.Sequential, self.blocks[i]) for i in (1, 2, 4, 6)]
        return [cast(nn.BatchNorm2d, cast(InvertedResidual, stage[-1]).conv[-1]) for stage in stages]


NETS = {"MobileNetV2": MobileNetV2}
