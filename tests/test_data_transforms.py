"""Batch transforms against Pillow, torch's own losses and closed forms."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy import stats
from torch.nn import functional as F

from kdviz.base.check import KdvizError
from kdviz.data import mix, transforms


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n, h, w, seed=0):
    return torch.randint(0, 256, (n, 3, h, w), generator=seeded(seed), dtype=torch.uint8)


def pillow(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
@pytest.mark.parametrize("box", [(0, 0, 20, 12), (3, 2, 5, 9), (7, 0, 13, 4), (19, 11, 1, 1)])
@pytest.mark.parametrize("size", [8, 24])
def test_boxes_are_resized_as_pillow_does(filter, box, size):
    images = pictures(2, 12, 20)
    found = transforms.resize_boxes(images, torch.tensor([box] * 2), size, filter=filter)
    left, top, w, h = box
    for image, result in zip(images, found, strict=True):
        expected = pillow(image).resize(
            (size, size), getattr(Image.Resampling, filter.upper()), box=(left, top, left + w, top + h)
        )
        difference = np.asarray(expected).astype(int) - result.permute(1, 2, 0).numpy().astype(int)
        assert np.abs(difference).max() <= 1


def test_boxes_have_the_areas_and_ratios_that_were_asked_for():
    sizes = torch.tensor([[400, 500]]).expand(4000, 2)
    left, top, w, h = transforms.crop_boxes(sizes, generator=seeded(), scale=(0.1, 0.3)).T
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (left + w <= 500).all()
    assert (top + h <= 400).all()
    area = (w * h).double() / 200_000
    assert stats.kstest(area.numpy(), stats.uniform(0.1, 0.2).cdf).pvalue > 0.01
    ratio = (w / h).double().log().numpy()
    assert stats.kstest(ratio, stats.uniform(np.log(3 / 4), 2 * np.log(4 / 3)).cdf).pvalue > 0.01
    place = (left / (500 - w)).double().numpy()
    assert stats.kstest(place, stats.uniform(0, 1).cdf).pvalue > 0.001
    down = (top / (400 - h)).double().numpy()
    drawn = np.corrcoef([area.numpy(), ratio, place, down])
    assert np.abs(drawn - np.eye(4)).max() < 0.07  # each by itself


def test_an_image_that_no_draw_fits_is_cropped_in_the_centre():
    boxes = transforms.crop_boxes(
        torch.tensor([[10, 100], [100, 10], [10, 10]]), generator=seeded(), scale=(1.0, 1.0), ratio=(0.5, 2.0)
    )
    assert boxes[0].tolist() == [40, 0, 20, 10]
    assert boxes[1].tolist() == [0, 40, 10, 20]
    with pytest.raises(KdvizError, match="ratio must be 0 < low <= high"):
        transforms.crop_boxes(torch.tensor([[8, 8]]), generator=seeded(), ratio=(2.0, 1.0))


def test_a_crop_of_everything_at_its_own_size_is_the_image():
    images = pictures(3, 9, 9)
    found = transforms.random_resized_crop(images, 9, generator=seeded(), scale=(1.0, 1.0), ratio=(1.0, 1.0))
    assert torch.equal(found, images)


def test_flips_are_half_and_mirror():
    images = pictures(600, 1, 5)
    found = transforms.flip(images, generator=seeded())
    mirrored = (found == images.flip(3)).all((1, 2, 3))
    assert (mirrored | (found == images).all((1, 2, 3))).all()
    assert 240 < int(mirrored.sum()) < 360


def test_jitter_is_pillows_enhancement_by_a_factor_in_range():
    images = pictures(5, 6, 6)
    for name, enhance in (("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast)):
        found = transforms.colour_jitter(images, generator=seeded(3), **{name: 0.4})
        draws = torch.rand(3, 5, generator=seeded(3))[("brightness", "contrast").index(name)]
        for image, factor, result in zip(images, (0.6 + 0.8 * draws).tolist(), found, strict=True):
            expected = np.asarray(enhance(pillow(image)).enhance(factor)).astype(int)
            assert np.abs(expected - result.permute(1, 2, 0).numpy().astype(int)).max() <= 1
    assert torch.equal(transforms.colour_jitter(images, generator=seeded()), images)


def test_erasing_takes_boxes_of_some_images():
    images = torch.ones(500, 2, 20, 20)
    found = transforms.random_erasing(images, generator=seeded(), probability=0.25)
    erased = (found == 0).all(1)
    share = erased.float().mean((1, 2))
    assert 90 < int((share > 0).sum()) < 160
    assert float(share.max()) < 0.37  # a third, with sides rounded
    one = erased[int(share.argmax())]
    assert int(one.sum()) == int(one.any(0).sum()) * int(one.any(1).sum())  # a box
    noise = transforms.random_erasing(images, generator=seeded(), probability=1.0, noise=True)
    values = noise[noise != 1]
    assert stats.kstest(values.double().numpy(), "norm").pvalue > 0.01
    assert torch.equal(transforms.random_erasing(images, generator=seeded(), probability=0.0), images)


def test_mixup_is_the_convex_sum_and_its_target_the_same():
    images, labels = torch.randn(6, 3, 4, 4, generator=seeded()), torch.tensor([0, 1, 2, 3, 4, 4])
    mixed = mix.mixup(images, generator=seeded(1), alpha=1.0)
    share = float(mixed.share[0])
    assert 0 < share < 1
    assert sorted(mixed.partner.tolist()) == list(range(6))
    torch.testing.assert_close(mixed.images, share * images + (1 - share) * images[mixed.partner])
    logits = torch.randn(6, 5, generator=seeded(2))
    found = F.cross_entropy(logits, mix.soft_targets(labels, 5, mixed=mixed))
    expected = share * F.cross_entropy(logits, labels) + (1 - share) * F.cross_entropy(logits, labels[mixed.partner])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_beta_distributed(alpha):
    image = torch.zeros(1, 1, 1, 1)
    shares = [float(mix.mixup(image, generator=seeded(seed), alpha=alpha).share) for seed in range(1000)]
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.005


def test_cutmix_pastes_one_box_and_gives_its_area_to_the_partner():
    images = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 10, 16)
    for seed in range(20):
        mixed = mix.cutmix(images, generator=seeded(seed))
        pasted = mixed.images != images  # [8, 1, 10, 16]
        moved = mixed.partner != torch.arange(8)
        box = pasted[moved][0, 0] if moved.any() else torch.zeros(10, 16, dtype=torch.bool)
        assert all(torch.equal(one[0], box) for one in pasted[moved])
        assert not pasted[~moved].any()
        assert int(box.sum()) == int(box.any(0).sum()) * int(box.any(1).sum())
        torch.testing.assert_close(mixed.share, (1 - box.float().mean()).expand(8))
        own = (mixed.images == images[mixed.partner]) | (mixed.images == images)
        assert own.all()


def test_smoothed_targets_give_torchs_smoothed_loss():
    logits, labels = torch.randn(7, 5, generator=seeded()), torch.arange(7) % 5
    found = F.cross_entropy(logits, mix.soft_targets(labels, 5, smoothing=0.1))
    torch.testing.assert_close(found, F.cross_entropy(logits, labels, label_smoothing=0.1))
    with pytest.raises(KdvizError, match="smoothing must be at least 0 and below 1"):
        mix.soft_targets(labels, 5, smoothing=1.0)
    with pytest.raises(KdvizError, match="mixup: alpha must be a finite number above 0"):
        mix.mixup(torch.zeros(2, 1, 2, 2), generator=seeded(), alpha=0.0)


def test_the_same_generator_gives_the_same_batch():
    images = pictures(4, 12, 12).float()
    for function in (mix.mixup, mix.cutmix, transforms.random_erasing, transforms.flip):
        first, second, other = (function(images, generator=seeded(seed)) for seed in (5, 5, 6))
        first, second, other = (one.images if isinstance(one, mix.Mixed) else one for one in (first, second, other))
        assert torch.equal(first, second)
        assert not torch.equal(first, other)
