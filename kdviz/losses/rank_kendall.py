"""RKKD's ranking loss: a differentiable Kendall's tau between student and teacher."""

from typing import Any, Literal

import torch
from torch import Tensor

from kdviz.base.check import one_of, positive, require
from kdviz.losses.entry import loss
from kdviz.losses.fused import fused
from kdviz.losses.inputs import Reduction, by_pieces, pair, reduce
from kdviz.losses.pairwise import blocked, textbook
from kdviz.losses.papers import RKKD

WHO = "rank_kendall"


def _sum(student: Tensor, teacher: Tensor, form: int, half: float, *, gradient: bool = True) -> tuple[Tensor, Tensor]:
    """The sum over the pairs and its derivative, by the device's own way; neither stores all pairs."""
    kernel = fused if student.device.type == "cuda" else blocked
    return kernel(student, teacher, form, half, gradient=gradient)


class Concordance(torch.autograd.Function):
    """V `[n]`, the sum over each row's pairs, and, where `gradient`, its derivative computed in the same pass."""

    @staticmethod
    def forward(student: Tensor, teacher: Tensor, form: int, half: float, gradient: bool) -> tuple[Tensor, Tensor]:
        return _sum(student, teacher, form, half, gradient=gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        student, teacher, ctx.form, ctx.half, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(student, teacher, output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        student, teacher, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient itself is to be differentiated
            slope = textbook(student, teacher, ctx.form, ctx.half)[1]
        return grads[0][:, None] * slope, None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[tuple[Tensor, Tensor], tuple[int, int | None]]:
        """Rows know nothing of each other, so that a batch of them is more rows."""
        *nets, form, half, gradient = inputs
        size = info.batch_size
        whole = [
            net.movedim(dim, 0) if dim is not None else net.expand(size, *net.shape)
            for net, dim in zip(nets, in_dims[:2], strict=True)
        ]
        value, slope = Concordance.apply(*(net.flatten(0, 1) for net in whole), form, half, gradient)
        value = value.unflatten(0, (size, -1))
        return ((value, slope.unflatten(0, (size, -1))), (0, 0)) if gradient else ((value, slope), (0, None))


def zscored(rows: Tensor) -> Tensor:
    """Rows less their mean, over their unbiased std; 1e-14 keeps constant rows finite and changes no other digit."""
    centred = rows - rows.mean(1, keepdim=True)
    return centred / (centred.square().sum(1, keepdim=True) / max(rows.shape[1] - 1, 1) + 1e-14).sqrt()


def _normalized(logits: Tensor, kind: str) -> Tensor:
    """Rows as they are, z-scored, or of unit length, which 1e-14 keeps finite as it does in `zscored`."""
    if kind == "none":
        return logits
    return by_pieces(zscored if kind == "zscore" else _unit, logits)


def _unit(rows: Tensor) -> Tensor:
    return rows / (rows.square().sum(1, keepdim=True) + 1e-14).sqrt()


def smooth_tau(student: Tensor, teacher: Tensor, *, form: int, steepness: float) -> Tensor:
    """The mean over pairs i < j of each row's smooth concordance, `[n]`; 0 for rows of one entry."""
    m = student.shape[1]
    if m < 2:
        return 0 * student.sum(1)
    gradient = torch.is_grad_enabled() and student.requires_grad
    value = Concordance.apply(student, teacher, form, steepness / 2, gradient)[0]
    return 2 / (m * (m - 1)) * value


def _chosen(teacher: Tensor, channels: tuple[str, float]) -> Tensor:
    """The indices `[n, m]` of the teacher's top or min share of the channels, two at least."""
    expected = f"{WHO}: channels must be ('top' or 'min', fraction in 0..1), got {channels!r}"
    require(isinstance(channels, tuple | list) and len(channels) == 2, expected)
    which, fraction = channels
    require(isinstance(fraction, int | float) and which in ("top", "min") and 0 < fraction <= 1, expected)
    count = max(2, round(fraction * teacher.shape[1]))
    return teacher.argsort(dim=1, descending=which == "top", stable=True)[:, :count]


@loss(RKKD, unit="1", long_name="ranking loss")
def rank_kendall(
    logits_student: Tensor,
    logits_teacher: Tensor,
    *,
    form: Literal[1, 2, 3] = 1,
    steepness: float = 1.0,
    normalize: Literal["none", "zscore", "l2"] = "zscore",
    pairs: Literal["unordered", "ordered"] = "unordered",
    channels: tuple[str, float] | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Minus a smooth Kendall's tau between the channel orders of student and teacher.

    L = -2 / (m (m - 1)) * sum over i < j of v_ij, between -1 (same order) and 1 (reversed), with
    g(x) = 1 - 2 / (1 + exp(steepness * x)) = tanh(steepness * x / 2), dt = t_i - t_j, ds = s_i - s_j:
    form 1: v = g(dt) g(ds)      form 2: v = g(dt ds)      form 3: v = sgn(dt) g(ds)

    Memory is O(n k), time O(n k^2). A second derivative is taken through the plain formula and costs O(n k^2) memory.

    Args:
        logits_student: `[n, k]`, k >= 2.
        logits_teacher: `[n, k]`; no gradient flows to it.
        form: 1, 2 or 3 as above; 1 is the paper's best.
        steepness: the paper's k, above 0; as it grows, -L tends to Kendall's tau-a.
        normalize: of the logits inside this loss alone, over all of a row: "zscore" (unbiased std), "l2" or "none".
        pairs: "unordered" counts i < j; "ordered" is eq. 7 to the letter, each pair twice over the same m (m - 1) / 2,
            which is twice the loss.
        channels: ("top" | "min", fraction): only that share of the channels by the teacher's ranking enters, two at
            least, m of them; None for all, m = k.
        reduction: "mean" over samples, or "none" for `[n]`.

    Returns: a scalar without unit, or `[n]`.

    Raises: KdvizError for wrong shapes or types, or a setting out of range.

    Source: Guan et al. 2025 (arXiv 2409.17823), eqs. 5-7 and sec. 4.2.

    Differs from: eq. 7 sums over all ordered pairs but divides by their half. Weight .9 with pairs="ordered", which is
    what the method "rk", the recipes and the commands of the paper's tables train, is weight 1.8 with "unordered";
    weight .9 with "unordered" is eq. 7 at weight .45. Eq. 6 calls the same g tanh(kx), which is steeper by two:
    steepness=2 gives that. The paper normalises without saying how; normalize="none" is its arm without.

    >>> student, teacher = torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[30.0, 10.0, 20.0]])
    >>> round(rank_kendall(student, teacher, steepness=100.0).item(), 6)
    -1.0
    """
    positive(WHO, steepness=steepness)
    one_of(WHO, (1, 2, 3), form=form)
    one_of(WHO, ("none", "zscore", "l2"), normalize=normalize)
    one_of(WHO, ("unordered", "ordered"), pairs=pairs)
    both = pair(WHO, logits_student, logits_teacher)
    student, teacher = (_normalized(logits, normalize) for logits in both)
    if channels is not None:
        index = _chosen(both[1], channels)
        student, teacher = student.gather(1, index), teacher.gather(1, index)
    tau = smooth_tau(student, teacher, form=form, steepness=steepness)
    return reduce(WHO, -tau if pairs == "unordered" else -2 * tau, reduction)
