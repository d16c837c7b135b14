"""Re-basin: a permuted copy of a net is the same function and comes back exactly; nets of other kinds are refused."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from kdviz.analysis.landscape.rebasin import Group, channel_groups, match_weights, permute_randomly, permuted, rebasin
from kdviz.base.check import KdvizError
from kdviz.models import build, logits_of

NETS = ("resnet8", "resnet20", "resnet8x4", "wrn_16_1", "wrn_16_2", pytest.param("vgg8", marks=pytest.mark.slow))


def trained_like(name, seed=0):
    """A net whose batch norms have statistics and scales of their own, as after training."""
    net = build(name, classes=7, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
    return net


def loaded(name, state):
    net = build(name, classes=7, seed=9).eval()
    net.load_state_dict(state)
    return net


@pytest.mark.parametrize("name", NETS)
def test_a_permuted_copy_is_the_same_function_and_is_brought_back_exactly(name):
    net = trained_like(name)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    copy = loaded(name, permute_randomly(net, seed=5))
    own, other = net.state_dict(), copy.state_dict()
    assert sum(not torch.equal(own[key], other[key]) for key in own) > len(own) / 2
    with torch.no_grad():
        truth = logits_of(net(images))
        torch.testing.assert_close(logits_of(copy(images)), truth, rtol=1e-4, atol=1e-5 * float(truth.abs().max()))
    state = rebasin(net, copy)
    for key, tensor in own.items():
        assert torch.equal(state[key], tensor), key
    for key, tensor in other.items():
        assert torch.equal(copy.state_dict()[key], tensor), "the nets are left as they are"


def test_matching_is_never_further_away_and_keeps_the_function():
    first, second = trained_like("resnet8", 1), trained_like("resnet8", 2)
    state = rebasin(first, second)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(
            logits_of(loaded("resnet8", state)(images)), logits_of(second(images)), rtol=1e-4, atol=1e-4
        )

    def away(other):
        return sum(float((tensor.detach() - other[name]).square().sum()) for name, tensor in first.named_parameters())

    assert away(state) < away(second.state_dict())


def test_a_layer_of_three_channels_is_matched_as_well_as_trying_all_orders_does():
    torch.manual_seed(0)
    first, second = (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)) for _ in range(2))
    groups = channel_groups(second)
    assert [(one.size, sorted(one.axes)) for one in groups] == [(3, [("0.bias", 0), ("0.weight", 0), ("2.weight", 1)])]
    a, b = ({name: tensor.detach() for name, tensor in net.named_parameters()} for net in (first, second))

    def agreement(order):
        moved = permuted(b, groups, [np.array(order)])
        return sum(float((tensor * moved[name]).sum()) for name, tensor in a.items())

    (found,) = match_weights(a, b, groups)
    assert agreement(found) == pytest.approx(max(agreement(order) for order in itertools.permutations(range(3))))


def test_residual_sums_share_a_permutation():
    sizes = sorted(group.size for group in channel_groups(build("resnet8", classes=7, seed=0)))
    # the stream of each of three stages (the first as the stem) and the inside of each of three blocks
    assert sizes == [16, 16, 32, 32, 64, 64]
    assert isinstance(channel_groups(nn.Sequential(nn.Linear(2, 2))), list)
    assert channel_groups(nn.Sequential(nn.Linear(2, 2))) == []
    assert Group(3).axes == []


@pytest.mark.parametrize(
    ("name", "says"), [("ShuffleV1", "rebasin: "), ("t2t_vit_7", "rebasin: "), ("flat", "flattened with their places")]
)
def test_nets_of_other_layers_are_refused_in_a_line(name, says):
    if name == "flat":
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    else:
        net = build(name, classes=7, seed=0)
    with pytest.raises(KdvizError, match=says) as error:
        channel_groups(net)
    assert "\n" not in str(error.value)


def test_nets_of_different_forms_are_refused():
    with pytest.raises(KdvizError, match="rebasin: nets 1 and 2 are of different forms"):
        rebasin(build("resnet8", classes=7, seed=0), build("resnet20", classes=7, seed=0))
