"""ImageNet's ResNet-18 and ResNet-50 with a 3x3 stem and no first pooling, for 32x32 images."""

from functools import partial
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from kdviz.models.outputs import Outputs
from kdviz.models.stages import with_preactivations
from kdviz.models.weights import kaiming


def _shortcut(width_in: int, width: int, stride: int) -> nn.Sequential:
    """A projection where width or stride changes, else nothing."""
    if stride == 1 and width_in == width:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))


class Basic(nn.Module):
    """Two 3x3 convolutions; `inner` channels in and out."""

    expansion = 1

    def __init__(self, width_in: int, inner: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, inner, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.shortcut = _shortcut(width_in, inner, stride)

    @property
    def last_bn(self) -> nn.BatchNorm2d:
        return self.bn2

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(self.preactivation(maps))

    def preactivation(self, maps: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(maps)))
        return self.bn2(self.conv2(hidden)) + self.shortcut(maps)


class Bottleneck(nn.Module):
    """1x1 down to `inner` channels, 3x3 with the stride, 1x1 up to four times as many."""

    expansion = 4

    def __init__(self, width_in: int, inner: int, stride: int) -> None:
        super().__init__()
        width = inner * self.expansion
        self.conv1 = nn.Conv2d(width_in, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(width_in, width, stride)

    @property
    def last_bn(self) -> nn.BatchNorm2d:
        return self.bn3

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(self.preactivation(maps))

    def preactivation(self, maps: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(maps)))
        hidden = F.relu(self.bn2(self.conv2(hidden)))
        return self.bn3(self.conv3(hidden)) + self.shortcut(maps)


def _stage(block: type[Basic] | type[Bottleneck], width_in: int, inner: int, blocks: int, stride: int) -> nn.Sequential:
    rest = (block(inner * block.expansion, inner, 1) for _ in range(blocks - 1))
    return nn.Sequential(block(width_in, inner, stride), *rest)


class ImageNetResNet(nn.Module):
    """A four-stage residual net on small images.

    Args:
        classes: number of classes.
        block: Basic or Bottleneck.
        blocks: how many in each stage.

    Source: He et al. 2016, table 1; stem and names of the CIFAR checkpoints of RepDistiller and mdistiller.
    """

    def __init__(
        self, classes: int, *, block: type[Basic] | type[Bottleneck], blocks: tuple[int, int, int, int]
    ) -> None:
        super().__init__()
        times = block.expansion
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(block, 64, 64, blocks[0], 1)
        self.layer2 = _stage(block, 64 * times, 128, blocks[1], 2)
        self.layer3 = _stage(block, 128 * times, 256, blocks[2], 2)
        self.layer4 = _stage(block, 256 * times, 512, blocks[3], 2)
        self.linear = nn.Linear(512 * times, classes)
        kaiming(self)

    def forward(self, images: Tensor, features: bool = False) -> Outputs:
        """Outputs of images `[n, 3, h, w]`; at 32 px the maps are 32, 32, 16, 8 and 4 px wide."""
        stem = self.bn1(self.conv1(images))
        if not features:
            last = self.layer4(self.layer3(self.layer2(self.layer1(F.relu(stem)))))
            return Outputs(self.linear(F.adaptive_avg_pool2d(last, 1).flatten(1)))
        maps, before = with_preactivations(stem, (self.layer1, self.layer2, self.layer3, self.layer4))
        pooled = F.adaptive_avg_pool2d(maps[-1], 1).flatten(1)
        return Outputs(self.linear(pooled), maps, pooled, before)

    def bn_before_relu(self) -> list[nn.BatchNorm2d]:
        """The last batch norm before each stage's last ReLU, without the stem's."""
        stages = (self.layer1, self.layer2, self.layer3, self.layer4)
        return [cast(Basic | Bottleneck, stage[-1]).last_bn for stage in stages]


NETS = {
    "ResNet18": partial(ImageNetResNet, block=Basic, blocks=(2, 2, 2, 2)),
    "ResNet50": partial(ImageNetResNet, block=Bottleneck, blocks=(3, 4, 6, 3)),
}
