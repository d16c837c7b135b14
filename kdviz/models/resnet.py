"""Residual nets for 32x32 images: three stages of basic blocks, depth 6m + 2."""

from functools import partial
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from kdviz.models.outputs import Outputs
from kdviz.models.stages import with_preactivations
from kdviz.models.weights import kaiming

NARROW = (16, 16, 32, 64)
WIDE = (32, 64, 128, 256)  # "x4": the stem is only twice as wide, so layer1 projects as well


class BasicBlock(nn.Module):
    """relu(F(x) + x) with two 3x3 convolutions; x is projected by 1x1 where width or stride changes."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or width_in != width:
            projection = nn.Conv2d(width_in, width, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(width))

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(self.preactivation(maps))

    def preactivation(self, maps: Tensor) -> Tensor:
        residual = maps if self.downsample is None else self.downsample(maps)
        hidden = F.relu(self.bn1(self.conv1(maps)))
        return self.bn2(self.conv2(hidden)) + residual


def _stage(width_in: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    rest = (BasicBlock(width, width, 1) for _ in range(blocks - 1))
    return nn.Sequential(BasicBlock(width_in, width, stride), *rest)


class ResNet(nn.Module):
    """A CIFAR residual net.

    Args:
        classes: number of classes.
        depth: 6m + 2, m blocks in each of the three stages.
        widths: channels of the stem and of the three stages.

    Source: He et al. 2016, sec. 4.2, with projection shortcuts; names of RepDistiller's checkpoints.
    """

    def __init__(self, classes: int, *, depth: int, widths: tuple[int, int, int, int] = NARROW) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        stem, first, second, third = widths
        self.conv1 = nn.Conv2d(3, stem, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = _stage(stem, first, blocks, 1)
        self.layer2 = _stage(first, second, blocks, 2)
        self.layer3 = _stage(second, third, blocks, 2)
        self.fc = nn.Linear(third, classes)
        kaiming(self)

    def forward(self, images: Tensor, features: bool = False) -> Outputs:
        """Outputs of images `[n, 3, h, w]`; at 32 px the maps are 32, 32, 16 and 8 px wide."""
        stem = self.bn1(self.conv1(images))
        if not features:
            last = self.layer3(self.layer2(self.layer1(F.relu(stem))))
            return Outputs(self.fc(F.adaptive_avg_pool2d(last, 1).flatten(1)))
        maps, before = with_preactivations(stem, (self.layer1, self.layer2, self.layer3))
        pooled = F.adaptive_avg_pool2d(maps[-1], 1).flatten(1)
        return Outputs(self.fc(pooled), maps, pooled, before)

    def bn_before_relu(self) -> list[nn.BatchNorm2d]:
        """The last batch norm before each stage's last ReLU, without the stem's."""
        return [cast(BasicBlock, stage[-1]).bn2 for stage in (self.layer1, self.layer2, self.layer3)]


NETS = {f"resnet{depth}": partial(ResNet, depth=depth) for depth in (8, 14, 20, 32, 44, 56, 110)}
NETS |= {f"resnet{depth}x4": partial(ResNet, depth=depth, widths=WIDE) for depth in (8, 32)}
NETS |= {"resnet8x4_double": partial(ResNet, depth=8, widths=(64, 128, 256, 512))}  # CTKD's
