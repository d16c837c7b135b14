"""How far a net's confidence is from how often it is right."""

import torch
from torch import Tensor

from kdviz.base.check import positive, require


def ece(logits: Tensor, target: Tensor, *, bins: int = 15, temperature: float = 1.0) -> Tensor:
    """Expected calibration error: sum over bins of (share of samples) * |accuracy - mean confidence|.

    Confidence is the largest probability of softmax(logits / temperature); bins are ((i-1)/bins, i/bins].

    Args: logits [n, k]; target [n] int64; bins >= 1; temperature > 0.
    Returns: [] float64 in [0, 1]; NaN without samples.
    Raises: KdvizError for counts that differ or settings out of range.
    Source: Guo et al. (2017), eq. 3.

    >>> ece(torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1]))
    tensor(0., dtype=torch.float64)
    """
    require(
        logits.ndim == 2 and target.shape == logits.shape[:1],
        f"ece: logits must be [n, k] and target [n], got {tuple(logits.shape)} and {tuple(target.shape)}",
    )
    require(bins >= 1, f"ece: bins must be at least 1, got {bins}")
    positive("ece", temperature=temperature)
    confidence, first = (logits.detach().double() / temperature).softmax(1).max(1)
    gap = (first == target).double() - confidence
    which = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    total = torch.zeros(bins, dtype=torch.float64, device=logits.device).index_add_(0, which, gap)
    return total.abs().sum() / len(logits) if len(logits) else total.sum() * torch.nan
