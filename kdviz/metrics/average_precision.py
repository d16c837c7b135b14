"""Average precision of detections, as COCO measures it."""

import contextlib
import importlib
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from kdviz.base.check import KdvizError, require


class Precision(NamedTuple):
    """Average precision, fractions.

    Attributes:
        ap: mean over IoU thresholds .5, .55, ..., .95 and over the classes that have a ground-truth box.
        ap50, ap75: at IoU .5 and .75 alone.
        by_class: `ap` of each class; None for one without a ground-truth box.
    """

    ap: float
    ap50: float
    ap75: float
    by_class: list[float | None]


def average_precision(
    truth: Sequence[tuple[Tensor, Tensor, Tensor]], found: Sequence[tuple[Tensor, Tensor, Tensor]], *, classes: int
) -> Precision:
    """COCO's average precision of the detections in a set of images, 100 of each image at most.

    Args:
        truth: of each image: boxes `[m, 4]` as x1, y1, x2, y2 in pixels, labels `[m]` from 0, and whether each is a
            crowd `[m]` (which is no mistake to find, nor to miss).
        found: of each image: boxes `[d, 4]`, labels `[d]`, scores `[d]`.
        classes: how many there are.
    Raises: KdvizError without pycocotools, for lists of other lengths, or where no image has a box.
    Source: pycocotools' COCOeval; Lin et al. 2014.
    """
    require(len(truth) == len(found), f"average_precision: {len(truth)} images but detections of {len(found)}")
    require(
        any(bool((~crowd).any()) for _, _, crowd in truth), "average_precision: no image has a box that could be found"
    )
    tools, evaluation = _library("pycocotools.coco"), _library("pycocotools.cocoeval")
    boxes = [
        {**_entry(image, box, label), "iscrowd": int(marked)}
        for image, each in enumerate(truth)
        for box, label, marked in zip(*map(_listed, each), strict=True)
    ]
    results = [
        {**_entry(image, box, label), "score": score}
        for image, each in enumerate(found)
        for box, label, score in zip(*map(_listed, each), strict=True)
    ]
    if not results:
        return Precision(0.0, 0.0, 0.0, [0.0 if has else None for has in _present(truth, classes)])
    with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
        known = tools.COCO()
        known.dataset = {
            "images": [{"id": i} for i in range(len(truth))],
            "categories": [{"id": label} for label in range(classes)],
            "annotations": [{**box, "id": number} for number, box in enumerate(boxes, 1)],  # 0 would count as none
            "info": {},
        }
        known.createIndex()
        run = evaluation.COCOeval(known, known.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    precision = run.eval["precision"][:, :, :, 0, -1]  # [thresholds, recalls, classes], all areas, 100 detections
    by_class = [_mean(precision[:, :, label]) for label in range(classes)]
    ap, ap50, ap75 = (max(float(value), 0.0) for value in run.stats[:3])
    return Precision(ap, ap50, ap75, by_class)


def _entry(image: int, box: list[float], label: int) -> dict[str, Any]:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    return {"image_id": image, "category_id": label, "bbox": [left, top, width, height], "area": width * height}


def _listed(tensor: Tensor) -> list[Any]:
    return tensor.double().tolist() if tensor.is_floating_point() else tensor.tolist()


def _present(truth: Sequence[tuple[Tensor, Tensor, Tensor]], classes: int) -> list[bool]:
    """Whether each class has a ground-truth box that is no crowd."""
    seen = {int(label) for _, labels, crowd in truth for label in labels[~crowd].tolist()}
    return [label in seen for label in range(classes)]


def _mean(values: np.ndarray) -> float | None:
    """The mean of what COCOeval measured; it marks the rest by -1."""
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else None


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise KdvizError(f"average precision needs pycocotools ({error}); pip install 'kdviz[detection]'") from error
