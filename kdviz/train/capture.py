"""A run's step as one CUDA graph: the host sends one launch a step, and waits for nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdviz.methods import Batch
from kdviz.models import Outputs
from kdviz.train.optim import can_be_captured
from kdviz.train.tally import Tally

if TYPE_CHECKING:
    from kdviz.train.setup import Run

EAGER_STEPS = 3  # before the capture: kernels are loaded, memory is allocated, the optimizer makes its state


def obstacle(run: "Run") -> str | None:
    """Why a run's step is not captured, in words for the journal; None where it is.

    A graph repeats the same kernels on the same memory, so whatever the host decides in a step cannot be part of it.
    """
    recipe = run.recipe
    if run.batches.device.type != "cuda":
        return f"on {run.batches.device.type} there are no CUDA graphs"
    if run.ranks.world > 1:
        return "the processes of torchrun exchange gradients within the step"
    if "boxes" in run.objective.needs:
        return "the host chooses a detector's boxes"
    if run.batches.images is None:
        return "images are read from files"
    if not can_be_captured(recipe.optimizer):
        return f"the host takes part in the step of {recipe.optimizer}"
    if run.batches.strong_view or not recipe.views_are_countable:
        return "the host draws the random changes of each batch"
    if run.table is not None and not run.table.complete:
        return "the teacher's table is not complete; fill it first with kdviz teach"
    if "ids" in run.objective.needs:
        return "negatives are drawn by the host's choice"
    return None


@dataclass(eq=False)
class CapturedStep:
    """The step of a run over resident images: crop and flip, both nets, terms, backward, optimizer, sums.

    The first calls run as they are, on a stream of their own; then the step is captured, and later calls replay it.
    All of them do the same arithmetic with the same kernels.

    Attributes:
        run: the run.
        tally: where the terms are added up.
        say: is told why the capture failed, as with nets whose code decides by values; then every step runs as it is.
    """

    run: "Run"
    tally: Tally
    say: Callable[[str], None]
    _failed: bool = False
    _graph: torch.cuda.CUDAGraph | None = None
    _calls: int = 0
    _order: Tensor = field(init=False)
    _views: Tensor | None = field(init=False, default=None)
    _step: Tensor = field(init=False)
    _epoch: Tensor = field(init=False)

    def __post_init__(self) -> None:
        batches = self.run.batches
        plan, device = batches.plan(0), batches.device
        self._order = torch.empty_like(plan.order)
        self._views = None if plan.views is None else torch.empty_like(plan.views)
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._epoch = torch.zeros((), dtype=torch.float64, device=device)
        self._logits = self.run.table.on(device) if self.run.table is not None else None

    def begin(self, order: Tensor, views: Tensor | None) -> None:
        """The order and the crops of the epoch that comes."""
        self._order.copy_(order)
        if self._views is not None and views is not None:
            self._views.copy_(views)

    def __call__(self, step: int, epoch: float) -> None:
        """One update; the learning rate and the seed of the random state are set before."""
        self._step.fill_(step)
        self._epoch.fill_(epoch)
        if self._graph is not None:
            self._graph.replay()
            return
        self._calls += 1
        if self._calls <= EAGER_STEPS or self._failed:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self.tensors()
            torch.cuda.current_stream().wait_stream(stream)
            return
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self.tensors()
        except RuntimeError as error:  # all that CUDA and torch raise derives from it
            self._failed = True
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self.say(f"the step cannot be captured as a CUDA graph ({reason}); it runs eagerly")
            self(step, epoch)
            return
        self._graph = graph
        graph.replay()  # capturing computes nothing

    def tensors(self) -> None:
        """The step, of tensors that stay where they are."""
        batches = self.run.batches
        places = self._step * batches.size + torch.arange(batches.size, device=self._order.device)
        batch = batches.plain(self._order[places], None if self._views is None else self._views[places])
        terms = self.run.step(batch, self._teach, epoch=self._epoch)
        self.tally.add(terms, self._step)

    def _teach(self, batch: Batch) -> Outputs | None:
        if self._logits is None:
            return self.run.step.teach(batch)
        views = torch.zeros_like(batch.ids) if batch.views is None else batch.views
        return Outputs(self._logits[batch.ids, views].float())
