"""Operations on uint8 batches [n, 3, h, w] with the meaning that PIL gives them, for the whole batch at once."""

import torch
from torch import Tensor
from torch.nn.functional import conv2d


def _rounded(images: Tensor) -> Tensor:
    return images.clamp(0, 255).to(torch.uint8)  # truncates, as PIL's blend does


def _blend(base: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """base + factor * (images - base): factor 0 is base, 1 the image, above 1 exaggerates."""
    return _rounded(base + factor.view(-1, 1, 1, 1) * (images.float() - base))


def grey(images: Tensor) -> Tensor:
    """Luma [n, 1, h, w] as whole numbers in float32, by PIL's integer weights of ITU-R 601."""
    weights = torch.tensor([19595, 38470, 7471], device=images.device, dtype=torch.int32).view(1, 3, 1, 1)
    return (((images.int() * weights).sum(1, keepdim=True) + 0x8000) >> 16).float()


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Towards black by factor [n]."""
    return _blend(torch.zeros_like(images, dtype=torch.float32), images, factor)


def colour(images: Tensor, factor: Tensor) -> Tensor:
    """Towards grey by factor [n]."""
    return _blend(grey(images), images, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Towards the image's mean luma, rounded, by factor [n]."""
    mean = (grey(images).mean((1, 2, 3), keepdim=True) + 0.5).floor()
    return _blend(mean, images, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Towards the image smoothed by (1 1 1; 1 5 1; 1 1 1)/13 with its border kept, by factor [n]."""
    kernel = torch.ones(3, 3, device=images.device)
    kernel[1, 1] = 5
    pixels = images.float().contiguous()
    smooth = pixels.clone()
    inner = conv2d(pixels.flatten(0, 1)[:, None], (kernel / 13)[None, None]).view_as(pixels[:, :, 1:-1, 1:-1])
    smooth[:, :, 1:-1, 1:-1] = (inner + 0.5).floor()
    return _blend(smooth, images, factor)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """The upper `bits` [n], 1..8, of every value.

    >>> posterize(torch.full((2, 1, 1, 1), 130, dtype=torch.uint8), torch.tensor([2, 8])).flatten()
    tensor([128, 130], dtype=torch.uint8)
    """
    step = 2 ** (8 - bits.long().view(-1, 1, 1, 1))
    return (images - images % step).to(torch.uint8)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Values from `threshold` [n] on, inverted."""
    return torch.where(images < threshold.view(-1, 1, 1, 1), images, 255 - images)


def autocontrast(images: Tensor) -> Tensor:
    """Every channel stretched to 0..255; a channel of one value stays."""
    low = images.amin((2, 3), keepdim=True).float()
    high = images.amax((2, 3), keepdim=True).float()
    # PIL's table: double precision, cut to whole numbers. (255 / tensor would multiply by a rounded reciprocal.)
    scale = torch.full_like(low, 255, dtype=torch.float64) / (high - low)
    stretched = (images.double() * scale - low.double() * scale).nan_to_num().clamp(0, 255).to(torch.uint8)
    return torch.where(high > low, stretched, images)


def equalize(images: Tensor) -> Tensor:
    """Every channel's histogram made flat, by PIL's integer table."""
    n, c, h, w = images.shape
    values = images.reshape(n * c, h * w).long()
    counts = torch.zeros(n * c, 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(1, values, torch.ones_like(values))
    last = counts.gather(1, values.amax(1, keepdim=True))  # of the brightest value there is
    step = (h * w - last) // 255
    table = (torch.cumsum(counts, 1) - counts + step // 2) // step.clamp(min=1)
    mapped = table.clamp(max=255).gather(1, values)
    return torch.where(step > 0, mapped, values).to(torch.uint8).view(n, c, h, w)


def affine(images: Tensor, matrix: Tensor) -> Tensor:
    """Images seen through maps [n, 2, 3] from output to input pixels, nearest, black outside.

    A pixel's centre is at half numbers and the origin in the upper left corner. The map is rounded to multiples of
    2^-16 as PIL rounds it, so that the result is whole numbers' and the same on every device.
    """
    n, c, h, w = images.shape
    start = matrix[:, :, 2] + matrix[:, :, 0] / 2 + matrix[:, :, 1] / 2
    along, down, first = ((each * 65536 + 0.5).floor().long() for each in (matrix[:, :, 0], matrix[:, :, 1], start))
    x, y = torch.arange(w, device=images.device), torch.arange(h, device=images.device)[:, None]
    at = (first[:, :, None, None] + along[:, :, None, None] * x + down[:, :, None, None] * y) >> 16  # [n, 2, h, w]
    inside = (at >= 0).all(1) & (at[:, 0] < w) & (at[:, 1] < h)
    source = (at[:, 1].clamp(0, h - 1) * w + at[:, 0].clamp(0, w - 1)).view(n, 1, h * w).expand(-1, c, -1)
    return images.flatten(2).gather(2, source).view(n, c, h, w) * inside[:, None]


def rectangle(images: Tensor, corners: Tensor, colour: tuple[int, ...]) -> Tensor:
    """A filled rectangle on every image: corners [n, 4] are left, upper, right, lower, both ends drawn, as PIL does."""
    left, upper, right, lower = corners.floor().long()[:, :, None].unbind(1)  # [n, 1] each
    x, y = (torch.arange(size, device=images.device) for size in (images.shape[3], images.shape[2]))
    within = ((y >= upper) & (y <= lower))[:, :, None] & ((x >= left) & (x <= right))[:, None]  # [n, h, w]
    paint = torch.tensor(colour, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)
    return torch.where(within[:, None], paint, images)
