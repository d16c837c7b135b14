"""A net's channels in the order of another net's, by weight matching, so that the line between both means something.

The hidden channels of a net can be permuted without changing its function: rows of the layers that write them, entries
of their batch norms, columns of the layers that read them. Which tensors share a permutation is read off the traced
net.
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from kdviz.analysis.landscape.fold import CONVOLUTIONS, NORMS, LogitsOnly
from kdviz.analysis.landscape.network import UNTRACEABLE
from kdviz.analysis.landscape.states import State, states_of
from kdviz.base.check import KdvizError, require
from kdviz.base.seeds import numpy_generator

SAME_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.Identity, nn.Dropout, nn.Dropout2d,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten,
)  # fmt: skip
SAME_FUNCTIONS = (
    F.relu, F.relu6, F.leaky_relu, F.silu, F.gelu, F.dropout, F.adaptive_avg_pool2d, F.avg_pool2d, F.max_pool2d,
    torch.relu, torch.tanh, torch.sigmoid, torch.flatten,
)  # fmt: skip
SAME_METHODS = ("relu", "relu_", "flatten", "view", "reshape", "contiguous", "mean", "tanh", "sigmoid")
SUMS = (operator.add, operator.iadd, torch.add)
SWEEPS = 100  # over all groups; a dozen are enough for the nets that were tried


@dataclass(frozen=True)
class Group:
    """Channels that one permutation orders.

    Attributes:
        size: how many.
        axes: (name of a parameter or buffer, axis of it) that run over them.
    """

    size: int
    axes: list[tuple[str, int]] = field(default_factory=list)


def channel_groups(model: nn.Module) -> list[Group]:
    """The groups of hidden channels of a net that can be permuted, each with the tensors that go along.

    Args:
        model: convolutions (plain or depthwise), linear layers, batch norm, sums, pooling and what acts on each number
            by itself; residual nets, wide residual nets and VGGs are such.
    Raises:
        KdvizError: a net that cannot be traced, or with another layer.
    Source: ours, for the permutations of Ainsworth, Hayase & Srinivasa 2023, "Git Re-Basin".
    """
    tracing = _Tracing(model)
    try:
        graph = fx.Tracer().trace(LogitsOnly(model))
    except UNTRACEABLE as error:
        raise KdvizError(f"rebasin: the net cannot be traced ({str(error).splitlines()[0][:80]})") from error
    for node in graph.nodes:
        tracing.visit(node)
    return tracing.groups()


def _channelwise(node: fx.Node) -> bool:
    """Whether a call leaves every channel where it is."""
    if node.op == "call_method":
        return node.target in SAME_METHODS
    return node.target in SAME_FUNCTIONS or getattr(node.target, "channelwise", False)


class _Tracing:
    """Which group of channels every value of a traced net has; groups that are added to each other become one."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = dict(model.named_modules())
        self.parent: list[int] = []
        self.size: list[int] = []
        self.fixed: set[int] = set()
        self.axes: list[tuple[str, int, int]] = []
        self.of: dict[fx.Node, int | None] = {}

    def new(self, size: int) -> int:
        self.parent.append(len(self.parent))
        self.size.append(size)
        return len(self.parent) - 1

    def root(self, group: int) -> int:
        while self.parent[group] != group:
            group = self.parent[group]
        return group

    def visit(self, node: fx.Node) -> None:
        inputs = [self.of[one] for one in node.all_input_nodes]
        known = [group for group in inputs if group is not None]
        if node.op == "placeholder":
            self.of[node] = self.new(0) if not self.parent else None  # the images
            self.fixed |= {0}
        elif node.op == "output":
            self.fixed |= set(known)
        elif not known:
            self.of[node] = None
        elif node.op == "call_module":
            name = str(node.target).removeprefix("net.")
            self.of[node] = self.through(name, self.modules[name], known[0])
        elif node.op == "call_function" and node.target in SUMS:
            for other in known[1:]:
                self.parent[self.root(other)] = self.root(known[0])
            self.of[node] = known[0]
        elif node.target is getattr or node.target in ("size", "dim"):
            self.of[node] = None
        elif len(known) == 1 and _channelwise(node):
            self.of[node] = known[0]
        else:
            what = getattr(node.target, "__name__", node.target)
            raise KdvizError(f"rebasin: {what!r} mixes channels in a way that is not known; re-basin needs a net of"
                             " convolutions, batch norm, sums and linear layers")  # fmt: skip

    def through(self, name: str, module: nn.Module, group: int) -> int:
        """The group of a layer's output, whose own tensors join it and that of its input."""
        if isinstance(module, SAME_MODULES):
            return group
        if isinstance(module, NORMS):
            own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
            self.axes += [(f"{name}.{key}", 0, group) for key, tensor in own.items() if tensor.dim() == 1]
            return group
        if isinstance(module, (*CONVOLUTIONS, nn.Linear)):
            wide = module.weight.shape[1] * getattr(module, "groups", 1)
            size = self.size[self.root(group)]
            require(size in (0, wide), f"rebasin: {name} reads {wide} channels where there are {size}; maps that are"
                    " flattened with their places cannot be matched")  # fmt: skip
            depthwise = getattr(module, "groups", 1) > 1
            require(not depthwise or len(module.weight) == wide == getattr(module, "groups", 1),
                    f"rebasin: {name} is a convolution of groups, which cannot be matched")  # fmt: skip
            made = group if depthwise else self.new(len(module.weight))
            self.axes += [(f"{name}.weight", 0, made)]
            self.axes += [] if module.bias is None else [(f"{name}.bias", 0, made)]
            self.axes += [] if depthwise else [(f"{name}.weight", 1, group)]
            return made
        raise KdvizError(f"rebasin: {name} is a {type(module).__name__}, whose channels cannot be matched; re-basin"
                         " needs a net of convolutions, batch norm, sums and linear layers")  # fmt: skip

    def groups(self) -> list[Group]:
        fixed = {self.root(one) for one in self.fixed}
        found: dict[int, Group] = {}
        for name, axis, group in self.axes:
            root = self.root(group)
            if root not in fixed:
                found.setdefault(root, Group(self.size[root])).axes.append((name, axis))
        return list(found.values())


