"""Residual sums and ReLUs taken over by the convolution before them: one pass over memory instead of three."""

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
RELUS = (functional.relu, functional.relu_, torch.relu, torch.relu_, "relu", "relu_", nn.ReLU)


class Merged(nn.Module):
    """relu(conv(maps) + other), the sum or the ReLU alone, as one call of oneDNN; a CPU's."""

    def __init__(self, conv: nn.Conv2d, relu: bool) -> None:
        super().__init__()
        self.conv, self.relu = conv, relu

    def forward(self, maps: Tensor, other: Tensor | None = None) -> Tensor:
        """Maps [n, c, h, w], and what is added to the convolution of them."""
        conv, call = self.conv, torch.ops.mkldnn._convolution_pointwise
        form = conv.padding, conv.stride, conv.dilation, conv.groups
        if other is None:
            return call(maps, conv.weight, conv.bias, *form, "relu", [], None)
        after = "relu" if self.relu else None
        return call.binary(maps, other, conv.weight, conv.bias, *form, "add", 1.0, after, [], None)


def can_merge(precision: str) -> bool:
    """Whether this build of torch and this processor have the merged convolutions in "fp32" or "bf16".

    They are operators that torch keeps for its own compiler (torch._inductor.fx_passes.mkldnn_fusion), so that a later
    release may take them away.
    """
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    half = precision == "bf16" and there and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return there and (precision == "fp32" or half)


def merge(net: fx.GraphModule) -> None:
    """Let convolutions of a traced net, in place, do the sum and the ReLU after them that nobody else reads before.

    Shapes are not known to the trace: a sum that broadcasts, or an operand that is overwritten in between, makes a net
    that fails or differs, so that the result must be compared with the net as it was.
    """
    modules: dict[str, Any] = dict(net.named_modules())
    order = {node: i for i, node in enumerate(net.graph.nodes)}
    for node in [one for one in net.graph.nodes if _is_convolution(one, modules)]:
        taken, read = [node], [node.args[0]]
        after = _only_reader(node)
        if after is not None and _kind(after, modules) in SUMS and len(after.args) == 2 and not after.kwargs:
            others = [one for one in after.args if isinstance(one, fx.Node) and one is not node]
            if others and order[others[0]] < order[node]:
                taken, read = [node, after], [*read, *others]
        after = _only_reader(taken[-1])
        relu = after is not None and _kind(after, modules) in RELUS
        if relu:
            taken.append(after)
        if len(taken) == 1:
            continue
        name = f"merged_{node.name}"
        net.add_submodule(name, Merged(modules[str(node.target)], relu))
        with net.graph.inserting_before(node):
            made = net.graph.call_module(name, tuple(read))
        order[made] = order[node]
        taken[-1].replace_all_uses_with(made)
        for one in reversed(taken):
            net.graph.erase_node(one)
    net.delete_all_unused_submodules()
    net.graph.lint()
    net.recompile()


def _is_convolution(node: fx.Node, modules: dict[str, Any]) -> bool:
    conv = modules[str(node.target)] if node.op == "call_module" else None
    plain = type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return plain and len(node.args) == 1


def _only_reader(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _kind(node: fx.Node, modules: dict[str, Any]) -> Any:
    """What a node calls: a function, the name of a method, the class of a module."""
    return type(modules[str(node.target)]) if node.op == "call_module" else node.target
