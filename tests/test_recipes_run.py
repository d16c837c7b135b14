"""Every bundled recipe runs: one epoch on a few images of made-up data in the real formats, by the command."""

import shlex

import numpy as np
import pytest
import torch
from PIL import Image
from test_data_archives import COUNT, cifar_files, write_folder
from typer.testing import CliRunner

import kdviz
from kdviz.checkpoints import RunFolder, save_checkpoint
from kdviz.cli.app import app
from kdviz.models.detection import is_detector
from kdviz.papers import published
from kdviz.train import load_recipe, recipes

EXTERNAL = {  # where the paper's net or optimizer needs timm: one of ours, or a kept library's, in its place
    "pld-imagenet": ["--student", "resnet18_imagenet", "--optimizer", "lamb", "--lr", "1e-3"],
    "pld-cifar100": ["--student", "resnet8"],
    "rkkd-vit": ["--student", "t2t_vit_7"],
}
TEACHERS = {
    "cifar100": "resnet14",
    "imagenet": "resnet18_imagenet",
    "glyphs100": "resnet14",
    "fashion-mnist": "resnet14",
}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Folders of made-up CIFAR-100 and ImageNet."""
    base = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COUNT, "cifar100", 100)
        write_folder(base / "cifar100", cifar_files("cifar100", "python")[0])
    draw = np.random.default_rng(0)
    for part in ("train", "val"):
        for label in range(8):
            folder = base / "imagenet" / part / f"n{label:08d}"
            folder.mkdir(parents=True)
            for number in range(4):
                Image.fromarray(draw.integers(0, 256, (240, 260, 3), dtype=np.uint8)).save(folder / f"{number}.jpg")
    return base


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in recipes() if not is_detector(load_recipe(name).student)])
def test_a_recipe_trains_for_an_epoch_and_its_student_opens(name, roots, tmp_path):
    recipe = load_recipe(name)
    if recipe.data == "fashion-mnist":
        pytest.skip("its archive is of the distribution; tests/test_data.py reads it where it is installed")
    classes = 8 if recipe.data == "imagenet" else 100
    words = [name, "--epochs", "1", "--limit", "32", "--batch", "16", "-o", str(tmp_path / "run"), "--device", "cpu"]
    if recipe.data in ("cifar100", "imagenet"):
        words += ["--root", str(roots / recipe.data)]
    if recipe.method != "ce":
        architecture = TEACHERS[recipe.data]
        model = kdviz.models.build(architecture, classes=classes, seed=0)
        about = {"data": None, "method": "ce", "seed": 0, "epoch": 1, "metrics": {}, "recipe": {}}
        path = save_checkpoint(tmp_path / "teacher.pt", model=model, name=architecture, classes=classes, **about)
        words += ["--teacher", str(path)]
    found = CliRunner().invoke(app, ["train", *words, *EXTERNAL.get(name, [])])
    assert found.exit_code == 0, found.output or found.exception
    assert RunFolder(tmp_path / "run").epochs()[0]["epoch"] == 1
    assert kdviz.load_checkpoint(tmp_path / "run").classes == classes


@pytest.mark.slow
@pytest.mark.parametrize("row", [row.name for row in published.tables("rkkd")["tab3"].rows])
def test_every_row_of_rkkds_table_3_trains_between_its_nets(row, roots, tmp_path):
    table = published.tables("rkkd")["tab3"]
    model = kdviz.models.build("resnet50_imagenet", classes=8, seed=0)
    torch.save(model.state_dict(), tmp_path / "resnet50_imagenet.pt")  # as torchvision's file is
    words = shlex.split(published.command(table.row(row), table.columns[0]))[1:]
    words[words.index("resnet50_imagenet.pt")] = str(tmp_path / "resnet50_imagenet.pt")
    words += ["--root", str(roots / "imagenet"), "--epochs", "1", "--limit", "8", "--batch", "4", "--device", "cpu"]
    words += ["--set", "image_size=64", "-o", str(tmp_path / "run")]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output or found.exception
    opened = kdviz.load_checkpoint(tmp_path / "run")
    assert (opened.name, opened.method) == ("MobileNetV1", table.row(row).method)
    assert np.isfinite(RunFolder(tmp_path / "run").epochs()[0]["train"]["total"])
