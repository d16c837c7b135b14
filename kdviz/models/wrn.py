"""Wide residual nets for 32x32 images: pre-activation blocks, depth 6m + 4, width a multiple of 16, 32, 64."""

from functools import partial
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from kdviz.models.outputs import Outputs
from kdviz.models.weights import kaiming


class PreActivationBlock(nn.Module):
    """x + conv2(relu(bn2(conv1(a)))) with a = relu(bn1(x)); where the width changes, convShortcut(a) stands for x.

    Differs from: He et al.'s pre-activation block also activates first, but here the stride alone never projects.
    """

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.convShortcut = None if width_in == width else nn.Conv2d(width_in, width, 1, stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        return self.rest(maps, self.bn1(maps))

    def rest(self, maps: Tensor, normal: Tensor) -> Tensor:
        """What follows the first batch norm, whose output `normal` is."""
        active = F.relu(normal)
        residual = maps if self.convShortcut is None else self.convShortcut(active)
        return residual + self.conv2(F.relu(self.bn2(self.conv1(active))))


class Stage(nn.Module):
    """Blocks in a row, under the name `layer`, as published checkpoints have them."""

    def __init__(self, width_in: int, width: int, blocks: int, stride: int) -> None:
        super().__init__()
        rest = (PreActivationBlock(width, width, 1) for _ in range(blocks - 1))
        self.layer = nn.Sequential(PreActivationBlock(width_in, width, stride), *rest)

    def forward(self, maps: Tensor) -> Tensor:
        return self.layer(maps)

    @property
    def first(self) -> PreActivationBlock:
        return cast(PreActivationBlock, self.layer[0])

    def with_first_norm(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The stage's map and its first batch norm's output: the previous stage's map before its activation."""
        normal = self.first.bn1(maps)
        maps = self.first.rest(maps, normal)
        for block in list(self.layer)[1:]:
            maps = block(maps)
        return maps, normal


class WideResNet(nn.Module):
    """A wide residual net without dropout.

    Args:
        classes: number of classes.
        depth: 6m + 4, m blocks in each of the three stages.
        widen: multiple of the widths 16, 32 and 64.

    Source: Zagoruyko and Komodakis 2016; names of RepDistiller's checkpoints.
    """

    def __init__(self, classes: int, *, depth: int, widen: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        first, second, third = 16 * widen, 32 * widen, 64 * widen
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.block1 = Stage(16, first, blocks, 1)
        self.block2 = Stage(first, second, blocks, 2)
        self.block3 = Stage(second, third, blocks, 2)
        self.bn1 = nn.BatchNorm2d(third)
        self.fc = nn.Linear(third, classes)
        kaiming(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Tensor, features: bool = False) -> Outputs:
        """Outputs of images `[n, 3, h, w]`; at 32 px the maps, before activation, are 32, 32, 16 and 8 px wide."""
        stem = self.conv1(images)
        maps, before = [stem], []
        for stage in (self.block1, self.block2, self.block3):
            if features:
                after, normal = stage.with_first_norm(maps[-1])
                maps.append(after)
                before.append(normal)
            else:
                maps = [stage(maps[-1])]
        before.append(self.bn1(maps[-1]))
        pooled = F.adaptive_avg_pool2d(F.relu(before[-1]), 1).flatten(1)
        logits = self.fc(pooled)
        return Outputs(logits, tuple(maps), pooled, tuple(before)) if features else Outputs(logits)

    def bn_before_relu(self) -> list[nn.BatchNorm2d]:
        """The batch norm that follows each stage."""
        return [self.block2.first.bn1, self.block3.first.bn1, self.bn1]


NETS = {
    f"wrn_{depth}_{widen}": partial(WideResNet, depth=depth, widen=widen)
    for depth, widen in ((16, 1), (16, 2), (40, 1), (40, 2))
}
