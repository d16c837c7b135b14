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


# Each operation with the range that its value is drawn from.
OPERATIONS: dict[str, tuple[float, float]] = {
    "identity": (0.0, 1.0),
    "autocontrast": (0.0, 1.0),
    "equalize": (0.0, 1.0),
    "brightness": (0.05, 0.95),
    "colour": (0.05, 0.95),
    "contrast": (0.05, 0.95),
    "sharpness": (0.05, 0.95),
    "posterize": (4.0, 8.0),
    "solarize": (0.0, 256.0),
    "rotate": (-30.0, 30.0),
    "shear_x": (-0.3, 0.3),
    "shear_y": (-0.3, 0.3),
    "translate_x": (-0.3, 0.3),
    "translate_y": (-0.3, 0.3),
}
GEOMETRY = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
GREY = (125, 123, 114)


def rand_augment(images: Tensor, *, generator: torch.Generator, operations: int = 2, cutout: float = 0.5) -> Tensor:
    """The strong view: random image operations at random strengths, then a grey rectangle.

    Every image goes through `operations` of 14, drawn for it alone and with replacement, each at a value uniform over
    its range in `OPERATIONS`: factors of brightness, colour, contrast and sharpness (below 1: towards black, grey, the
    mean, the smoothed image), bits kept, the threshold of solarize, degrees, shear, shift as a share of the side. Then
    a square of `GREY` is drawn, its side uniform in 0..cutout of the image's, its centre uniform over the image, cut at
    the border. The operations are PIL's, to the pixel where PIL computes in whole numbers.

    Args:
        images: uint8 [n, 3, h, w], cropped and mirrored before.
        generator: on any device; the draws are made there, so a CPU generator gives the same view everywhere.
        operations: how many in turn, 0 or more.
        cutout: largest side of the rectangle, 0..1 of the image's; 0 draws none.
    Returns: uint8 [n, 3, h, w], same device and memory format.
    Raises: KdvizError for other images or settings.
    Source: the strong view that MLKD's published numbers were trained with; after Cubuk et al. 2020 (arXiv 1909.13719).
    Differs from: RandAugment has one strength for all, factors on both sides of 1 and no rectangle.

    >>> strong = rand_augment(torch.zeros(8, 3, 32, 32, dtype=torch.uint8), generator=torch.Generator().manual_seed(0))
    >>> sorted({int(value) for value in strong.flatten()} & set(GREY))
    [114, 123, 125]
    """
    require(
        images.ndim == 4 and images.shape[1] == 3 and images.dtype == torch.uint8,
        f"rand_augment: images must be uint8 [n, 3, h, w], got {images.dtype} {tuple(images.shape)}",
    )
    require(operations >= 0, f"rand_augment: operations must not be negative, got {operations}")
    require(0 <= cutout <= 1, f"rand_augment: cutout must be 0..1, got {cutout}")
    n, form = len(images), _form(images)
    chosen = _draw(len(OPERATIONS), (operations, n), generator)
    shares = _uniform((operations, n), generator)
    for which, share in zip(chosen.cpu(), shares, strict=True):  # which image goes where is settled off the device
        images = _round(images, which, share)
    if cutout:
        images = pixels.rectangle(images, _squares(images, cutout, generator), GREY)
    return images.contiguous(memory_format=form)


def _uniform(size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """float64 of `size`, uniform in 0..1, on the generator's device."""
    return torch.rand(size, generator=generator, device=generator.device, dtype=torch.float64)


def _round(images: Tensor, which: Tensor, share: Tensor) -> Tensor:
    """Every image through its operation: which [n] are places in OPERATIONS, share [n] of the ranges."""
    result = images.clone()
    moved = []
    for place, (name, (low, high)) in enumerate(OPERATIONS.items()):
        index = (which == place).nonzero()[:, 0]
        if len(index) == 0 or name == "identity":
            continue
        value = low + (high - low) * share[index.to(share.device)]
        if name in GEOMETRY:
            moved.append((index, matrix(name, value, images.shape[3], images.shape[2])))
            continue
        here = index.to(images.device)
        result[here] = apply(images[here], name, value.to(images.device))
    if moved:
        here = torch.cat([index for index, _ in moved]).to(images.device)
        result[here] = pixels.affine(images[here], torch.cat([maps for _, maps in moved]).to(images.device))
    return result


def apply(images: Tensor, operation: str, value: Tensor) -> Tensor:
    """One of `OPERATIONS` on uint8 [n, 3, h, w], at one value [n] of its range for each image."""
    if operation in GEOMETRY:
        return pixels.affine(images, matrix(operation, value, images.shape[3], images.shape[2]).to(images.device))
    match operation:
        case "brightness" | "colour" | "contrast" | "sharpness":
            return getattr(pixels, operation)(images, value.float())
        case "autocontrast" | "equalize":
            return getattr(pixels, operation)(images)
        case "posterize":
            return pixels.posterize(images, value.floor())
        case "solarize":
            return pixels.solarize(images, value)
    return images


def matrix(operation: str, value: Tensor, width: int, height: int) -> Tensor:
    """PIL's maps [n, 2, 3] from output to input pixels; shears keep the upper left corner, rotations the centre."""
    maps = torch.zeros(len(value), 2, 3, device=value.device, dtype=torch.float64)
    maps[:, 0, 0] = maps[:, 1, 1] = 1
    if operation == "rotate":
        angle = -value * (math.pi / 180)  # PIL turns counterclockwise
        maps[:, 0, 0] = maps[:, 1, 1] = angle.cos()
        maps[:, 0, 1], maps[:, 1, 0] = angle.sin(), -angle.sin()
        centre = torch.tensor([width / 2, height / 2], device=value.device, dtype=torch.float64)
        maps[:, :, 2] = centre - maps[:, :, :2] @ centre
    row = 0 if operation.endswith("_x") else 1
    if operation.startswith("shear"):
        maps[:, row, 1 - row] = value
    elif operation.startswith("translate"):
        maps[:, row, 2] = value * (width if row == 0 else height)
    return maps


def _squares(images: Tensor, cutout: float, generator: torch.Generator) -> Tensor:
    """Corners [n, 4] of squares, cut at the border; an image's own side is its width, as in the source."""
    n, _, height, width = images.shape
    side, across, down = _uniform((3, n), generator).to(images.device)
    half = side * cutout * width / 2
    x, y = across * width, down * height
    return torch.stack([x - half, y - half, x + half, y + half], 1).clamp(min=0)
