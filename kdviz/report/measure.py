"""What a report measures itself where no result has it: the student's logits beside its teacher's."""

from dataclasses import replace

from kdviz.analysis.histogram import histogram
from kdviz.analysis.logits import collect_logits
from kdviz.analysis.ranks import tau
from kdviz.base.check import KdvizError
from kdviz.checkpoints.related import load_data_of, load_teacher_of
from kdviz.report.gather import Subject

SAMPLES = 500  # images, stratified by class: a few seconds on two cores for a net of 32 x 32 images


def measured(subject: Subject, *, samples: int = SAMPLES) -> Subject:
    """The subject with a histogram of logits and, where its teacher is there, Kendall's tau, where it lacks them.

    Args:
        subject: a run or checkpoint.
        samples: images of the test split, stratified by class.
    Returns:
        The subject with these results, or with the reason in `unmeasured` why there are none.
    Source: ours.
    """
    missing = {"histogram", "tau"} - {str(one.attrs.get("kind")) for one in subject.results}
    if not missing:
        return subject
    checkpoint = subject.checkpoint
    try:
        data = load_data_of(checkpoint)
        teacher = load_teacher_of(checkpoint)
        logits = collect_logits(checkpoint, data.subset(min(samples, len(data))), teacher=teacher)
        found = [histogram(logits)] if "histogram" in missing else []
        found += [tau(logits)] if "tau" in missing and teacher is not None else []
    except KdvizError as error:
        return replace(subject, unmeasured=str(error))
    return replace(subject, results=(*subject.results, *found))
