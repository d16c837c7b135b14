"""Class folders and Tiny ImageNet's two layouts, read from images written here."""

import numpy as np
import pytest
import torch
from PIL import Image

import kdviz
from kdviz.base.check import KdvizError
from kdviz.data.files import framed


def picture(seed, size=(20, 20)):
    made = np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    return Image.fromarray(made)


def tree(root, classes=("ape", "bee"), count=10, size=(20, 20), suffix="png", first=0):
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture(first + 1000 * number + i, size).save(root / name / f"{i:03}.{suffix}")
    return root


def test_images_come_out_as_they_went_in_and_only_when_asked(tmp_path):
    tree(tmp_path / "train")
    tree(tmp_path / "test", first=500)
    tree(tmp_path / "val", first=700, count=3)
    data = kdviz.load_data(f"folder:{tmp_path}")
    assert data.name == f"folder:{tmp_path}"
    assert data.class_names == ("ape", "bee")
    assert data.labels.tolist() == [0] * 10 + [1] * 10
    assert data.images.shape == (20, 3, 20, 20)
    assert not isinstance(data.images, torch.Tensor)
    batch = data.images[torch.tensor([13, 2])]
    assert batch.dtype == torch.uint8
    expected = [np.asarray(picture(seed)).transpose(2, 0, 1) for seed in (1503, 502)]
    assert np.array_equal(batch.numpy(), expected)
    assert len(kdviz.load_data("folder", split="val", root=tmp_path)) == 6
    assert len(kdviz.load_data("folder", split="train", root=tmp_path)) == 20


def test_records_over_files_cut_batch_and_hash(tmp_path):
    tree(tmp_path / "train")
    tree(tmp_path / "test")
    data = kdviz.load_data("folder", root=tmp_path)
    part = data.subset(6)
    assert part.labels.bincount().tolist() == [3, 3]
    assert torch.equal(part.images[torch.arange(6)], data.images[part.ids])
    images, labels = next(part.batches(4))
    assert torch.equal(images, data.normalize(data.images[part.ids[:4]]))
    assert torch.equal(labels, part.labels[:4])
    assert part.sha256 != data.sha256 == kdviz.load_data("folder", root=tmp_path).sha256
    (tmp_path / "test" / "bee" / "009.png").write_bytes(b"longer or shorter")
    assert kdviz.load_data("folder", root=tmp_path).sha256 != data.sha256


