"""ImageNet's and Tiny ImageNet's students: published counts and tensor names, forward passes written anew."""

import copy
import functools
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from kdviz.base.check import KdvizError
from kdviz.models import MODELS, build
from kdviz.models.transformer import DropPath, sinusoids

# RKKD's Table 4 at 100 classes; MobileNetV1's 4.2 million of Howard et al., table 8, counted at 1000 classes.
PARAMETERS = {("t2t_vit_7", 100): 4078922, ("pvt_tiny", 100): 12767588, ("MobileNetV1", 1000): 4231976}
# Of torchvision's documentation, 1000 classes.
PARAMETERS |= {
    ("resnet18_imagenet", 1000): 11689512,
    ("resnet34_imagenet", 1000): 21797672,
    ("resnet50_imagenet", 1000): 25557032,
    ("resnet101_imagenet", 1000): 44549160,
    ("resnet152_imagenet", 1000): 60192808,
    ("wrn_50_2", 1000): 68883240,
    ("resnext50_32x4d", 1000): 25028904,
    ("shufflenet_v2_x0_5", 1000): 1366792,
    ("shufflenet_v2_x1_0", 1000): 2278604,
    ("shufflenet_v2_x1_5", 1000): 3503624,
    ("shufflenet_v2_x2_0", 1000): 7393996,
}


def on_meta(name, classes=100):
    with torch.device("meta"):
        return build(name, classes=classes)


def shaken(name, classes=5, **settings):
    """Every tensor away from its neutral value, so that none can be left out unseen; in double precision."""
    model = build(name, classes=classes, seed=0, **settings).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if not tensor.is_floating_point() or key.endswith(".w"):
                continue
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            else:
                tensor.add_(torch.empty_like(tensor).uniform_(-0.1, 0.1, generator=generator))
    return model


def images(side, n=1):
    return torch.randn(n, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("net", "count"), PARAMETERS.items())
def test_parameter_counts(net, count):
    assert sum(parameter.numel() for parameter in on_meta(*net).parameters()) == count


def norm(state, name, x, eps=1e-5):
    mean, var, weight, bias = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + eps) * weight + bias


def conv(state, name, x, **settings):
    return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **settings)


def mobile_v1(state, x):
    """Names as mdistiller's MobileNetV1 has them: model.N.0, .1 depthwise, .3, .4 pointwise, fc."""
    x = norm(state, "model.0.1", conv(state, "model.0.0", x, stride=2, padding=1)).relu()
    for n, stride in enumerate((1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1), start=1):
        x = conv(state, f"model.{n}.0", x, stride=stride, padding=1, groups=x.shape[1])
        x = norm(state, f"model.{n}.1", x).relu()
        x = norm(state, f"model.{n}.4", conv(state, f"model.{n}.3", x)).relu()
    return linear(state, "fc", x.mean((2, 3)))


def mobile_v2_tiny(state, x):
    x = norm(state, "pre.1", conv(state, "pre.0", x, padding=1)).clamp(0, 6)
    for stage, stride in enumerate((1, 2, 2, 2, 1, 1, 1), start=1):
        keys = [key for key in state if key.startswith(f"stage{stage}.")]
        single = any(key.startswith(f"stage{stage}.residual") for key in keys)
        for place in [""] if single else sorted({f".{key.split('.')[1]}" for key in keys}):
            at, step = f"stage{stage}{place}.residual", stride if place in ("", ".0") else 1
            y = norm(state, f"{at}.1", conv(state, f"{at}.0", x)).clamp(0, 6)
            y = conv(state, f"{at}.3", y, stride=step, padding=1, groups=y.shape[1])
            y = norm(state, f"{at}.7", conv(state, f"{at}.6", norm(state, f"{at}.4", y).clamp(0, 6)))
            x = x + y if step == 1 and x.shape == y.shape else y
    x = norm(state, "conv1.1", conv(state, "conv1.0", x)).clamp(0, 6).mean((2, 3), keepdim=True)
    return conv(state, "conv2", x).flatten(1)


