"""Data sets of boxes: glyphboxes against its own pixels, COCO's folder whole and hostile."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from kdviz.base.check import KdvizError
from kdviz.data import DATA, coco, glyphboxes, has_boxes, load_boxes, load_data
from kdviz.data.boxes import BoxData, boxes_of, joined


def annotations(**changes):
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 3, "file_name": "b.png", "width": 20, "height": 20},
            {"id": 9, "file_name": "c.png", "width": 20, "height": 20},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [5, 6, 10, 12.5], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [30, 20, 20, 20]},
            {"id": 3, "image_id": 3, "category_id": 18, "bbox": [0, 0, 20, 20], "iscrowd": 1},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 2, "name": "bicycle"}],
        **changes,
    }


def folder(path, content=None, parts=("train", "val")):
    for part in parts:
        (path / "annotations").mkdir(exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content or annotations())
        (path / "annotations" / f"instances_{part}2017.json").write_text(text)
        (path / f"{part}2017").mkdir(exist_ok=True)
        for name, size in (("a", (40, 30)), ("b", (20, 20)), ("c", (20, 20))):
            Image.new("RGB", size, (ord(name), 0, 0)).save(path / f"{part}2017" / f"{name}.png")
    return path


def test_glyphboxes_are_boxes_around_what_is_drawn():
    """Drawn with and without a digit from the same bits, an image changes inside the digit's box alone."""
    data = glyphboxes.draw("test", 12)
    assert data.synthetic
    assert data.images.shape == (12, 3, 128, 128)
    counts = [len(one.labels) for one in data.boxes]
    assert min(counts) >= 1
    assert max(counts) <= 6
    for corners, labels, crowd in data.boxes:
        assert (corners[:, :2] >= 0).all()
        assert (corners[:, 2:] <= 128).all()
        assert int(labels.max()) < 10
        assert not crowd.any()
    quiet = next(place for place, one in enumerate(data.boxes) if len(one.labels) == min(counts))
    image, inside = data.images[quiet].float(), torch.zeros(128, 128, dtype=torch.bool)
    for left, top, right, bottom in data.boxes[quiet].corners.int().tolist():
        inside[top:bottom, left:right] = True
        edge = image[:, top:bottom, left:right]
        assert float(edge.std()) > 10  # ink on paper
    rough = (image[:, 1:] - image[:, :-1]).abs().amax(0)
    assert float(rough[inside[1:]].max()) > float(rough[~inside[1:]].quantile(0.99))


def test_glyphboxes_are_the_same_bytes_everywhere():
    first, again = glyphboxes.draw("val", 5), glyphboxes.draw("val", 5)
    assert first.sha256 == again.sha256
    assert glyphboxes.draw("train", 5).sha256 != first.sha256
    whole = load_boxes("glyphboxes", split="val")
    assert whole.sha256 == glyphboxes.SHA256["val"]
    assert torch.equal(whole.images[:5], first.images)


