"""The evaluator and `landscape` against plain float64 evaluations."""

import math
from copy import deepcopy

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
import xarray as xr
from torch import nn
from torch.nn import functional

import kdviz
from kdviz.analysis.landscape import Evaluator, Grid, Measurement, landscape, profiles, random_pair, survey, sweep
from kdviz.base.check import KdvizError
from kdviz.base.files import read_dataset, write_dataset
from kdviz.checkpoints import load_checkpoint, save_checkpoint
from kdviz.data import Data
from kdviz.models import build, logits_of

CLASSES = 7
FAMILIES = ("resnet8", "resnet8x4", "wrn_16_1", "vgg8", "MobileNetV2", "ShuffleV1", "ShuffleV2")


def images(count=24, classes=CLASSES, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % classes
    return Data("noise", "test", pixels, labels, (0.5,) * 3, (0.25,) * 3, tuple(map(str, range(classes))))


def net(name="resnet8", seed=0):
    """A net whose batch norms have seen something: random statistics, scales and shifts."""
    model = build(name, classes=CLASSES, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                module.weight.uniform_(0.7, 1.3, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
    return model


def measuring(model, data, **options):
    return Evaluator(model, data, Measurement(**options))


def exact(model, data, weights=None):
    """Logits [n, k] in float64, one plain forward of all images."""
    plain = deepcopy(model).double().eval()
    if weights is not None:
        plain.load_state_dict({name: tensor.double() for name, tensor in weights.items()}, strict=False)
    batch = (data.images.double() / 255 - 0.5) / 0.25
    with torch.no_grad():
        return logits_of(plain(batch)).numpy()


def cross_entropy(logits, labels):
    return float(-scipy.special.log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


@pytest.mark.parametrize("name", FAMILIES)
def test_the_centre_is_the_models_loss_and_folding_changes_nothing(name):
    model, data = net(name), images(10)
    truth = cross_entropy(exact(model, data), data.labels)
    step = random_pair(dict(model.named_parameters()), seed=3)[0]
    moved = {key: tensor.detach() + 0.3 * step[key] for key, tensor in model.named_parameters()}
    away = cross_entropy(exact(model, data, moved), data.labels)
    for fold in (True, False):
        evaluator = measuring(model, data, fold=fold, chunk=5)
        assert bool(evaluator.network.pairs) == fold
        assert evaluator(moved)["ce"] == pytest.approx(away, rel=3e-6)
        assert evaluator(evaluator.weights)["ce"] == pytest.approx(truth, rel=1e-6)


def test_a_preactivation_net_folds_what_can_be_folded():
    found = measuring(net("wrn_16_1"), images()).network
    norms = sum(isinstance(one, nn.BatchNorm2d) for one in found.plain.modules())
    assert 0 < len(found.pairs) < norms


class Linear(nn.Module):
    """logits = W x + b on the mean of the image's channels."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, CLASSES)

    def forward(self, batch):
        return self.fc(batch.mean((2, 3)))


def test_a_linear_nets_landscape_is_numpys():
    """Every value of a 5 x 3 grid from a float64 re-derivation: ce, kd, accuracy, agreement, Kendall's tau."""
    torch.manual_seed(0)
    model, teacher, data = Linear(), Linear(), images(40, size=8)
    east, north = random_pair(dict(model.named_parameters()), seed=1)
    found = landscape(
        model,
        data,
        losses=("ce", "kd", "agreement", "kendall_tau"),
        teacher=teacher,
        steps=3,
        span=2.0,
        seed=1,
        settings={"kd.temperature": 3.0},
    )
    x = ((data.images.double() / 255 - 0.5) / 0.25).mean((2, 3)).numpy()
    labels = data.labels.numpy()
    wide = {key: tensor.detach().double().numpy() for key, tensor in model.named_parameters()}
    taught = x @ teacher.fc.weight.detach().double().numpy().T + teacher.fc.bias.detach().double().numpy()
    for i, alpha in enumerate((-2.0, 0.0, 2.0)):
        for j, beta in enumerate((-2.0, 0.0, 2.0)):
            w = wide["fc.weight"] + alpha * east["fc.weight"].numpy() + beta * north["fc.weight"].numpy()
            logits = x @ w.T + wide["fc.bias"]
            q, p = (scipy.special.log_softmax(one / 3.0, axis=1) for one in (logits, taught))
            pairs = zip(logits, taught, strict=True)
            expected = {
                "ce": cross_entropy(logits, labels),
                "kd": 9.0 * float((np.exp(p) * (p - q)).sum(1).mean()),
                "accuracy": float((logits.argmax(1) == labels).mean()),
                "agreement": float((logits.argmax(1) == taught.argmax(1)).mean()),
                "kendall_tau": np.mean([scipy.stats.kendalltau(*rows).statistic for rows in pairs]),
            }
            for name, value in expected.items():
                assert float(found[name][i, j]) == pytest.approx(value, rel=2e-5, abs=1e-6), (name, i, j)
    assert found.ce.attrs["units"] == "nats"
    assert found.accuracy.attrs["units"] == "fraction"


def test_the_model_is_left_exactly_as_it_was():
    model, data = net(), images(12)
    model.train()
    model.fc.weight.requires_grad_(False)
    model.fc.bias.grad = torch.ones_like(model.fc.bias)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    tensors = {key: id(tensor) for key, tensor in (*model.named_parameters(), *model.named_buffers())}
    random = torch.random.get_rng_state()
    for bn in ("frozen", "recompute"):
        landscape(model, data, steps=3, bn=bn, losses=("ce", "kd"), teacher=net(seed=5))
    assert all(one.training for one in model.modules())
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in state.items())
    assert tensors == {key: id(tensor) for key, tensor in (*model.named_parameters(), *model.named_buffers())}
    asks = {key for key, tensor in model.named_parameters() if not tensor.requires_grad}
    assert asks == {"fc.weight"}
    assert torch.equal(model.fc.bias.grad, torch.ones_like(model.fc.bias))
    assert all(tensor.grad is None for key, tensor in model.named_parameters() if key != "fc.bias")
    assert torch.equal(torch.random.get_rng_state(), random)


def test_a_model_in_training_mode_gives_the_evaluation_modes_landscape():
    model, data = net(), images(12)
    quiet = landscape(model, data, steps=3, chunk=6)
    xr.testing.assert_identical(landscape(model.train(), data, steps=3, chunk=6), quiet)


def test_recomputed_batch_norm_is_that_of_training_mode():
    """One batch: the statistics are the batch's own mean and unbiased variance."""
    model, data = net(), images(24)
    found = measuring(model, data, bn="recompute")(dict(model.named_parameters()))["ce"]
    plain = deepcopy(model).double().train()
    norms = [one for one in plain.modules() if isinstance(one, nn.BatchNorm2d)]
    for one in norms:
        one.momentum = 1.0
    batch = (data.images.double() / 255 - 0.5) / 0.25
    with torch.no_grad():
        plain(batch)
    assert found == pytest.approx(cross_entropy(exact(plain, data), data.labels), rel=1e-5)
    assert found != pytest.approx(measuring(model, data)(dict(model.named_parameters()))["ce"], rel=1e-2)


def test_logits_do_not_depend_on_the_chunk():
    model, data = net("ShuffleV2"), images(25)
    truth = exact(model, data)
    for chunk in (1, 7, 25, 100, "auto"):
        evaluator = measuring(model, data, chunk=chunk)
        found = evaluator.logits(evaluator.weights)
        np.testing.assert_allclose(found, truth, atol=1e-4 * np.abs(truth).max())


def test_one_image_and_missing_weights_are_fine():
    model, data = net(), images(1)
    evaluator = measuring(model, data)
    truth = cross_entropy(exact(model, data), data.labels)
    assert evaluator({})["ce"] == pytest.approx(truth, rel=1e-5)
    with pytest.raises(KdvizError, match="two images or more"):
        measuring(model, data, bn="recompute")({})


class Strange(nn.Module):
    """Control flow that hangs on the images, a tied weight, logits in a dict: what tracing cannot take."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.second.weight = self.first.weight
        self.fc = nn.Linear(3, CLASSES)

    def forward(self, batch):
        out = self.norm(self.first(batch))
        if out.mean() > -100:
            out = self.second(out.relu())
        return {"logits": self.fc(out.mean((2, 3)))}


class Tied(Strange):
    def forward(self, batch):
        return {"logits": self.fc(self.norm(self.second(self.norm(self.first(batch)).relu())).mean((2, 3)))}


@pytest.mark.parametrize("make", [Strange, Tied])
def test_a_net_that_does_not_fold_runs_as_it_is(make):
    torch.manual_seed(0)
    model, data = make().eval(), images()
    evaluator = measuring(model, data)
    assert not evaluator.network.pairs
    moved = {key: 1.3 * tensor.detach() for key, tensor in model.named_parameters()}
    truth = {**moved} | {"second.weight": moved["first.weight"]}
    assert evaluator(moved)["ce"] == pytest.approx(cross_entropy(exact(model, data, truth), data.labels), rel=1e-6)


def test_samples_are_stratified_and_carry_their_interval():
    model, data = net(), images(140, size=32)
    whole = measuring(model, data)({})
    part = measuring(model, data, samples=70, losses=("ce", "dist"), teacher=net(seed=5))
    values = part({})
    assert torch.bincount(part.data.labels).tolist() == [10] * CLASSES
    assert abs(values["ce"] - whole["ce"]) < 2 * values["ce_halfwidth"]
    assert "dist_halfwidth" not in values, "dist couples the samples"
    assert not any(name.endswith("halfwidth") for name in whole)
    assert not any(name.endswith("halfwidth") for name in measuring(model, data, samples=140)({}))


def test_metrics_of_samples_carry_their_interval():
    model, data, losses = net(), images(140, size=32), ("ce", "kendall_tau", "agreement")
    logits = exact(model, data)
    teacher = torch.from_numpy(logits + logits.std() * np.random.default_rng(0).standard_normal(logits.shape))
    whole = measuring(model, data, losses=losses, teacher=teacher)({})
    part = measuring(model, data, losses=losses, teacher=teacher, samples=70)
    values = part({})
    pairs = zip(exact(model, part.data), teacher[part.data.ids], strict=True)
    taus = np.array([scipy.stats.kendalltau(one, other).statistic for one, other in pairs])
    assert values["kendall_tau"] == pytest.approx(taus.mean(), abs=1e-6)
    strata = [taus[part.data.labels.numpy() == label] for label in range(CLASSES)]
    sizes = np.bincount(data.labels.numpy())  # Cochran 1977, eq. 5.6
    parts = [
        (n / 140) ** 2 * (1 - len(one) / n) * one.var(ddof=1) / len(one) for n, one in zip(sizes, strata, strict=True)
    ]
    assert values["kendall_tau_halfwidth"] == pytest.approx(1.959964 * sum(parts) ** 0.5, rel=1e-4)
    for name in losses[1:]:
        assert 0 < abs(values[name] - whole[name]) < 2 * values[f"{name}_halfwidth"]
    same = (logits.argmax(1) == teacher.numpy().argmax(1))[part.data.ids].mean()
    assert values["agreement"] == pytest.approx(same)


def test_a_landscape_of_metrics_alone_is_refused():
    with pytest.raises(KdvizError, match="agreement is no loss; name one beside it"):
        measuring(net(), images(), losses=("agreement",), teacher=net(seed=5))


def test_teacher_logits_serve_for_the_teacher():
    model, teacher, data = net(), net(seed=5), images(30)
    logits = torch.from_numpy(exact(teacher, data)).float()
    one, other = (measuring(model, data, losses=("kd",), teacher=t, samples=14)({}) for t in (teacher, logits))
    assert one["kd"] == pytest.approx(other["kd"], rel=1e-5)


def test_bfloat16_states_its_error_and_keeps_to_it():
    model, data = net(), images()
    half, full = (landscape(model, data, steps=5, span=0.5, precision=one) for one in ("bf16", "fp32"))
    error = float((abs(half.ce - full.ce) / full.ce).max())
    assert 0 < half.attrs["precision_error"] <= error * (1 + 1e-6)
    assert error < 0.02
    assert half.attrs["precision_points"] == 5
    assert "precision_error" not in full.attrs
    wide = measuring(model, data, precision="fp64")({})["ce"]
    assert wide == pytest.approx(cross_entropy(exact(model, data), data.labels), rel=1e-8)


def test_bfloat16_of_a_net_with_batch_norm_left_is_autocast():
    model, data = net("wrn_16_1"), images()
    found = measuring(model, data, precision="bf16")({})["ce"]
    truth = cross_entropy(exact(model, data), data.labels)
    assert found == pytest.approx(truth, rel=0.02)
    assert found != pytest.approx(truth, rel=1e-7)


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "near"), [("fp32", 1e-5), ("bf16", 2e-2)])
def test_a_gpu_replays_what_the_cpu_measures(precision, near):
    model, data = net(), images(64)
    here, there = (
        measuring(model, data, chunk=16, device=device, precision=how)
        for device, how in (("cpu", "fp64"), ("cuda", precision))
    )
    east, _ = random_pair(here.weights, seed=3)
    for step in (0.0, 0.3, -0.7, 0.3):  # the graph must see each of the new weights
        moved = {name: tensor + step * east[name] for name, tensor in here.weights.items()}
        assert there(moved)["ce"] == pytest.approx(here(moved)["ce"], rel=near)
    assert there._pass.__name__ == "replay"


def test_a_checkpoint_serves_as_its_net(tmp_path):
    path = tmp_path / "net.pt"
    save_checkpoint(
        path,
        model=net(),
        name="resnet8",
        classes=CLASSES,
        data="tiny",
        method="ce",
        seed=0,
        epoch=1,
        recipe={},
        metrics={},
    )
    opened = load_checkpoint(path)
    found = landscape(opened, images(), losses=("kd",), teacher=opened, steps=1)
    assert found.kd.item() == pytest.approx(0, abs=1e-6)
    assert "24 of 24 images" in found.attrs["caption"]


def test_a_landscape_is_its_sweep_and_says_how_to_repeat_it(tmp_path):
    model, data = net(), images(12)
    found = kdviz.landscape(model, data, steps=3, span=0.5, seed=4, normalize="layer", samples=7, chunk=7)
    evaluator = measuring(model, data, samples=7, seed=4, chunk=7)
    again = sweep(
        evaluator,
        evaluator.weights,
        random_pair(evaluator.weights, seed=4, normalize="layer"),
        [-0.5, 0, 0.5],
        [-0.5, 0, 0.5],
    )
    xr.testing.assert_equal(found, again)
    assert found.kind == "landscape"
    told = {
        key: found.attrs[key] for key in ("seed", "normalize", "span", "steps", "samples", "data", "bn", "precision")
    }
    assert told == {
        "seed": 4,
        "normalize": "layer",
        "span": 0.5,
        "steps": 3,
        "samples": 7,
        "data": "noise",
        "bn": "frozen",
        "precision": "fp32",
    }
    assert found.attrs["data_sha256"] == data.sha256
    xr.testing.assert_identical(read_dataset(write_dataset(found, tmp_path / "x.nc")), found)


def test_a_killed_landscape_goes_on_and_is_the_same(tmp_path):
    model, data = net(), images(24)

    def kill(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        landscape(model, data, steps=3, journal=tmp_path / "j", progress=kill)
    seen = []
    resumed = landscape(model, data, steps=3, journal=tmp_path / "j", progress=lambda done, total: seen.append(done))
    assert seen[0] == 4
    xr.testing.assert_identical(resumed, landscape(model, data, steps=3, chunk=resumed.attrs["chunk"]))


def test_profiles_are_the_first_lines_of_the_landscapes():
    model, data = net(), images(12)
    found = profiles(measuring(model, data, chunk=12), Grid(steps=5, span=0.4), seeds=(0, 3))
    assert found.ce.dims == ("seed", "alpha")
    plane = landscape(model, data, steps=5, span=0.4, seed=3, chunk=12)
    np.testing.assert_array_equal(found.ce.sel(seed=3), plane.ce.sel(beta=0))
    line = landscape(model, data, steps=5, span=0.4, seed=3, chunk=12, one_d=True)
    np.testing.assert_array_equal(found.ce.sel(seed=3), line.ce)
    with pytest.raises(KdvizError, match="seeds must be different"):
        profiles(measuring(model, data), seeds=(1, 1))


def diverged():
    model = net()
    with torch.no_grad():
        model.fc.weight[0, 0] = math.nan
    return model


class Batchy(nn.Sequential):
    def __init__(self):
        norm = nn.BatchNorm2d(3, track_running_stats=False)
        super().__init__(norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES))


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        (diverged, {}, "'fc.weight' of the net holds NaN or infinity"),
        (Batchy, {}, "keeps no running statistics"),
        (net, {"losses": ("kd",)}, "loss 'kd' needs a teacher"),
        (net, {"losses": ("kendall_tau",)}, "kendall_tau needs a teacher"),
        (net, {"losses": ("cee",)}, "did you mean 'ce'"),
        (net, {"losses": ()}, "no loss is named"),
        (net, {"settings": {"kd.temperature": 1.0}}, "is not LOSS.NAME of ce"),
        (net, {"bn": "train"}, "bn must be one of frozen, recompute"),
        (net, {"precision": "fp16"}, "precision must be one of"),
        (net, {"chunk": 0}, "chunk must be 'auto' or above 0"),
        (net, {"samples": 1000}, "1000"),
        (net, {"losses": ("kd",), "teacher": lambda: build("resnet8", classes=9)}, "7 classes but the teacher 9"),
        (net, {"losses": ("kd",), "teacher": lambda: torch.zeros(3, CLASSES)}, r"teacher logits are \(3, 7\)"),
        (lambda: build("resnet8", classes=5, seed=0), {}, "label"),
    ],
)
def test_what_cannot_be_measured_is_refused(model, options, says):
    options = {key: value() if callable(value) else value for key, value in options.items()}
    with pytest.raises(KdvizError, match=says):
        measuring(model(), images(), **options)


def test_kd_loss_uses_functional_kl():
    """An outside check of the teacher's side: torch's own KL divergence."""
    model, teacher, data = net(), net(seed=5), images()
    s, t = (torch.from_numpy(exact(one, data)) for one in (model, teacher))
    kl = functional.kl_div((s / 4).log_softmax(1), (t / 4).softmax(1), reduction="batchmean") * 16
    found = measuring(model, data, losses=("kd",), teacher=teacher)({})["kd"]
    assert found == pytest.approx(float(kl), rel=1e-5)


def test_directions_of_an_unknown_kind_are_refused_before_the_sweep():
    evaluator, seen = measuring(net(), images()), []
    pair = random_pair(evaluator.weights, seed=0)
    with pytest.raises(KdvizError, match="normalize must be one of"):
        survey(evaluator, Grid(directions=pair, normalize="mine", steps=3), progress=lambda *done: seen.append(done))
    assert not seen
