"""How much boxes overlap."""

import torch
from torch import Tensor

from kdviz.base.check import require


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of every box with every other one, fractions `[n, m]`; 0 where both have no area.

    Args:
        boxes, others: `[n, 4]` and `[m, 4]` as x1, y1, x2, y2, x2 >= x1 and y2 >= y1.
    Raises: KdvizError for other shapes.
    Source: Jaccard 1912; the definition of COCO's evaluation.

    >>> iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2], [5, 5, 6, 6]]))
    tensor([[0.3333, 0.0000]])
    """
    for name, one in (("boxes", boxes), ("others", others)):
        require(one.ndim == 2 and one.shape[1] == 4, f"iou: {name} must be [n, 4], got {tuple(one.shape)}")
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    areas, other_areas = ((one[:, 2:] - one[:, :2]).prod(1) for one in (boxes, others))
    union = areas[:, None] + other_areas - shared
    return torch.where(union > 0, shared / union.clamp(min=torch.finfo(union.dtype).tiny), torch.zeros_like(shared))
