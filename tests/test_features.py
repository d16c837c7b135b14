"""Pre-activation maps of the nets, and features of any net by the names of its modules."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdviz.base.check import KdvizError
from kdviz.models import MODELS, Outputs, build, with_features

NETS = ("resnet8", "resnet8x4", "ResNet18", "ResNet50", "wrn_16_1", "vgg8", "MobileNetV2", "ShuffleV1", "ShuffleV2")
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def shaken(name):
    """Batch norms with statistics and weights of their own, in eval mode."""
    model = build(name, classes=5, seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 1.5),
            ):
                tensor.data.uniform_(low, high, generator=generator)
    return model


@pytest.mark.parametrize("name", sorted({*MODELS} - {"pvt_tiny", "t2t_vit_7"}))  # which have no maps
def test_preactivations_have_the_shapes_of_the_maps(name):
    with torch.device("meta"):
        model = build(name, classes=10).eval()
    outputs = model(torch.empty(2, 3, 32, 32, device="meta"), features=True)
    assert [maps.shape for maps in outputs.preactivations] == [maps.shape for maps in outputs.features]
    assert model(torch.empty(2, 3, 32, 32, device="meta")).preactivations == ()


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_features_cost_nothing_but_references(name):
    model = shaken(name)
    runs = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.register_forward_hook(lambda *_: runs.append(1))
    plain = model(IMAGES).logits
    once = len(runs)
    assert torch.equal(model(IMAGES, features=True).logits, plain)
    assert len(runs) == 2 * once


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_a_map_is_its_preactivation_activated(name):
    outputs = shaken(name)(IMAGES, features=True)
    for place, (maps, before) in enumerate(zip(outputs.features, outputs.preactivations, strict=True)):
        if name.startswith("wrn"):  # its stages end without an activation; a batch norm and a ReLU begin the next
            assert before.min() < 0
            assert not torch.equal(maps, before)
        elif name == "MobileNetV2" and place:
            assert maps is before
        else:
            torch.testing.assert_close(maps, F.relu(before), rtol=0, atol=0)
            assert before.min() < 0


@torch.no_grad()
def test_preactivations_of_a_wide_net_are_what_the_next_batch_norm_gives():
    model = shaken("wrn_16_1")
    outputs = model(IMAGES, features=True)
    norms = [model.block1.layer[0].bn1, model.block2.layer[0].bn1, model.block3.layer[0].bn1, model.bn1]
    for maps, before, norm in zip(outputs.features, outputs.preactivations, norms, strict=True):
        torch.testing.assert_close(norm(maps), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", NETS)
def test_statistics_move_once_a_step_with_features_too(name):
    plain, rich = build(name, classes=5, seed=0), build(name, classes=5, seed=0)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    plain(images)
    rich(images, features=True)
    for (key, a), b in zip(plain.state_dict().items(), rich.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


@pytest.mark.parametrize("name", NETS)
def test_batch_norms_before_the_relu_are_those_of_the_stages(name):
    model = shaken(name)
    if name.startswith("Shuffle"):
        assert not hasattr(model, "bn_before_relu")
        return
    seen = {}
    norms = model.bn_before_relu()
    for norm in norms:
        norm.register_forward_hook(lambda norm, _, output: seen.setdefault(norm, output))
    with torch.no_grad():
        before = model(IMAGES, features=True).preactivations[1:]
    assert [norm.num_features for norm in norms] == [maps.shape[1] for maps in before]
    for norm, maps in zip(norms, before, strict=True):
        assert seen[norm].shape == maps.shape
        if name.startswith(("wrn", "vgg")):  # elsewhere a shortcut is added behind it
            assert torch.equal(seen[norm], maps)


# Features by the names of modules


class Foreign(nn.Module):
    """A net of another library: its own names, a tuple as its output, no `features` argument."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.block = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
        self.act = nn.ReLU()
        self.unused = nn.Conv2d(3, 3, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = self.act(self.block(self.act(self.stem(x))))
        return self.head(x.mean((2, 3))), {"aux": x}


def test_named_modules_are_the_stages_and_the_images_the_stem():
    net = Foreign()
    model = with_features(net, ["stem", "block"])
    outputs = model(IMAGES, features=True)
    stem = net.stem(IMAGES)
    block = net.block(stem.relu())
    assert outputs.features[0] is IMAGES
    torch.testing.assert_close(outputs.features[1:], (stem, block), rtol=0, atol=0)
    assert outputs.preactivations is outputs.features
    torch.testing.assert_close(outputs.pooled, block.mean((2, 3)), rtol=0, atol=0)
    assert torch.equal(outputs.logits, net(IMAGES)[0])
    assert isinstance(model(IMAGES), Outputs)
    assert model(IMAGES).features == ()


def test_gradients_reach_the_weights_before_a_named_module_and_no_others():
    model = with_features(Foreign(), ["stem"])
    model(IMAGES, features=True).features[1].square().sum().backward()
    reached = {name for name, weight in model.net.named_parameters() if weight.grad is not None}
    assert reached == {"stem.weight", "stem.bias"}


@pytest.mark.parametrize("name", ["resnet8", "vgg8"])
@torch.no_grad()
def test_our_own_nets_by_name_agree_with_themselves(name):
    net = shaken(name)
    names = ["layer1", "layer2", "layer3"] if name == "resnet8" else ["block1", "block2", "block3", "block4"]
    found, own = with_features(net, names)(IMAGES, features=True), net(IMAGES, features=True)
    kind = "features" if name == "resnet8" else "preactivations"  # vgg's blocks end before the ReLU
    torch.testing.assert_close(found.features[1:], getattr(own, kind)[1:], rtol=0, atol=0)


def test_the_state_is_the_nets_own_and_goes_back_in():
    net = Foreign()
    model = with_features(net, ["stem"])
    assert list(model.state_dict()) == list(net.state_dict())
    other = Foreign()
    with_features(other, ["stem"]).load_state_dict(net.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    with pytest.raises(RuntimeError, match=r"head\.bias"):
        model.load_state_dict({key: value for key, value in net.state_dict().items() if key != "head.bias"})
    outer, again = (nn.ModuleDict({"inner": with_features(Foreign(), ["stem"])}) for _ in range(2))
    assert "inner.stem.weight" in outer.state_dict()
    again.load_state_dict(outer.state_dict())


def test_a_copy_records_for_itself():
    model = with_features(Foreign(), ["stem"])
    model(IMAGES, features=True)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.net.stem.weight.zero_()
        twin.net.stem.bias.zero_()
    assert not twin(IMAGES, features=True).features[1].any()
    assert model(IMAGES, features=True).features[1].any()


def test_what_cannot_be_taken_is_one_line():
    with pytest.raises(
        KdvizError, match=r"unknown module 'layr1'; did you mean 'layer1'\? known: bn1, conv1, fc, layer1, l"
    ):
        with_features(build("resnet8", classes=5), ["layr1"])
    for names, message in (
        ([], "no module is named"),
        ([""], "unknown module ''"),
        (["stem", "stem"], "'stem' stands there twice"),
    ):
        with pytest.raises(KdvizError, match=message):
            with_features(Foreign(), names)
    for name, message in (
        ("head", r"'head' gives \(2, 5\); expected a map"),
        ("act", "'act' ran 2 times in one forward pass"),
        ("unused", "'unused' ran 0 times"),
    ):
        model = with_features(Foreign(), [name])
        for _ in range(2):  # nothing of a failed pass stays behind
            with pytest.raises(KdvizError, match=message):
                model(IMAGES, features=True)
        assert model(IMAGES).logits.shape == (2, 5)


def test_named_batch_norms_are_the_ones_before_the_relu():
    model = with_features(Foreign(), ["block.1"])
    assert model.bn_before_relu() == [model.net.block[1]]
    with pytest.raises(KdvizError, match="block is a Sequential; expected the BatchNorm2d"):
        with_features(Foreign(), ["block"]).bn_before_relu()
