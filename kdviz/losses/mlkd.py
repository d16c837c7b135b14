"""MLKD's Gram losses: how classes, and how samples, relate in the predictions of a batch.

The sum of them that MLKD trains is the method "mlkd".
"""

import torch
from torch import Tensor

from kdviz.base.check import positive
from kdviz.losses.entry import loss
from kdviz.losses.inputs import Normalize, normalized, pair, unmixed
from kdviz.losses.papers import MLKD


def _grams(who: str, nets: tuple[Tensor, Tensor], temperature: float, normalize: Normalize, classes: bool) -> Tensor:
    """Squared Frobenius distance of the two Gram matrices, over classes or over samples."""
    positive(who, temperature=temperature)
    p, q = (torch.softmax(logits / temperature, 1) for logits in normalized(who, pair(who, *nets), normalize))
    with unmixed(p.device):
        gap = p.T @ p - q.T @ q if classes else p @ p.T - q @ q.T
    return gap.square().sum()


@loss(MLKD, unit="1", long_name="class Gram loss")
def class_gram(
    logits_student: Tensor, logits_teacher: Tensor, *, temperature: float = 4.0, normalize: Normalize = "none"
) -> Tensor:
    """Squared distance between the nets' class Gram matrices.

    L = ||P't Pt - P's Ps||_F^2 / k, P = softmax(logits / temperature), `[n, k]`. The entries are sums over the samples,
    so it grows with the batch.

    Args:
        logits_student: `[n, k]`.
        logits_teacher: `[n, k]`; no gradient flows to it.
        temperature: above 0; MLKD sums the loss over 2, 3, 4, 5 and 6.
        normalize: of the logits before all else: "none" or "zscore"; LSKD on MLKD leaves this term as it is, "none".

    Returns: a scalar.

    Raises: KdvizError for wrong shapes or types, or a temperature that is not above 0.

    Source: Jin et al. 2023, sec. 3.3.

    >>> one, other = torch.tensor([[9.0, -9.0]]), torch.tensor([[-9.0, 9.0]])
    >>> round(class_gram(one, other, temperature=1.0).item(), 4)  # diag(1, 0) against diag(0, 1), over two classes
    1.0
    """
    return (
        _grams("class_gram", (logits_student, logits_teacher), temperature, normalize, True) / logits_student.shape[1]
    )


@loss(MLKD, unit="1", long_name="batch Gram loss")
def batch_gram(
    logits_student: Tensor, logits_teacher: Tensor, *, temperature: float = 4.0, normalize: Normalize = "none"
) -> Tensor:
    """Squared distance between the nets' sample Gram matrices.

    L = ||Pt P't - Ps P's||_F^2 / n, P = softmax(logits / temperature), `[n, k]`.

    Args:
        logits_student: `[n, k]`.
        logits_teacher: `[n, k]`; no gradient flows to it.
        temperature: above 0; MLKD sums the loss over 2, 3, 4, 5 and 6.
        normalize: of the logits before all else: "none" or "zscore"; LSKD on MLKD leaves this term as it is, "none".

    Returns: a scalar.

    Raises: KdvizError for wrong shapes or types, or a temperature that is not above 0.

    Source: Jin et al. 2023, sec. 3.3.

    >>> alike, apart = torch.tensor([[9.0, -9.0], [9.0, -9.0]]), torch.tensor([[9.0, -9.0], [-9.0, 9.0]])
    >>> round(batch_gram(alike, apart, temperature=1.0).item(), 4)  # ones against the identity, over two samples
    1.0
    """
    return (
        _grams("batch_gram", (logits_student, logits_teacher), temperature, normalize, False) / logits_student.shape[0]
    )
