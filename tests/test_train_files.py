"""Training on images that stay in files: an ImageNet-shaped tree, read by worker processes."""

import multiprocessing
import shutil

import numpy as np
import pytest
from PIL import Image
from test_train import _die, same, weights

import kdviz
from kdviz.base.check import KdvizError
from kdviz.checkpoints import RunFolder
from kdviz.data.files import framed
from kdviz.train import load_recipe, train
from kdviz.train.splits import test_split as held_for_test
from kdviz.train.splits import training_split, validation_split
from kdviz.train.step import Step


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """ROOT/train and ROOT/val with three classes: red, green, blue pictures of several sizes."""
    root = tmp_path_factory.mktemp("tree")
    draw = np.random.default_rng(0)
    for part, count in (("train", 16), ("val", 6)):
        for label, name in enumerate(("blue", "green", "red")):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                height, width = draw.integers(40, 70, 2)
                pixels = draw.integers(0, 80, (height, width, 3), dtype=np.uint8)
                pixels[:, :, 2 - label] += 150
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    return root


def recipe(**changes):
    settings = {"student": "resnet8", "data": "imagenet", "epochs": 3, "batch": 8, "lr": 0.05, "image_size": 32}
    return load_recipe(**{**settings, "augment": "resized_crop", "holdout": "none", **changes})


def test_train_is_train_and_val_is_test(tree):
    assert len(training_split(recipe(), tree)) == 48
    assert validation_split(recipe(), tree) is None
    assert len(held_for_test(recipe(), tree)) == 18
    assert len(training_split(recipe(holdout=0.25), tree)) == 36
    held = validation_split(recipe(holdout=0.25), tree)
    assert len(held) == 12
    assert set(training_split(recipe(holdout=0.25), tree).images.names) | set(held.images.names) == set(
        training_split(recipe(), tree).images.names
    )


@pytest.mark.parametrize("augment", ["resized_crop", "crop", "none"])
def test_a_run_learns_from_files_and_says_what_it_waited_for(tree, tmp_path, augment):
    metrics = train(recipe(augment=augment, score_every=1), out=tmp_path, root=tree, device="cpu")
    assert metrics["last"]["top1"] == 1.0  # the colour tells the class
    entry = RunFolder(tmp_path).epochs()[-1]
    assert entry["waited_for_images"] > 0
    assert entry["test"]["top1"] == 1.0


def test_workers_and_a_stop_within_an_epoch_change_nothing(tree, tmp_path, monkeypatch):
    shared = {"root": tree, "device": "cpu", "save_minutes": 0.0}
    train(recipe(epochs=2), out=tmp_path / "alone", **shared)
    train(recipe(epochs=2), out=tmp_path / "two", workers=2, **shared)
    assert same(weights(tmp_path / "alone"), weights(tmp_path / "two"))
    count, call = iter(range(100)), Step.__call__
    with monkeypatch.context() as patch:
        patch.setattr(Step, "__call__", lambda *args, **given: _die() if next(count) == 8 else call(*args, **given))
        with pytest.raises(ZeroDivisionError):
            train(recipe(epochs=2), out=tmp_path / "stopped", workers=1, **shared)
    train(recipe(epochs=2), out=tmp_path / "stopped", **shared)
    assert same(weights(tmp_path / "alone"), weights(tmp_path / "stopped"))


def test_methods_of_strong_views_and_features_train_from_files(tree, tmp_path):
    train(recipe(student="resnet14", epochs=1), out=tmp_path / "teacher", root=tree, device="cpu")
    shared = {"root": tree, "device": "cpu", "teacher": kdviz.load_checkpoint(tmp_path / "teacher")}
    for method in ("mlkd", "at", "kd+rk"):
        train(recipe(method=method, epochs=1), out=tmp_path / method, **shared)
        terms = RunFolder(tmp_path / method).epochs()[0]["train"]
        assert all(0 < abs(value) < float("inf") for value in terms.values()), terms


def test_damaged_images_are_refused_by_name_or_replaced_and_counted(tree, tmp_path):
    root = shutil.copytree(tree, tmp_path / "tree")
    (root / "train" / "red" / "3.png").write_bytes(b"no picture")
    with pytest.raises(KdvizError, match=r"red/3\.png: not a whole image file"):
        train(recipe(), out=tmp_path / "refused", root=root, device="cpu")
    train(recipe(epochs=1), out=tmp_path / "replaced", root=root, device="cpu", damaged="replace")
    assert RunFolder(tmp_path / "replaced").epochs()[0]["damaged_images"] == 1


def test_data_that_changed_between_start_and_resume_are_refused(tree, tmp_path):
    root = shutil.copytree(tree, tmp_path / "tree")
    train(recipe(epochs=1), out=tmp_path / "run", root=root, device="cpu")
    (root / "train" / "red" / "0.png").unlink()
    with pytest.raises(KdvizError, match=r"holds a run of another recipe .*data_sha256"):
        train(recipe(epochs=1), out=tmp_path / "run", root=root, device="cpu")


def test_evaluation_takes_the_recipes_crop(tree):
    """Of a 256 x 256 picture whose border is white, a crop of .5 sees none of it and one of 1 all."""
    frame = np.full((256, 256, 3), 255, dtype=np.uint8)
    frame[32:-32, 32:-32] = 0
    assert np.asarray(framed(Image.fromarray(frame), 128, 0.5)).max() == 0
    share = (np.asarray(framed(Image.fromarray(frame), 128, 1.0)) > 127).mean()
    assert share == pytest.approx(1 - 0.75**2, abs=0.02)
    chosen = held_for_test(recipe(eval_crop=0.95, image_size=128), tree)
    assert (chosen.images.crop, chosen.images.size) == (0.95, 128)


def test_the_loader_is_closed_when_the_run_ends(tree, tmp_path):
    train(recipe(epochs=1), out=tmp_path, root=tree, device="cpu", workers=2)
    assert not multiprocessing.active_children()
