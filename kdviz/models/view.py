"""What a net sees of the images it is given: another size, another normalisation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

Constants = tuple[Sequence[float], Sequence[float]]  # mean and standard deviation per channel


def see(
    net: nn.Module, *, size: int | None = None, given: Constants | None = None, own: Constants | None = None
) -> nn.Module:
    """The net itself, which from now on resizes and normalises anew whatever images it is given.

    Its weights, their names and its code stay as they are; a copy of the net sees the same.

    Args:
        net: images [n, c, h, w] -> anything.
        size: side in pixels (bilinear, antialiased where it shrinks); None keeps the images' size.
        given: constants that images come normalised with.
        own: constants that the net expects; None keeps those given.

    >>> net = see(nn.Flatten(), size=2, given=((0.5,), (0.5,)), own=((0.0,), (1.0,)))
    >>> net(torch.ones(1, 1, 4, 4))  # white is 1 by the first constants and by the second
    tensor([[1., 1., 1., 1.]])
    """
    net.register_forward_pre_hook(_View(size, given, own))
    return net


class _View:
    """A forward pre-hook; an object, so that copies and files of the net can hold it."""

    def __init__(self, size: int | None, given: Constants | None, own: Constants | None) -> None:
        self.size, self.scale, self.shift = size, None, None
        if given is not None and own is not None:
            (mean, std), (own_mean, own_std) = (torch.tensor(each).view(2, -1, 1, 1) for each in (given, own))
            self.scale, self.shift = std / own_std, (mean - own_mean) / own_std

    def __call__(self, _net: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        images, *others = arguments
        if self.scale is not None and self.shift is not None:
            if self.scale.device != images.device:
                self.scale, self.shift = self.scale.to(images.device), self.shift.to(images.device)
            images = images * self.scale + self.shift
        return (self._resized(images), *others)

    def _resized(self, images: Tensor) -> Tensor:
        if self.size is None or images.shape[-1] == images.shape[-2] == self.size:
            return images
        shrinks = self.size < min(images.shape[-2:])
        resized = interpolate(images, size=(self.size, self.size), mode="bilinear", antialias=shrinks)
        return resized.contiguous(memory_format=torch.channels_last)
