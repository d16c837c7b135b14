"""The Plackett-Luce model's terms: the cost of each choice in a ranking."""

from torch import Tensor


def ranking(teacher: Tensor, target: Tensor) -> Tensor:
    """The permutation pi* `[n, k]`: the label first, the other classes by descending teacher logit (ties by index)."""
    first = teacher.scatter(1, target[:, None], float("inf"))
    return first.argsort(dim=1, descending=True, stable=True)


def costs(student: Tensor, order: Tensor) -> Tensor:
    """-log of the chance of choosing class order[k] among order[k:], for each k; `[n, k]`, never negative.

    cost_k = -s_k + log sum over l >= k of exp(s_l), with s in the given order: one scan, O(k).
    """
    chosen = student.gather(1, order)
    return chosen.flip(1).logcumsumexp(1).flip(1) - chosen
