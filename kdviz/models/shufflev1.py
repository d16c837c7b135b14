"""ShuffleNet v1 with three groups, for 32x32 images."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdviz.models.outputs import Outputs
from kdviz.models.stages import with_preactivations

GROUPS = 3
STEM = 24


class Unit(nn.Module):
    """Grouped 1x1, channel shuffle, 3x3 per channel, grouped 1x1; added to x, or with stride 2 put beside its average.

    Args:
        width_in: channels of x; the first 1x1 on the stem is not grouped.
        width: channels of the result; with stride 2 the average of x fills width_in of them.
        stride: 1 or 2.
    """

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        made = width - width_in if stride == 2 else width
        inner = made // 4
        self.groups = 1 if width_in == STEM else GROUPS
        self.down = stride == 2
        self.conv1 = nn.Conv2d(width_in, inner, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, made, 1, groups=GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(made)

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(self.preactivation(maps))

    def preactivation(self, maps: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(maps)))
        hidden = F.channel_shuffle(hidden, self.groups)
        hidden = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(hidden)))))
        if self.down:
            return torch.cat([hidden, F.avg_pool2d(maps, 3, stride=2, padding=1)], 1)
        return hidden + maps


def _stage(width_in: int, width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(Unit(width_in, width, 2), *(Unit(width, width, 1) for _ in range(blocks - 1)))


class ShuffleV1(nn.Module):
    """ShuffleNet 1x (g = 3) with a 1x1 stem and no first pooling.

    Args:
        classes: number of classes.

    Source: Zhang et al. 2018, table 1; stem and names of RepDistiller's checkpoints. Weights start as torch sets them.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.layer1 = _stage(STEM, 240, 4)
        self.layer2 = _stage(240, 480, 8)
        self.layer3 = _stage(480, 960, 4)
        self.linear = nn.Linear(960, classes)

    def forward(self, images: Tensor, features: bool = False) -> Outputs:
        """Outputs of images `[n, 3, h, w]`; at 32 px the maps are 32, 16, 8 and 4 px wide."""
        stem = self.bn1(self.conv1(images))
        if not features:
            last = self.layer3(self.layer2(self.layer1(F.relu(stem))))
            return Outputs(self.linear(F.adaptive_avg_pool2d(last, 1).flatten(1)))
        maps, before = with_preactivations(stem, (self.layer1, self.layer2, self.layer3))
        pooled = F.adaptive_avg_pool2d(maps[-1], 1).flatten(1)
        return Outputs(self.linear(pooled), maps, pooled, before)


NETS = {"ShuffleV1": ShuffleV1}
