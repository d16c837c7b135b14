"""One run by several processes of torchrun, data-parallel: `torchrun --nproc-per-node N -m kdviz train ...`.

The batch is the recipe's, divided over the ranks, so the learning rate stays as it is. Every rank takes its rows of the
same global order with the same random changes: all ranks together see exactly the images that one process sees. DDP
averages the gradients, which for terms that are means over samples gives the gradient of the whole batch. Where a term
couples samples (`Objective.couples`), both nets' outputs are gathered first and every rank computes the whole batch's
loss. Batch normalisation sees its rank's images alone unless the recipe says `sync_bn`.
"""

import importlib
import itertools
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kdviz.base.check import KdvizError, require
from kdviz.base.processes import rank_and_world, shared_store
from kdviz.methods import Batch, Objective
from kdviz.models import Outputs, evaluating
from kdviz.train.outputs import outputs_of_batch

TIMEOUT = timedelta(hours=2)  # rank 0 measures and writes while the others wait
_COUNT = itertools.count()  # of the runs that this process has trained: keys of an earlier one are left in the store


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one run; the default is a process alone.

    Attributes:
        rank: of this process; rank 0 writes and prints.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes for all."""
        return self.rank == 0

    def own(self, rows: Tensor, parts: int = 1) -> Tensor:
        """This rank's rows of a batch that is computed in equal parts: its share of each part.

        >>> Ranks(1, 2).own(torch.arange(8), parts=2)
        tensor([2, 3, 6, 7])
        """
        if self.world == 1:
            return rows
        return rows.unflatten(0, (parts, self.world, -1))[:, self.rank].flatten(0, 1)

    def whole(self, rows: Tensor, parts: int = 1) -> Tensor:
        """The whole batch, of what `own` gives on each rank.

        Gradients reach this rank's rows, times the number of ranks, by which DDP divides again.
        """
        if self.world == 1:
            return rows
        split = _Gather.apply(rows, self).unflatten(1, (parts, -1))  # [world, parts, n, ...]
        return split.transpose(0, 1).flatten(0, 2)

    def below(self, rows: Tensor) -> Tensor:
        """The rows of all ranks, the first rank's first, where each may have another number of them; gradients reach
        this rank's rows as those of `whole` do."""
        if self.world == 1:
            return rows
        counts = [torch.zeros((), dtype=torch.int64) for _ in range(self.world)]
        dist.all_gather(counts, torch.tensor(len(rows)))
        longest = max(int(count) for count in counts)
        held = torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])])
        parts = _Gather.apply(held, self)
        return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])

    def least(self, number: int) -> int:
        """The smallest of the ranks' numbers."""
        if self.world == 1:
            return number
        found = torch.tensor(number)
        dist.all_reduce(found, dist.ReduceOp.MIN)
        return int(found)

    def most(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        return -self.least(-number)

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The means over the ranks of scalars by name; the names are the same on every rank."""
        if self.world == 1 or not values:
            return dict(values)
        stacked = torch.stack(list(values.values()))
        dist.all_reduce(stacked)
        return dict(zip(values, stacked / self.world, strict=True))

    def share_buffers(self, net: nn.Module) -> None:
        """Give every rank the first one's buffers of a net, as running statistics of batch normalisation."""
        for buffer in net.buffers() if self.world > 1 else ():
            dist.broadcast(buffer, 0)

    def wait(self) -> None:
        """Wait until every rank has come here."""
        self.least(0)


ALONE = Ranks()


class _Gather(torch.autograd.Function):
    """The ranks' tensors, stacked `[world, ...]`."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        found = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(ranks.world)]
        dist.all_gather(found, own.contiguous())
        return torch.stack(found)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0][ctx.ranks.rank] * ctx.ranks.world, None


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Meet the other processes of torchrun, where there are any; leave them at the end.

    CPU tensors are exchanged by gloo, those of GPUs by NCCL, or by gloo where ranks have to share a GPU.

    Raises: KdvizError where torchrun's variables are incomplete, or the connection to another rank is lost meanwhile.
    """
    rank, world = rank_and_world()
    if world == 1:
        yield Ranks()
        return
    # DDP imports this, whose default arguments keep the group that there is at its import: a group that is never freed
    # leaves threads, and one of them may abort the process while it ends.
    importlib.import_module("torch.distributed.nn")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nccl = device.type == "cuda" and here <= torch.cuda.device_count()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        store = shared_store("train", f"train {next(_COUNT)}")
        backend = "cpu:gloo,cuda:nccl" if nccl else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=TIMEOUT)
        yield Ranks(rank, world)
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error) or "Connection" in str(error):
            raise KdvizError(
                f"train: another process of torchrun was lost ({str(error).splitlines()[0][:120]}); the last saved"
                " state is kept, and the same command, or torchrun --max-restarts, goes on from there"
            ) from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def require_divisible(ranks: Ranks, batch: int, parts: int, *, least: int = 2) -> None:
    """Raise KdvizError where a batch, computed in `parts`, cannot be divided over the ranks, `least` images to each."""
    share = f"{ranks.world} processes" + (f" times {parts} parts (accumulate)" if parts > 1 else "")
    smallest = {1: "", 2: " of two images or more"}[least]
    require(
        batch % (ranks.world * parts) == 0 and batch // (ranks.world * parts) >= least,
        f"train: a batch of {batch} images does not divide over {share} into equal shares{smallest}; change"
        " --batch or --nproc-per-node (the batch is that of all processes together)",
    )