def residual(state, x, groups=1):
    """torchvision's: 7x7 stem, 3x3 maximum, strides in the last 3x3 convolution but one of a bottleneck's three."""
    x = norm(state, "bn1", conv(state, "conv1", x, stride=2, padding=3)).relu()
    x = F.max_pool2d(x, 3, 2, 1)
    for stage in range(1, 5):
        for i in sorted({int(key.split(".")[1]) for key in state if key.startswith(f"layer{stage}.")}):
            at, stride = f"layer{stage}.{i}", 2 if i == 0 and stage > 1 else 1
            if f"{at}.conv3.weight" in state:
                y = norm(state, f"{at}.bn1", conv(state, f"{at}.conv1", x)).relu()
                y = conv(state, f"{at}.conv2", y, stride=stride, padding=1, groups=groups)
                y = conv(state, f"{at}.conv3", norm(state, f"{at}.bn2", y).relu())
                y = norm(state, f"{at}.bn3", y)
            else:
                y = norm(state, f"{at}.bn1", conv(state, f"{at}.conv1", x, stride=stride, padding=1)).relu()
                y = norm(state, f"{at}.bn2", conv(state, f"{at}.conv2", y, padding=1))
            if f"{at}.downsample.0.weight" in state:
                x = norm(state, f"{at}.downsample.1", conv(state, f"{at}.downsample.0", x, stride=stride))
            x = (x + y).relu()
    return linear(state, "fc", x.mean((2, 3)))


def shuffle_v2(state, x):
    x = norm(state, "conv1.1", conv(state, "conv1.0", x, stride=2, padding=1)).relu()
    x = F.max_pool2d(x, 3, 2, 1)
    for stage, count in ((2, 4), (3, 8), (4, 4)):
        for i in range(count):

            def step(branch, j, x, at=f"stage{stage}.{i}", **settings):
                return norm(
                    state, f"{at}.branch{branch}.{j + 1}", conv(state, f"{at}.branch{branch}.{j}", x, **settings)
                )

            def right(x, stride):
                x = step(2, 0, x).relu()
                x = step(2, 3, x, stride=stride, padding=1, groups=x.shape[1])
                return step(2, 5, x).relu()

            if i == 0:
                left = step(1, 2, step(1, 0, x, stride=2, padding=1, groups=x.shape[1])).relu()
                halves = left, right(x, 2)
            else:
                half = x.shape[1] // 2
                halves = x[:, :half], right(x[:, half:], 1)
            x = torch.stack(halves, 2).flatten(1, 2)  # channels of the two halves in turn
    x = norm(state, "conv5.1", conv(state, "conv5.0", x)).relu()
    return linear(state, "fc", x.mean((2, 3)))


def linear(state, name, x):
    x = x @ state[f"{name}.weight"].T
    return x + state[f"{name}.bias"] if f"{name}.bias" in state else x


def layer_norm(state, name, x, eps=1e-5):
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + eps)
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def softmax_attention(q, k, v, heads):
    """Each head by itself, over channels of its own."""
    size = q.shape[-1] // heads
    parts = []
    for h in range(heads):
        one = slice(h * size, (h + 1) * size)
        weights = (q[..., one] @ k[..., one].transpose(1, 2) / size**0.5).softmax(-1)
        parts.append(weights @ v[..., one])
    return torch.cat(parts, -1)


def mlp(state, at, x):
    return linear(state, f"{at}.fc2", F.gelu(linear(state, f"{at}.fc1", x)))


def patches(x, size, stride, padding):
    """Overlapping patches as tokens [n, t, c size^2], row by row; written with slices of the padded map."""
    x = F.pad(x, (padding,) * 4)
    count = (x.shape[2] - size) // stride + 1
    tokens = [
        x[:, :, stride * i : stride * i + size, stride * j : stride * j + size].flatten(1)
        for i in range(count)
        for j in range(count)
    ]
    return torch.stack(tokens, 1)


