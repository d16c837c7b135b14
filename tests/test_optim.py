"""Optimizers against their published updates written out here, schedules against closed forms."""

import copy
import math
import sys

import pytest
import torch
from torch import nn

from kdviz.base.check import KdvizError
from kdviz.train import ema, optim
from kdviz.train.recipe import load_recipe


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def learn(model, optimizer, steps=3, rate=None):
    """A few steps on fixed images; the parameters afterwards, in one vector."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        if rate is not None:
            optim.set_learning_rate(optimizer, rate)
        images = torch.randn(4, 3, 4, 4, generator=generator)
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_step_schedule_is_the_papers():
    recipe = load_recipe("rkkd-cifar100")
    settings = {"lr": recipe.lr, "epochs": recipe.epochs, "schedule": recipe.schedule, "decay": recipe.decay}
    found = [
        optim.learning_rate(epoch, milestones=recipe.milestones, **settings) for epoch in (0, 149.9, 150, 180, 210, 239)
    ]
    assert found == pytest.approx([0.05, 0.05, 5e-3, 5e-4, 5e-5, 5e-5])


def test_cosine_schedule_follows_the_closed_form():
    settings = {"epochs": 10, "warmup": 2, "lr": 0.4, "min_lr": 0.1}
    assert optim.learning_rate(1, **settings) == pytest.approx(0.2)
    for epoch in (2, 4.5, 10):
        expected = 0.1 + 0.3 * (1 + math.cos(math.pi * (epoch - 2) / 8)) / 2
        assert optim.learning_rate(epoch, **settings) == pytest.approx(expected)
    with pytest.raises(KdvizError, match="schedule must be one of cosine, step"):
        optim.learning_rate(1, schedule="poly", **settings)


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_optimizers_are_torchs_with_the_given_settings(name, kind):
    model = net()
    groups = optim.parameter_groups(model, weight_decay=0.125)
    optimizer = optim.build_optimizer(groups, name=name, lr=0.25)
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["weight_decay"] == 0.125
    assert optimizer.param_groups[0]["lr"] == 0.25
    other = copy.deepcopy(model)
    momentum = {"momentum": 0.9} if name == "sgd" else {}
    expected = learn(other, kind(other.parameters(), lr=0.25, weight_decay=0.125, **momentum))
    assert torch.equal(learn(model, optimizer), expected)


def test_groups_spare_biases_norms_and_named_parameters():
    model = net()
    model.position = nn.Parameter(torch.zeros(1, 4))
    model.no_weight_decay = lambda: {"position"}
    frozen = nn.Parameter(torch.zeros(3, 3), requires_grad=False)
    model.frozen = frozen
    decayed, spared = optim.parameter_groups(model, model, weight_decay=0.1, no_decay=True)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert [names[id(parameter)] for parameter in decayed["params"]] == ["0.weight", "3.weight"]
    assert {names[id(parameter)] for parameter in spared["params"]} == {
        *("position", "0.bias", "1.weight", "1.bias", "3.bias")
    }
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert len(optim.parameter_groups(model, weight_decay=0.1)) == 1


def test_a_module_inside_names_what_it_spares():
    inner = nn.Linear(2, 2)
    inner.no_weight_decay = lambda: ["weight"]
    groups = optim.parameter_groups(nn.Sequential(inner, nn.Linear(2, 1)), weight_decay=0.1, no_decay=True)
    assert [len(group["params"]) for group in groups] == [1, 3]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_the_step_for_capture_takes_the_same_steps_and_resumes(name):
    torch.manual_seed(0)  # no bias before a normalisation, whose gradient is rounding noise that Adam would enlarge
    plain = nn.Sequential(nn.Flatten(), nn.Linear(48, 4), nn.Tanh(), nn.Linear(4, 2))
    captured = copy.deepcopy(plain)
    groups = [optim.parameter_groups(model, weight_decay=0.1) for model in (plain, captured)]
    first = optim.build_optimizer(groups[0], name=name, lr=0.1)
    second = optim.build_optimizer(groups[1], name=name, lr=0.1, captured=True)
    rate = second.param_groups[0]["lr"]
    assert isinstance(rate, torch.Tensor)
    expected = learn(plain, first, rate=0.05)
    torch.testing.assert_close(learn(captured, second, rate=0.05), expected)
    assert float(rate) == pytest.approx(0.05)

    again = copy.deepcopy(captured)
    third = optim.build_optimizer(optim.parameter_groups(again, weight_decay=0.1), name=name, lr=0.7, captured=True)
    own = third.param_groups[0]["lr"]
    optim.load_state(third, copy.deepcopy(second.state_dict()))
    assert third.param_groups[0]["lr"] is own
    assert float(own) == pytest.approx(0.05)
    assert torch.equal(learn(again, third), learn(captured, second))


def test_what_cannot_be_captured_is_refused():
    with pytest.raises(KdvizError, match="lamb: its step cannot be captured"):
        optim.build_optimizer(net().parameters(), name="lamb", captured=True)


def test_a_state_of_other_groups_is_refused():
    model = net()
    state = optim.build_optimizer(optim.parameter_groups(model, weight_decay=0.1)).state_dict()
    optimizer = optim.build_optimizer(optim.parameter_groups(model, weight_decay=0.1, no_decay=True))
    with pytest.raises(KdvizError, match="does not belong to this run"):
        optim.load_state(optimizer, state)


def test_missing_libraries_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(KdvizError, match=r"pip install 'kdviz\[optimizers\]'"):
        optim.build_optimizer(net().parameters(), name="lamb")
    monkeypatch.setitem(sys.modules, "timm.optim", None)
    with pytest.raises(KdvizError, match=r"pip install 'kdviz\[models\]'"):
        optim.build_optimizer(net().parameters(), name="timm:lamb")
    with pytest.raises(KdvizError, match="expected NAME or timm:NAME"):
        optim.build_optimizer(net().parameters(), name="apex:lamb")


def test_an_optimizer_needs_parameters():
    with pytest.raises(KdvizError, match="no parameters"):
        optim.build_optimizer([])


def test_lamb_is_the_published_update():
    pytest.importorskip("pytorch_optimizer")
    weights = torch.linspace(-1, 2, 12).view(3, 4)
    gradients = [torch.linspace(0.3, -0.1, 12).view(3, 4), torch.linspace(-0.2, 0.2, 12).view(3, 4)]
    parameter = nn.Parameter(weights.clone())
    optimizer = optim.build_optimizer([{"params": [parameter], "weight_decay": 0.02}], name="lamb", lr=0.005)
    mean, square, expected = torch.zeros(3, 4), torch.zeros(3, 4), weights.clone()
    for step, gradient in enumerate(gradients, start=1):
        parameter.grad = gradient.clone()
        optimizer.step()
        mean = 0.9 * mean + 0.1 * gradient  # You et al. 2020, algorithm 2, no bias correction of the second moment
        square = 0.999 * square + 0.001 * gradient**2
        update = mean / (square.sqrt() + 1e-6) + 0.02 * expected
        trust = expected.norm() / update.norm()
        expected = expected - 0.005 / (1 - 0.9**step) * trust * update
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-6)


def test_lion_and_unknown_names():
    pytest.importorskip("pytorch_optimizer")
    parameter = nn.Parameter(torch.tensor([1.0, -1.0]))
    parameter.grad = torch.tensor([3.0, -0.5])
    optim.build_optimizer([parameter], name="lion", lr=0.1).step()
    torch.testing.assert_close(parameter.detach(), torch.tensor([0.9, -0.9]))  # the sign alone counts
    with pytest.raises(KdvizError, match="unknown optimizer 'adamww'; did you mean 'adamw'"):
        optim.build_optimizer([parameter], name="adamww")


def test_clipping_bounds_the_norm_over_all_parameters():
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    first.grad, second.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert float(optim.clip_grad([first, second], 1.0)) == pytest.approx(5.0)
    torch.testing.assert_close(first.grad, torch.tensor([0.6, 0.0]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(second.grad, torch.tensor([0.8]), rtol=1e-5, atol=1e-6)


def test_the_average_follows_weights_and_statistics_and_copies_counters():
    model = net()
    average = ema.averaged(model)
    expected = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = optim.build_optimizer(model.parameters(), lr=0.5)
    for _ in range(4):
        learn(model, optimizer, steps=1)
        ema.follow(average, model, decay=0.75)
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                expected[key] = 0.75 * expected[key] + 0.25 * value
            else:
                expected[key] = value.clone()
    assert int(average[1].num_batches_tracked) == 4
    assert not average.training
    assert not any(parameter.requires_grad for parameter in average.parameters())
    for key, value in average.state_dict().items():
        torch.testing.assert_close(value, expected[key])
    with pytest.raises(KdvizError, match="decay must be above 0 and below 1"):
        ema.follow(average, model, decay=1.0)
