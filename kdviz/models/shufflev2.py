"""ShuffleNet v2 at width 1, for 32x32 images."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdviz.models.outputs import Outputs


def _pointwise(width_in: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(width_in, width, 1, bias=False)


def _per_channel(width: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False)


class SplitUnit(nn.Module):
    """The first half of the channels stays, the second is worked on; then the halves are shuffled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = _pointwise(half, half)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = _per_channel(half, 1)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = _pointwise(half, half)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, maps: Tensor) -> Tensor:
        kept, worked = maps.chunk(2, 1)
        worked = F.relu(self.bn1(self.conv1(worked)))
        worked = F.relu(self.bn3(self.conv3(self.bn2(self.conv2(worked)))))
        return F.channel_shuffle(torch.cat([kept, worked], 1), 2)


class DownUnit(nn.Module):
    """Both branches see all channels and halve the map: 1, 2 on the left; 3, 4, 5 on the right."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = _per_channel(width_in, 2)
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv2 = _pointwise(width_in, half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = _pointwise(width_in, half)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = _per_channel(half, 2)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = _pointwise(half, half)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, maps: Tensor) -> Tensor:
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(maps)))))
        right = F.relu(self.bn3(self.conv3(maps)))
        right = F.relu(self.bn5(self.conv5(self.bn4(self.conv4(right)))))
        return F.channel_shuffle(torch.cat([left, right], 1), 2)


def _stage(width_in: int, width: int, splits: int) -> nn.Sequential:
    return nn.Sequential(DownUnit(width_in, width), *(SplitUnit(width) for _ in range(splits)))


class ShuffleV2(nn.Module):
    """ShuffleNet v2 1x with a 1x1 stem and no first pooling.

    Args:
        classes: number of classes.

    Source: Ma et al. 2018, table 5; stem and names of RepDistiller's checkpoints. Weights start as torch sets them.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = _pointwise(3, 24)
        self.bn1 = nn.BatchNorm2d(24)
        self.layer1 = _stage(24, 116, 3)
        self.layer2 = _stage(116, 232, 7)
        self.layer3 = _stage(232, 464, 3)
        self.conv2 = _pointwise(464, 1024)
        self.bn2 = nn.BatchNorm2d(1024)
        self.linear = nn.Linear(1024, classes)

    def forward(self, images: Tensor, features: bool = False) -> Outputs:
        """Outputs of images `[n, 3, h, w]`; at 32 px the maps are 32, 16, 8 and 4 px wide."""
        stem = F.relu(self.bn1(self.conv1(images)))
        first = self.layer1(stem)
        second = self.layer2(first)
        third = self.layer3(second)
        last = F.relu(self.bn2(self.conv2(third)))
        pooled = F.adaptive_avg_pool2d(last, 1).flatten(1)
        logits = self.linear(pooled)
        return Outputs(logits, (stem, first, second, third), pooled) if features else Outputs(logits)


NETS = {"ShuffleV2": ShuffleV2}