def performer(state, at, x):
    k, q, v = linear(state, f"{at}.kqv", layer_norm(state, f"{at}.norm1", x)).split(64, -1)
    w = state[f"{at}.w"]
    kernel = {name: torch.exp(y @ w.T - y.square().sum(-1, keepdim=True) / 2) for name, y in (("k", k), ("q", q))}
    weights = kernel["q"] @ kernel["k"].transpose(1, 2) / len(w)  # [n, t, t], as attention would have them
    mixed = weights @ v / (weights.sum(-1, keepdim=True) + 1e-8)
    v = v + linear(state, f"{at}.proj", mixed)
    y = linear(state, f"{at}.mlp.0", layer_norm(state, f"{at}.norm2", v))
    return v + linear(state, f"{at}.mlp.2", F.gelu(y))


def t2t(state, x):
    at = "tokens_to_token"
    tokens = performer(state, f"{at}.attention1", patches(x, 7, 4, 2))
    tokens = performer(state, f"{at}.attention2", patches(tokens.transpose(1, 2).unflatten(2, (56, 56)), 3, 2, 1))
    tokens = linear(state, f"{at}.project", patches(tokens.transpose(1, 2).unflatten(2, (28, 28)), 3, 2, 1))
    x = torch.cat([state["cls_token"], tokens], 1) + state["pos_embed"]
    for i in range(7):
        q, k, v = linear(state, f"blocks.{i}.attn.qkv", layer_norm(state, f"blocks.{i}.norm1", x)).split(256, -1)
        x = x + linear(state, f"blocks.{i}.attn.proj", softmax_attention(q, k, v, 4))
        x = x + mlp(state, f"blocks.{i}.mlp", layer_norm(state, f"blocks.{i}.norm2", x))
    return linear(state, "head", layer_norm(state, "norm", x)[:, 0])


def pvt(state, x):
    for s, (patch, heads, reduction) in enumerate(((4, 1, 8), (2, 2, 4), (2, 5, 2), (2, 8, 1)), start=1):
        x = conv(state, f"patch_embed{s}.proj", x, stride=patch)
        side = x.shape[2]
        x = layer_norm(state, f"patch_embed{s}.norm", x.flatten(2).transpose(1, 2))
        x = torch.cat([state["cls_token"], x], 1) if s == 4 else x
        x = x + state[f"pos_embed{s}"]
        for i in range(2):
            at = f"block{s}.{i}"
            y = layer_norm(state, f"{at}.norm1", x, 1e-6)
            seen = y
            if reduction > 1:
                smaller = conv(state, f"{at}.attn.sr", y.transpose(1, 2).unflatten(2, (side, side)), stride=reduction)
                seen = layer_norm(state, f"{at}.attn.norm", smaller.flatten(2).transpose(1, 2))
            k, v = linear(state, f"{at}.attn.kv", seen).chunk(2, -1)
            y = softmax_attention(linear(state, f"{at}.attn.q", y), k, v, heads)
            x = x + linear(state, f"{at}.attn.proj", y)
            x = x + mlp(state, f"{at}.mlp", layer_norm(state, f"{at}.norm2", x, 1e-6))
        x = x.transpose(1, 2).unflatten(2, (side, side)) if s < 4 else x
    return linear(state, "head", layer_norm(state, "norm", x, 1e-6)[:, 0])


