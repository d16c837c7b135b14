"""The nets against published checkpoints' tensors, the papers' parameter counts and forward passes written anew."""

import importlib
import json
import sys
import types
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from kdviz.base.check import KdvizError
from kdviz.models import MODELS, Outputs, build, logits_of

BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def unpack(lines):
    """Shapes by name; "bn1.* 16" stands for the five tensors of a batch normalisation of 16 channels."""
    shapes = {}
    for line in lines:
        name, shape = line.rsplit(" ", 1)
        sizes = tuple(int(size) for size in shape.split("x"))
        if name.endswith(".*"):
            shapes |= {name[:-1] + part: () if part == BN[-1] else sizes for part in BN}
        else:
            shapes[name] = sizes
    return shapes


TABLE = json.loads((Path(__file__).parent / "data" / "cifar_state_dicts.json").read_text())
PUBLISHED = {name: unpack(lines) for name, lines in TABLE.items()}
PARAMETERS = {
    "resnet8": 83892,
    "resnet14": 181108,
    "resnet20": 278324,
    "resnet32": 472756,
    "resnet44": 667188,
    "resnet56": 861620,
    "resnet110": 1736564,
    "resnet8x4": 1233540,
    "resnet32x4": 7433860,
    "ResNet18": 11220132,
    "ResNet50": 23705252,
    "wrn_16_1": 180916,
    "wrn_16_2": 703284,
    "wrn_40_1": 569780,
    "wrn_40_2": 2255156,
    "vgg8": 3965028,
    "vgg13": 9462180,
    "MobileNetV2": 812836,
    "ShuffleV1": 949258,
    "ShuffleV2": 1355528,
}
NARROW = [(16, 32), (16, 32), (32, 16), (64, 8)]
WIDE = [(32, 32), (64, 32), (128, 16), (256, 8)]
VGG = [(64, 32), (128, 16), (256, 8), (512, 4), (512, 4)]
STAGES = {  # (channels, size) of every map at 32 px, width of the pooled features
    **{f"resnet{depth}": (NARROW, 64) for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{depth}x4": (WIDE, 256) for depth in (8, 32)},
    **{f"vgg{depth}": (VGG, 512) for depth in (8, 11, 13, 16, 19)},
    "wrn_16_1": (NARROW, 64),
    "wrn_40_1": (NARROW, 64),
    "wrn_16_2": ([(16, 32), (32, 32), (64, 16), (128, 8)], 128),
    "wrn_40_2": ([(16, 32), (32, 32), (64, 16), (128, 8)], 128),
    "ResNet18": ([(64, 32), (64, 32), (128, 16), (256, 8), (512, 4)], 512),
    "ResNet50": ([(64, 32), (256, 32), (512, 16), (1024, 8), (2048, 4)], 2048),
    "MobileNetV2": ([(16, 16), (12, 16), (16, 8), (48, 4), (160, 2)], 1280),
    "ShuffleV1": ([(24, 32), (240, 16), (480, 8), (960, 4)], 960),
    "ShuffleV2": ([(24, 32), (116, 16), (232, 8), (464, 4)], 1024),
}
IMAGENET = (
    *(f"resnet{depth}_imagenet" for depth in (18, 34, 50, 101, 152)),
    *("resnet18x2", "resnet34x4", "wrn_50_2", "resnext50_32x4d"),
    *(f"shufflenet_v2_{width}" for width in ("x0_5", "x1_0", "x1_5", "x2_0")),
)
ONE_OF_EACH = (
    "resnet8",
    "resnet8x4",
    "ResNet18",
    "ResNet50",
    "wrn_16_2",
    "vgg11",
    "MobileNetV2",
    "ShuffleV1",
    "ShuffleV2",
)


def on_meta(name, classes=100):
    with torch.device("meta"):
        return build(name, classes=classes)


def random_state(model, seed=0):
    """The model with every tensor away from its neutral value, so that none can be left out unseen."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_var", "bn1.weight", "bn2.weight")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.is_floating_point() and tensor.dim() == 1:
            tensor.uniform_(-0.5, 0.5, generator=generator)
    return model.double().eval()


def test_the_registry_is_the_published_table():
    others = {"MobileNetV1", "MobileNetV2_tiny", "pvt_tiny", "t2t_vit_7", "resnet8x4_double", *IMAGENET}
    assert set(MODELS) == {*PUBLISHED, *others}


def test_the_double_of_resnet8x4_is_the_published_net_with_all_widths_doubled():
    shapes = {key: tuple(one.shape) for key, one in on_meta("resnet8x4_double").state_dict().items()}
    wide = {size: 2 * size for size in (32, 64, 128, 256)}
    doubled = {key: tuple(wide.get(size, size) for size in shape) for key, shape in PUBLISHED["resnet8x4"].items()}
    assert list(shapes.items()) == list(doubled.items())


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_tensors_are_the_published_ones_in_order(name):
    shapes = {key: tuple(tensor.shape) for key, tensor in on_meta(name).state_dict().items()}
    assert list(shapes.items()) == list(PUBLISHED[name].items())


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameter_counts(name, count):
    assert sum(parameter.numel() for parameter in on_meta(name).parameters()) == count


@pytest.mark.parametrize("name", sorted(STAGES))
def test_stage_maps_and_pooled_sizes_at_32_px(name):
    maps, pooled = STAGES[name]
    outputs = on_meta(name, classes=10).eval()(torch.empty(2, 3, 32, 32, device="meta"), features=True)
    assert [tuple(features.shape) for features in outputs.features] == [(2, width, size, size) for width, size in maps]
    assert outputs.pooled.shape == (2, pooled)
    assert outputs.logits.shape == (2, 10)


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize("size", [28, 64])
def test_other_sizes_work(name, size):
    outputs = on_meta(name, classes=10).eval()(torch.empty(2, 3, size, size, device="meta"))
    assert outputs.logits.shape == (2, 10)
    assert outputs.features == ()
    assert outputs.pooled is None


# Forward passes written again, from the tensors' names and the papers, as functions of the state alone.


def conv(state, name, x, **settings):
    kernel = state[f"{name}.weight"].shape[-1]
    return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), padding=kernel // 2, **settings)


def norm(state, name, x):
    mean, var, weight, bias = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def convnorm(state, c, b, x, **settings):
    return norm(state, b, conv(state, c, x, **settings))


def shuffled(x, groups):
    per_group = x.shape[1] // groups
    return x[:, [member + group * per_group for member in range(per_group) for group in range(groups)]]


def blocks(state, stage):
    depth = stage.count(".") + 1
    return sorted({int(key.split(".")[depth]) for key in state if key.startswith(f"{stage}.")})


def head(state, name, x):
    return x.mean((2, 3)) @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def residual(state, x, shortcut, last):
    """He et al. 2016: two (or, with bottlenecks, three) convolutions, addition, activation after it."""
    x = convnorm(state, "conv1", "bn1", x).relu()
    for stage in sorted({key.split(".")[0] for key in state if key.startswith("layer")}):
        for i in blocks(state, stage):
            at = f"{stage}.{i}"
            stride = 2 if i == 0 and stage != "layer1" else 1
            count = 3 if f"{at}.conv3.weight" in state else 2
            y = x
            for j in range(1, count + 1):
                strided = j == (2 if count == 3 else 1)
                y = convnorm(state, f"{at}.conv{j}", f"{at}.bn{j}", y, stride=stride if strided else 1)
                y = y.relu() if j < count else y
            if f"{at}.{shortcut}.0.weight" in state:
                x = convnorm(state, f"{at}.{shortcut}.0", f"{at}.{shortcut}.1", x, stride=stride)
            x = (x + y).relu()
    return head(state, last, x)


def wide(state, x):
    x = conv(state, "conv1", x)
    for stage in ("block1", "block2", "block3"):
        for i in blocks(state, f"{stage}.layer"):
            at = f"{stage}.layer.{i}"
            stride = 2 if i == 0 and stage != "block1" else 1
            active = norm(state, f"{at}.bn1", x).relu()
            y = conv(state, f"{at}.conv1", active, stride=stride)
            y = conv(state, f"{at}.conv2", norm(state, f"{at}.bn2", y).relu())
            if f"{at}.convShortcut.weight" in state:
                x = conv(state, f"{at}.convShortcut", active, stride=stride)
            x = x + y
    return head(state, "fc", norm(state, "bn1", x).relu())


def vgg(state, x):
    height = x.shape[2]
    for i in range(5):
        if i in (1, 2, 3) or (i == 4 and height == 64):
            x = F.max_pool2d(x, 2)
        for j in blocks(state, f"block{i}")[::2]:
            x = convnorm(state, f"block{i}.{j}", f"block{i}.{j + 1}", x).relu()
    return head(state, "classifier", x)


def mobile(state, x):
    x = convnorm(state, "conv1.0", "conv1.1", x, stride=2).relu()
    for n, first in enumerate((1, 1, 2, 2, 1, 2, 1)):
        for m in blocks(state, f"blocks.{n}"):
            at = f"blocks.{n}.{m}.conv"
            wide = state[f"{at}.3.weight"].shape[0]
            stride = first if m == 0 else 1
            y = convnorm(state, f"{at}.0", f"{at}.1", x).relu()
            y = convnorm(state, f"{at}.3", f"{at}.4", y, stride=stride, groups=wide).relu()
            y = convnorm(state, f"{at}.6", f"{at}.7", y)
            x = x + y if stride == 1 and x.shape[1] == y.shape[1] else y
    return head(state, "classifier.0", convnorm(state, "conv2.0", "conv2.1", x).relu())


def shuffle_v1(state, x):
    x = convnorm(state, "conv1", "bn1", x).relu()
    for stage in ("layer1", "layer2", "layer3"):
        for i in blocks(state, stage):
            at = f"{stage}.{i}"
            groups = 1 if x.shape[1] == 24 else 3
            y = convnorm(state, f"{at}.conv1", f"{at}.bn1", x, groups=groups).relu()
            y = shuffled(y, groups)
            y = convnorm(state, f"{at}.conv2", f"{at}.bn2", y, stride=1 if i else 2, groups=y.shape[1]).relu()
            y = convnorm(state, f"{at}.conv3", f"{at}.bn3", y, groups=3)
            x = (x + y if i else torch.cat([y, F.avg_pool2d(x, 3, 2, 1)], 1)).relu()
    return head(state, "linear", x)


def shuffle_v2(state, x):
    x = convnorm(state, "conv1", "bn1", x).relu()
    for stage in ("layer1", "layer2", "layer3"):
        for i in blocks(state, stage):

            def step(j, x, stage=stage, i=i, **settings):
                return convnorm(state, f"{stage}.{i}.conv{j}", f"{stage}.{i}.bn{j}", x, **settings)

            if i == 0:
                left = step(2, step(1, x, stride=2, groups=x.shape[1])).relu()
                right = step(3, x).relu()
                right = step(5, step(4, right, stride=2, groups=right.shape[1])).relu()
            else:
                left, right = x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]
                right = step(1, right).relu()
                right = step(3, step(2, right, groups=right.shape[1])).relu()
            x = shuffled(torch.cat([left, right], 1), 2)
    return head(state, "linear", convnorm(state, "conv2", "bn2", x).relu())


ANEW = {
    "resnet8": lambda state, x: residual(state, x, "downsample", "fc"),
    "resnet8x4": lambda state, x: residual(state, x, "downsample", "fc"),
    "ResNet18": lambda state, x: residual(state, x, "shortcut", "linear"),
    "ResNet50": lambda state, x: residual(state, x, "shortcut", "linear"),
    "wrn_16_1": wide,
    "wrn_16_2": wide,
    "vgg8": vgg,
    "vgg13": vgg,
    "MobileNetV2": mobile,
    "ShuffleV1": shuffle_v1,
    "ShuffleV2": shuffle_v2,
}


@pytest.mark.parametrize("name", ANEW)
@torch.no_grad()
def test_predictions_are_those_of_the_papers(name):
    model = random_state(build(name, classes=7, seed=3))
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(images).logits, ANEW[name](model.state_dict(), images), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_vgg_pools_once_more_at_64_px():
    model = random_state(build("vgg8", classes=7, seed=3))
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(images).logits, vgg(model.state_dict(), images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "vgg8", "MobileNetV2", "ShuffleV1", "ShuffleV2"])
@torch.no_grad()
def test_fx_traces_the_forward_without_features(name):
    model = build(name, classes=5, seed=0).eval()
    traced = fx.symbolic_trace(model, concrete_args={"features": False})
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(traced(images, False).logits, model(images).logits)


@torch.no_grad()
def test_pooled_features_are_what_the_classifier_sees():
    model = build("resnet8", classes=5, seed=0).eval()
    outputs = model(torch.randn(2, 3, 32, 32), features=True)
    torch.testing.assert_close(model.fc(outputs.pooled), outputs.logits)
    torch.testing.assert_close(outputs.features[-1].mean((2, 3)), outputs.pooled)


# Initial weights


def test_a_seed_repeats_the_weights_and_leaves_the_global_state():
    before = torch.get_rng_state()
    one, two, other = build("resnet8", seed=0), build("resnet8", seed=0), build("resnet8", seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.conv1.weight, other.conv1.weight)


def test_without_a_seed_the_callers_state_decides():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        one = build("resnet8")
        torch.manual_seed(5)
        two = build("resnet8")
    assert torch.equal(one.fc.weight, two.fc.weight)


@pytest.mark.parametrize("name", ["resnet8x4", "ResNet18", "wrn_16_2", "vgg8", "MobileNetV2"])
def test_convolutions_start_as_he_et_al(name):
    for module in build(name, seed=0).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 20000:
            expected = (2 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.03)
            assert module.weight.mean().item() == pytest.approx(0, abs=0.03 * expected)
        if isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert not module.bias.any()


def test_classifiers_start_small_where_the_originals_do():
    for layer in (build("vgg8", seed=0).classifier, build("MobileNetV2", seed=0).classifier[0]):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.03)
        assert not layer.bias.any()
    assert not build("wrn_16_1", seed=0).fc.bias.any()


# Names and outputs


def test_bad_names_and_counts_are_one_line():
    with pytest.raises(KdvizError, match="did you mean 'resnet8'"):
        build("resnett8")
    with pytest.raises(KdvizError, match="above 1, got 1"):
        build("resnet8", classes=1)


def test_logits_of_every_kind_of_output():
    logits = torch.zeros(2, 5)
    held = types.SimpleNamespace(logits=logits)
    for output in (logits, Outputs(logits), held, {"logits": logits}, (logits, {"feats": []}), [logits]):
        assert logits_of(output) is logits
    for output in (None, {}, {"loss": 1}, (), "logits"):
        with pytest.raises(KdvizError, match="without logits"):
            logits_of(output)


# Nets from outside: the libraries are optional and not installed here, so stand-ins show what we ask of them


def stand_in(monkeypatch, name, **members):
    module = types.ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


def test_timm_and_torchvision_are_asked_by_name(monkeypatch):
    def create_model(name, pretrained, num_classes):
        assert not pretrained
        return nn.Linear(3, num_classes)

    stand_in(
        monkeypatch,
        "timm",
        create_model=create_model,
        is_model={"deit_tiny"}.__contains__,
        list_models=lambda: ["deit_tiny"],
    )
    assert build("timm:deit_tiny", classes=7).out_features == 7
    with pytest.raises(KdvizError, match="unknown timm model 'deit_tinny'; did you mean 'deit_tiny'"):
        build("timm:deit_tinny")

    many = [f"net{number}_small" for number in range(1000)]
    stand_in(monkeypatch, "timm", is_model=lambda name: False, list_models=lambda: many)
    with pytest.raises(KdvizError, match=r"'net77small'; did you mean 'net77_small'.* 1,000 are known") as hit:
        build("timm:net77small")
    assert len(str(hit.value)) < 250

    def get_model(name, weights, num_classes):
        assert weights is None
        return nn.Linear(3, num_classes)

    models = types.SimpleNamespace(list_models=lambda module: ["resnet18"], get_model=get_model)
    stand_in(monkeypatch, "torchvision", models=models)
    assert build("torchvision:resnet18", classes=7).out_features == 7
    with pytest.raises(KdvizError, match="unknown torchvision model"):
        build("torchvision:resnet19")


@pytest.mark.parametrize("error", [ImportError("no"), RuntimeError("operator torchvision::nms does not exist")])
def test_a_library_that_fails_to_import_is_one_line(monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(
        KdvizError, match=r"torchvision cannot be imported \((no|operator.*)\); .*pip install torchvision"
    ):
        build("torchvision:resnet18")


def test_a_library_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)  # as the import system marks a module that must not be found
    with pytest.raises(KdvizError, match="pip install timm"):
        build("timm:resnet18")


def test_a_net_of_the_users_own(monkeypatch, tmp_path):
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n"
        "def wide(num_classes): return nn.Linear(4, num_classes)\n"
        "def plain(k): return nn.Linear(4, k)\n"
        "def wrong(k): return k\n"
        "def broken(k): raise ValueError('no such width')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert build("my_nets:wide", classes=3).out_features == 3
    assert build("my_nets:plain", classes=3).out_features == 3
    sys.modules.pop("my_nets")
    for name, message in {
        "my_nets:wrong": "returned a int",
        "my_nets:broken": "no such width",
        "my_nets:wyde": "did you mean 'wide'",
        "my_netz:wide": "cannot import my_netz",
        ":x": "names no model",
        "timm:": "names no model",
    }.items():
        with pytest.raises(KdvizError, match=message):
            build(name)
    sys.modules.pop("my_nets")
