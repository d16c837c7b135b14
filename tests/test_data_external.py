"""Data sets from outside: Hugging Face's format written by its own library, and functions that return a Dataset."""

import numpy as np
import pytest
import torch
from PIL import Image

import kdviz
from kdviz.base.check import KdvizError
from kdviz.cli.common import open_data
from kdviz.data.external import as_picture, named_by_file
from kdviz.data.loader import Loader, View


def pixels(seed, size=(10, 8)):
    return np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)


MODULE = """
import numpy as np
from torch.utils.data import Dataset

class Squares(Dataset):
    classes = ["dark", "light"]
    def __init__(self, split): self.count = {"train": 6, "val": 2, "test": 4}[split]
    def __len__(self): return self.count
    def __getitem__(self, i): return np.full((8, 8, 3), 200 * (i % 2), np.uint8), i % 2

def squares(split): return Squares(split)
def normalised(split): return [(np.zeros((8, 8, 3), np.float32), 0)]
def nothing(split): return 3
def loose(split): return [(np.zeros((8, 8), np.uint8), "cat")]
def arguments(): return []
CONSTANT = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "own_data_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_data_module"


def test_a_function_that_returns_a_dataset(module):
    train = kdviz.load_data(f"{module}:squares", split="train")
    assert train.class_names == ("dark", "light")
    assert train.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert train.images.shape == (6, 3, 8, 8)
    batch = train.take(torch.tensor([3, 2])).images[torch.tensor([0, 1])]
    assert batch.amax((1, 2, 3)).tolist() == [200, 0]
    assert len(kdviz.load_data(f"{module}:squares")) == 4
    assert train.sha256 != kdviz.load_data(f"{module}:squares", split="val").sha256
    with Loader(train, View(size=4), batch=6) as loader:
        (loaded,) = loader.epoch(0, torch.arange(6))
    assert loaded.images.amax((1, 2, 3)).tolist() == [0, 200] * 3


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("squars", "unknown function in own_data_module: 'squars'; did you mean 'squares'"),
        ("nothing", "returned a int; expected a torch Dataset"),
        ("normalised", "picture 0: is float32, expected a PIL image or uint8 pixels"),
        ("loose", r"its items are not \(picture, label\)"),
        ("arguments", "cannot be called with split='test'"),
        ("CONSTANT", "unknown function"),
    ],
)
def test_functions_that_return_no_data_set(module, function, message):
    with pytest.raises(KdvizError, match=message):
        kdviz.load_data(f"{module}:{function}")


def test_a_module_that_is_not_there():
    with pytest.raises(KdvizError, match="cannot import no_such_module_at_all"):
        kdviz.load_data("no_such_module_at_all:f")


def test_pictures_of_every_kind_are_the_same():
    made = pixels(3)
    for value in (made, torch.from_numpy(made).permute(2, 0, 1), Image.fromarray(made)):
        assert np.array_equal(np.asarray(as_picture(value)), made)
    assert as_picture(torch.zeros(1, 4, 6, dtype=torch.uint8)).size == (6, 4)


def test_a_file_never_names_code_or_a_download(tmp_path):
    for name in ("os:system", "hf:someone/set"):
        with pytest.raises(KdvizError, match=f"--data {name}"):
            named_by_file(name, where="run.pt")
    assert named_by_file("folder:/tmp/x", where="run.pt") == "folder:/tmp/x"

    class Saved:
        data, path, classes = "os:system", "run.pt", 10

    with pytest.raises(KdvizError, match=r"run\.pt: names its data set 'os:system'"):
        open_data(Saved, None, None)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(KdvizError, match=r"pip install 'kdviz\[datasets\]'"):
        kdviz.load_data("hf:anything")


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf" / "datasets"))
    return pytest.importorskip("datasets")


def part(datasets, first, count, **changes):
    features = {"img": datasets.Image(), "fine_label": datasets.ClassLabel(names=["ape", "bee"]), **changes}
    columns = {
        "img": [Image.fromarray(pixels(first + i)) for i in range(count)],
        "fine_label": [i % 2 for i in range(count)],
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def test_a_saved_set_of_hugging_face(datasets, tmp_path):
    both = datasets.DatasetDict({"train": part(datasets, 0, 6), "test": part(datasets, 100, 4)})
    both.save_to_disk(str(tmp_path / "saved"))
    name = f"hf:{tmp_path / 'saved'}"
    train, val, test = (kdviz.load_data(name, split=split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (6, 4, 4)  # nothing is cut out of train
    assert test.class_names == ("ape", "bee")
    assert test.labels.tolist() == [0, 1, 0, 1]
    assert test.images.shape == (4, 3, 8, 8)
    assert np.array_equal(np.asarray(test.images.picture(3)), pixels(103))
    assert train.sha256 != test.sha256 == kdviz.load_data(name).sha256
    assert kdviz.load_data(f"{name}@16").images.shape == (4, 3, 16, 16)
    with Loader(train, View(size=4), batch=3, workers=1) as pool, Loader(train, View(size=4), batch=3) as alone:
        for first, second in zip(pool.epoch(0, torch.arange(6)), alone.epoch(0, torch.arange(6)), strict=True):
            assert torch.equal(first.images, second.images)


def test_a_set_of_train_alone_is_cut(datasets, tmp_path):
    part(datasets, 0, 20).save_to_disk(str(tmp_path / "alone"))
    name = f"hf:{tmp_path / 'alone'}"
    train, val = (kdviz.load_data(name, split=split) for split in ("train", "val"))
    assert (len(train), len(val)) == (18, 2)
    assert not set(train.ids.tolist()) & set(val.ids.tolist())
    with pytest.raises(KdvizError, match="has no test split; it has train"):
        kdviz.load_data(name)


def test_an_image_folder_by_the_library(datasets, tmp_path):
    for split in ("train", "validation"):
        for number, label in enumerate(("ape", "bee")):
            folder = tmp_path / "tree" / split / label
            folder.mkdir(parents=True)
            for i in range(2):
                Image.fromarray(pixels(10 * number + i)).save(folder / f"{i}.png")
    val = kdviz.load_data(f"hf:{tmp_path / 'tree'}", split="val")
    assert val.labels.tolist() == [0, 0, 1, 1]
    assert val.class_names == ("ape", "bee")
    assert np.array_equal(np.asarray(val.images.picture(2)), pixels(10))


def test_sets_that_do_not_fit(datasets, tmp_path):
    datasets.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(str(tmp_path / "text"))
    with pytest.raises(KdvizError, match=r"has no column of pictures; it has text \(Value\)"):
        kdviz.load_data(f"hf:{tmp_path / 'text'}", split="train")
    with pytest.raises(KdvizError, match="hf:no/such-set: cannot be opened"):
        kdviz.load_data("hf:no/such-set")
