"""Nets, images and weights filled by a formula, so that any implementation can have the same numbers."""

import math

import torch

from kdviz.models import build

LABELS = torch.tensor([3, 14, 15, 92, 65, 35])


def fill(count, phase, salt):
    i = torch.arange(count, dtype=torch.float64)
    return 2 * torch.frac((torch.sin(12.9898 * (i + 1) + 0.31 * phase + salt) + 1) * 43758.5453) - 1


@torch.no_grad()
def fill_tensor(name, tensor, phase, salt):
    w = fill(tensor.numel(), phase, salt).view(tensor.shape)
    if name.endswith("running_var"):
        w = 1 + 0.2 * w
    elif name.endswith("running_mean"):
        w = 0.05 * w
    elif tensor.dim() >= 2:
        w = w * (3 / tensor[0].numel()) ** 0.5
    elif name.endswith("bias"):
        w = 0.05 * w
    else:
        w = 1 + 0.1 * w
    tensor.copy_(w)


def net(name, salt):
    """In float64 and eval mode; salt 1 for a teacher, 2 for a student."""
    model = build(name, classes=100, seed=0).double().eval()
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            fill_tensor(key, tensor, sum(map(ord, key)) % 97, salt)
    return model


def images():
    i = torch.arange(6 * 3 * 32 * 32, dtype=torch.float64)
    return (torch.sin(0.37 * i) + torch.cos(0.0013 * i**2)).view(6, 3, 32, 32)


@torch.no_grad()
def fill_term(term):
    """A term's own weights, by place; VID's log scales are set to their start, which is that of a variance of 5."""
    for log_scale in getattr(term, "log_scales", ()):
        log_scale.fill_(math.log(math.exp(5 - 1e-5) - 1))
    named = [(name, tensor) for name, tensor in term.named_parameters() if not name.startswith("log_scales")]
    buffers = [
        (name, tensor) for name, tensor in term.named_buffers() if name.endswith(("running_mean", "running_var"))
    ]
    for place, (name, tensor) in enumerate(named + buffers):
        fill_tensor(name, tensor, place, 3)
    return [tuple(tensor.shape) for _, tensor in named]
