"""Augmentation: crops against a plain loop, the strong view's operations against Pillow's."""

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

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
        (lambda x: pixels.posterize(x, torch.full((6,), 5.0)), lambda x: ImageOps.posterize(x, 5)),
        (lambda x: pixels.solarize(x, torch.full((6,), 170.0)), lambda x: ImageOps.solarize(x, 170)),
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


AFFINE = Image.Transform.AFFINE
BY_PIL = {  # what the source asks Pillow for, at a value of each operation's range
    "identity": lambda image, value: image,
    "autocontrast": lambda image, value: ImageOps.autocontrast(image),
    "equalize": lambda image, value: ImageOps.equalize(image),
    "brightness": lambda image, value: ImageEnhance.Brightness(image).enhance(value),
    "colour": lambda image, value: ImageEnhance.Color(image).enhance(value),
    "contrast": lambda image, value: ImageEnhance.Contrast(image).enhance(value),
    "sharpness": lambda image, value: ImageEnhance.Sharpness(image).enhance(value),
    "posterize": lambda image, value: ImageOps.posterize(image, int(value)),
    "solarize": lambda image, value: ImageOps.solarize(image, value),
    "rotate": lambda image, value: image.rotate(value),
    "shear_x": lambda image, value: image.transform(image.size, AFFINE, (1, value, 0, 0, 1, 0)),
    "shear_y": lambda image, value: image.transform(image.size, AFFINE, (1, 0, 0, value, 1, 0)),
    "translate_x": lambda image, value: image.transform(image.size, AFFINE, (1, 0, value * image.width, 0, 1, 0)),
    "translate_y": lambda image, value: image.transform(image.size, AFFINE, (1, 0, 0, 0, 1, value * image.height)),
}
RANGES = {  # the source's
    **dict.fromkeys(("identity", "autocontrast", "equalize"), (0, 1)),
    **dict.fromkeys(("brightness", "colour", "contrast", "sharpness"), (0.05, 0.95)),
    **dict.fromkeys(("shear_x", "shear_y", "translate_x", "translate_y"), (-0.3, 0.3)),
    "posterize": (4, 8),
    "solarize": (0, 256),
    "rotate": (-30, 30),
}


def test_operations_and_ranges_are_the_sources():
    assert augment.OPERATIONS == RANGES
    assert augment.GREY == (125, 123, 114)


