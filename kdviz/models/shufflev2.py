"""ShuffleNet v2 at width 1, for 32x32 images."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdviz.models.outputs import Outputs


def _pointwise(width_in: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(width_in, width, 1, bias=False)


def _per_channel(width: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False)


def joined(left: Tensor, right: Tensor) -> Tensor:
    """The channels of both, shuffled."""
    return F.channel_shuffle(torch.cat([left, right], 1), 2)


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
        kept, worked = self.halves(maps)
        return joined(kept, F.relu(worked))

    def halves(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The half that stays, active already, and the other one before its last activation."""
        kept, worked = maps.chunk(2, 1)
        worked = F.relu(self.bn1(self.conv1(worked)))
        return kept, self.bn3(self.conv3(self.bn2(self.conv2(worked))))


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
        return joined(left, right)


def _stage(width_in: int, width: int, splits: int) -> nn.Sequential:
    return nn.Sequential(DownUnit(width_in, width), *(SplitUnit(width) for _ in range(splits)))


def _with_preactivation(stage: nn.Sequential, maps: Tensor) -> tuple[Tensor, Tensor]:
    """The stage's map, and the same with its worked half before the last activation."""
    *units, last = stage
    for unit in units:
        maps = unit(maps)
    kept, worked = cast(SplitUnit, last).halves(maps)
    return joined(kept, F.relu(worked)), joined(kept, worked)


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
        stem = self.bn1(self.conv1(images))
        maps, before = [F.relu(stem)], [stem]
        for stage in (self.layer1, self.layer2, self.layer3):
            if features:
                active, inactive = _with_preactivation(stage, maps[-1])
                maps.append(active)
                before.append(inactive)
            else:
                maps = [stage(maps[-1])]
        last = F.relu(self.bn2(self.conv2(maps[-1])))
        pooled = F.adaptive_avg_pool2d(last, 1).flatten(1)
        logits = self.linear(pooled)
        return Outputs(logits, tuple(maps), pooled, tuple(before)) if features else Outputs(logits)


NETS = {"ShuffleV2": ShuffleV2}
