"""`evaluating`: eval mode inside, everything as before afterwards."""

import pytest
import torch
from torch import nn

from kdviz.models.evaluation import evaluating


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout())


def test_every_module_is_in_eval_mode_inside() -> None:
    first, second = net(), net()
    with evaluating(first, second):
        assert not any(module.training for one in (first, second) for module in one.modules())
        torch.testing.assert_close(first(torch.ones(2, 3)), first(torch.ones(2, 3)))  # dropout is off


def test_mixed_modes_come_back_one_by_one() -> None:
    one = net().train()
    one[1].eval()  # a frozen batch norm
    with evaluating(one):
        one.train()
    assert [module.training for module in one.modules()] == [True, True, False, True]


def test_requires_grad_comes_back() -> None:
    one = net()
    one[0].weight.requires_grad_(False)
    with evaluating(one):
        one.requires_grad_(False)
        one[0].weight.requires_grad_(True)
    assert {name: weight.requires_grad for name, weight in one.named_parameters()} == {
        "0.weight": False,
        "0.bias": True,
        "1.weight": True,
        "1.bias": True,
    }


def test_buffers_come_back_as_the_same_tensors_with_the_same_values() -> None:
    one = net()
    mean, var = one[1].running_mean, one[1].running_var
    before = {name: value.clone() for name, value in one.named_buffers()}
    with evaluating(one):
        one[1].train()
        one(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)))
        one[1].running_var = torch.full((4,), 7.0)
        assert not torch.equal(one[1].running_mean, before["1.running_mean"])
    assert one[1].running_mean is mean
    assert one[1].running_var is var
    for name, value in one.named_buffers():
        assert torch.equal(value, before[name]), name


def test_everything_comes_back_after_an_error_in_inference_mode() -> None:
    one = net().train()
    with pytest.raises(RuntimeError, match="inside"), evaluating(one), torch.inference_mode():
        one[1].train()
        one(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)))
        raise RuntimeError("inside")
    assert all(module.training for module in one.modules())
    assert torch.equal(one[1].running_mean, torch.zeros(4))
    assert int(one[1].num_batches_tracked) == 0
    one(torch.randn(8, 3)).sum().backward()  # nothing became an inference tensor


def test_a_net_named_twice_is_restored_once() -> None:
    one = net().train()
    with evaluating(one, one):
        pass
    assert all(module.training for module in one.modules())
