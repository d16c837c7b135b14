"""The record: what it checks, normalises, cuts and tells."""

import hashlib

import numpy as np
import pytest
import torch

import kdviz
from kdviz.base.check import KdvizError
from kdviz.data import DATA, Data, base, cifar, has_boxes


def record(count=60, classes=3, **changes):
    generator = torch.Generator().manual_seed(0)
    fields = {
        "name": "toy",
        "split": "test",
        "images": torch.randint(256, (count, 3, 4, 5), dtype=torch.uint8, generator=generator),
        "labels": torch.arange(count) % classes,
        "mean": (0.1, 0.2, 0.3),
        "std": (0.5, 0.25, 2.0),
        "class_names": tuple(f"<{i}>" for i in range(classes)),
    }
    return Data(**(fields | changes))


def test_normalize_is_the_formula_in_float64():
    data = record()
    x = data.images.numpy().astype(np.float64)
    expected = (x / 255 - np.array([0.1, 0.2, 0.3])[:, None, None]) / np.array([0.5, 0.25, 2.0])[:, None, None]
    found = data.normalize(data.images)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_normalize_keeps_channels_last():
    images = record().images.contiguous(memory_format=torch.channels_last)
    assert record().normalize(images).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [1, 7, 60, 100])
def test_batches_walk_the_split_in_order(size):
    data = record()
    batches = list(data.batches(size))
    assert [len(labels) for _, labels in batches] == [size] * (60 // size) + [60 % size] * (60 % size > 0)
    assert torch.equal(torch.cat([images for images, _ in batches]), data.normalize(data.images))
    assert torch.equal(torch.cat([labels for _, labels in batches]), data.labels)


@pytest.mark.parametrize("count", [1, 3, 10, 59, 60])
def test_subset_takes_every_class_in_proportion(count):
    labels = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)
    data = record(labels=labels)
    part = data.subset(count, seed=1)
    assert len(part) == count == len(set(part.ids.tolist()))
    assert torch.equal(part.ids, part.ids.sort().values)
    assert torch.equal(part.images, data.images[part.ids])
    assert torch.equal(part.labels, labels[part.ids])
    share = part.labels.bincount(minlength=3) - count * torch.tensor([30, 20, 10]) / 60
    assert share.abs().max() < 1 + 1e-6


def test_subset_depends_on_its_seed_and_keeps_ids_through_two_cuts():
    data = record()
    assert torch.equal(data.subset(12, seed=3).ids, data.subset(12, seed=3).ids)
    assert not torch.equal(data.subset(12, seed=3).ids, data.subset(12, seed=4).ids)
    twice = data.subset(30).subset(6)
    assert torch.equal(twice.images, data.images[twice.ids])


def test_sha256_is_that_of_the_bytes():
    data = record()
    expected = hashlib.sha256(data.images.numpy().tobytes() + data.labels.numpy().astype("<i8").tobytes())
    assert data.sha256 == expected.hexdigest()
    other = data.images.clone()
    other[-1, -1, -1, -1] ^= 1
    assert record(images=other).sha256 != data.sha256


def test_held_out_parts_are_disjoint_whole_and_fixed():
    data = record(count=600, classes=10)
    train, val = base.held_out(data, "train", 50), base.held_out(data, "val", 50)
    assert (train.split, val.split) == ("train", "val")
    assert sorted(train.ids.tolist() + val.ids.tolist()) == list(range(600))
    assert val.labels.bincount().tolist() == [5] * 10
    assert torch.equal(val.ids, base.held_out(data, "val", 50).ids)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": torch.zeros(59, dtype=torch.int64)}, "60 images but 59 labels"),
        ({"labels": torch.full((60,), 3)}, "labels 3..3, but there are 3 classes"),
        ({"labels": torch.full((60,), -1)}, "labels -1..-1"),
        ({"images": torch.zeros(60, 3, 4, 5)}, "must be uint8"),
        ({"mean": (0.5,)}, "3 channels, mean 1"),
        ({"images": torch.zeros(0, 3, 4, 5, dtype=torch.uint8), "labels": torch.zeros(0)}, "no images"),
    ],
)
def test_a_wrong_record_is_refused(changes, words):
    with pytest.raises(KdvizError, match=words):
        record(**changes)


@pytest.mark.parametrize("count", [0, 61])
def test_an_impossible_subset_is_refused(count):
    with pytest.raises(KdvizError, match="test has 60 images"):
        record().subset(count)


def test_html_names_what_it_is_and_escapes():
    page = record(synthetic=True, name="<script>")._repr_html_()
    assert "synthetic" in page
    assert "<script" not in page
    assert "60 images" in page
    assert "&lt;0&gt;" in page


def test_unknown_names_and_splits_are_told():
    with pytest.raises(KdvizError, match="did you mean 'cifar100'"):
        kdviz.load_data("cifar-100")
    with pytest.raises(KdvizError, match="split must be one of train, val, test"):
        kdviz.load_data("glyphs100", split="valid")


@pytest.mark.parametrize("name", [name for name in DATA if not DATA[name].synthetic and not has_boxes(name)])
def test_a_missing_archive_says_which_file_to_put_where(name, tmp_path, monkeypatch):
    monkeypatch.delenv("KDVIZ_DATA", raising=False)
    with pytest.raises(KdvizError) as caught:
        kdviz.load_data(name, root=tmp_path / "none")
    message = str(caught.value)
    assert str(tmp_path / "none") in message
    assert "\n" not in message
    assert DATA[name].files


def test_every_entry_says_what_it_is():
    for entry in DATA.values():
        assert entry.summary
        assert entry.synthetic or entry.files


def test_normalisations_are_the_published_ones():
    """Of CIFAR-100 as RepDistiller and mdistiller have it, of CIFAR-10 as measured on its training pixels."""
    hundred, ten = cifar.CIFAR100, cifar.CIFAR10
    assert (hundred.mean, hundred.std) == ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
    assert ten.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-4)
    assert ten.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=2e-4)


def test_the_held_out_images_are_the_same_for_good():
    """Pinned, not derived: runs of different versions must hold out the same images to be comparable."""
    held = base.held_out(record(count=600, classes=6), "val", 60)
    assert held.ids[:8].tolist() == [14, 16, 23, 45, 50, 55, 68, 84]
    digest = hashlib.sha256(held.ids.numpy().astype("<i8").tobytes()).hexdigest()
    assert digest == "020b6aadd50ffa1ff8b6c0512d5e9f681b52a42611634c8088514747dcdf8ab3"
