"""Backbones from a classifier's file: torchvision's own nets as the truth, what is frozen, what is refused."""

import os

import pytest
import torch
from safetensors.torch import save_file
from tiny_detector import SIDE, Small
from typer.testing import CliRunner

from kdviz.base.check import KdvizError
from kdviz.base.files import sha256
from kdviz.checkpoints import RunFolder, load_checkpoint
from kdviz.checkpoints.backbone import load_backbone
from kdviz.cli.app import app
from kdviz.models import build
from kdviz.models.detection import freeze, torchvision_detection
from kdviz.train import load_recipe, train

pytestmark = pytest.mark.filterwarnings("ignore:KDVIZ_TORCHVISION_FALLBACK")
NETS = {"resnet18": "fasterrcnn_resnet18_fpn", "mobilenet_v2": "fasterrcnn_mobilenet_v2_fpn"}


def classifier(name="resnet18"):
    """torchvision's net with fresh weights, and running statistics that no fresh net has."""
    torchvision_detection()
    from torchvision import models

    torch.manual_seed(1)
    net = getattr(models, name)()
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return net.eval()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("form", ["plain", "prefixed", "safetensors"])
def test_the_filled_backbone_computes_what_torchvisions_net_computes(name, form, tmp_path):
    net, path = classifier(name), tmp_path / "weights"
    state = {f"module.{key}" if form == "prefixed" else key: value for key, value in net.state_dict().items()}
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 90} if form == "prefixed" else state, path)
    detector = build(NETS[name], classes=2, seed=0)
    before = {key: value.clone() for key, value in detector.state_dict().items() if ".body." not in key}
    assert load_backbone(path, detector, name=NETS[name]) == sha256(path)
    for key, value in before.items():
        assert torch.equal(detector.state_dict()[key], value), key
    freeze(detector, trainable_layers=3, frozen_bn=True)
    images, maps = torch.randn(1, 3, SIDE, SIDE), []
    with torch.no_grad():
        if name == "resnet18":
            seen = net.maxpool(net.relu(net.bn1(net.conv1(images))))
            for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
                maps.append(seen := layer(seen))
        else:
            seen = images
            for number, block in enumerate(net.features[:18]):
                seen = block(seen)
                if number in (3, 6, 13, 17):
                    maps.append(seen)
        found = detector.backbone.body(images)
    for one, wanted in zip(found.values(), maps, strict=True):
        torch.testing.assert_close(one, wanted, rtol=1e-4, atol=1e-4)


def test_frozen_stages_are_those_of_torchvision_and_detectron2():
    trained = {}
    for layers in (0, 3, 5):
        detector = build("fasterrcnn_resnet18_fpn", classes=2, seed=0)
        freeze(detector, trainable_layers=layers, frozen_bn=False)
        body = detector.backbone.body
        trained[layers] = [key for key, one in body.named_children() if any(w.requires_grad for w in one.parameters())]
        norms = [key for key, one in body.named_modules() if type(one) is torch.nn.BatchNorm2d]
        assert {key.partition(".")[0] for key in norms} == {key for key in trained[layers] if key != "conv1"}
        assert all(weight.requires_grad for weight in detector.backbone.fpn.parameters())
    assert trained[3] == ["layer2", "layer3", "layer4"]
    assert trained[0] == []
    assert trained[5] == ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]
    detector = build("fasterrcnn_mobilenet_v2_fpn", classes=2, seed=0)
    freeze(detector, **load_recipe(student="fasterrcnn_mobilenet_v2_fpn").backbone_settings)
    assert all(weight.requires_grad for weight in detector.parameters())
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in detector.modules())


def altered(change):
    """The weights of a ResNet-18, changed."""
    state = classifier().state_dict()
    change(state)
    return state


def nan(state):
    state["layer2.0.bn1.weight"][3] = float("nan")