@pytest.mark.parametrize("other", ["test", "val"])
def test_val_is_held_out_where_the_tree_has_none(other, tmp_path):
    tree(tmp_path / "train", count=30)
    tree(tmp_path / other)
    train, val, test = (kdviz.load_data("folder", split=split, root=tmp_path) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (54, 6, 20)
    assert val.labels.bincount().tolist() == [3, 3]
    assert not {*train.images.paths} & {*val.images.paths}


def test_a_tree_without_splits_is_cut_in_three(tmp_path):
    tree(tmp_path / "birds", count=50)
    parts = [kdviz.load_data(f"folder:{tmp_path}/birds", split=split) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [80, 10, 10]
    paths = [path for part in parts for path in part.images.paths]
    assert len(set(paths)) == 100
    for part in parts:
        assert part.labels.bincount().tolist() == [len(part) // 2] * 2
        every = sorted((tmp_path / "birds").rglob("*.png"))
        assert [every[i] for i in part.ids] == list(part.images.paths)


def test_the_side_is_the_first_images_or_224_or_asked_for(tmp_path):
    tree(tmp_path / "a", size=(48, 40), count=10)
    assert kdviz.load_data(f"folder:{tmp_path}/a").images.shape[2:] == (40, 40)
    assert kdviz.load_data(f"folder:{tmp_path}/a@16").images.shape[2:] == (16, 16)
    tree(tmp_path / "b", size=(120, 130), count=5)
    data = kdviz.load_data(f"folder:{tmp_path}/b")
    assert data.images[torch.tensor([0])].shape == (1, 3, 224, 224)
    with pytest.raises(KdvizError, match="8 to 1024 pixels"):
        kdviz.load_data(f"folder:{tmp_path}/b@4")


@pytest.mark.parametrize("size", [(64, 32), (32, 64), (33, 97), (500, 375), (32, 32)])
def test_frames_take_the_centre(size):
    """A picture that is a straight ramp stays one under scaling and cutting: its middle keeps its value."""
    width, height = size
    ramp = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    found = np.asarray(framed(Image.fromarray(ramp.astype(np.uint8)), 32), dtype=float)
    assert found.shape == (32, 32)
    step = 255 / (width - 1) * min(size) / 32  # bicubic on a ramp is a ramp
    assert found.mean() == pytest.approx(127.5, abs=step / 2 + 1)  # an odd rest cannot be halved
    assert np.diff(found[16])[4:-4].mean() == pytest.approx(step, rel=0.1)


def test_grey_palette_and_cmyk_files_become_rgb(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part / "x").mkdir(parents=True)
        picture(1).convert("L").save(tmp_path / part / "x" / "a.png")
        picture(2).convert("P").save(tmp_path / part / "x" / "b.png", transparency=bytes(range(256)))
        picture(3).convert("CMYK").save(tmp_path / part / "x" / "c.jpg")
        picture(4).convert("RGBA").save(tmp_path / part / "x" / "d.png")
    batch = kdviz.load_data("folder", root=tmp_path).images[torch.arange(4)]
    assert batch.shape == (4, 3, 20, 20)
    grey = np.asarray(picture(1).convert("L"))
    assert np.array_equal(batch[0].numpy(), np.stack([grey] * 3))


def test_a_broken_image_is_named(tmp_path):
    tree(tmp_path / "train")
    tree(tmp_path / "test")
    whole = (tmp_path / "test" / "bee" / "004.png").read_bytes()
    (tmp_path / "test" / "bee" / "004.png").write_bytes(whole[:200])
    with pytest.raises(KdvizError, match=r"004.png: not a whole image file"):
        list(kdviz.load_data("folder", root=tmp_path).batches(20))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: root.joinpath("train").mkdir(), "neither val/ nor test/"),
        (lambda root: None, "no class folders"),
        (lambda root: root.joinpath("x").mkdir(), "no images"),
        (lambda root: tree(root / "val"), "has val but no train/"),
        (lambda root: (tree(root / "train"), tree(root / "test", classes=("cow",))), "cow: no such class"),
        (lambda root: tree(root, count=2), "too few to cut"),
    ],
)
def test_wrong_trees_are_one_clear_line(make, words, tmp_path):
    make(tmp_path)
    with pytest.raises(KdvizError, match=words) as caught:
        kdviz.load_data("folder", root=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_needs_a_place():
    with pytest.raises(KdvizError, match="say which one"):
        kdviz.load_data("folder")


def tiny(root, classes, annotated):
    for label in classes:
        (root / "train" / label / "images").mkdir(parents=True)
        for i in range(2):
            (root / "train" / label / "images" / f"{label}_{i}.JPEG").write_bytes(b"never opened")
    order, lines = [199, 0, 7], []
    for i, number in enumerate(order):
        folder = root / "val" / ("images" if annotated else f"{classes[number]}")
        folder.mkdir(parents=True, exist_ok=True)
        picture(i, (64, 64)).save(folder / f"val_{i}.JPEG")
        lines.append(f"val_{i}.JPEG\t{classes[number]}\t0\t0\t62\t62\n")
    if annotated:
        (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "words.txt").write_text("".join(f"{label}\tname {label}, other\n" for label in classes))
    return order


@pytest.mark.parametrize("annotated", [True, False])
def test_tiny_imagenet_in_both_layouts(annotated, tmp_path):
    classes = [f"n{number:08}" for number in range(200)]
    order = tiny(tmp_path / "tiny-imagenet-200", classes, annotated)
    test, val, train = (kdviz.load_data("tiny-imagenet", split=s, root=tmp_path) for s in ("test", "val", "train"))
    assert test.labels.tolist() == (order if annotated else sorted(order))
    assert test.images.shape == (3, 3, 64, 64)
    assert test.class_names[7] == "name n00000007"
    assert (len(train), len(val)) == (360, 40)
    assert val.labels.bincount().max() == 1
    position = order.index(int(test.labels[0]))
    stored = Image.open(
        tmp_path / "tiny-imagenet-200" / "val" / ("images" if annotated else classes[0]) / f"val_{position}.JPEG"
    ).convert("RGB")
    assert np.array_equal(test.images[torch.tensor([0])][0].numpy(), np.asarray(stored).transpose(2, 0, 1))


def test_an_incomplete_tiny_imagenet_is_told(tmp_path):
    classes = [f"n{number:08}" for number in range(200)]
    tiny(tmp_path, classes, True)
    (tmp_path / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn99999999\t0\t0\t1\t1\n")
    with pytest.raises(KdvizError, match="line 1: no class 'n99999999'"):
        kdviz.load_data("tiny-imagenet", root=tmp_path)
    for path in sorted((tmp_path / "train" / classes[0]).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (tmp_path / "train" / classes[0]).rmdir()
    with pytest.raises(KdvizError, match="199 class folders, expected 200"):
        kdviz.load_data("tiny-imagenet", root=tmp_path)
