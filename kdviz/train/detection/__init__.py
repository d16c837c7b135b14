"""What a detector's run has of its own: batches of boxes, the step, the measure. The loop is everybody's."""

from kdviz.train.detection.score import score_boxes
from kdviz.train.detection.setup import prepare_detector, training_boxes

__all__ = ["prepare_detector", "score_boxes", "training_boxes"]
