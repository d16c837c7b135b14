"""ImageNet's ResNet-18 and ResNet-50 with a 3x3 stem and no first pooling, for 32x32 images."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from kdviz.models.outputs import Outputs
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

    def forward(self, maps: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(maps)))
        return F.relu(self.bn2(self.conv2(hidden)) + self.shortcut(maps))


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

    def forward(self, maps: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(maps)))
        hidden = F.relu(self.bn2(self.conv2(hidden)))
        return F.relu(self.bn3(self.conv3(hidden)) + self.shortcut(maps))


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
        stem = F.relu(self.bn1(self.conv1(images)))
        first = self.layer1(stem)
        second = self.layer2(first)
        third = self.layer3(second)
        fourth = self.layer4(third)
        pooled = F.adaptive_avg_pool2d(fourth, 1).flatten(1)
        logits = self.linear(pooled)
        return Outputs(logits, (stem, first, second, third, fourth), pooled) if features else Outputs(logits)


NETS = {
    "ResNet18": partial(ImageNetResNet, block=Basic, blocks=(2, 2, 2, 2)),
    "ResNet50": partial(ImageNetResNet, block=Bottleneck, blocks=(3, 4, 6, 3)),
}
