"""What a training step hands to the terms of its loss."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Scene(NamedTuple):
    """The boxes of a detector's step, in pixels of `Batch.images`.

    Attributes:
        anchors: of each image `[a, 4]` as x1, y1, x2, y2, map by map, row by row.
        truth: ground-truth boxes of each image `[m, 4]`.
        average: gives the mean of a count over the processes of torchrun that share the batch. A term that is a sum
            over this process's images, divided by that, has the mean over the whole batch as its mean over processes.
    """

    anchors: tuple[Tensor, ...]
    truth: tuple[Tensor, ...]
    average: Callable[[Tensor], Tensor] = lambda count: count


class Batch(NamedTuple):
    """The images of one step and what is known of them.

    Attributes:
        images: float32 `[n, c, h, w]`, normalised.
        labels: class indices `[n]`, int64; in a detector's step, of the regions that the logits are of.
        ids: each sample's place in the training split `[n]`, int64.
        strong: a strongly augmented view of the same images, for methods that need one.
        views: which crop of its image each row is `[n]` (`kdviz.data.augment.crop_flip_view`); None without cropping.
        targets: distributions over the classes `[n, k]` that cross-entropy takes in place of the labels, where these
            are smoothed or images are mixed.
        scene: the boxes of a detector's step.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor
    strong: Tensor | None = None
    views: Tensor | None = None
    targets: Tensor | None = None
    scene: Scene | None = None

    def parts(self, count: int) -> list["Batch"]:
        """The batch in `count` equal parts."""
        cut = [part.chunk(count) if isinstance(part, Tensor) else [part] * count for part in self]
        return [Batch(*tensors) for tensors in zip(*cut, strict=True)]
