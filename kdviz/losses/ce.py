"""Cross-entropy with the labels."""

from torch import Tensor
from torch.nn import functional

from kdviz.losses.entry import loss
from kdviz.losses.inputs import Reduction, labels, reduce, rows, wide


@loss(unit="nats", long_name="cross-entropy", title="CE")
def ce(logits_student: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Cross-entropy of the labels.

    L = -log softmax(s)_y, in nats.

    Args:
        logits_student: `[n, k]`.
        target: class indices `[n]` in 0..k-1.
        reduction: "mean" over samples, or "none" for `[n]`.

    Returns: a scalar, or `[n]`.

    Raises: KdvizError for wrong shapes or types.

    >>> import torch
    >>> ce(torch.zeros(3, 10), torch.tensor([0, 5, 9])).item()  # log 10
    2.302585...
    """
    rows("ce", logits_student=logits_student)
    target = labels("ce", logits_student, target)
    return reduce("ce", functional.cross_entropy(wide(logits_student), target, reduction="none"), reduction)
