"""Data sets taken as a net needs them: its mean and std, its classes among more."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import kdviz
from kdviz.base.check import KdvizError
from kdviz.checkpoints import load_checkpoint
from kdviz.checkpoints.related import load_data_of
from kdviz.data.adapt import Adaptation, adapt

IDS = ("n01440764", "n02102040", "n03000684")


@pytest.fixture
def folder(tmp_path):
    """Three classes of two pictures each, of one colour: 51 k / 255 = k / 5 in every channel."""
    for part in ("train", "test"):
        for k, name in enumerate(IDS):
            place = tmp_path / "pictures" / part / name
            place.mkdir(parents=True)
            for i in range(2):
                Image.fromarray(np.full((8, 8, 3), 51 * (k + 1), np.uint8)).save(place / f"{i}.png")
    return f"folder:{tmp_path / 'pictures'}"


class Own(nn.Module):
    """A net that says its constants as timm's nets do."""

    def __init__(self, num_classes):
        super().__init__()
        self.fc = nn.Linear(192, num_classes)
        self.pretrained_cfg = {"mean": (0.2, 0.2, 0.2), "std": (0.1, 0.1, 0.1), "crop_pct": 0.9}

    def forward(self, images):
        return self.fc(images.flatten(1))


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    torch.save(Own(7).state_dict(), tmp_path / "a.pth")
    return load_checkpoint(tmp_path / "a.pth", model="test_data_adapt:Own")


def at(channels):
    return Adaptation(channels=channels)


def test_a_folder_takes_the_nets_own_constants(folder, checkpoint):
    data = load_data_of(checkpoint, folder, adaptation=at("0,2,5"))
    assert (data.mean, data.std) == ((0.2,) * 3, (0.1,) * 3)
    images, _ = next(data.batches(6))  # (k / 5 - 1 / 5) / (1 / 10) = 2 (k - 1)
    torch.testing.assert_close(images[:, 0, 0, 0], torch.tensor([0.0, 0, 2, 2, 4, 4]), rtol=0, atol=1e-5)
    assert data.variant.startswith("mean 0.2, 0.2, 0.2, std 0.1, 0.1, 0.1 (the net's own)")
    assert kdviz.load_data(folder).mean == (0.485, 0.456, 0.406)


def test_those_asked_for_go_first_and_a_data_set_with_constants_keeps_them(folder, checkpoint):
    asked = Adaptation(mean=[0.4] * 3, std=[0.5] * 3, channels="0,2,5")
    assert load_data_of(checkpoint, folder, adaptation=asked).mean == (0.4,) * 3
    own = ((0.1,) * 3, (0.1,) * 3)
    glyphs = kdviz.load_data("glyphs100").subset(100)
    assert adapt(glyphs, Adaptation(), own=own) is glyphs
    changed = adapt(glyphs, Adaptation(mean=own[0], std=own[1]))
    assert changed.sha256 != glyphs.sha256  # results of the one are never taken for those of the other
    assert adapt(glyphs, Adaptation(mean=glyphs.mean, std=glyphs.std)).sha256 == glyphs.sha256


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"args": {"mean": [0.1, 0.1, 0.1], "std": [0.3, 0.3, 0.3]}}, 0.1),  # a training's, as timm's scripts leave it
        ({"args": {"mean": None, "std": None}}, 0.2),
    ],
)
def test_the_file_is_asked_before_the_net(folder, tmp_path, said, expected):
    torch.save({"model": Own(3).state_dict(), **said}, tmp_path / "b.pth")
    opened = load_checkpoint(tmp_path / "b.pth", model="test_data_adapt:Own")
    assert load_data_of(opened, folder).mean == (expected,) * 3


def test_a_hugging_face_folder_says_its_constants(folder, tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "hf").mkdir()
    save_file(Own(3).state_dict(), tmp_path / "hf" / "model.safetensors")
    config = {"num_classes": 3, "pretrained_cfg": {"mean": [0, 0, 0], "std": [1, 1, 1]}}
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
    opened = load_checkpoint(tmp_path / "hf", model="test_data_adapt:Own")
    assert opened.recipe["normalization"] == {"mean": [0.0] * 3, "std": [1.0] * 3}
    assert load_data_of(opened, folder).mean == (0.0,) * 3


LINES = "n01440764 tench, Tinca tinca\nn7 a\nn02102040 springer\nn8 crane\nn9 crane\nn03000684 chain saw\n\nn10 z\n"


