"""Random directions in weight space, normalised as Li et al. (2018) do."""

from collections.abc import Mapping

import torch
from torch import Tensor

from kdviz.base.check import one_of
from kdviz.base.seeds import torch_generator

RANDOM = ("filter", "layer", "none")


def random_direction(weights: Mapping[str, Tensor], *, seed: int, normalize: str = "filter") -> dict[str, Tensor]:
    """A Gaussian direction in the space of `weights`, as long as they are.

    With w a filter (row i of a tensor of two or more dimensions) and d ~ N(0, 1) of its shape,
        filter:  d <- d * ||w|| / ||d||
        layer:   the same with w and d the whole tensor
        none:    d as drawn
    Tensors of one dimension or none (biases, batch norm's scale and shift) and integers stay where they are: zero.

    Args:
        weights: name -> tensor, e.g. dict(model.named_parameters()).
        seed: each tensor's draw depends on the seed and its name alone, so that nets of one architecture share it.
        normalize: "filter", "layer" or "none".
    Returns:
        name -> tensor on the weights' device, in their dtype, with a name for every name of `weights`.
    Raises:
        KdvizError: an unknown normalisation.
    Source: Li et al. 2018, "Visualizing the loss landscape of neural nets", sec. 4.
    Differs from: loss-landscapes 3.0.6, which draws from U[0, 1) and displaces biases and batch norm as well.

    >>> weights = {"conv": torch.ones(2, 3, 3, 3), "bias": torch.ones(2)}
    >>> direction = random_direction(weights, seed=0)
    >>> [round(float(one.norm()), 4) for one in direction["conv"]], direction["bias"].tolist()
    ([5.1962, 5.1962], [0.0, 0.0])
    """
    one_of("random_direction", RANDOM, normalize=normalize)
    return {name: _draw(tensor.detach(), seed, name, normalize) for name, tensor in weights.items()}


def random_pair(weights: Mapping[str, Tensor], *, seed: int, normalize: str = "filter") -> tuple[dict, dict]:
    """The two independent random directions of a landscape with this seed: (2 seed) and (2 seed + 1).

    In many dimensions they are all but orthogonal; as in Li et al. nothing forces them to be.
    Source: ours.
    """
    first, second = (random_direction(weights, seed=2 * seed + one, normalize=normalize) for one in (0, 1))
    return first, second


def _draw(weight: Tensor, seed: int, name: str, normalize: str) -> Tensor:
    if weight.dim() < 2 or not weight.is_floating_point():
        return torch.zeros_like(weight)
    # Drawn on the CPU in float32 whatever the weights are, so that every device and precision sees one direction.
    drawn = torch.randn(weight.shape, generator=torch_generator(seed, "direction", name))
    dims = {"filter": tuple(range(1, weight.dim())), "layer": tuple(range(weight.dim()))}.get(normalize)
    if dims is not None:
        length, own = (
            torch.linalg.vector_norm(one, dim=dims, keepdim=True) for one in (weight.to("cpu", torch.float32), drawn)
        )
        drawn = drawn * (length / own.clamp_min(1e-30))
    return drawn.to(weight)