@pytest.mark.parametrize(
    ("name", "side", "anew"),
    [
        ("MobileNetV1", 64, mobile_v1),
        ("MobileNetV2_tiny", 32, mobile_v2_tiny),
        ("t2t_vit_7", 224, t2t),
        ("pvt_tiny", 224, pvt),
        ("resnet18_imagenet", 64, residual),
        ("resnet50_imagenet", 64, residual),
        ("resnet18x2", 64, residual),
        ("wrn_50_2", 32, residual),
        ("resnext50_32x4d", 64, functools.partial(residual, groups=32)),
        ("shufflenet_v2_x0_5", 64, shuffle_v2),
        ("shufflenet_v2_x2_0", 64, shuffle_v2),
    ],
)
@torch.no_grad()
def test_predictions_are_those_of_the_papers(name, side, anew):
    model, batch = shaken(name), images(side)
    state = model.state_dict()
    torch.testing.assert_close(model(batch).logits, anew(state, batch), rtol=1e-8, atol=1e-8)


def test_features_of_the_convolutional_students():
    outputs = on_meta("MobileNetV1", 10).eval()(torch.empty(2, 3, 224, 224, device="meta"), features=True)
    assert [tuple(maps.shape[1:3]) for maps in outputs.features] == [
        *((32, 112), (128, 56), (256, 28), (512, 14), (1024, 7))
    ]
    assert outputs.pooled.shape == (2, 1024)
    assert [norm.num_features for norm in on_meta("MobileNetV1").bn_before_relu()] == [128, 256, 512, 1024]
    outputs = on_meta("MobileNetV2_tiny", 10).eval()(torch.empty(2, 3, 64, 64, device="meta"), features=True)
    assert [tuple(maps.shape[1:3]) for maps in outputs.features] == [(32, 66), (24, 33), (32, 17), (64, 9), (1280, 9)]
    assert outputs.pooled.shape == (2, 1280)


@pytest.mark.parametrize(
    ("name", "maps", "last"),
    [
        ("resnet18_imagenet", [(64, 112), (64, 56), (128, 28), (256, 14), (512, 7)], [64, 128, 256, 512]),
        ("resnet34x4", [(64, 112), (256, 56), (512, 28), (1024, 14), (2048, 7)], [256, 512, 1024, 2048]),
        ("resnext50_32x4d", [(64, 112), (256, 56), (512, 28), (1024, 14), (2048, 7)], [256, 512, 1024, 2048]),
        ("shufflenet_v2_x2_0", [(24, 112), (244, 28), (488, 14), (976, 7)], None),
    ],
)
def test_features_of_the_nets_in_torchvisions_layout(name, maps, last):
    net = on_meta(name, 10).eval()
    outputs = net(torch.empty(2, 3, 224, 224, device="meta"), features=True)
    assert [tuple(one.shape[1:3]) for one in outputs.features] == maps
    assert outputs.pooled.shape == (2, 2048 if last is None else last[-1])
    if last is not None:
        assert [one.num_features for one in net.bn_before_relu()] == last


@pytest.mark.parametrize("name", ["resnet50_imagenet", "shufflenet_v2_x0_5"])
@torch.no_grad()
def test_their_features_lead_to_the_same_logits_and_they_are_traced(name):
    model, batch = shaken(name), images(64)
    outputs = model(batch, features=True)
    torch.testing.assert_close(outputs.logits, model(batch).logits, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.fc(outputs.pooled), outputs.logits)
    for maps, before in zip(outputs.features, outputs.preactivations, strict=True):
        torch.testing.assert_close(maps, F.relu(before), rtol=0, atol=0)
        assert before.min() < 0
    traced = fx.symbolic_trace(model, concrete_args={"features": False})
    assert torch.equal(traced(batch, False).logits, model(batch).logits)


@pytest.mark.parametrize("name", ["t2t_vit_7", "pvt_tiny"])
@torch.no_grad()
def test_transformers_take_224_px_alone_and_give_the_class_token(name):
    model = build(name, classes=5, seed=0).eval()
    with pytest.raises(KdvizError, match=rf"{name}: images must be 224 x 224 px, got \(32, 32\)"):
        model(torch.zeros(1, 3, 32, 32))
    batch = images(224).float()
    outputs = model(batch, features=True)
    torch.testing.assert_close(model.head(outputs.pooled), outputs.logits)
    traced = fx.symbolic_trace(model, concrete_args={"features": False})
    torch.testing.assert_close(traced(batch, False).logits, outputs.logits)


