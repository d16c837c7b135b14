"""Augmentation of whole batches, on the device that holds them."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from kdviz.base.check import require


def crop_flip(images: Tensor, *, generator: torch.Generator, padding: int = 4, flip: bool = True) -> Tensor:
    """Random crops of the zero-padded images at their own size, mirrored with probability 1/2.

    Every image has its own offsets, uniform in 0..2*padding, and its own coin.

    Args:
        images: [n, c, h, w], any dtype; pad-and-crop before normalising, so that the border is black.
        generator: on the images' device.
        padding: pixels on every side.
        flip: whether to mirror at all.
    Returns: [n, c, h, w], same dtype, device and memory format.
    Source: He et al. 2016, sec. 4.2 (CIFAR).
    """
    require(images.ndim == 4, f"crop_flip: images must be [n, c, h, w], got {tuple(images.shape)}")
    require(padding >= 0, f"crop_flip: padding must not be negative, got {padding}")
    n, _, h, w = images.shape
    device, form = images.device, _form(images)
    offset = torch.randint(2 * padding + 1, (2, n, 1), generator=generator, device=device)
    rows = offset[0] + torch.arange(h, device=device)  # [n, h]
    columns = offset[1] + torch.arange(w, device=device)  # [n, w]
    if flip:
        coin = torch.randint(2, (n, 1), generator=generator, device=device).bool()
        columns = torch.where(coin, columns.flip(1), columns)
    padded = pad(images, (padding,) * 4)
    which = torch.arange(n, device=device)[:, None, None]
    taken = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]  # [n, h, w, c]
    return taken.permute(0, 3, 1, 2).contiguous(memory_format=form)


def _form(images: Tensor) -> torch.memory_format:
    """channels_last where the images are so and not also contiguous (one channel is both)."""
    last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format
