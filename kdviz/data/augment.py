"""Augmentation of whole batches, on the device that holds them."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from kdviz.base.check import require
from kdviz.data import pixels

PADDING = 4  # pixels on every side, of all CIFAR recipes


def crop_flip(images: Tensor, *, generator: torch.Generator, padding: int = PADDING, flip: bool = True) -> Tensor:
    """Random crops of the zero-padded images at their own size, mirrored with probability 1/2.

    Every image has its own offsets, uniform in 0..2*padding, and its own coin.

    Args:
        images: [n, c, h, w], any dtype; pad-and-crop before normalising, so that the border is black.
        generator: on any device; the draws are made there, so a CPU generator gives the same crops everywhere.
        padding: pixels on every side.
        flip: whether to mirror at all.
    Returns: [n, c, h, w], same dtype, device and memory format.
    Source: He et al. 2016, sec. 4.2 (CIFAR).

    >>> crop_flip(torch.ones(8, 3, 32, 32), generator=torch.Generator().manual_seed(0)).shape
    torch.Size([8, 3, 32, 32])
    """
    require(images.ndim == 4, f"crop_flip: images must be [n, c, h, w], got {tuple(images.shape)}")
    require(padding >= 0, f"crop_flip: padding must not be negative, got {padding}")
    views = draw_views(len(images), generator=generator, padding=padding, flip=flip)
    return crop_flip_view(images, views, padding=padding, flip=flip)


def count_views(padding: int = PADDING, flip: bool = True) -> int:
    """How many different views `crop_flip` gives of an image: (2 padding + 1)^2, twice that with mirroring.

    >>> count_views(), count_views(flip=False)
    (162, 81)
    """
    return (2 * padding + 1) ** 2 * (2 if flip else 1)


def draw_views(count: int, *, generator: torch.Generator, padding: int = PADDING, flip: bool = True) -> Tensor:
    """Numbers of views `[count]`, int64, uniform in 0..count_views-1, on the generator's device."""
    return _draw(count_views(padding, flip), (count,), generator)


def crop_flip_view(images: Tensor, views: Tensor, *, padding: int = PADDING, flip: bool = True) -> Tensor:
    """One view of each image.

    Args:
        images: [n, c, h, w], any dtype.
        views: [n] of 0..count_views-1: ((rows down) * (2 padding + 1) + columns right) * 2 + mirrored; without
            mirroring the last factor and summand are left out.
        padding, flip: as `crop_flip`.
    Returns: [n, c, h, w], same dtype, device and memory format.
    """
    n, _, h, w = images.shape
    device, form = images.device, _form(images)
    views = views.to(device)
    place = views // 2 if flip else views
    across = torch.arange(w, device=device)
    rows = (place // (2 * padding + 1))[:, None] + torch.arange(h, device=device)  # [n, h]
    columns = (place % (2 * padding + 1))[:, None] + across  # [n, w]
    if flip:
        columns = torch.where((views % 2 == 1)[:, None], columns.flip(1), columns)
    padded = pad(images, (padding,) * 4)
    which = torch.arange(n, device=device)[:, None, None]
    taken = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]  # [n, h, w, c]
    return taken.permute(0, 3, 1, 2).contiguous(memory_format=form)


def _draw(limit: int, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """int64 of `size`, uniform in 0..limit-1, on the generator's device."""
    return torch.randint(limit, size, generator=generator, device=generator.device)


def _form(images: Tensor) -> torch.memory_format:
    """channels_last where the images are so and not also contiguous (one channel is both)."""
    last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


OPERATIONS = (
    *("identity", "autocontrast", "equalize", "rotate", "solarize", "colour", "posterize"),
    *("contrast", "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y"),
)


def rand_augment(images: Tensor, *, generator: torch.Generator, operations: int = 2, magnitude: int = 10) -> Tensor:
    """RandAugment: `operations` of 14 image operations in turn, all at one strength.

    At magnitude m of 30: rotation by m degrees, shear m/100, shift m/30 * 150/331 of the side, each to a random
    side; brightness, colour, contrast and sharpness by 1 +- .9 m/30; posterize to 8 - round(m/7.5) bits; solarize
    from 255 (1 - m/30) on.

    Args:
        images: uint8 [n, 3, h, w].
        generator: on any device, as for `crop_flip`.
        operations: how many in turn, 0 or more.
        magnitude: 0..30.
    Returns: uint8 [n, 3, h, w], same device and memory format.
    Raises: KdvizError for other images or settings.
    Source: Cubuk et al. 2020 (arXiv 1909.13719), sec. 3; ranges of AutoAugment (arXiv 1805.09501), table 6.
    Differs from: implementations that draw each image's operation by itself: here each round cuts a random permutation
        of the batch into 14 groups of equal size (to within one), so that an operation runs once per round. PIL's
        rotations and shears turn about a point half a pixel from the centre; these turn about the centre.
    """
    require(
        images.ndim == 4 and images.shape[1] == 3 and images.dtype == torch.uint8,
        f"rand_augment: images must be uint8 [n, 3, h, w], got {images.dtype} {tuple(images.shape)}",
    )
    require(operations >= 0, f"rand_augment: operations must not be negative, got {operations}")
    require(0 <= magnitude <= 30, f"rand_augment: magnitude must be 0..30, got {magnitude}")
    for _ in range(operations):
        order = torch.randperm(len(images), generator=generator, device=generator.device).to(images.device)
        first = int(_draw(len(OPERATIONS), (1,), generator))  # who gets the odd image
        signs = (_draw(2, (len(images),), generator) * 2 - 1).to(images.device)
        images = _round(images, order.tensor_split(len(OPERATIONS)), first, signs, magnitude / 30)
    return images


def _round(images: Tensor, groups: tuple[Tensor, ...], first: int, signs: Tensor, strength: float) -> Tensor:
    """Each group of images [g] through the operation that is its turn."""
    result = images.clone()
    for number, group in enumerate(groups):
        operation = OPERATIONS[(first + number) % len(OPERATIONS)]
        if len(group) and operation != "identity":
            result[group] = apply(images[group], operation, signs[group], strength)
    return result


def apply(images: Tensor, operation: str, signs: Tensor, strength: float) -> Tensor:
    """One of `OPERATIONS` on uint8 [n, 3, h, w]; signs [n] of -1 and 1 choose the side, strength is 0..1."""
    match operation:
        case "brightness" | "colour" | "contrast" | "sharpness":
            return getattr(pixels, operation)(images, 1 + 0.9 * strength * signs)
        case "autocontrast" | "equalize":
            return getattr(pixels, operation)(images)
        case "posterize":
            return pixels.posterize(images, 8 - round(4 * strength))
        case "solarize":
            return pixels.solarize(images, 255 * (1 - strength))
        case "identity":
            return images
    return pixels.affine(images, _matrix(operation, signs * strength, images.shape[3], images.shape[2]))


def _matrix(operation: str, amount: Tensor, width: int, height: int) -> Tensor:
    """The maps [n, 2, 3] from output to input pixels for amounts [n] in -1..1."""
    matrix = torch.zeros(len(amount), 2, 3, device=amount.device)
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1
    if operation == "rotate":
        angle = amount * (math.pi / 6)
        matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
        matrix[:, 0, 1], matrix[:, 1, 0] = angle.sin(), -angle.sin()
    row = 0 if operation.endswith("_x") else 1
    if operation.startswith("shear"):
        matrix[:, row, 1 - row] = 0.3 * amount
    elif operation.startswith("translate"):
        matrix[:, row, 2] = 150 / 331 * (width if row == 0 else height) * amount
    return matrix
