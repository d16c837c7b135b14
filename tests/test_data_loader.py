"""Trees read whole, and views that depend on seed, epoch and position alone, against Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image

import kdviz
from kdviz.base.check import KdvizError
from kdviz.base.seeds import torch_generator
from kdviz.data import tree
from kdviz.data.loader import Loader, View, picture_at
from kdviz.data.transforms import crop_boxes


def picture(seed, size=(21, 17)):
    made = np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    return Image.fromarray(made)


def imagenet(root, count=5):
    for part, first in (("train", 0), ("val", 500)):
        for number, name in enumerate(("n01", "n02")):
            (root / part / name).mkdir(parents=True)
            for i in range(count if part == "train" else 2):
                picture(first + 100 * number + i).save(root / part / name / f"{name}_{i}.png")
    return root


def taken(loader, number, order, **settings):
    batches = list(loader.epoch(number, order, **settings))
    return torch.cat([one.images for one in batches]), torch.cat([one.labels for one in batches])


def test_train_is_train_whole_and_val_is_val(tmp_path):
    imagenet(tmp_path)
    (tmp_path / "train" / "n02" / "deeper").mkdir()
    picture(7).save(tmp_path / "train" / "n02" / "deeper" / "x.png")
    (tmp_path / "train" / "n01" / "readme.txt").write_text("no picture")
    train = kdviz.load_data("imagenet", split="train", root=tmp_path)
    val = kdviz.load_data("imagenet", split="val", root=tmp_path)
    test = kdviz.load_data("imagenet", root=tmp_path)
    assert train.labels.tolist() == [0] * 5 + [1] * 6
    assert train.class_names == ("n01", "n02")
    assert val.labels.tolist() == [0, 0, 1, 1]
    assert (train.split, val.split, test.split, test.name) == ("train", "val", "test", "imagenet")
    assert val.sha256 == test.sha256 != train.sha256
    assert train.images.where(5).endswith("train/n02/deeper/x.png")
    assert np.array_equal(np.asarray(train.images.picture(5)), np.asarray(picture(7)))
    part = train.take(torch.tensor([9, 1]))
    assert np.array_equal(np.asarray(part.images.picture(1)), np.asarray(picture(1)))
    assert part.images.shape == (2, 3, 224, 224)


def test_batches_frame_the_centre(tmp_path):
    imagenet(tmp_path)
    data = tree.load_tree(tmp_path, "val", size=17)
    batch = data.images[torch.tensor([2, 0])]
    assert np.array_equal(batch[0].permute(1, 2, 0), np.asarray(picture(600).crop((2, 0, 19, 17))))
    assert batch.shape == (2, 3, 17, 17)


def test_trees_that_do_not_fit_are_told(tmp_path):
    with pytest.raises(KdvizError, match="no train/ and val/"):
        kdviz.load_data("imagenet", root=tmp_path)
    imagenet(tmp_path)
    (tmp_path / "val" / "n03").mkdir()
    with pytest.raises(KdvizError, match="n03: no such class in"):
        kdviz.load_data("imagenet", root=tmp_path)
    with pytest.raises(KdvizError, match="nothing: cannot be read"):
        tree.load_tree(tmp_path, "nothing")


def test_views_are_pillows_crops_by_the_seed_epoch_and_position(tmp_path):
    data = kdviz.load_data("imagenet", split="train", root=imagenet(tmp_path))
    order = torch.tensor([8, 0, 3])
    with Loader(data, View(size=6), batch=2, seed=4) as loader:
        images, labels = taken(loader, 11, order)
    assert labels.tolist() == [1, 0, 0]
    for position, found in zip(order.tolist(), images, strict=True):
        generator = torch_generator(4, "view", 11, position)
        raw = data.images.picture(position)
        left, top, w, h = crop_boxes(torch.tensor([[17, 21]]), generator=generator)[0].tolist()
        expected = raw.resize((6, 6), Image.Resampling.BILINEAR, box=(left, top, left + w, top + h))
        if int(torch.randint(2, (1,), generator=generator)):
            expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        assert np.array_equal(found.permute(1, 2, 0), np.asarray(expected))


def test_worker_processes_change_nothing_and_stay_for_the_run(tmp_path):
    data = kdviz.load_data("imagenet", split="train", root=imagenet(tmp_path))
    order = torch.arange(len(data)).flip(0)
    settings = {"batch": 4, "seed": 1}
    with Loader(data, View(size=5), **settings) as alone, Loader(data, View(size=5), workers=2, **settings) as pool:
        before = torch.random.get_rng_state()
        first = taken(pool, 0, order)
        workers = list(pool._loader._iterator._workers)
        processes = {worker.pid for worker in workers}
        second = taken(pool, 1, order)
        assert {worker.pid for worker in pool._loader._iterator._workers} == processes
        for number, found in ((0, first), (1, second)):
            assert all(map(torch.equal, found, taken(alone, number, order)))
        assert not torch.equal(first[0], second[0])  # another epoch, other views
        assert all(map(torch.equal, taken(pool, 1, order, start=2), [part[8:] for part in second]))  # resumed
        assert pool.rate > 0
        assert pool.waited >= 0
        assert torch.equal(before, torch.random.get_rng_state())
        broken_off = pool.epoch(2, order)
        next(broken_off)
        assert all(map(torch.equal, taken(pool, 0, order), first))  # after an epoch that was left half way
    assert not any(worker.is_alive() for worker in workers)


def test_the_last_batch_may_be_left_out(tmp_path):
    data = kdviz.load_data("imagenet", split="train", root=imagenet(tmp_path))
    sizes = [
        [len(one.labels) for one in Loader(data, View(size=4), batch=4, drop_last=drop).epoch(0, torch.arange(10))]
        for drop in (False, True)
    ]
    assert sizes == [[4, 4, 2], [4, 4]]


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_pictures_are_refused_or_replaced_and_named(tmp_path, workers):
    imagenet(tmp_path)
    bad = tmp_path / "train" / "n01" / "n01_4.png"
    bad.write_bytes(bad.read_bytes()[:60])
    data = kdviz.load_data("imagenet", split="train", root=tmp_path)
    order = torch.tensor([4, 1])
    with (
        Loader(data, View(size=4), batch=2, workers=workers) as strict,
        pytest.raises(KdvizError, match=r"n01_4.png: not a whole image file .*mend or remove it"),
    ):
        list(strict.epoch(0, order))
    with Loader(data, View(size=4, scale=None), batch=2, workers=workers, damaged="replace") as lenient:
        for epoch in (0, 1):
            (loaded,) = lenient.epoch(epoch, order)
            assert loaded.positions.tolist() == [5, 1]
            assert loaded.labels.tolist() == [1, 0]
        assert len(lenient.broken) == 1
        assert str(bad) in lenient.broken[0]


def test_pictures_of_every_kind_of_source(tmp_path):
    imagenet(tmp_path)
    data = kdviz.load_data(f"folder:{tmp_path}", split="train")
    assert picture_at(data.images, 0).size == (21, 17)
    tensors = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    assert np.array_equal(np.asarray(picture_at(tensors, 1)), tensors[1].permute(1, 2, 0))


def test_settings_out_of_range():
    with pytest.raises(KdvizError, match="filter must be one of bilinear, bicubic"):
        View(filter="nearest")
    with pytest.raises(KdvizError, match="size must be above 0"):
        View(size=0)
