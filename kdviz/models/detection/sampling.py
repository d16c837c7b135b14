"""Which anchors and proposals a detector is trained on: a random draw in each image."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class RegionSampler:
    """A draw of so many regions in each image, a part of them positive at most; it takes the place of torchvision's.

    With a generator for each image the draw in an image does not depend on the images beside it, so that it is the
    same in whatever process of torchrun the image is computed.

    Args:
        batch_size_per_image: regions that are drawn, where there are as many.
        positive_fraction: the largest share of positive ones.

    Attributes:
        generators: of each image; None for torch's global random state.
        count: regions that the last call drew, in all images.

    Source: `BalancedPositiveNegativeSampler` of torchvision, from which it draws the same by the same random numbers.
    """

    generators: Sequence[torch.Generator] | None = None
    count: int = 0

    def __init__(self, batch_size_per_image: int, positive_fraction: float) -> None:
        self.batch_size_per_image, self.positive_fraction = batch_size_per_image, positive_fraction

    def __call__(self, matched: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Masks of the positive and of the negative regions drawn in each image `[k]`, uint8.

        Args:
            matched: of each image `[k]`: 1 or more for a positive region, 0 for a negative one, -1 for neither.
        """
        generators = self.generators or [None] * len(matched)
        self.count = 0
        drawn = [self._draw(one, generator) for one, generator in zip(matched, generators, strict=True)]
        return [positive for positive, _ in drawn], [negative for _, negative in drawn]

    def _draw(self, matched: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        masks, room = [], int(self.batch_size_per_image * self.positive_fraction)
        left = self.batch_size_per_image
        for wanted in (matched >= 1, matched == 0):
            places = wanted.nonzero()[:, 0]
            order = torch.randperm(len(places), generator=generator, device=places.device)
            chosen = places[order[: min(room, left)]]
            masks.append(torch.zeros_like(matched, dtype=torch.uint8).index_fill_(0, chosen, 1))
            left -= len(chosen)
            room = left
            self.count += len(chosen)
        return masks[0], masks[1]


@contextmanager
def drawing(net: Any, seeds: Sequence[int], device: torch.device) -> Iterator[None]:
    """A context in which a detector draws the anchors, then the regions, of each image by a seed of the image's own.

    Args:
        net: of `kdviz.models.detection.DETECTORS`.
        seeds: one for each image; none for torch's global random state.
        device: where the images are.
    """
    samplers = (net.rpn.fg_bg_sampler, net.roi_heads.fg_bg_sampler)
    generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
    for sampler in samplers:
        sampler.generators, sampler.count = generators or None, 0
    try:
        yield
    finally:
        for sampler in samplers:
            sampler.generators = None