@torch.no_grad()
def test_mobilenet_v1_is_traced():
    model = build("MobileNetV1", classes=5, seed=0).eval()
    traced = fx.symbolic_trace(model, concrete_args={"features": False})
    batch = images(32).float()
    assert torch.equal(traced(batch, False).logits, model(batch).logits)


def test_drop_path_leaves_out_whole_samples_and_keeps_the_mean():
    drop = DropPath(0.25)
    torch.manual_seed(0)
    branch = torch.ones(4000, 2, 3)
    found = drop(branch)
    assert sorted(found.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert (found.flatten(1) == found[:, 0, :1]).all()
    assert float(found.mean()) == pytest.approx(1, abs=0.03)
    assert drop.eval()(branch) is branch
    with pytest.raises(KdvizError, match="drop_path must be at least 0 and below 1"):
        DropPath(1.0)


def test_drop_path_rises_to_the_last_block_and_changes_no_weight():
    model, plain = (build("pvt_tiny", classes=5, seed=0, drop_path=rate) for rate in (0.7, 0.0))
    rates = [module.rate for module in model.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.1 * i for i in range(8)])
    assert all(map(torch.equal, model.parameters(), plain.parameters()))
    with pytest.raises(KdvizError, match="resnet8: has no drop-path"):
        build("resnet8", drop_path=0.1)
    with pytest.raises(KdvizError, match="torchvision:resnet18: its drop-path cannot be set by name"):
        build("torchvision:resnet18", drop_path=0.1)


def test_timm_is_given_the_drop_path(monkeypatch):
    asked = {}

    def create_model(name, **settings):
        asked.update(settings)
        return nn.Linear(1, 1)

    timm = types.ModuleType("timm")
    timm.is_model, timm.create_model = lambda name: True, create_model
    monkeypatch.setitem(sys.modules, "timm", timm)
    build("timm:deit_tiny_patch16_224", classes=3, drop_path=0.1)
    assert asked == {"pretrained": False, "num_classes": 3, "drop_path_rate": 0.1}
    asked.clear()
    build("timm:resnet18", classes=3)
    assert asked == {"pretrained": False, "num_classes": 3}


def test_fixed_positions_follow_the_formula():
    table = sinusoids(5, 8)[0].double()
    for position in (0, 1, 4):
        for pair in range(4):
            angle = torch.tensor(position / 10000 ** (2 * pair / 8), dtype=torch.float64)
            torch.testing.assert_close(table[position, 2 * pair], angle.sin(), rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(table[position, 2 * pair + 1], angle.cos(), rtol=1e-6, atol=1e-6)


def test_what_learns_and_what_decays():
    model = build("t2t_vit_7", classes=5, seed=0)
    fixed = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert fixed == ["pos_embed", "tokens_to_token.attention1.w", "tokens_to_token.attention2.w"]
    assert model.no_weight_decay() == {"cls_token"}
    w = model.tokens_to_token.attention1.w.detach()
    torch.testing.assert_close(w @ w.T, 32 * torch.eye(32), rtol=1e-4, atol=1e-4)
    assert copy.deepcopy(model) is not model


@pytest.mark.parametrize(("name", "count"), [("deit_tiny_patch16_224", 5543716), ("pit_ti_224", 4615972)])
def test_timms_students_have_the_papers_counts(name, count):
    try:
        import timm  # noqa: F401
    except (ImportError, RuntimeError):  # torchvision, which it needs, may belong to another torch
        pytest.skip("timm cannot be imported")
    assert sum(parameter.numel() for parameter in build(f"timm:{name}", classes=100).parameters()) == count


def test_the_names_are_registered():
    assert {"MobileNetV1", "MobileNetV2_tiny", "t2t_vit_7", "pvt_tiny"} <= set(MODELS)
