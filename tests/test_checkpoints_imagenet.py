"""ImageNet students in the field's layouts, recognised by their tensors."""

import sys

import pytest
import torch
from torch import nn

import kdviz
from kdviz.base.check import KdvizError
from kdviz.checkpoints.imagenet import library_name
from kdviz.checkpoints.match_architecture import infer, shapes_of
from kdviz.models import build

# Parameters with 1000 classes, as torchvision's documentation has them.
COUNTS = {
    "resnet18": 11689512,
    "resnet34": 21797672,
    "resnet50": 25557032,
    "resnet101": 44549160,
    "resnet152": 60192808,
}

# (convolutions in a block, blocks of each stage)
BLOCKS = {
    "resnet18": (2, (2, 2, 2, 2)),
    "resnet34": (2, (3, 4, 6, 3)),
    "resnet50": (3, (3, 4, 6, 3)),
    "resnet101": (3, (3, 4, 23, 3)),
    "resnet152": (3, (3, 8, 36, 3)),
}


def resnet(name, classes):
    """A net of torchvision's tensor names: downsample.0 and .1 in the first block of a stage, fc."""
    convolutions, depths = BLOCKS[name]
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


@pytest.mark.parametrize("name", COUNTS)
def test_residual_nets_are_named_by_their_tensors(name):
    with torch.device("meta"):
        net = resnet(name, 1000)
    assert sum(parameter.numel() for parameter in net.parameters()) == COUNTS[name]  # of the net written here
    assert infer(shapes_of(net.state_dict())) == (f"{name}_imagenet", 1000)


def test_an_mdistiller_student_opens_without_any_library(tmp_path):
    net = resnet("resnet18", 7)
    state = {f"module.student.{key}": value for key, value in net.state_dict().items()}
    teacher = {f"module.teacher.{key}": value for key, value in resnet("resnet34", 7).state_dict().items()}
    torch.save({"epoch": 100, "model": {**teacher, **state}, "best_acc": 70.1}, tmp_path / "student_best")
    opened = kdviz.load_checkpoint(tmp_path / "student_best")
    assert (opened.name, opened.classes, opened.producer) == ("resnet18_imagenet", 7, "mdistiller")
    assert opened.dropped[0] == "module.teacher."
    assert torch.equal(opened.model.layer4[1].conv2.weight, net.layer4[1].conv2.weight)


def test_a_library_name_that_is_one_of_ours_needs_no_library(monkeypatch, tmp_path):
    for library in ("torchvision", "timm"):
        monkeypatch.setitem(sys.modules, library, None)
    state = resnet("resnet18", 5).state_dict()
    torch.save({"arch": "resnet18", "version": 2, "state_dict": state}, tmp_path / "x.pth")
    assert kdviz.load_checkpoint(tmp_path / "x.pth").name == "resnet18_imagenet"


def test_a_net_that_only_has_our_tensors_is_not_taken_for_ours(monkeypatch, tmp_path):
    """timm's resnetblur18 has the tensors of resnet18 and blurs where that one strides."""
    monkeypatch.setitem(sys.modules, "timm", None)
    state = resnet("resnet18", 5).state_dict()
    torch.save({"arch": "resnetblur18", "version": 2, "state_dict": state}, tmp_path / "x.pth")
    with pytest.raises(KdvizError, match=r"timm .*pip install timm"):
        kdviz.load_checkpoint(tmp_path / "x.pth")
    assert kdviz.load_checkpoint(tmp_path / "x.pth", model="resnet18_imagenet").name == "resnet18_imagenet"


# Convolutions of Simonyan and Zisserman 2015, table 1, configurations A, B, D and E; M is a maximum.
VGG = {
    "vgg11_bn": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "vgg13_bn": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "vgg16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "vgg19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}


def vgg(name, classes):
    layers, width = [], 3
    for part in VGG[name].split():
        if part == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(width, int(part), 3, padding=1))
        width = int(part)
        layers += [nn.BatchNorm2d(width)] * name.endswith("_bn") + [nn.ReLU()]
    net = nn.Module()
    net.features = nn.Sequential(*layers)
    sizes = (nn.Linear(25088, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout())
    net.classifier = nn.Sequential(*sizes, nn.Linear(4096, classes))
    return net


@pytest.mark.parametrize("name", VGG)
def test_torchvisions_vggs_are_named(name):
    with torch.device("meta"):
        assert library_name(shapes_of(vgg(name, 10).state_dict())) == name
        assert library_name(shapes_of(build("vgg13").state_dict())) is None


def test_without_torchvision_the_answer_is_the_model_to_name(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    state = {"features.18.0.weight": torch.zeros(1280, 320, 1, 1), "classifier.1.weight": torch.zeros(5, 1280)}
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "x.pth")
    with pytest.raises(KdvizError, match=r"is torchvision's mobilenet_v2, .*FILE@torchvision:mobilenet_v2"):
        kdviz.load_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("MobileNetV1", "module.student."),
        ("MobileNetV2_tiny", "module."),
        ("t2t_vit_7", ""),
        ("resnet8x4_double", "module."),
        ("resnet18x2", "module."),
        ("resnext50_32x4d", ""),
        ("shufflenet_v2_x0_5", "module."),
    ],
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
