"""Mixup and CutMix: each image with a partner's in it, on the device, drawn from an explicit generator."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from kdviz.base.check import positive, require


class Mixed(NamedTuple):
    """Mixed images and what is in them.

    Attributes:
        images: [n, c, h, w].
        partner: int64 [n], the place in the batch of the other image.
        share: float32 [n], how much of an image is its own; its target is share own + (1 - share) partner's.
    """

    images: Tensor
    partner: Tensor
    share: Tensor


def mixup(images: Tensor, *, generator: torch.Generator, alpha: float = 0.2) -> Mixed:
    """share x_i + (1 - share) x_partner, share ~ Beta(alpha, alpha), one for the batch; partners by a permutation.

    Args:
        images: float [n, c, h, w], normalised.
        generator: on any device; the draws are made there.
        alpha: above 0; small values mix little.
    Source: Zhang et al. 2018 (arXiv 1710.09412), eq. 1; one share for the batch as in its reference code.
    """
    partner, share = _draw("mixup", images, generator, alpha)
    share = share.expand(len(images))
    return Mixed(images.lerp(images[partner], (1 - share).view(-1, 1, 1, 1).to(images.dtype)), partner, share)


def cutmix(images: Tensor, *, generator: torch.Generator, alpha: float = 1.0) -> Mixed:
    """A box of the partner's image in each, of area 1 - share, share ~ Beta(alpha, alpha), its centre uniform.

    The box is one for the batch; what the image's border cuts off of the box is given back to share.

    Args:
        images: [n, c, h, w] of any dtype.
        generator: on any device; the draws are made there.
        alpha: above 0.
    Source: Yun et al. 2019 (arXiv 1905.04899), eqs. 1-2.
    """
    partner, share = _draw("cutmix", images, generator, alpha)
    n, _, h, w = images.shape
    centre = torch.rand(2, generator=generator, device=generator.device).to(images.device)
    side = (1 - share).sqrt()  # of the box, as a fraction
    rows, columns = (_inside(centre[i], side, length) for i, length in enumerate((h, w)))
    box = rows[:, None] & columns  # [h, w]
    own = (1 - box.float().mean()).expand(n)
    return Mixed(torch.where(box, images[partner], images), partner, own)


def soft_targets(labels: Tensor, classes: int, *, mixed: Mixed | None = None, smoothing: float = 0.0) -> Tensor:
    """Target distributions: (1 - smoothing) one-hot + smoothing/classes, mixed as the images are.

    Args:
        labels: int64 [n].
        classes: k.
        mixed: what the images were mixed by.
        smoothing: 0 to 1, exclusive.
    Returns: float32 [n, k], rows sum to 1; `torch.nn.functional.cross_entropy` takes them.
    Source: Szegedy et al. 2016 (arXiv 1512.00567), sec. 7, for the smoothing.

    >>> soft_targets(torch.tensor([1]), 2, smoothing=0.2)
    tensor([[0.1000, 0.9000]])
    """
    require(0 <= smoothing < 1, f"soft_targets: smoothing must be at least 0 and below 1, got {smoothing}")
    targets = one_hot(labels, classes).float()
    if mixed is not None:
        share = mixed.share[:, None]
        targets = share * targets + (1 - share) * targets[mixed.partner]
    return targets * (1 - smoothing) + smoothing / classes


def _draw(who: str, images: Tensor, generator: torch.Generator, alpha: float) -> tuple[Tensor, Tensor]:
    """A permutation [n] and a share [1] ~ Beta(alpha, alpha), on the images' device."""
    positive(who, alpha=alpha)
    require(images.ndim == 4, f"{who}: images must be [n, c, h, w], got {tuple(images.shape)}")
    partner = torch.randperm(len(images), generator=generator, device=generator.device)
    # Beta as a ratio of gammas; in double precision, or both are 0 for a small alpha.
    shape = torch.full((2, 1), alpha, dtype=torch.float64, device=generator.device)
    gammas = torch._standard_gamma(shape, generator=generator) + 1e-300
    share = gammas[0] / (gammas[0] + gammas[1])
    return partner.to(images.device), share.to(images.device, torch.float32)


def _inside(centre: Tensor, side: Tensor, length: int) -> Tensor:
    """Which of `length` pixels lie in a box around centre (a fraction), cut at the border."""
    middle, half = (centre * length).floor(), (side * length / 2).floor()
    place = torch.arange(length, device=centre.device)
    return (place >= middle - half) & (place < middle + half)
