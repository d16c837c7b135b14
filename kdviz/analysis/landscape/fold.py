"""Batch norm folded into the convolution before it, wherever a traced net allows it."""

from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Pair(NamedTuple):
    """A convolution whose only reader is a batch norm, both of one net, and the convolution that does the work of both
    in another."""

    conv: Any
    norm: Any
    folded: Any

    @torch.no_grad()
    def refresh(self) -> None:
        """Set the folded convolution from the two.

        W' = W g / sqrt(v + eps),  b' = (b - m) g / sqrt(v + eps) + shift
        with the batch norm's running mean m and variance v, its scale g and shift; in float64 but for W itself.
        """
        conv, norm, folded = self
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight
        bias = -norm.running_mean * scale if conv.bias is None else (conv.bias - norm.running_mean) * scale
        folded.weight.copy_(conv.weight * scale.to(conv.weight.dtype).view(-1, *[1] * (conv.weight.dim() - 1)))
        folded.bias.copy_(bias if norm.bias is None else bias + norm.bias)


def fuse(net: nn.Module, source: nn.Module) -> tuple[fx.GraphModule, list[Pair]]:
    """A net in eval mode as a traced one that returns logits alone, each foldable pair made one convolution.

    A pair folds when both are of torch's own classes, called once, without hooks, with weights that nobody else holds,
    and nobody but the batch norm reads the convolution. Others stay as they are.

    Args:
        net: the traced net keeps its modules, but for the pairs'.
        source: a net of the same form, whose modules the pairs refer to.
    Returns:
        (traced net, pairs); a pair's convolution has no values until `Pair.refresh`.
    Raises:
        Whatever tracing raises for a net that cannot be traced.
    Source: Jacob et al. 2018, sec. 3.2; ours.
    """
    root = LogitsOnly(net)
    graph = fx.Tracer().trace(root)
    modules = dict(root.named_modules())
    sources = {f"net.{name}": one for name, one in source.named_modules()}
    calls = [node.target for node in graph.nodes if node.op == "call_module"]
    holders = [id(tensor) for _, tensor in net.named_parameters(remove_duplicate=False)]
    fast, pairs = fx.GraphModule(root, graph), []
    for node in list(graph.nodes):
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        names = str(before.target), str(node.target)
        conv, norm = (modules[name] for name in names)
        fits = type(conv) in CONVOLUTIONS and type(norm) in NORMS and all(calls.count(name) == 1 for name in names)
        if fits and _own(conv, holders) and _own(norm, holders):
            folded = _with_bias(conv)
            fast.set_submodule(names[0], folded)
            pairs.append(Pair(sources[names[0]], sources[names[1]], folded))
            node.replace_all_uses_with(before)
            graph.erase_node(node)
    fast.delete_all_unused_submodules()
    graph.lint()
    fast.recompile()
    return fast, pairs


class LogitsOnly(nn.Module):
    """A net that returns its logits alone, in a form that can be traced (`models.logits_of` asks for tensors)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Any:
        output = self.net(images)
        if isinstance(output, fx.Proxy):
            return output
        if isinstance(output, dict):
            return output["logits"]
        return output.logits if hasattr(output, "logits") else output[0]


def _own(module: nn.Module, holders: list[int]) -> bool:
    hooked = module._forward_hooks or module._forward_pre_hooks
    return not hooked and all(holders.count(id(tensor)) == 1 for tensor in module.parameters())


def _with_bias(conv: Any) -> Any:
    """A convolution of the same form with memory of its own and a bias."""
    made = deepcopy(conv)
    if made.bias is None:
        made.bias = nn.Parameter(conv.weight.new_zeros(conv.out_channels), requires_grad=False)
    return made
