"""ImageNet's training transforms on whole batches, on the device that holds them, drawn from an explicit generator."""

import math

import torch
from torch import Tensor

from kdviz.base.check import one_of, require
from kdviz.data import pixels

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
TRIES = 10
FILTERS = {"bilinear": 1.0, "bicubic": 2.0}  # half the width of each, in pixels of the smaller image


def crop_boxes(
    sizes: Tensor, *, generator: torch.Generator, scale: tuple[float, float] = SCALE, ratio: tuple[float, float] = RATIO
) -> Tensor:
    """Boxes of random area and aspect ratio inside images.

    Area: uniform in scale times the image's; width/height: log-uniform in ratio; place: uniform. The first of ten draws
    that fits is taken, else the largest box in the centre whose ratio is allowed.

    Args:
        sizes: int64 [n, 2], height and width of each image.
        generator: on any device; the draws are made there.
        scale: fractions of the area, 0 < low <= high.
        ratio: width by height, 0 < low <= high.
    Returns: int64 [n, 4] on the device of `sizes`: left, top, width, height.
    Raises: KdvizError for ranges that are none.
    Source: Szegedy et al. 2015 (arXiv 1409.4842), sec. 6; torchvision's `RandomResizedCrop`.
    """
    _range("crop_boxes", scale=scale, ratio=ratio)
    n, device = len(sizes), sizes.device
    draws = torch.rand(4, n, TRIES, generator=generator, device=generator.device).to(device)
    height, width = sizes[:, :1].float(), sizes[:, 1:].float()  # [n, 1]
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = (low + (high - low) * draws[1]).exp()
    w, h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()  # [n, tries]
    fits = (w >= 1) & (h >= 1) & (w <= width) & (h <= height)
    first = fits.float().argmax(1, keepdim=True)
    wide = width / height
    centred_w = torch.where(wide > ratio[1], (height * ratio[1]).round(), width)
    centred_h = torch.where(wide < ratio[0], (width / ratio[0]).round(), height)
    found = fits.any(1, keepdim=True)
    w, h = torch.where(found, w.gather(1, first), centred_w), torch.where(found, h.gather(1, first), centred_h)
    left = torch.where(found, (draws[2].gather(1, first) * (width - w + 1)).floor(), ((width - w) / 2).round())
    top = torch.where(found, (draws[3].gather(1, first) * (height - h + 1)).floor(), ((height - h) / 2).round())
    return torch.cat([left.minimum(width - w), top.minimum(height - h), w, h], 1).long()


def resize_boxes(images: Tensor, boxes: Tensor, size: int, *, filter: str = "bilinear") -> Tensor:
    """Each image's box at size x size, as PIL resizes it: antialiased, in whole numbers after either direction.

    Args:
        images: uint8 [n, c, h, w].
        boxes: int64 [n, 4]: left, top, width, height, inside the image.
        size: side of the result in pixels.
        filter: "bilinear" or "bicubic".
    Returns: uint8 [n, c, size, size], on the images' device.
    Raises: KdvizError for an unknown filter or other images.
    Differs from: PIL, by at most one level (its weights are whole numbers of 1/2^22).
    """
    one_of("resize_boxes", FILTERS, filter=filter)
    require(
        images.ndim == 4 and images.dtype == torch.uint8,
        f"resize_boxes: images must be uint8 [n, c, h, w], got {images.dtype} {tuple(images.shape)}",
    )
    across = _weights(boxes[:, 0], boxes[:, 2], size, images.shape[3], filter)  # [n, size, w]
    down = _weights(boxes[:, 1], boxes[:, 3], size, images.shape[2], filter)  # [n, size, h]
    rows = _levels(images.float() @ across.transpose(1, 2)[:, None])  # [n, c, h, size]
    return _levels(down[:, None] @ rows).to(torch.uint8)  # [n, c, size, size]


def random_resized_crop(
    images: Tensor,
    size: int,
    *,
    generator: torch.Generator,
    scale: tuple[float, float] = SCALE,
    ratio: tuple[float, float] = RATIO,
    filter: str = "bilinear",
) -> Tensor:
    """`crop_boxes` of a batch that is in memory, brought to size x size by `resize_boxes`.

    >>> random_resized_crop(
    ...     torch.zeros(2, 3, 8, 8, dtype=torch.uint8), 4, generator=torch.Generator().manual_seed(0)
    ... ).shape
    torch.Size([2, 3, 4, 4])
    """
    sizes = torch.tensor(images.shape[2:], device=images.device).expand(len(images), 2)
    return resize_boxes(images, crop_boxes(sizes, generator=generator, scale=scale, ratio=ratio), size, filter=filter)


