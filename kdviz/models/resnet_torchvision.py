"""ImageNet's residual nets with their 7x7 stem and first pooling, under torchvision's tensor names."""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from kdviz.models.outputs import Outputs
from kdviz.models.resnet import BasicBlock
from kdviz.models.stages import with_preactivations
from kdviz.models.weights import kaiming

WIDTHS = (64, 128, 256, 512)
EXPANSION = 4  # of a bottleneck: its output is so many times as wide as the stage's number says


class Bottleneck(nn.Module):
    """relu(F(x) + x): 1x1 down to `inner` channels, 3x3 in groups with the stride, 1x1 up to `width`."""

    def __init__(self, width_in: int, width: int, stride: int, *, inner: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or width_in != width:
            projection = nn.Conv2d(width_in, width, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(width))

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(self.preactivation(maps))

    def preactivation(self, maps: Tensor) -> Tensor:
        residual = maps if self.downsample is None else self.downsample(maps)
        hidden = F.relu(self.bn1(self.conv1(maps)))
        hidden = F.relu(self.bn2(self.conv2(hidden)))
        return self.bn3(self.conv3(hidden)) + residual


class TorchvisionResNet(nn.Module):
    """A residual net for ImageNet's images.

    Args:
        classes: number of classes.
        blocks: how many in each of the four stages.
        bottleneck: blocks of three convolutions instead of two.
        widen: multiple of the stages' widths 64, 128, 256, 512, of nets without bottlenecks; the stem keeps 64.
        inner: multiple of the widths inside of bottlenecks.
        groups: of the 3x3 convolutions inside of bottlenecks.

    Source: He et al. 2016, table 1, with the stride in a bottleneck's 3x3 convolution; Xie et al. 2017 (grouped);
        Zagoruyko and Komodakis 2016 (wide). Tensor names of torchvision, mdistiller, SemCKD and CTKD, of which the last
        two have the widened nets.
    """

    def __init__(
        self,
        classes: int,
        *,
        blocks: tuple[int, int, int, int],
        bottleneck: bool = False,
        widen: int = 1,
        inner: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        width = 64
        for number, (base, count) in enumerate(zip(WIDTHS, blocks, strict=True), start=1):
            before, width = width, base * (EXPANSION if bottleneck else widen)
            make = partial(Bottleneck, inner=base * inner, groups=groups) if bottleneck else BasicBlock
            rest = (make(width, width, 1) for _ in range(count - 1))
            setattr(self, f"layer{number}", nn.Sequential(make(before, width, 1 if number == 1 else 2), *rest))
        self.fc = nn.Linear(width, classes)
        kaiming(self)

    @property
    def stages(self) -> list[nn.Sequential]:
        """The four stages."""
        return [cast(nn.Sequential, getattr(self, f"layer{number}")) for number in (1, 2, 3, 4)]

    def forward(self, images: Tensor, features: bool = False) -> Outputs:
        """Outputs of images `[n, 3, h, w]`; at 224 px the maps are 112, 56, 28, 14 and 7 px wide."""
        stem = self.bn1(self.conv1(images))
        if not features:
            maps = self.maxpool(F.relu(stem))
            for stage in self.stages:
                maps = stage(maps)
            return Outputs(self.fc(F.adaptive_avg_pool2d(maps, 1).flatten(1)))
        first, *others = self.stages
        after, before = with_preactivations(stem, ((self.maxpool, *first), *others))
        pooled = F.adaptive_avg_pool2d(after[-1], 1).flatten(1)
        return Outputs(self.fc(pooled), after, pooled, before)

    def bn_before_relu(self) -> list[nn.BatchNorm2d]:
        """The last batch norm before each stage's last ReLU, without the stem's."""
        last = [stage[-1] for stage in self.stages]
        return [block.bn3 if isinstance(block, Bottleneck) else cast(BasicBlock, block).bn2 for block in last]


_SHALLOW, _DEEP = (2, 2, 2, 2), (3, 4, 6, 3)
NETS: dict[str, Callable[..., nn.Module]] = {
    "resnet18_imagenet": partial(TorchvisionResNet, blocks=_SHALLOW),
    "resnet34_imagenet": partial(TorchvisionResNet, blocks=_DEEP),
    "resnet50_imagenet": partial(TorchvisionResNet, blocks=_DEEP, bottleneck=True),
    "resnet101_imagenet": partial(TorchvisionResNet, blocks=(3, 4, 23, 3), bottleneck=True),
    "resnet152_imagenet": partial(TorchvisionResNet, blocks=(3, 8, 36, 3), bottleneck=True),
    "resnet18x2": partial(TorchvisionResNet, blocks=_SHALLOW, widen=2),
    "resnet34x4": partial(TorchvisionResNet, blocks=_DEEP, widen=4),
    "wrn_50_2": partial(TorchvisionResNet, blocks=_DEEP, bottleneck=True, inner=2),
    "resnext50_32x4d": partial(TorchvisionResNet, blocks=_DEEP, bottleneck=True, inner=2, groups=32),
}
# torchvision's and timm's names for the same nets
LIBRARY_NAMES = {f"resnet{depth}": f"resnet{depth}_imagenet" for depth in (18, 34, 50, 101, 152)}
LIBRARY_NAMES |= {"wide_resnet50_2": "wrn_50_2", "resnext50_32x4d": "resnext50_32x4d"}
