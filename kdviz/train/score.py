"""Top-1 and top-5 accuracy and cross-entropy of a model over a data set, in float32."""

import torch
from torch import nn
from torch.nn import functional

from kdviz.data import Data
from kdviz.models import evaluating, logits_of


@torch.inference_mode()
def evaluate(model: nn.Module, data: Data, *, batch: int = 250) -> dict[str, float]:
    """{"top1": fraction, "top5": fraction, "loss": mean cross-entropy in nats}, in eval mode; its mode is restored.

    Args:
        model: images [n, c, h, w] -> logits [n, k]; the images go to its device.
        data: what to measure on.
        batch: images per forward pass.
    """
    device = next(model.parameters()).device
    hits, among_five, loss = 0, 0, 0.0
    with evaluating(model):
        for images, labels in data.batches(batch):
            logits = logits_of(model(images.to(device).contiguous(memory_format=torch.channels_last))).float()
            labels = labels.to(device)
            hits += int((logits.argmax(1) == labels).sum())
            top5 = logits.topk(min(5, logits.shape[1]), dim=1).indices
            among_five += int((top5 == labels[:, None]).sum())
            loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
    return {"top1": hits / len(data), "top5": among_five / len(data), "loss": loss / len(data)}
