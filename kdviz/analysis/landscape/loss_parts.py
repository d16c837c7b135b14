"""A loss over images as differentiable functions of a net's weights, one for each chunk of images."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kdviz import losses
from kdviz.analysis.landscape.hessian_product import Part
from kdviz.base.check import require
from kdviz.data import Data
from kdviz.models import evaluating, logits_of


def loss_parts(
    model: nn.Module,
    data: "Data",
    *,
    loss: str = "ce",
    teacher: nn.Module | Tensor | None = None,
    settings: Mapping[str, Any] | None = None,
    chunk: int = 32,
    dtype: torch.dtype = torch.float32,
) -> list[Part]:
    """A loss over `data` as the parts that `HessianProduct` takes: one per chunk, weighted so that they sum to it.

    A loss that couples samples (dist, batch_gram) is one part over all images. The weights are the caller's; buffers
    (batch norm's statistics) the model's, frozen.

    Args:
        model: the net.
        data: the images.
        loss: of `kdviz.losses.LOSSES` or an alias, on logits.
        teacher: a net, or its logits [n, k] for these images, where the loss takes them.
        settings: of the loss.
        chunk: images per part.
        dtype: of the images and buffers.
    Raises:
        KdvizError: an unknown loss, one of pooled features, a teacher that is missing.
    """
    declared = losses.resolve(loss)
    wants = any(name.startswith(("pooled", "features")) for name in declared.takes)
    require(not wants, f"sharpness: {declared.name} needs features; only losses of logits are measured")
    needs = "logits_teacher" in declared.takes
    require(teacher is not None or not needs, f"sharpness: {declared.name} needs a teacher; name one with --teacher")
    device = next(model.parameters()).device
    buffers = {name: b.to(dtype) if b.is_floating_point() else b for name, b in model.named_buffers()}

    def part(images: Tensor, labels: Tensor, logits_teacher: Tensor | None) -> Part:
        images, labels, share = images.to(device, dtype), labels.to(device), len(labels) / len(data)

        def value(at: dict[str, Tensor]) -> Tensor:
            with evaluating(model):
                logits = logits_of(functional_call(model, {**buffers, **at}, (images,)))
            return share * losses.loss_value(declared.name, logits, logits_teacher, labels, settings=settings)

        return value

    batches = list(data.batches(chunk if declared.separable else len(data)))
    known = _teacher_logits(teacher if needs else None, batches)
    return [
        part(*batch, None if logits is None else logits.to(device, dtype))
        for batch, logits in zip(batches, known, strict=True)
    ]


def _teacher_logits(
    teacher: nn.Module | Tensor | None, batches: Sequence[tuple[Tensor, Tensor]]
) -> Sequence[Tensor | None]:
    """The teacher's logits of every batch."""
    if teacher is None:
        return [None] * len(batches)
    if isinstance(teacher, Tensor):
        return teacher.detach().split([len(labels) for _, labels in batches])
    device = next(teacher.parameters()).device
    with evaluating(teacher), torch.no_grad():
        return [logits_of(teacher(images.to(device))) for images, _ in batches]


def differentiates_twice(loss: str, settings: Mapping[str, Any] | None) -> bool:
    """Whether autograd's second derivative of a loss is the difference quotient of its first.

    A gradient written by hand may raise when differentiated again, or silently count as a constant.
    """
    logits = torch.tensor([[0.3, -1.0, 0.8, 0.1], [1.2, 0.4, -0.5, -0.9], [-0.2, 0.7, 1.5, -1.1]], dtype=torch.float64)
    logits_teacher, labels, toward = logits.flip(1) + logits.cos(), torch.tensor([0, 1, 2]), (3 * logits).sin()

    def first(at: Tensor) -> Tensor:
        value = losses.loss_value(loss, at, logits_teacher, labels, settings=settings)
        return torch.autograd.grad(value, at, create_graph=True)[0]

    with torch.enable_grad():
        ahead, behind = (first((logits + step * toward).requires_grad_()).detach() for step in (1e-5, -1e-5))
        at = logits.clone().requires_grad_()
        slope = (first(at) * toward).sum()
        try:
            second = torch.autograd.grad(slope, at)[0] if slope.requires_grad else torch.zeros_like(logits)
        except RuntimeError:
            return False
    return torch.allclose(second, (ahead - behind) / 2e-5, rtol=1e-3, atol=1e-6)