def permuted(state: Mapping[str, Tensor], groups: Sequence[Group], orders: Sequence[np.ndarray]) -> State:
    """A state whose channels are taken in these orders, one per group: the same function, in other places."""
    moved = dict(state)
    for group, order in zip(groups, orders, strict=True):
        index = torch.from_numpy(order)
        for name, axis in group.axes:
            moved[name] = moved[name].index_select(axis, index.to(moved[name].device))
    return moved


def match_weights(
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    groups: Sequence[Group],
    *,
    seed: int = 0,
    starts: int = 3,
) -> list[np.ndarray]:
    """The orders of the second net's channels that bring its weights closest to the first's.

        argmax over permutations of sum over parameters <first, permuted second>,
    one group at a time, each solved exactly as a linear assignment with the others held, until none changes: a local
    optimum. The best of several random sequences of the groups is taken, the given order where none is better.

    Args:
        first, second: name -> tensor of the parameters, of one form.
        groups: of `channel_groups`.
        seed: of the sequences.
        starts: how many sequences.
    Returns:
        One order [size] per group: channel i of the result is channel order[i] of the second net.
    Source: Ainsworth, Hayase & Srinivasa 2023, algorithm 1.
    """
    a, b = ({name: tensor.detach().double().cpu() for name, tensor in one.items()} for one in (first, second))
    axes = [[(name, axis) for name, axis in group.axes if name in a] for group in groups]
    best = [np.arange(group.size) for group in groups]
    score = _agreement(a, b)
    for start in range(starts):
        orders = _descend(a, b, groups, axes, numpy_generator(seed, "rebasin", start))
        reached = _agreement(a, permuted(b, [Group(g.size, one) for g, one in zip(groups, axes, strict=True)], orders))
        if reached > score:
            best, score = orders, reached
    return best


def _descend(
    a: State, b: State, groups: Sequence[Group], axes: list[list[tuple[str, int]]], generator: np.random.Generator
) -> list[np.ndarray]:
    from scipy.optimize import linear_sum_assignment

    orders = [np.arange(group.size) for group in groups]
    moved = dict(b)
    for _ in range(SWEEPS):
        changed = False
        for at in generator.permutation(len(groups)):
            likeness = sum(_likeness(a[name], moved[name], axis) for name, axis in axes[at])
            if not isinstance(likeness, np.ndarray):
                continue
            step = linear_sum_assignment(likeness, maximize=True)[1]
            gain = likeness[np.arange(len(step)), step].sum() - np.trace(likeness)
            if gain > 1e-9 * max(1.0, np.abs(likeness).max()):
                moved = permuted(moved, [Group(groups[at].size, axes[at])], [step])
                orders[at], changed = orders[at][step], True
        if not changed:
            break
    return orders


def _likeness(a: Tensor, b: Tensor, axis: int) -> np.ndarray:
    """Inner products [n, n] of every slice of a with every slice of b along an axis."""
    return (
        (a.movedim(axis, 0).flatten(1) @ b.movedim(axis, 0).flatten(1).T).numpy()
        if a.dim() > 1
        else torch.outer(a, b).numpy()
    )


def _agreement(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    return sum(float((tensor * b[name]).sum()) for name, tensor in a.items())


def rebasin(first: nn.Module, second: nn.Module, *, seed: int = 0) -> State:
    """The second net's parameters and buffers with its channels in the order of the first's.

    Args:
        first, second: nets of one architecture; left exactly as they are.
        seed: as `match_weights`.
    Returns:
        A state dict for a net of that architecture, which computes what the second one does.
    Raises:
        KdvizError: nets that differ in form; as `channel_groups`.
    Source: Ainsworth, Hayase & Srinivasa 2023.
    """
    states_of("rebasin", (first, second))
    groups = channel_groups(second)
    orders = match_weights(dict(first.named_parameters()), dict(second.named_parameters()), groups, seed=seed)
    return permuted({name: tensor.detach() for name, tensor in second.state_dict().items()}, groups, orders)


def permute_randomly(model: nn.Module, *, seed: int = 0) -> State:
    """A state dict of the same function whose hidden channels are in random order, for tests and controls."""
    groups = channel_groups(model)
    generator = numpy_generator(seed, "permutation")
    orders = [generator.permutation(group.size) for group in groups]
    return permuted({name: tensor.detach() for name, tensor in model.state_dict().items()}, groups, orders)
