"""A net's weights and batch norm statistics as name -> tensor, and as one flat vector of weights."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kdviz.base.check import require

State = dict[str, Tensor]


def state_of(model: nn.Module) -> State:
    """A net's weights and batch norm statistics: every floating parameter and buffer, in memory of its own."""
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in named.items() if tensor.is_floating_point()}


def states_of(who: str, models: Sequence[nn.Module]) -> list[State]:
    """The states of nets of one architecture.

    Raises:
        KdvizError: a name or a shape that differs.
    """
    states = [state_of(model) for model in models]
    first = {name: tuple(tensor.shape) for name, tensor in states[0].items()}
    for i, state in enumerate(states[1:], 2):
        other = {name: tuple(tensor.shape) for name, tensor in state.items()}
        odd = next((name for name in {**first, **other} if first.get(name) != other.get(name)), "")
        require(
            not odd,
            f"{who}: nets 1 and {i} are of different forms ({odd} is {first.get(odd)} and {other.get(odd)});"
            " name checkpoints of one architecture",
        )
    return states


def flatten(state: State, names: Iterable[str]) -> np.ndarray:
    """The tensors of these names as one float64 vector."""
    return np.concatenate([state[name].double().cpu().numpy().ravel() for name in names])


def unflatten(vector: np.ndarray, like: State) -> State:
    """A flat vector as name -> tensor, in the shapes, dtypes and order of `like`."""
    pieces = np.split(vector, np.cumsum([tensor.numel() for tensor in like.values()])[:-1])
    return {n: torch.from_numpy(p.copy()).to(t).view_as(t) for (n, t), p in zip(like.items(), pieces, strict=True)}
