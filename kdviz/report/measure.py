"""What a report measures itself where no result has it: the student's logits beside its teacher's."""

from dataclasses import replace

import xarray as xr

from kdviz.analysis.detections import matched_logits
from kdviz.analysis.histogram import histogram
from kdviz.analysis.logits import collect_logits
from kdviz.analysis.ranks import tau
from kdviz.base.check import KdvizError
from kdviz.checkpoints import Checkpoint
from kdviz.checkpoints.related import load_measured_of, load_teacher_of
from kdviz.data import Data
from kdviz.report.gather import Subject

SAMPLES = 500  # images, stratified by class: a few seconds on two cores for a net of 32 x 32 images
SAMPLES_WITH_BOXES = 50


def measured(subject: Subject, *, samples: int = SAMPLES, samples_with_boxes: int = SAMPLES_WITH_BOXES) -> Subject:
    """The subject with a histogram of logits and, where its teacher is there, Kendall's tau, where it lacks them.

    Args:
        subject: a run or checkpoint.
        samples: images of the test split, stratified by class.
        samples_with_boxes: of a detector's test split.
    Returns:
        The subject with these results, or with the reason in `unmeasured` why there are none.
    Source: ours.
    """
    missing = {"histogram", "tau"} - {str(one.attrs.get("kind")) for one in subject.results}
    if not missing:
        return subject
    try:
        logits = _logits(subject.checkpoint, samples, samples_with_boxes)
        found = [histogram(logits)] if "histogram" in missing else []
        found += [tau(logits)] if "tau" in missing and "logits_teacher" in logits else []
    except KdvizError as error:
        return replace(subject, unmeasured=str(error))
    return replace(subject, results=(*subject.results, *found))


def _logits(checkpoint: Checkpoint, samples: int, samples_with_boxes: int) -> xr.Dataset:
    """Of so many test images, or of a detector of the boxes that it matches in them, with its teacher's where it has
    one."""
    data = load_measured_of(checkpoint)
    teacher = load_teacher_of(checkpoint)
    if isinstance(data, Data):
        return collect_logits(checkpoint, data.subset(min(samples, len(data))), teacher=teacher)
    return matched_logits(checkpoint, data.subset(min(samples_with_boxes, len(data))), teacher=teacher)
