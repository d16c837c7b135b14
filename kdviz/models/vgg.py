"""VGG nets with batch normalisation for 32x32 and 64x64 images: five blocks, one linear layer."""

from functools import partial
from typing import cast

import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from kdviz.models.outputs import Outputs
from kdviz.models.weights import kaiming, small_linear

WIDTHS = (64, 128, 256, 512, 512)
BLOCKS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


@torch.fx.wrap  # the size is looked at here and not in the net, so that the net can be traced
def _halved_at_64(maps: Tensor, height: int) -> Tensor:
    """The fourth pooling, which the published nets apply to images 64 px high and to no others."""
    return F.max_pool2d(maps, 2) if height == 64 else maps


# Each channel by itself, which re-basin (analysis.landscape.rebasin) asks for.
_halved_at_64.channelwise = True  # pyright: ignore[reportFunctionMemberAccess]


def _block(width_in: int, width: int, depth: int) -> nn.Sequential:
    """Convolution and normalisation `depth` times, with activations between but not at the end."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Conv2d(width if i else width_in, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class VGG(nn.Module):
    """A VGG net whose last maps are averaged into one linear layer.

    Args:
        classes: number of classes.
        blocks: convolutions in each of the five blocks.

    Source: Simonyan and Zisserman 2015, configurations A, B, D, E and, for vgg8, one convolution per block; names and
    pooling of RepDistiller's checkpoints.
    """

    def __init__(self, classes: int, *, blocks: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        self.block0 = _block(3, WIDTHS[0], blocks[0])
        self.block1 = _block(WIDTHS[0], WIDTHS[1], blocks[1])
        self.block2 = _block(WIDTHS[1], WIDTHS[2], blocks[2])
        self.block3 = _block(WIDTHS[2], WIDTHS[3], blocks[3])
        self.block4 = _block(WIDTHS[3], WIDTHS[4], blocks[4])
        self.classifier = nn.Linear(WIDTHS[-1], classes)
        kaiming(self)
        small_linear(self.classifier)

    def forward(self, images: Tensor, features: bool = False) -> Outputs:
        """Outputs of images `[n, 3, h, w]`; at 32 px the maps are 32, 16, 8, 4 and 4 px wide."""
        maps, seen = images, []
        for place, block in enumerate((self.block0, self.block1, self.block2, self.block3, self.block4)):
            if 1 <= place <= 3:
                maps = F.max_pool2d(maps, 2)
            elif place == 4:
                maps = _halved_at_64(maps, images.shape[2])
            before = block(maps)
            maps = F.relu(before)
            if features:
                seen.append((maps, before))
        pooled = F.adaptive_avg_pool2d(maps, 1).flatten(1)
        logits = self.classifier(pooled)
        if not features:
            return Outputs(logits)
        return Outputs(logits, tuple(after for after, _ in seen), pooled, tuple(before for _, before in seen))

    def bn_before_relu(self) -> list[nn.BatchNorm2d]:
        """The batch norm that ends each block, without the first block's."""
        return [cast(nn.BatchNorm2d, block[-1]) for block in (self.block1, self.block2, self.block3, self.block4)]


NETS = {f"vgg{depth}": partial(VGG, blocks=blocks) for depth, blocks in BLOCKS.items()}
