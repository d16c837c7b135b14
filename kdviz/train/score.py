"""Top-1 and top-5 accuracy and cross-entropy of a model over a data set, in float32."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdviz.data import Data
from kdviz.data.files import CROP
from kdviz.data.loader import Loader, View
from kdviz.models import evaluating, logits_of


@torch.inference_mode()
def evaluate(model: nn.Module, data: Data, *, batch: int = 250, workers: int = 0) -> dict[str, float]:
    """{"top1": fraction, "top5": fraction, "loss": mean cross-entropy in nats}, in eval mode; its mode is restored.

    Args:
        model: images [n, c, h, w] -> logits [n, k]; the images go to its device.
        data: what to measure on.
        batch: images per forward pass.
        workers: processes that read the images, where these are in files.
    """
    return evaluate_by_class(model, data, batch=batch, workers=workers)[0]


@torch.inference_mode()
def evaluate_by_class(
    model: nn.Module, data: Data, *, batch: int = 250, workers: int = 0
) -> tuple[dict[str, float], list[float | None]]:
    """What `evaluate` gives, and top-1 of each class as fractions in label order, None for a class without images."""
    right, among_five, loss = torch.zeros(data.classes), 0, 0.0
    for logits, labels in _logits(model, data, batch, workers):
        hits = (logits.argmax(1) == labels).float().cpu()
        right.index_add_(0, labels.cpu(), hits)
        top5 = logits.topk(min(5, logits.shape[1]), dim=1).indices
        among_five += int((top5 == labels[:, None]).sum())
        loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
    counts = torch.bincount(data.labels, minlength=data.classes).tolist()
    by_class = [hits / count if count else None for hits, count in zip(right.tolist(), counts, strict=True)]
    scores = {"top1": float(right.sum()) / len(data), "top5": among_five / len(data), "loss": loss / len(data)}
    return scores, by_class


def _logits(model: nn.Module, data: Data, batch: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(logits [n, k] in float32, labels [n]) of one batch after another, on the model's device."""
    device = next(model.parameters()).device
    with evaluating(model):
        for images, labels in _batches(data, batch, workers):
            seen = images.to(device).contiguous(memory_format=torch.channels_last)
            yield logits_of(model(seen)).float(), labels.to(device)


def _batches(data: Data, batch: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised batches; those of image files are read ahead by a pool of processes."""
    if isinstance(data.images, Tensor) or not workers:
        yield from data.batches(batch)
        return
    view = View(data.images.shape[-1], scale=None, crop=getattr(data.images, "crop", CROP))
    with Loader(data, view, batch=batch, workers=workers) as loader:
        for loaded in loader.epoch(0, torch.arange(len(data))):
            yield data.normalize(loaded.images), loaded.labels