def flip(images: Tensor, *, generator: torch.Generator, probability: float = 0.5) -> Tensor:
    """Images [n, c, h, w] mirrored left to right, each with its own coin."""
    coin = torch.rand(len(images), generator=generator, device=generator.device).to(images.device) < probability
    return torch.where(coin.view(-1, 1, 1, 1), images.flip(3), images)


def colour_jitter(
    images: Tensor,
    *,
    generator: torch.Generator,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
) -> Tensor:
    """Brightness, contrast and saturation changed by a factor uniform in max(0, 1 - x)..1 + x, each image its own.

    Args:
        images: uint8 [n, 3, h, w].
        generator: on any device.
        brightness, contrast, saturation: x of each; 0 leaves it out.
    Returns: uint8 [n, 3, h, w].
    Raises: KdvizError for a negative setting.
    Differs from: torchvision draws an order for each image and has hue; here the order is as above and hue stays.
    """
    settings = {"brightness": brightness, "contrast": contrast, "colour": saturation}
    draws = torch.rand(3, len(images), generator=generator, device=generator.device).to(images.device)
    for draw, (name, most) in zip(draws, settings.items(), strict=True):
        require(most >= 0, f"colour_jitter: {name} must not be negative, got {most}")
        if most:
            low = max(0.0, 1 - most)
            images = getattr(pixels, name)(images, low + (1 + most - low) * draw)
    return images


def random_erasing(
    images: Tensor,
    *,
    generator: torch.Generator,
    probability: float = 0.25,
    scale: tuple[float, float] = (0.02, 1 / 3),
    ratio: tuple[float, float] = (0.3, 3.3),
    noise: bool = False,
) -> Tensor:
    """A box of each image, drawn as in `crop_boxes`, replaced by 0 or by standard normal noise.

    Args:
        images: float [n, c, h, w], normalised, so that 0 is the mean.
        generator: on any device.
        probability: of an image to be erased at all.
        scale, ratio: area and aspect ratio of the box.
        noise: noise for each value instead of 0.
    Returns: [n, c, h, w], a new tensor in the images' memory format.
    Source: Zhong et al. 2017 (arXiv 1708.04896), algorithm 1.
    """
    n, _, h, w = images.shape
    sizes = torch.tensor([h, w], device=images.device).expand(n, 2)
    left, top, width, height = crop_boxes(sizes, generator=generator, scale=scale, ratio=ratio).view(n, 4, 1).unbind(1)
    chosen = torch.rand(n, 1, generator=generator, device=generator.device).to(images.device) < probability
    x, y = torch.arange(w, device=images.device), torch.arange(h, device=images.device)
    columns = (x >= left) & (x < left + width) & chosen  # [n, w]
    rows = (y >= top) & (y < top + height)  # [n, h]
    box = rows[:, None, :, None] & columns[:, None, None, :]  # [n, 1, h, w]
    if not noise:
        return images.masked_fill(box, 0)
    fill = torch.randn(images.shape, generator=generator, device=generator.device).to(images)
    return torch.where(box, fill, images)


def _weights(start: Tensor, length: Tensor, size: int, pixels_in: int, filter: str) -> Tensor:
    """What each of pixels_in input pixels gives to each of size output pixels: [n, size, pixels_in], rows sum to 1."""
    step = length.float()[:, None, None] / size
    stretch = step.clamp(min=1)  # a smaller result averages over as many pixels as it replaces
    centre = start.float()[:, None, None] + (torch.arange(size, device=start.device)[None, :, None] + 0.5) * step
    distance = ((torch.arange(pixels_in, device=start.device) + 0.5 - centre) / stretch).abs()
    if filter == "bilinear":
        weight = (1 - distance).clamp(min=0)
    else:  # Keys' cubic, a = -1/2
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weight = torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
    return weight / weight.sum(2, keepdim=True)


def _levels(values: Tensor) -> Tensor:
    return (values + 0.5).floor().clamp(0, 255)


def _range(who: str, **ranges: tuple[float, float]) -> None:
    for name, (low, high) in ranges.items():
        require(0 < low <= high < math.inf, f"{who}: {name} must be 0 < low <= high, got {low}, {high}")