class Together(nn.Module):
    """Student and method as one module, so that DDP sees every weight that learns and the loss that it gets.

    Args:
        student: the net, or a compiled form of it.
        objective: the method.
        precision: as `kdviz.train.step.Step`.
        ranks: all processes.
    """

    def __init__(self, student: nn.Module, objective: Objective, precision: str, ranks: Ranks) -> None:
        super().__init__()
        self.student, self.objective, self.precision, self.ranks = student, objective, precision, ranks

    def forward(
        self, batch: Batch, taught: Outputs | None, *, epoch: float | Tensor, part: int, parts: int
    ) -> dict[str, Tensor]:
        """The terms of this rank's share of one part of a batch; of the whole part where they couple samples.

        The nets draw (dropout, drop-path) from a stream of their own on each rank; the method draws from the step's,
        which all ranks share.
        """
        device = batch.images.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(torch.initial_seed() + self.ranks.rank * parts + part)
            learnt = outputs_of_batch(self.student, batch, self.objective.needs, self.precision)
        if self.objective.couples:
            learnt, taught = self._whole(learnt), self._whole(taught)
            batch = self._whole(batch._replace(images=None, strong=None))
        return self.objective(learnt, taught, batch, epoch=epoch)

    def reached(self, batch: Batch, taught: Outputs | None) -> list[bool]:
        """Whether the loss reaches each weight that learns; nothing is changed, and no other rank takes part."""
        weights = [weight for weight in self.parameters() if weight.requires_grad]
        with evaluating(self):
            learnt = outputs_of_batch(self.student, batch, self.objective.needs, self.precision)
            total = self.objective(learnt, taught, batch, epoch=0.0)["total"]
            return [grad is not None for grad in torch.autograd.grad(total, weights, allow_unused=True)]

    def _whole(self, held: Any) -> Any:
        """The whole part's tensors in place of the rank's, inside tuples too."""
        if isinstance(held, Tensor):
            return self.ranks.whole(held)
        if isinstance(held, tuple):
            parts = [self._whole(one) for one in held]
            return type(held)(*parts) if hasattr(held, "_fields") else tuple(parts)
        return held


class Exchange:
    """What a step calls for its terms under torchrun: `Together` inside DDP.

    Args:
        together: student and method.
        parts: equal parts that a batch is computed in; the gradients are exchanged after the last.
        sample: a batch of a few images, and the teacher's outputs for them, that show which weights the loss reaches.
    """

    def __init__(self, together: Together, parts: int, sample: tuple[Any, Outputs | None]) -> None:
        some_left_out = not all(together.reached(*sample))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # later torch has another name for broadcast_buffers
            # Buffers stay rank 0's: training reads none but those that gathering terms hold alike on every rank.
            self._ddp = DistributedDataParallel(together, find_unused_parameters=some_left_out, broadcast_buffers=False)
        self._parts = parts

    def __call__(self, batch: Batch, taught: Outputs | None, *, epoch: float | Tensor, part: int) -> dict[str, Tensor]:
        return self._ddp(batch, taught, epoch=epoch, part=part, parts=self._parts)

    @contextmanager
    def during(self, part: int) -> Iterator[None]:
        """The context of one part's forward and backward pass."""
        with warnings.catch_warnings(), nullcontext() if part == self._parts - 1 else self._ddp.no_sync():
            # Gradients of 1x1 convolutions come in channels-last order, which means the same for them.
            warnings.filterwarnings("ignore", "Grad strides do not match", UserWarning)
            yield

    def close(self) -> None:
        """Free what DDP holds of the process group, whose threads end when nothing holds it; the reducer would wait for
        ever if it were freed after the group."""
        del self._ddp.reducer, self._ddp.logger, self._ddp.process_group