def test_a_mask_is_scaled_as_bilinear_interpolation_has_it():
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[20:40, 10:50] = 255
    found = glyphboxes.scaled(mask, 37)
    given = torch.tensor(mask, dtype=torch.float64)[None, None]
    expected = torch.nn.functional.interpolate(given, size=(37, 37), mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(found, expected.numpy(), atol=3)


def test_cocos_folder(tmp_path):
    data = load_boxes("coco", split="train", root=folder(tmp_path))
    assert data.class_names == ("bicycle", "dog")  # in the order of their ids
    assert (len(data), data.side, data.synthetic) == (3, 800, False)
    assert data.boxes[0].corners.tolist() == [[5, 6, 15, 18.5], [30, 20, 40, 30]]
    assert data.boxes[0].labels.tolist() == [1, 0]
    assert data.boxes[1].crowd.tolist() == [True]
    assert data.warning == "instances_train2017.json: 1 boxes cut at their image's edge"
    assert data.images[0].shape == (3, 30, 40)
    assert data.images[0][0].unique().tolist() == [ord("a")]
    kept = data.trainable()
    assert len(kept) == 1  # b has a crowd alone, c nothing
    assert kept.ids.tolist() == [0]
    assert load_boxes(f"coco:{tmp_path}", split="test").split == "test"
    assert has_boxes("coco:somewhere")


HOSTILE = {
    "no JSON": ("{", "cannot be read as JSON"),
    "nested": ("[" * 200_000, "cannot be read as JSON"),
    "a list": ([1, 2], "holds a list, expected images, annotations and categories"),
    "no images": (annotations(images=None), "has no list of images"),
    "empty": (annotations(images=[], annotations=[]), "its list of images is empty"),
    "no entry": (annotations(images=["a.png"]), r"images\[0\] is a str, expected a mapping"),
    "no width": (annotations(images=[{"id": 7, "file_name": "a.png", "height": 3}]), "width is None, expected int"),
    "a truth value": (
        annotations(images=[{"id": True, "file_name": "a.png", "width": 4, "height": 3}]),
        "id is True, expected int",
    ),
    "out of the folder": (
        annotations(images=[{"id": 7, "file_name": "../../etc/passwd", "width": 4, "height": 3}]),
        "leads out of the images' folder",
    ),
    "absolute": (
        annotations(images=[{"id": 7, "file_name": "/etc/passwd", "width": 4, "height": 3}]),
        "leads out of the images' folder",
    ),
    "a huge image": (
        annotations(images=[{"id": 7, "file_name": "a.png", "width": 10**9, "height": 3}]),
        "1000000000 x 3 px is no size",
    ),
    "twice": (
        annotations(categories=[{"id": 2, "name": "a"}, {"id": 2, "name": "b"}]),
        r"categories\[1\]: a second entry with id 2",
    ),
    "no such image": (
        annotations(annotations=[{"image_id": 8, "category_id": 2, "bbox": [0, 0, 1, 1]}]),
        "image_id 8 is of no image",
    ),
    "no such category": (
        annotations(annotations=[{"image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1]}]),
        "category_id 1 is of no category",
    ),
    "three numbers": (
        annotations(annotations=[{"image_id": 7, "category_id": 2, "bbox": [0, 0, 1]}]),
        r"bbox is \[0, 0, 1\], expected x, y, width and height",
    ),
    "NaN": (
        '{"images": [{"id": 1, "file_name": "a", "width": 4, "height": 4}], "categories": [{"id": 1, "name": "a"}],'
        ' "annotations": [{"image_id": 1, "category_id": 1, "bbox": [NaN, 0, 1, 1]}]}',
        r"bbox is \[nan, 0, 1, 1\]",
    ),
    "negative": (
        annotations(annotations=[{"image_id": 7, "category_id": 2, "bbox": [9, 9, -4, 2]}]),
        r"bbox has a negative width or height \(-4, 2\)",
    ),
    "boxes beyond all images": (
        annotations(annotations=[{"image_id": 7, "category_id": 2, "bbox": [50, 50, 4, 2]}]),
        "no image has a box",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_annotations_are_one_line(name, tmp_path):
    content, message = HOSTILE[name]
    with pytest.raises(KdvizError, match=message) as told:
        load_boxes("coco", split="train", root=folder(tmp_path, content))
    assert "\n" not in str(told.value)


def test_an_image_that_is_missing_or_of_another_size_is_one_line(tmp_path):
    data = load_boxes("coco", split="train", root=folder(tmp_path))
    Image.new("RGB", (10, 10)).save(tmp_path / "train2017" / "a.png")
    with pytest.raises(KdvizError, match="is 10 x 10 px, but its annotations say 40 x 30"):
        data.images[0]
    (tmp_path / "train2017" / "b.png").write_bytes(b"not an image")
    with pytest.raises(KdvizError, match="not a whole image file"):
        data.images[1]
    (tmp_path / "train2017" / "c.png").unlink()
    with pytest.raises(KdvizError, match="no such image; are the images unpacked"):
        data.images[2]


def test_where_cocos_files_belong_is_said(tmp_path):
    with pytest.raises(KdvizError, match=r"no annotations/instances_val\*.json in"):
        load_boxes("coco", root=tmp_path / "none")
    folder(tmp_path)
    (tmp_path / "annotations" / "instances_val2014.json").write_text("{}")
    with pytest.raises(KdvizError, match="several files of val"):
        load_boxes("coco", root=tmp_path)


def test_the_two_kinds_of_data_sets_are_told_apart():
    for name in ("glyphboxes", "coco"):
        with pytest.raises(KdvizError, match=f"^{name}: holds boxes, for detectors"):
            load_data(name)
        assert name in DATA
    with pytest.raises(KdvizError, match=r"has one label per image and no boxes; detectors train on .*glyphboxes"):
        load_boxes("cifar100")
    with pytest.raises(KdvizError, match="data set 'glyphbox' is unknown"):
        load_boxes("glyphbox")


def record(**changes):
    images = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    boxes = tuple(boxes_of([[0, 0, 4, 4]] * count, [0] * count) for count in (1, 2, 0))
    given = {"name": "mine", "split": "train", "images": images, "boxes": boxes, "class_names": ("a",), "side": 8}
    return BoxData(**{**given, "mean": (0.5,) * 3, "std": (0.5,) * 3, **changes})


def test_a_record_of_boxes_is_checked_and_cut():
    data = record()
    assert data.take(torch.tensor([2, 1])).ids.tolist() == [2, 1]
    assert len(data.trainable()) == 2
    assert data.subset(2, seed=1).ids.tolist() == data.subset(2, seed=1).ids.tolist()
    assert data.sha256 != record(boxes=data.boxes[::-1]).sha256
    assert len(joined(data, data)) == 6
    for corners, labels, message in (
        ([[4, 0, 4, 4]], [0], "a box without area"),
        ([[0, 0, 4, 4]], [1], "labels beyond 0..0"),
        ([[0, 0, float("nan"), 4]], [0], "a box without area"),
    ):
        with pytest.raises(KdvizError, match=message):
            record(boxes=(boxes_of(corners, labels), *data.boxes[1:]))
    with pytest.raises(KdvizError, match="no image has a box"):
        record(boxes=(boxes_of([], []),) * 3)


def test_coco_is_registered_with_its_files():
    assert DATA["coco"].val_is_test
    assert coco.PARTS["test"] == "val"
