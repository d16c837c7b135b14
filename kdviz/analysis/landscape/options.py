"""What is measured and where, as two records that landscapes, lines, paths, comparisons and commands share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import torch

from kdviz.base.check import one_of, require, unknown

Record = TypeVar("Record")
SPAN_BY = ("direction", "distance", "loss")
NORMALIZE = ("filter", "layer", "none", "hessian")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What is measured at every point.

    Attributes:
        losses: names of `losses.LOSSES` that need logits alone; also "kendall_tau" and "agreement" with the teacher.
        teacher: a net, a `Checkpoint`, or logits [n, k] for the images of the data set; runs once.
        settings: of the losses, {"kd.temperature": 2.0, ...}.
        samples: how many images, stratified by label [default: all]; fewer than all adds the half-width of the 95 %
            interval of every loss and metric.
        seed: of the draw of images.
        precision: "fp32", "bf16" or "fp64".
        bn: statistics of batch norm: "frozen" (as trained), "recompute" (at each point anew, from these images in
            batches of about 100), on the line or plane through nets also "interpolate" (with the weights)
            [default: "frozen" around a net, "interpolate" between nets, "recompute" along a run].
        chunk: images at a time, or "auto" for a short trial.
        fold: whether to fold batch norm into convolutions where it can be done.
        device: [default: the GPU where there is one; under torchrun, the process's own].
    """

    losses: Sequence[str] = ("ce",)
    teacher: Any = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    samples: int | None = None
    seed: int = 0
    precision: str = "fp32"
    bn: str | None = None
    chunk: int | str = "auto"
    fold: bool = True
    device: torch.device | str | None = None


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Where it is measured: the points of a line or plane.

    Attributes:
        span: around a net, half the side of the plane, in units of the directions: at 1 every filter has moved by its
            own norm; with directions "hessian", 1 is where the loss of the top eigenvalue's quadratic has risen by 1.
        span_by: what the span is, so that nets of different width compare: "direction" as above; "distance": the
            Euclidean distance of the weights at the middle of each side; "loss": the plane reaches to where the first
            loss has risen by `span` times its value at the net (1: doubled), on average over the sides' middles.
        steps: points along each axis; an odd number puts the net on the grid.
        seed: of random directions.
        normalize: random directions: "filter" as Li et al. have it, "layer" or "none". Of given directions it says
            what they are ("none"; "hessian" for unit eigenvectors, with coordinates in distance of the weights).
        directions: "random"; "hessian" for the two top eigenvectors of the first loss; or dicts of tensors.
        one_d: the first direction alone; a line.
        margin: between nets, how far to go on beyond them, as a share of their extent
            [default: 0 on a line, 0.25 on a plane].
    """

    span: float = 1.0
    span_by: str = "direction"
    steps: int = 51
    seed: int = 0
    normalize: str = "filter"
    directions: str | Sequence[Mapping[str, torch.Tensor]] = "random"
    one_d: bool = False
    margin: float | None = None

    def __post_init__(self) -> None:
        one_of("landscape", NORMALIZE, normalize=self.normalize)
        whole = isinstance(self.steps, int) and self.steps > 0
        require(whole, f"landscape: steps must be a whole number above 0, got {self.steps!r}")
        require(0 < self.span < math.inf, f"landscape: span must be a finite number above 0, got {self.span!r}")
        margin = self.margin or 0.0
        require(0 <= margin < math.inf, f"landscape: margin must be 0 or more, got {margin!r}")
        if isinstance(self.directions, str):
            one_of("landscape", ("random", "hessian"), directions=self.directions)
        one_of("landscape", SPAN_BY, span_by=self.span_by)
        random = self.directions == "random" or self.span_by == "direction"
        require(random, f"landscape: span_by {self.span_by!r} goes with random directions")


def known_only(who: str, options: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse keywords that are not among `names`, with a close match."""
    for name in options:
        if name not in names:
            raise unknown(f"keyword of {who}", name, names)


def pick(record: type[Record], options: Mapping[str, Any]) -> Record:
    """A record of those of the options that it has a field for.

    >>> pick(Grid, {"steps": 3, "losses": ("ce",)}).steps
    3
    """
    names = {one.name for one in fields(record)}  # pyright: ignore[reportArgumentType]
    return record(**{name: value for name, value in options.items() if name in names})
