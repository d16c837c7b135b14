"""Operations on uint8 batches [n, 3, h, w] with the meaning that PIL gives them, for the whole batch at once."""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample


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


def posterize(images: Tensor, bits: int) -> Tensor:
    """The upper `bits` of every value.

    >>> posterize(torch.tensor([255, 130, 64], dtype=torch.uint8), 2)
    tensor([192, 128,  64], dtype=torch.uint8)
    """
    return images & (0xFF << (8 - bits) & 0xFF)


def solarize(images: Tensor, threshold: float) -> Tensor:
    """Values from threshold on, inverted."""
    return torch.where(images.float() < threshold, images, 255 - images)


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
    """Images seen through maps [n, 2, 3] from output to input pixels about the centre; nearest, black outside."""
    n, _, h, w = images.shape
    to_pixels = torch.tensor([w / 2, h / 2], device=images.device)
    scaled = matrix.clone()
    scaled[:, :, :2] = matrix[:, :, :2] * to_pixels[None, None, :] / to_pixels[None, :, None]
    scaled[:, :, 2] = matrix[:, :, 2] / to_pixels
    grid = affine_grid(scaled, [n, 1, h, w], align_corners=False)
    return grid_sample(images.float(), grid, mode="nearest", align_corners=False).to(torch.uint8)
