"""What every net of the house returns, and the way to the logits of any net."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from kdviz.base.check import KdvizError


class Outputs(NamedTuple):
    """What a net returns: its logits and, on request, its features.

    Attributes:
        logits: `[n, k]`.
        features: the stages' maps after the activation, `[n, c, h, w]` each, the stem's first.
        pooled: the features that the classifier sees, `[n, c]`.
        preactivations: the same stages' maps before the activation.
        strong: outputs of the same net for the strongly augmented view, in training steps that have one.
        losses: a detector's own training losses by name, scalars; its logits are of regions `[R, classes + 1]`, its
            features the maps of its pyramid.

    >>> import torch
    >>> Outputs(torch.zeros(2, 5)).pooled is None
    True
    """

    logits: Tensor
    features: tuple[Tensor, ...] = ()
    pooled: Tensor | None = None
    preactivations: tuple[Tensor, ...] = ()
    strong: "Outputs | None" = None
    losses: Mapping[str, Tensor] = {}


def logits_of(output: Any) -> Tensor:
    """The logits `[n, k]` in whatever a net returned: a tensor, `Outputs`, or anything with `logits` inside.

    Args:
        output: a tensor; an object with `.logits` (Outputs, the outputs of transformers); a mapping with "logits";
            or a tuple whose first entry is the logits (mdistiller's nets return `(logits, features)`).

    Raises: KdvizError when there are no logits in it.

    >>> import torch
    >>> logits_of({"logits": torch.zeros(2, 5)}).shape
    torch.Size([2, 5])
    """
    if isinstance(output, Tensor):
        return output
    found = getattr(output, "logits", None)
    if found is None and isinstance(output, dict):
        found = output.get("logits")
    if found is None and isinstance(output, tuple | list) and output:
        found = output[0]
    if isinstance(found, Tensor):
        return found
    raise KdvizError(
        f"the model returned a {type(output).__name__} without logits;"
        " expected a tensor [n, classes], an object with .logits, a dict with 'logits' or a tuple that starts with them"
    )


def net_of(model: Any) -> nn.Module:
    """The net itself, or that of a `Checkpoint` (anything that is no net and holds one as `.model`).

    Raises: KdvizError when it is neither.

    >>> net_of(nn.Linear(2, 3))
    Linear(in_features=2, out_features=3, bias=True)
    """
    net = model if isinstance(model, nn.Module) else getattr(model, "model", None)
    if isinstance(net, nn.Module):
        return net
    raise KdvizError(f"expected a net or a checkpoint, got {type(model).__name__}")
