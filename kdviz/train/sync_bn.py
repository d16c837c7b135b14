"""Batch normalisation over the images of all processes of torchrun (recipe setting `sync_bn`)."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdviz.base.check import require


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation with the mean and variance over all ranks' images, for the CPU, where torch's has none.

    The running variance is the unbiased one of the whole batch. Gradients pass through mean and variance on every rank.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions; channels are the second."""

    def forward(self, input: Tensor) -> Tensor:
        """Of `[n, c, ...]`; in eval mode, and outside of torchrun, as torch's own batch normalisation."""
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        world, seen = dist.get_world_size(), input.float()
        dims, shape = [0, *range(2, input.ndim)], [1, -1, *[1] * (input.ndim - 2)]
        mean = _Sum.apply(seen.mean(dims)) / world
        centred = seen - mean.view(shape)
        variance = _Sum.apply(centred.square().mean(dims)) / world
        tracked = self.num_batches_tracked
        if tracked is not None and self.running_mean is not None and self.running_var is not None:
            count = world * input.numel() / input.shape[1]
            tracked.add_(1)
            share = 1 / float(tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.detach(), share)
            self.running_var.lerp_(variance.detach() * count / (count - 1), share)
        found = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            found = found * self.weight.view(shape) + self.bias.view(shape)
        return found.to(input.dtype)


class _Sum(torch.autograd.Function):
    """The sum over the ranks, of values and of gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ARG004
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def synchronize(net: nn.Module, device: torch.device) -> nn.Module:
    """The net with its batch normalisation replaced, in place, by one that sees all ranks' images; weights, running
    statistics and names stay.

    Raises: KdvizError for a net with a batch normalisation that is not torch's own.
    """
    for name, child in list(net.named_children()):
        setattr(net, name, synchronize(child, device))
    if not isinstance(net, _BatchNorm):
        return net
    require(
        type(net) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
        f"train: sync_bn replaces torch's batch normalisation, but the net has {type(net).__name__}; leave it false",
    )
    make: Callable[..., nn.Module] = nn.SyncBatchNorm if device.type == "cuda" else SyncBatchNorm
    made = make(net.num_features, net.eps, net.momentum, net.affine, net.track_running_stats)
    for name, held in [*net.named_parameters(), *net.named_buffers()]:
        setattr(made, name, held)
    return made.train(net.training)
