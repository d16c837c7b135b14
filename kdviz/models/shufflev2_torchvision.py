"""ShuffleNet v2 with ImageNet's stem and first pooling, under torchvision's tensor names."""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from kdviz.models.outputs import Outputs
from kdviz.models.shufflev2 import joined


def _pointwise(width_in: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(width_in, width, 1, bias=False), nn.BatchNorm2d(width)]


def _per_channel(width: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False), nn.BatchNorm2d(width)]


class Unit(nn.Module):
    """Two branches whose channels are shuffled; with stride 1 the first is half of the channels as they are."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        half = width // 2
        first = [*_per_channel(width_in, stride), *_pointwise(width_in, half), nn.ReLU()] if stride > 1 else []
        self.branch1 = nn.Sequential(*first)
        self.branch2 = nn.Sequential(
            *_pointwise(width_in if stride > 1 else half, half),
            nn.ReLU(),
            *_per_channel(half, stride),
            *_pointwise(half, half),
            nn.ReLU(),
        )
        self.halved = stride == 1

    def forward(self, maps: Tensor) -> Tensor:
        kept, worked = maps.chunk(2, 1) if self.halved else (maps, maps)
        return joined(self.branch1(kept), self.branch2(worked))

    def preactivation(self, maps: Tensor) -> Tensor:
        """The same with the second branch before its last activation; the first one is active already."""
        kept, worked = maps.chunk(2, 1) if self.halved else (maps, maps)
        for layer in list(self.branch2)[:-1]:
            worked = layer(worked)
        return joined(self.branch1(kept), worked)


class TorchvisionShuffleV2(nn.Module):
    """ShuffleNet v2 for ImageNet's images.

    Args:
        classes: number of classes.
        widths: channels of the three stages and of the last convolution.

    Source: Ma et al. 2018, table 5; tensor names of torchvision, SemCKD and CTKD. Weights start as torch sets them.
    """

    def __init__(self, classes: int, *, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        width_in, last = 24, widths[-1]
        for number, (width, count) in enumerate(zip(widths, (4, 8, 4), strict=False), start=2):
            rest = (Unit(width, width, 1) for _ in range(count - 1))
            setattr(self, f"stage{number}", nn.Sequential(Unit(width_in, width, 2), *rest))
            width_in = width
        self.conv5 = nn.Sequential(*_pointwise(width_in, last), nn.ReLU())
        self.fc = nn.Linear(last, classes)

    def forward(self, images: Tensor, features: bool = False) -> Outputs:
        """Outputs of images `[n, 3, h, w]`; at 224 px the maps are 112, 28, 14 and 7 px wide."""
        convolution, normalisation, activation = self.conv1
        before = [normalisation(convolution(images))]
        after = [activation(before[0])]
        maps = self.maxpool(after[0])
        for stage in (cast(nn.Sequential, getattr(self, f"stage{number}")) for number in (2, 3, 4)):
            *units, last = stage
            for unit in units:
                maps = unit(maps)
            if features:  # a ReLU leaves the half that is active already as it is
                before.append(cast(Unit, last).preactivation(maps))
                maps = F.relu(before[-1])
                after.append(maps)
            else:
                maps = last(maps)
        pooled = self.conv5(maps).mean((2, 3))
        logits = self.fc(pooled)
        return Outputs(logits, tuple(after), pooled, tuple(before)) if features else Outputs(logits)


WIDTHS = {
    "x0_5": (48, 96, 192, 1024),
    "x1_0": (116, 232, 464, 1024),
    "x1_5": (176, 352, 704, 1024),
    "x2_0": (244, 488, 976, 2048),
}
NETS: dict[str, Callable[..., nn.Module]] = {
    f"shufflenet_v2_{size}": partial(TorchvisionShuffleV2, widths=widths) for size, widths in WIDTHS.items()
}
LIBRARY_NAMES = {name: name for name in NETS}
