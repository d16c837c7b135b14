"""MobileNetV2 at full width as Tiny ImageNet's 64x64 images are distilled with it."""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from kdviz.models.outputs import Outputs

# (expansion, width, blocks, stride of the first) of stage1 to stage7
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 1), (6, 320, 1, 1))


class LinearBottleneck(nn.Module):
    """1x1 up, 3x3 per channel, 1x1 down without activation, all with biases; added to x where the shape stays."""

    def __init__(self, width_in: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width_in * expansion
        self.residual = nn.Sequential(
            *(nn.Conv2d(width_in, inner, 1), nn.BatchNorm2d(inner), nn.ReLU6()),
            *(nn.Conv2d(inner, inner, 3, stride, 1, groups=inner), nn.BatchNorm2d(inner), nn.ReLU6()),
            *(nn.Conv2d(inner, width, 1), nn.BatchNorm2d(width)),
        )
        self.added = stride == 1 and width_in == width

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.residual(maps) if self.added else self.residual(maps)


class MobileNetV2Tiny(nn.Module):
    """The full-width net with ReLU6, a 1x1 stem of padding 1 and a 1x1 convolution as classifier.

    Args:
        classes: number of classes.

    Source: Sandler et al. 2018, table 2; strides, stem and tensor names of mdistiller's Tiny ImageNet student.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.pre = nn.Sequential(nn.Conv2d(3, 32, 1, padding=1), nn.BatchNorm2d(32), nn.ReLU6())
        width_in = 32
        for number, (expansion, width, count, stride) in enumerate(STAGES, start=1):
            blocks = [LinearBottleneck(width_in, width, stride, expansion)]
            blocks += [LinearBottleneck(width, width, 1, expansion) for _ in range(count - 1)]
            setattr(self, f"stage{number}", blocks[0] if count == 1 else nn.Sequential(*blocks))
            width_in = width
        self.conv1 = nn.Sequential(nn.Conv2d(width_in, 1280, 1), nn.BatchNorm2d(1280), nn.ReLU6())
        self.conv2 = nn.Conv2d(1280, classes, 1)

    def forward(self, images: Tensor, features: bool = False) -> Outputs:
        """Outputs of images `[n, 3, h, w]`; at 64 px the maps are 66, 33, 17, 9 and 9 px wide."""
        convolution, normalisation, activation = self.pre
        before = [normalisation(convolution(images))]
        maps = activation(before[0])
        after = [maps]
        for number in range(1, len(STAGES) + 1):
            maps = cast(nn.Module, getattr(self, f"stage{number}"))(maps)
            if number in (2, 3, 4):  # blocks end without an activation
                before.append(maps)
                after.append(maps)
        convolution, normalisation, activation = self.conv1
        before.append(normalisation(convolution(maps)))
        after.append(activation(before[-1]))
        pooled = F.adaptive_avg_pool2d(after[-1], 1)
        logits = self.conv2(pooled).flatten(1)
        return Outputs(logits, tuple(after), pooled.flatten(1), tuple(before)) if features else Outputs(logits)


NETS = {"MobileNetV2_tiny": MobileNetV2Tiny}