@pytest.mark.parametrize("name", BY_PIL)
def test_every_operation_is_pillows(name):
    """A value of its own for each image; what is no blend of fractions is Pillow's to the last pixel."""
    batch = torch.cat([images(17, side=24, seed=8), images(3, side=24, seed=9) // 4 + 90])[:, :, :, :20]  # not square
    values = torch.from_numpy(np.random.default_rng(4).uniform(*RANGES[name], 20))
    before = batch.clone()
    found = augment.apply(batch, name, values).numpy().astype(int)
    assert torch.equal(batch, before)
    expected = np.stack(
        [by_pil(batch[i : i + 1], lambda image, i=i: BY_PIL[name](image, float(values[i])))[0] for i in range(20)]
    )
    if name in ("brightness", "colour", "contrast", "sharpness"):
        assert np.abs(found - expected).max() <= 1
        assert (found == expected).mean() > 0.98
    else:
        assert np.array_equal(found, expected)
    if name != "identity":
        assert not np.array_equal(found, batch.numpy())


def test_rectangles_are_pillows():
    batch = images(40, side=9)
    edges = np.random.default_rng(0).uniform(0, 9, (40, 2, 2)).round(2)
    corners = np.concatenate([edges.min(1), edges.max(1)], 1)  # left, upper, right, lower
    found = pixels.rectangle(batch, torch.from_numpy(corners), augment.GREY).numpy()
    for image, box, ours in zip(batch, corners, found, strict=True):
        theirs = pil(image)
        ImageDraw.Draw(theirs).rectangle([float(edge) for edge in box], augment.GREY)
        assert np.array_equal(ours, np.asarray(theirs).transpose(2, 0, 1))


def by_the_source(image, random):
    """The strong view of one image by Pillow alone: two operations with replacement, then the rectangle."""
    shown = pil(image)
    for name in random.choice(list(BY_PIL), 2):
        shown = BY_PIL[name](shown, float(random.uniform(*RANGES[name])))
    side = random.uniform(0, 0.5) * shown.width
    x, y = random.uniform(0, shown.width), random.uniform(0, shown.height)
    corners = (max(x - side / 2, 0), max(y - side / 2, 0), x + side / 2, y + side / 2)
    ImageDraw.Draw(shown).rectangle(corners, augment.GREY)
    return np.asarray(shown).transpose(2, 0, 1)


def smooth(count):
    """Pictures with large areas, as photographs have them: two waves and a level in every channel."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[0:32, 0:32] / 32
    waves = [
        np.sin(2 * np.pi * (random.uniform(-2, 2) * x + random.uniform(-2, 2) * y + random.uniform()))
        for _ in range(6 * count)
    ]
    level = random.uniform(90, 150, (count, 3, 1, 1))
    pixels_ = level + 50 * np.stack(waves).reshape(count, 3, 2, 32, 32).sum(2)
    return torch.from_numpy(pixels_.clip(0, 255).astype(np.uint8))


def test_the_strong_view_changes_a_pixel_as_much_as_pillows():
    batch, random = smooth(700), np.random.default_rng(2)
    ours = augment.rand_augment(batch, generator=torch.Generator().manual_seed(0)).numpy().astype(int)
    theirs = np.stack([by_the_source(image, random) for image in batch]).astype(int)
    change, expected = (np.abs(each - batch.numpy()).mean((1, 2, 3)) for each in (ours, theirs))
    error = np.sqrt((change.var() + expected.var()) / len(batch))
    assert abs(change.mean() - expected.mean()) < 4 * error
    assert error < 2
    assert 35 < change.mean() < 55


def test_each_image_draws_two_operations_of_its_own_with_replacement(monkeypatch):
    drawn = []
    monkeypatch.setattr(augment, "_round", lambda images, which, share: (drawn.append((which, share)), images)[1])
    augment.rand_augment(images(14000, side=2), generator=torch.Generator().manual_seed(0))
    (first, share), (second, _) = drawn
    for which in (first, second):
        counts = which.bincount(minlength=14).double()
        assert ((counts - 1000) ** 2 / 1000).sum() < 35  # chi squared with 13 degrees of freedom, p = .001
    assert (first == second).double().mean() == pytest.approx(1 / 14, abs=5 * (13 / 14**2 / 14000) ** 0.5)
    for which in range(14):
        assert scipy.stats.kstest(share[first == which].numpy(), "uniform").pvalue > 1e-4


def test_cutouts_are_uniform_in_side_and_place():
    count, side = 6000, 40
    batch = torch.zeros(count, 3, side, side, dtype=torch.uint8)
    result = augment.rand_augment(batch, generator=torch.Generator().manual_seed(3), operations=0)
    grey = (result == torch.tensor(augment.GREY, dtype=torch.uint8).view(1, 3, 1, 1)).all(1)
    assert torch.equal(result, grey[:, None] * torch.tensor(augment.GREY, dtype=torch.uint8).view(1, 3, 1, 1))
    widths, heights = grey.any(1).sum(1), grey.any(2).sum(1)
    assert torch.equal(grey.sum((1, 2)), widths * heights)  # a rectangle each
    inside = ~(grey[:, 0].any(1) | grey[:, -1].any(1) | grey[:, :, 0].any(1) | grey[:, :, -1].any(1))
    whole = widths[inside].double()
    assert whole.max() <= side / 2 + 1
    assert (widths[inside] - heights[inside]).abs().max() <= 1
    # a square of side s lies inside with chance (1 - s / 40)^2, s uniform in 0..20: its mean is 8.49; drawn are s + 1
    s = np.linspace(0, 20, 100001)
    weight = (1 - s / 40) ** 2
    assert abs(whole.mean() - 1 - (s * weight).sum() / weight.sum()) < 0.5
    centre = (grey.any(1) * torch.arange(side)).sum(1) / widths
    assert abs(centre.mean() - 19.5) < 0.5
    assert (centre < 10).double().mean() == pytest.approx(0.25, abs=0.03)
    none = augment.rand_augment(batch, generator=torch.Generator(), operations=0, cutout=0)
    assert torch.equal(none, batch)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"cutout": 1.5}, "cutout must be 0..1"), ({"operations": -1}, "operations must not be negative")],
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


@pytest.mark.gpu
def test_a_cpu_generator_gives_the_same_strong_view_on_a_gpu_and_a_gpu_generator_some_view():
    batch = smooth(64)
    here = augment.rand_augment(batch, generator=torch.Generator().manual_seed(2))
    there = augment.rand_augment(batch.cuda(), generator=torch.Generator().manual_seed(2))
    gap = (here.int() - there.cpu().int()).abs()
    assert gap.max() <= 1  # blends of fractions
    assert (gap == 0).double().mean() > 0.99
    own = [augment.rand_augment(batch.cuda(), generator=torch.Generator("cuda").manual_seed(2)) for _ in range(2)]
    assert torch.equal(*own)


def test_a_views_number_says_which_crop_it_is_and_whether_it_is_mirrored():
    image = torch.arange(3 * 6 * 5, dtype=torch.uint8).view(1, 3, 6, 5)
    padded = torch.nn.functional.pad(image, (4, 4, 4, 4))
    for view in (0, 1, 40 * 2, 40 * 2 + 1, 17, 161):
        place, mirrored = divmod(view, 2)
        down, right = divmod(place, 9)
        crop = padded[:, :, down : down + 6, right : right + 5]
        expected = crop.flip(3) if mirrored else crop
        assert torch.equal(augment.crop_flip_view(image, torch.tensor([view])), expected)
    assert torch.equal(augment.crop_flip_view(image, torch.tensor([40]), flip=False), image)