@pytest.mark.parametrize("form", ["list", "lines", "json"])
def test_ten_folders_of_a_thousand(folder, checkpoint, tmp_path, form):
    (tmp_path / "lines.txt").write_text(LINES)
    entries = {str(i): line.split(" ", 1) for i, line in enumerate(filter(None, LINES.split("\n")))}
    (tmp_path / "json.json").write_text(json.dumps(entries))
    channels = {"list": "0,2,5", "lines": str(tmp_path / "lines.txt"), "json": str(tmp_path / "json.json")}[form]
    data = load_data_of(checkpoint, folder, adaptation=at(channels))
    assert data.labels.tolist() == [0, 0, 2, 2, 5, 5]
    assert data.classes == 7
    assert data.class_names[5] == ("n03000684" if form == "list" else "chain saw")
    logits = kdviz.collect_logits(checkpoint, data)
    assert logits.logits_student.shape == (6, 7)
    assert logits.target.values.tolist() == [0, 0, 2, 2, 5, 5]
    assert logits.attrs["data_variant"].endswith("3 of 7 classes, at channels 0, 2, 5")
    around = kdviz.landscape(checkpoint.model, data, steps=3)
    assert around.attrs["data_variant"] == data.variant


def test_without_channels_the_message_names_them(folder, checkpoint):
    with pytest.raises(KdvizError, match=r"has 7 classes but folder:.* has 3; .*; with --channels they can be some"):
        load_data_of(checkpoint, folder)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"channels": "0,1"}, "2 channels, but folder:.* has 3 classes: n01440764, n02102040, n03000684"),
        ({"channels": "0,1,7"}, r"7 is none of the net's channels 0\.\.6"),
        ({"channels": "4,1,4"}, "channel 4 stands there twice"),
        ({"channels": "nowhere.txt"}, "list of classes not found: nowhere.txt"),
        ({"mean": [0.1] * 3}, "--mean and --std go together"),
        ({"mean": [120.0] * 3, "std": [60.0] * 3}, r"scaled to \[0, 1\]; got 120, 120, 120"),
        ({"mean": [0.1] * 3, "std": [0.0] * 3}, "--std: expected above 0"),
        ({"mean": [0.1], "std": [0.1]}, "1 values, but the images have 3 channels"),
    ],
)
def test_what_does_not_fit_is_one_line(folder, checkpoint, asked, message):
    with pytest.raises(KdvizError, match=message):
        load_data_of(checkpoint, folder, adaptation=Adaptation(**asked))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LINES.replace("n03000684 ", "n03000685 "), "unknown class 'n03000684'; did you mean 'n03000685'"),
        ("a\nb\n", "2 classes, but the net has 7"),
        (LINES.replace("n10", "n01440764"), "'n01440764' names the channels 0, 6; use their ids"),
    ],
)
def test_a_list_of_classes_that_does_not_fit(folder, checkpoint, tmp_path, text, message):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(KdvizError, match=message):
        load_data_of(checkpoint, folder, adaptation=at(str(tmp_path / "list.txt")))


def test_a_list_in_json_that_is_none(folder, checkpoint, tmp_path):
    for content in ("{", '{"1": "a"}', "3"):
        (tmp_path / "list.json").write_text(content)
        with pytest.raises(KdvizError, match="no list of classes"):
            load_data_of(checkpoint, folder, adaptation=at(str(tmp_path / "list.json")))


def test_damaged_images_are_refused_or_counted_and_named(folder, checkpoint):
    bad = Path(folder.removeprefix("folder:")) / "test" / "n02102040" / "1.png"
    content = bad.read_bytes()
    bad.write_bytes(content[: len(content) // 2])
    data = load_data_of(checkpoint, folder, adaptation=at("0,2,5"))
    with pytest.raises(KdvizError, match=r"n02102040/1\.png: not a whole image file"):
        kdviz.collect_logits(checkpoint, data)
    left = load_data_of(checkpoint, folder, adaptation=Adaptation(channels="0,2,5", damaged="leave-out"))
    assert left.ids.tolist() == [0, 1, 2, 4, 5]
    assert left.warning.startswith("1 of 6 images cannot be read and are left out: ")
    assert "n02102040/1.png" in left.warning
    assert kdviz.collect_logits(checkpoint, left).attrs["data_warning"] == left.warning
    with pytest.raises(KdvizError, match="damaged must be one of refuse, leave-out, got 'skip'"):
        Adaptation(damaged="skip")


@pytest.mark.parametrize("part", ["train", "whole"])
def test_an_empty_class_folder_is_named(folder, tmp_path, part):
    path = tmp_path / "pictures"
    place = path / "train" / "n03000684" if part == "train" else tmp_path / "whole" / "ape"
    place.mkdir(parents=True, exist_ok=True)
    if part == "train":
        for one in place.iterdir():
            one.unlink()
        name, empty = folder, "n03000684"
    else:
        for name in ("bee", "cat"):
            (tmp_path / "whole" / name).mkdir()
            for i in range(10):
                Image.new("RGB", (8, 8)).save(tmp_path / "whole" / name / f"{i}.png")
        name, empty = f"folder:{tmp_path / 'whole'}", "ape"
    with pytest.raises(KdvizError, match=rf"no images \(\.png, .*\) in the class folder {empty}; put some there"):
        kdviz.load_data(name)


def test_a_tree_of_empty_class_folders_is_said_to_be_one(tmp_path):
    for name in ("ape", "bee"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "test" / name).mkdir(parents=True)
    with pytest.raises(KdvizError, match=r"train: class folders, but no images"):
        kdviz.load_data(f"folder:{tmp_path}")