REFUSED = {
    "a ResNet-50's shape": (
        lambda state: state.update({"layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}),
        r"its layer1.0.conv1.weight is \(64, 64, 1, 1\), expected \(64, 64, 3, 3\); it is nearest to resnet18_imagenet",
    ),
    "deeper": (
        lambda state: state.update({"layer1.2.conv1.weight": torch.zeros(64, 64, 3, 3)}),
        "is no backbone of fasterrcnn_resnet18_fpn: it has layer1.2.conv1.weight beside it",
    ),
    "without a tensor": (lambda state: state.pop("bn1.running_var"), "it lacks bn1.running_var"),
    "NaN": (nan, "layer2.0.bn1.weight is not finite in 1 of 128 numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_of_another_net_or_without_numbers_is_one_line(name, tmp_path):
    change, message = REFUSED[name]
    torch.save(altered(change), tmp_path / "weights.pth")
    detector = build("fasterrcnn_resnet18_fpn", classes=2, seed=0)
    with pytest.raises(KdvizError, match=message) as told:
        load_backbone(tmp_path / "weights.pth", detector, name="fasterrcnn_resnet18_fpn")
    assert "\n" not in str(told.value)


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("made",)


def test_a_hostile_or_damaged_file_is_one_line_and_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    detector = build("fasterrcnn_small", classes=2, seed=0)
    torch.save({"fc.weight": torch.zeros(2, 2), "x": Hostile()}, "hostile.pt")
    torch.save(Small().state_dict(), "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:-300])
    for file, message in (
        ("hostile.pt", "names objects that could run code"),
        ("cut.pt", "truncated or damaged"),
        ("none.pt", "backbone not found"),
    ):
        with pytest.raises(KdvizError, match=message):
            load_backbone(file, detector, name="fasterrcnn_small")
    assert not (tmp_path / "made").exists()
    assert len(load_backbone("whole.pt", detector, name="fasterrcnn_small")) == 64


def recipe(**changes):
    base = {"student": "fasterrcnn_small", "data": "squares", "method": "detector", "epochs": 1, "batch": 4}
    return load_recipe(
        **{**base, "limit": 8, "augment": "flip", "lr": 0.02, "warmup": 0, "precision": "fp32", **changes}
    )


def body(path):
    """The backbone's tensors in a run's last checkpoint."""
    prefix, state = "backbone.body.", load_checkpoint(path).model.state_dict()
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


@pytest.mark.parametrize(("layers", "still"), [(None, 2), (5, 0)])
def test_a_run_starts_from_the_file_and_leaves_what_is_frozen(layers, still, tmp_path):
    torch.manual_seed(5)
    net, file = Small(), tmp_path / "weights.pt"
    net.conv1[1].running_mean.normal_()
    torch.save({**net.state_dict(), "fc.weight": torch.zeros(9, 8), "fc.bias": torch.zeros(9)}, file)
    asked = recipe(backbone=str(file), trainable_layers=layers)
    train(asked, out=tmp_path / "run", device="cpu")
    stages = ["conv1", "layer1", "layer2", "layer3", "layer4"]
    found, given = body(tmp_path / "run"), net.state_dict()
    for key, value in found.items():
        if key.endswith("num_batches_tracked"):
            continue
        frozen = stages.index(key.partition(".")[0]) < still or key.startswith("conv1.1.")  # all batch normalisation
        assert torch.equal(value, given[key]) == frozen, key
    stated = load_checkpoint(tmp_path / "run").recipe
    assert (stated["backbone_sha256"], stated["frozen_bn"]) == (sha256(file), True)
    assert stated["trainable_layers"] == (3 if layers is None else layers)
    assert "backbone" not in stated  # a path is of the machine
    torch.save({**given, "fc.weight": torch.ones(9, 8)}, file)
    with pytest.raises(KdvizError, match=r"a run of another recipe \(backbone_sha256: .* there, .* now"):
        train(asked, out=tmp_path / "run", device="cpu")


def test_without_a_file_a_recipe_that_has_one_says_that_the_backbone_is_fresh(tmp_path):
    with pytest.warns(UserWarning, match="the backbone's weights are fresh, so that all of it is trained"):
        train(recipe(frozen_bn=True, limit=4), out=tmp_path / "noted", device="cpu")
    train(recipe(limit=4), out=tmp_path / "plain", device="cpu")
    first, second = body(tmp_path / "noted"), body(tmp_path / "plain")
    assert all(torch.equal(first[key], second[key]) for key in second)
    assert load_checkpoint(tmp_path / "noted").recipe == load_checkpoint(tmp_path / "plain").recipe
    assert len(RunFolder(tmp_path / "noted").events("warning")) == 1
    assert not RunFolder(tmp_path / "plain").events("warning")


def test_the_command_takes_a_file_and_classifiers_have_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": torch.zeros(3)}, "weights.pt")
    words = ["train", "glyphboxes", "--data", "squares", "--student", "fasterrcnn_small", "--backbone", "weights.pt"]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, KdvizError)
    assert "weights.pt: is no backbone of fasterrcnn_small: it lacks conv1.0.weight" in str(done.exception)
    with pytest.raises(KdvizError, match="train: backbone is of detectors, but resnet8 is none"):
        train(load_recipe(student="resnet8", backbone="weights.pt"), out=tmp_path, device="cpu")
