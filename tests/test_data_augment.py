"""Augmentation: crops against a plain loop, RandAugment's operations against Pillow's."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from kdviz.base.check import KdvizError
from kdviz.data import augment, pixels


def images(count=40, side=8, dtype=torch.uint8, seed=0):
    made = torch.randint(1, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(seed))
    return made.to(dtype)


def candidates(image, padding):
    """(row, column, mirrored) -> crop, by loops over a zero-padded array."""
    c, h, w = image.shape
    padded = np.zeros((c, h + 2 * padding, w + 2 * padding), dtype=image.dtype)
    for y in range(h):
        for x in range(w):
            padded[:, y + padding, x + padding] = image[:, y, x]
    for row in range(2 * padding + 1):
        for column in range(2 * padding + 1):
            crop = padded[:, row : row + h, column : column + w]
            yield (row, column, False), crop
            yield (row, column, True), crop[:, :, ::-1]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_every_crop_is_one_of_the_plain_loops(dtype):
    batch = images(30, side=6, dtype=dtype)
    result = augment.crop_flip(batch, generator=torch.Generator().manual_seed(1), padding=2)
    assert result.dtype == dtype
    seen = set()
    for before, after in zip(batch.numpy(), result.numpy(), strict=True):
        matches = [key for key, crop in candidates(before, 2) if np.array_equal(crop, after)]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) > 15  # each image has offsets and a coin of its own


def test_offsets_and_coins_are_uniform():
    """An image of its own coordinates tells where it was cut; 9 offsets and the coin within five deviations."""
    count, side = 9000, 9
    place = (torch.arange(side * side) + 1).view(1, 1, side, side).expand(count, 1, side, side).to(torch.uint8)
    result = augment.crop_flip(place, generator=torch.Generator().manual_seed(0))
    middle = result[:, 0, 4, 4].long() - 1  # 0..80: the source of the central pixel
    for coordinate in (middle // side, middle % side):
        counts = coordinate.bincount(minlength=9).double()
        assert (counts - 1000).abs().max() < 5 * (9000 * (1 / 9) * (8 / 9)) ** 0.5
    right = result[:, 0, 4, 5].long() - 1
    mirrored = ((right - middle) == -1).double()[(middle % side > 0) & (middle % side < 8)]
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / len(mirrored) ** 0.5


def test_without_flip_nothing_is_mirrored_and_without_padding_nothing_moves():
    batch = images(50)
    still = augment.crop_flip(batch, generator=torch.Generator().manual_seed(0), padding=0, flip=False)
    assert torch.equal(still, batch)
    both = augment.crop_flip(batch, generator=torch.Generator().manual_seed(0), padding=0)
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(both, batch, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(both, batch, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 10 < sum(mirrored) < 40


@pytest.mark.parametrize("change", [augment.crop_flip, augment.rand_augment])
def test_memory_format_and_input_are_kept_and_the_seed_decides(change):
    batch = images(40, side=12).contiguous(memory_format=torch.channels_last)
    before = batch.clone()
    first = change(batch, generator=torch.Generator().manual_seed(5))
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert not first.is_contiguous()
    assert torch.equal(batch, before)
    again = change(batch.contiguous(), generator=torch.Generator().manual_seed(5))
    assert again.is_contiguous()
    assert torch.equal(first, again)
    assert not torch.equal(first, change(batch, generator=torch.Generator().manual_seed(6)))


def test_global_randomness_is_left_alone():
    state = torch.get_rng_state()
    augment.rand_augment(augment.crop_flip(images(), generator=torch.Generator()), generator=torch.Generator())
    assert torch.equal(state, torch.get_rng_state())


def pil(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def by_pil(batch, function):
    return np.stack([np.asarray(function(pil(image))).transpose(2, 0, 1) for image in batch]).astype(int)


def pictures():
    """Noise, dark and low-contrast pictures, a gradient, one value alone, two values."""
    noise = images(6, side=17, seed=3)
    noise[1] //= 4
    noise[2] = noise[2] // 8 + 100
    noise[3] = (torch.arange(17 * 17) % 256).view(17, 17).to(torch.uint8)
    noise[4] = 77
    noise[5] = (noise[5] > 128) * 200
    return noise


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (pixels.autocontrast, ImageOps.autocontrast),
        (pixels.equalize, ImageOps.equalize),
        (lambda x: pixels.posterize(x, 5), lambda x: ImageOps.posterize(x, 5)),
        (lambda x: pixels.solarize(x, 170), lambda x: ImageOps.solarize(x, 170)),
        (lambda x: pixels.grey(x).expand(-1, 3, -1, -1), lambda x: x.convert("L").convert("RGB")),
    ],
    ids=["autocontrast", "equalize", "posterize", "solarize", "grey"],
)
def test_table_operations_are_pillows_exactly(ours, theirs):
    batch = pictures()
    assert np.array_equal(ours(batch).numpy().astype(int), by_pil(batch, theirs))


@pytest.mark.parametrize("factor", [0.1, 0.7, 1.0, 1.3, 1.9])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (pixels.brightness, ImageEnhance.Brightness),
        (pixels.colour, ImageEnhance.Color),
        (pixels.contrast, ImageEnhance.Contrast),
        (pixels.sharpness, ImageEnhance.Sharpness),
    ],
    ids=["brightness", "colour", "contrast", "sharpness"],
)
def test_blends_are_pillows_to_one_level(ours, theirs, factor):
    batch = pictures()
    found = ours(batch, torch.full((6,), factor)).numpy().astype(int)
    expected = by_pil(batch, lambda image: theirs(image).enhance(factor))
    assert np.abs(found - expected).max() <= 1
    assert (found == expected).mean() > 0.98


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("strength", [0.31, 0.87])
@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
def test_geometry_is_a_plain_loop_over_pixels(name, strength, sign):
    """Each output pixel is the input pixel nearest to where the textbook's map sends its centre, black outside."""
    height, width = 20, 31
    batch = torch.randint(1, 256, (1, 3, height, width), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    found = augment.apply(batch, name, torch.tensor([sign]), strength)[0].numpy()
    amount, wrong = sign * strength, 0
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5 - width / 2, row + 0.5 - height / 2
            turn = np.radians(30 * amount)
            u, v = {
                "rotate": (np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x),
                "shear_x": (x + 0.3 * amount * y, y),
                "shear_y": (x, y + 0.3 * amount * x),
                "translate_x": (x + 150 / 331 * width * amount, y),
                "translate_y": (x, y + 150 / 331 * height * amount),
            }[name]
            i, j = int(np.floor(v + height / 2)), int(np.floor(u + width / 2))
            inside = 0 <= i < height and 0 <= j < width
            expected = batch[0, :, i, j].numpy() if inside else np.zeros(3)
            wrong += not np.array_equal(found[:, row, column], expected)
    assert wrong <= 6  # of 620: centres that fall on the border of two pixels, up to float32


def test_one_round_gives_every_operation_its_share():
    """Images that each operation but the identity changes: of 14 k images, k stay in one round at full strength."""
    batch = images(1, side=16, seed=9).repeat(140, 1, 1, 1) // 2 + 40
    result = augment.rand_augment(batch, generator=torch.Generator().manual_seed(0), operations=1, magnitude=30)
    same = (result == batch).flatten(1).all(1).sum()
    assert same == 10
    kinds = {row.numpy().tobytes() for row in result}
    assert len(kinds) == 1 + 3 + 1 + 9 * 2 - 0  # identity; autocontrast, equalize, solarize; posterize; signed ones


def test_rounds_and_strength():
    batch = images(28, side=16)
    none = augment.rand_augment(batch, generator=torch.Generator(), operations=0)
    assert torch.equal(none, batch)
    few = augment.rand_augment(images(3), generator=torch.Generator().manual_seed(1))
    assert few.shape == (3, 3, 8, 8)
    assert few.dtype == torch.uint8


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"magnitude": 31}, "magnitude must be 0..30"), ({"operations": -1}, "operations must not be negative")],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(KdvizError, match=words):
        augment.rand_augment(images(), generator=torch.Generator(), **settings)


def test_wrong_images_are_refused():
    with pytest.raises(KdvizError, match="must be uint8"):
        augment.rand_augment(images().float(), generator=torch.Generator())
    with pytest.raises(KdvizError, match=r"\[n, c, h, w\]"):
        augment.crop_flip(images()[0], generator=torch.Generator())
    with pytest.raises(KdvizError, match="padding"):
        augment.crop_flip(images(), generator=torch.Generator(), padding=-1)


@pytest.mark.gpu
def test_a_cpu_generator_gives_the_same_crops_on_a_gpu():
    batch = images()
    here = augment.crop_flip(batch, generator=torch.Generator().manual_seed(2))
    there = augment.crop_flip(batch.cuda(), generator=torch.Generator().manual_seed(2))
    assert torch.equal(here, there.cpu())
