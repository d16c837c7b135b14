"""Nets in eval mode for the length of a measurement."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(*nets: nn.Module) -> Iterator[None]:
    """A context in which every net is in eval mode; afterwards the nets are as before, whatever happened inside.

    Restored are each module's own mode (a net may hold some modules in eval mode while others train), each
    parameter's `requires_grad`, and the buffers: the same tensors with the same values. Gradient mode is the caller's:
    combine it with `torch.inference_mode()` where no gradient is needed.

    Args: nets: one or several, on any device; a net that is named twice is restored once.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    >>> with evaluating(net):
    ...     net.training, net[1].training
    (False, False)
    >>> net.training, net[1].training
    (True, True)
    """
    modules = list(dict.fromkeys(module for net in nets for module in net.modules()))
    modes = [(module, module.training) for module in modules]
    wanted = [(weight, weight.requires_grad) for module in modules for weight in module.parameters(recurse=False)]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in modules
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False)
    ]
    try:
        for net in nets:
            net.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training
        for weight, requires_grad in wanted:
            weight.requires_grad_(requires_grad)
        for module, name, buffer, value in buffers:
            module._buffers[name] = buffer
            if not torch.equal(buffer, value):
                with torch.no_grad():
                    buffer.copy_(value)
