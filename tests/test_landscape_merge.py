"""Convolutions that take over the sum and the ReLU after them, against the net as it is written, in float64."""

from copy import deepcopy

import pytest
import torch
from test_landscape_evaluator import net
from torch import fx, nn
from torch.nn import functional

from kdviz.analysis.landscape import network
from kdviz.analysis.landscape.merge import Merged, can_merge, merge
from kdviz.analysis.landscape.network import Network

pytestmark = pytest.mark.skipif(not can_merge("fp32"), reason="torch has no merged convolutions here")


class Block(nn.Module):
    """Two convolutions, and `how` they are joined."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.first, self.second = (nn.Conv2d(4, 4, 3, padding=1, bias=bias) for bias in (False, True))
        self.relu, self.in_place = nn.ReLU(), nn.ReLU(inplace=True)

    def forward(self, maps):
        return self.how(self, maps)


def late_operand(self, maps):
    """The sum's other operand is computed after the convolution."""
    out = self.first(maps)
    return functional.relu(out + maps.sigmoid())


def overwritten_operand(self, maps):
    """What is added has been overwritten after the convolution read it: merged in the old place, it would differ."""
    shortcut = maps * 1
    out = self.first(maps)
    shortcut.mul_(3)
    return out + shortcut


CASES = {  # how: convolutions that are merged
    "function": (lambda s, x: functional.relu(s.first(x)), 1),
    "module": (lambda s, x: s.relu(s.first(x)), 1),
    "in place": (lambda s, x: s.in_place(s.first(x)), 1),
    "method": (lambda s, x: s.first(x).relu(), 1),
    "sum": (lambda s, x: x + s.first(x), 1),
    "sum and relu": (lambda s, x: functional.relu(s.second(functional.relu(s.first(x))) + x), 2),
    "two convolutions": (lambda s, x: s.relu(torch.add(s.first(x), s.second(x))), 1),
    "read twice": (lambda s, x: (lambda y: y.relu() + y)(s.first(x)), 0),
    "scaled": (lambda s, x: torch.add(s.first(x), x, alpha=2), 0),
    "a number": (lambda s, x: s.first(x) + 1, 0),
    "itself": (lambda s, x: (lambda y: y + y)(s.first(x)), 0),
    "late operand": (late_operand, 0),
}


@pytest.mark.parametrize("name", CASES)
def test_a_merged_block_is_the_block(name):
    how, count = CASES[name]
    torch.manual_seed(0)
    block, maps = Block(how).eval(), torch.randn(3, 4, 6, 6)
    with torch.no_grad():
        truth = deepcopy(block).double()(maps.double())
        made = fx.symbolic_trace(block)
        merge(made)
        found = made(maps)
    assert sum(isinstance(one, Merged) for one in made.modules()) == count
    torch.testing.assert_close(found.double(), truth, rtol=0, atol=1e-5)


def test_the_trace_alone_does_not_see_what_is_overwritten():
    """The premise of the next test: a merged net that is wrong."""
    torch.manual_seed(0)
    block, maps = Block(overwritten_operand).eval(), torch.randn(3, 4, 6, 6)
    made = fx.symbolic_trace(block)
    merge(made)
    with torch.no_grad():
        assert (made(maps) - block(maps)).abs().max() > 0.1


@pytest.mark.parametrize("how", [overwritten_operand, lambda s, x: s.first(x) + x.mean((2, 3), keepdim=True)])
def test_a_block_that_must_not_be_merged_is_found_out(how):
    """The trace knows neither shapes nor what is overwritten; the comparison with the plain net does."""
    torch.manual_seed(0)
    model = nn.Sequential(Block(how), nn.Flatten(), nn.Linear(4 * 6 * 6, 5)).eval()
    maps = torch.randn(3, 4, 6, 6)
    with torch.no_grad():
        truth = deepcopy(model).double()(maps.double())
    found = Network(model, maps)
    torch.testing.assert_close(found(found.prepare(maps)).double(), truth, rtol=0, atol=1e-5)


def test_folded_nets_are_wholly_in_bfloat16_and_others_by_autocast():
    maps = torch.randn(2, 3, 32, 32)
    for name, whole in (("resnet8", True), ("wrn_16_1", False)):
        found = Network(net(name), maps, precision="bf16")
        kinds = {tensor.dtype for tensor in found.fast.parameters()}
        assert kinds == ({torch.bfloat16} if whole else {torch.float32})


def test_without_the_operators_the_folded_net_runs(monkeypatch):
    monkeypatch.setattr(network, "can_merge", lambda _: False)
    maps = torch.randn(2, 3, 32, 32)
    model = net()
    found = Network(model, maps)
    assert found.pairs
    assert not any(isinstance(one, Merged) for one in found.fast.modules())
    with torch.no_grad():
        truth = deepcopy(model).double()(maps.double()).logits
    torch.testing.assert_close(found(found.prepare(maps)).double(), truth, rtol=0, atol=1e-4)
