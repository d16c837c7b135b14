"""ImageNet students in the field's layouts, recognised by their tensors; the libraries are stood in for."""

import sys
import types

import pytest
import torch
from torch import nn

import kdviz
from kdviz.base.check import KdvizError
from kdviz.checkpoints.imagenet import RESNETS, resnet_name
from kdviz.models import build

# Parameters with 1000 classes, as torchvision's documentation has them.
COUNTS = {
    "resnet18": 11689512,
    "resnet34": 21797672,
    "resnet50": 25557032,
    "resnet101": 44549160,
    "resnet152": 60192808,
}


def resnet(name, classes):
    """A net of torchvision's tensor names: downsample.0 and .1 in the first block of a stage, fc."""
    convolutions, depths = next(key for key, value in RESNETS.items() if value == name)
    times = 4 if convolutions == 3 else 1
    net = nn.Module()
    net.conv1, net.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
    width_in = 64
    for stage, depth in enumerate(depths, start=1):
        inner, blocks = 32 * 2**stage, []
        for _ in range(depth):
            block, width = nn.Module(), inner * times
            sizes = ((1, 3, 1), (inner, inner, width)) if times == 4 else ((3, 3), (inner, inner))
            before = width_in
            for j, (size, after) in enumerate(zip(*sizes, strict=True), start=1):
                setattr(block, f"conv{j}", nn.Conv2d(before, after, size, bias=False))
                setattr(block, f"bn{j}", nn.BatchNorm2d(after))
                before = after
            if not blocks and (stage > 1 or times == 4):
                convolution = nn.Conv2d(width_in, width, 1, bias=False)
                block.downsample = nn.Sequential(convolution, nn.BatchNorm2d(width))
            blocks.append(block)
            width_in = width
        setattr(net, f"layer{stage}", nn.Sequential(*blocks))
    net.fc = nn.Linear(width_in, classes)
    return net


@pytest.fixture
def torchvision(monkeypatch):
    models = types.SimpleNamespace(
        list_models=lambda module=None: list(COUNTS),
        get_model=lambda name, weights, num_classes: resnet(name, num_classes),
    )
    module = types.ModuleType("torchvision")
    module.models = models
    monkeypatch.setitem(sys.modules, "torchvision", module)


@pytest.mark.parametrize("name", COUNTS)
def test_residual_nets_are_named_by_their_tensors(name):
    with torch.device("meta"):
        net = resnet(name, 1000)
    assert sum(parameter.numel() for parameter in net.parameters()) == COUNTS[name]  # of the net written here
    assert resnet_name({key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}) == name


def test_other_nets_are_not_taken_for_them():
    with torch.device("meta"):
        for name in ("ResNet18", "resnet20", "MobileNetV1"):
            assert resnet_name({key: tuple(one.shape) for key, one in build(name).state_dict().items()}) is None
        wide = {key: tuple(one.shape) for key, one in resnet("resnet18", 10).state_dict().items()}
    wide["layer1.0.conv2.weight"] = (128, 128, 3, 3)
    assert resnet_name(wide) is None


def test_an_mdistiller_student_opens_by_torchvisions_net(torchvision, tmp_path):
    net = resnet("resnet18", 7)
    state = {f"module.student.{key}": value for key, value in net.state_dict().items()}
    teacher = {f"module.teacher.{key}": value for key, value in resnet("resnet34", 7).state_dict().items()}
    torch.save({"epoch": 100, "model": {**teacher, **state}, "best_acc": 70.1}, tmp_path / "student_best")
    opened = kdviz.load_checkpoint(tmp_path / "student_best")
    assert (opened.name, opened.classes, opened.producer) == ("torchvision:resnet18", 7, "mdistiller")
    assert opened.dropped[0] == "module.teacher."
    assert torch.equal(opened.model.layer4[1].conv2.weight, net.layer4[1].conv2.weight)


def test_without_the_libraries_the_answer_is_the_model_to_name(monkeypatch, tmp_path):
    for library in ("torchvision", "timm"):
        monkeypatch.setitem(sys.modules, library, None)
    torch.save({"state_dict": resnet("resnet34", 5).state_dict()}, tmp_path / "x.pth")
    with pytest.raises(KdvizError, match=r"is a resnet34 with ImageNet's stem.*FILE@torchvision:resnet34"):
        kdviz.load_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("name", "prefix"), [("MobileNetV1", "module.student."), ("MobileNetV2_tiny", "module."), ("t2t_vit_7", "")]
)
@torch.no_grad()
def test_our_own_open_by_themselves(name, prefix, tmp_path):
    net = build(name, classes=11, seed=0).eval()
    torch.save({"model": {f"{prefix}{key}": value for key, value in net.state_dict().items()}}, tmp_path / "x.pth")
    opened = kdviz.load_checkpoint(tmp_path / "x.pth")
    assert (opened.name, opened.classes) == (name, 11)
    side = 224 if name == "t2t_vit_7" else 64
    images = torch.randn(1, 3, side, side)
    assert torch.equal(opened.model(images).logits, net(images).logits)
