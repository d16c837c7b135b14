"""Optimizers, their parameter groups and learning-rate schedules, as functions of plain settings."""

import importlib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kdviz.base.check import KdvizError, one_of, require, unknown

Groups = list[dict[str, Any]]

NATIVE = ("sgd", "adam", "adamw")
SCHEDULES = ("cosine", "step")
# Settings with which a library's optimizer is the published one; all others keep that library's defaults.
PUBLISHED: dict[str, dict[str, Any]] = {"lamb": {"weight_decouple": False, "pre_norm": True}}


def parameter_groups(*modules: nn.Module, weight_decay: float, no_decay: bool = False) -> Groups:
    """The trainable parameters of `modules` for an optimizer, each once.

    Args:
        modules: the student, then whatever else learns (a method's own weights).
        weight_decay: of every parameter, or of all but those left without.
        no_decay: leave biases, normalisation and other parameters of one dimension without decay, and those that a
            module names by `no_weight_decay()` (timm's nets: class tokens and position embeddings).
    Returns: one group, or two: with decay, without.
    Source: Goyal et al. 2017 (arXiv 1706.02677), sec. 5.3, for batch normalisation; timm's rule by dimension.

    >>> [len(group["params"]) for group in parameter_groups(nn.Linear(2, 3), weight_decay=0.1, no_decay=True)]
    [1, 1]
    """
    require(weight_decay >= 0, f"weight_decay must not be negative, got {weight_decay}")
    with_decay: list[nn.Parameter] = []
    without: list[nn.Parameter] = []
    seen: set[int] = set()
    for module in modules:
        exempt = _exempt(module)
        for name, parameter in module.named_parameters():
            if id(parameter) in seen or not parameter.requires_grad:
                continue
            seen.add(id(parameter))
            spared = no_decay and (parameter.ndim <= 1 or name.endswith("bias") or name in exempt)
            (without if spared else with_decay).append(parameter)
    groups = [{"params": with_decay, "weight_decay": weight_decay}, {"params": without, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _exempt(module: nn.Module) -> set[str]:
    """What the module and the modules inside it name by `no_weight_decay()`."""
    names: set[str] = set()
    for prefix, part in module.named_modules():
        listed = getattr(part, "no_weight_decay", None)
        if callable(listed):
            names |= {f"{prefix}.{name}" if prefix else str(name) for name in listed()}  # type: ignore[union-attr]
    return names


def build_optimizer(
    parameters: Iterable[nn.Parameter] | Groups,
    *,
    name: str = "sgd",
    lr: float = 0.1,
    momentum: float = 0.9,
    nesterov: bool = False,
    betas: tuple[float, float] | None = None,
    eps: float | None = None,
    captured: bool = False,
) -> torch.optim.Optimizer:
    """An optimizer by name.

    Args:
        parameters: of `parameter_groups`, on the device where they will be trained.
        name: "sgd", "adam" or "adamw" (PyTorch's); any other plain name is pytorch-optimizer's ("lamb", "lion", "lars",
            ...; optional extra `optimizers`), "timm:NAME" is timm's.
        lr: the first learning rate; see `set_learning_rate`.
        momentum, nesterov: of sgd.
        betas, eps: of the others; None keeps the optimizer's own.
        captured: for a step that is captured as a CUDA graph: fused kernels, the learning rate as a tensor on the
            device, all state made beforehand. Only where `can_be_captured(name)`.
    Raises: KdvizError for an unknown name, a library that is not installed, a setting out of its range.
    Differs from: "lamb" of pytorch-optimizer limits the weights' norm in the trust ratio to 10, corrects the first
        moment's bias alone and adapts parameters without decay too; "timm:lamb", the one behind most published ImageNet
        numbers, does neither and leaves those parameters unadapted. Both clip the gradients' global norm to 1.
    """
    require(lr > 0, f"the learning rate must be above 0, got {lr}")
    require(not captured or can_be_captured(name), f"{name}: its step cannot be captured; use {', '.join(NATIVE)}")
    groups = _as_groups(parameters)
    if name not in NATIVE:
        return _from_library(name, groups, lr=lr, momentum=momentum, **_given(betas=betas, eps=eps))
    device = next(parameter.device for group in groups for parameter in group["params"])
    settings: dict[str, Any] = {"lr": torch.tensor(lr, device=device) if captured else lr}
    settings["fused"] = True if captured or device.type == "cuda" else None
    if name == "sgd":
        optimizer = torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov and momentum > 0, **settings)
    else:
        settings |= {"capturable": captured and device.type == "cuda", **_given(betas=betas, eps=eps)}
        optimizer = (torch.optim.Adam if name == "adam" else torch.optim.AdamW)(groups, **settings)
    if captured:
        prepare_state(optimizer)
    return optimizer


def can_be_captured(name: str) -> bool:
    """Whether an optimizer's step reads nothing on the host, so that a CUDA graph can hold it."""
    return name in NATIVE


def prepare_state(optimizer: torch.optim.Optimizer) -> None:
    """Fill the state that SGD, Adam and AdamW would make in their first step, with the same result.

    Memory made during capture would be cleared again by every replay of the graph.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            if "momentum" in group:
                if group["momentum"] and "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
            elif "exp_avg" not in state:
                state["step"] = torch.zeros((), device=parameter.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)


def learning_rate(
    epoch: float,
    *,
    lr: float,
    epochs: float,
    schedule: str = "cosine",
    warmup: float = 0.0,
    milestones: tuple[float, ...] = (),
    decay: float = 0.1,
    min_lr: float = 0.0,
) -> float:
    """The learning rate at a fractional epoch: linear warm-up, then steps or a half cosine.

    cosine: min_lr + (lr - min_lr) (1 + cos(pi (epoch - warmup)/(epochs - warmup))) / 2
    step: lr decay^(number of milestones up to epoch)

    Args:
        epoch: 0 to epochs, fractional within an epoch.
        lr: the peak.
        epochs, warmup, milestones: in epochs.
        schedule: "cosine" or "step".
        decay: factor at each milestone.
        min_lr: where the cosine ends.

    >>> learning_rate(0.5, lr=1.0, epochs=11, warmup=1), round(learning_rate(6.0, lr=1.0, epochs=11, warmup=1), 9)
    (0.5, 0.5)
    """
    one_of("learning_rate", SCHEDULES, schedule=schedule)
    if epoch < warmup:
        return lr * max(epoch, 1e-3) / warmup
    if schedule == "step":
        return lr * decay ** sum(epoch >= milestone for milestone in milestones)
    share = (epoch - warmup) / max(epochs - warmup, 1e-9)
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of the next step, in every group; a tensor is filled, so that a captured step sees it."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def load_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load `state` (of `optimizer.state_dict()`), the learning rate's tensor kept where a captured step reads it.

    Raises: KdvizError where the state belongs to an optimizer of other groups or another kind.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    try:
        optimizer.load_state_dict(dict(state))
    except (ValueError, KeyError) as error:
        raise KdvizError(f"the optimizer's state does not belong to this run: {error}") from error
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        saved = float(group["lr"])
        group["lr"] = rate.fill_(saved) if isinstance(rate, Tensor) else saved


def clip_grad(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Gradients scaled so that their norm over all parameters is at most `max_norm`; returns the norm before.

    Nothing waits for the device; a norm that is not finite makes the gradients NaN, which the loss's check then finds.

    Source: Pascanu, Mikolov and Bengio 2013, algorithm 1.
    """
    require(max_norm > 0, f"clip_grad: the largest norm must be above 0, got {max_norm}")
    return nn.utils.clip_grad_norm_(list(parameters), max_norm, error_if_nonfinite=False)


def _as_groups(parameters: Iterable[nn.Parameter] | Groups) -> Groups:
    listed = list(parameters)
    require(listed, "the optimizer got no parameters; is the whole student frozen?")
    return listed if isinstance(listed[0], dict) else [{"params": listed}]  # type: ignore[return-value]


def _given(**settings: Any) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None}


def _from_library(name: str, groups: Groups, **settings: Any) -> torch.optim.Optimizer:
    """An optimizer of timm or pytorch-optimizer; settings that it does not have are left out."""
    library, colon, plain = name.rpartition(":")
    require(library in ("", "timm") and plain, f"optimizer {name!r}: expected NAME or timm:NAME")
    make = _timm(plain) if colon else _pytorch_optimizer(plain)
    wanted = settings if colon else {**settings, **PUBLISHED.get(plain, {})}
    known = inspect.signature(make).parameters
    try:
        return make(groups, **{key: value for key, value in wanted.items() if key in known})
    except (TypeError, ValueError) as error:
        raise KdvizError(f"optimizer {name}: {str(error).splitlines()[0]}") from error


def _pytorch_optimizer(name: str) -> Callable[..., torch.optim.Optimizer]:
    library = _library("pytorch_optimizer", f"optimizer {name!r} is pytorch-optimizer's, which", "kdviz[optimizers]")
    names = library.get_supported_optimizers()
    if name not in names:
        raise unknown("optimizer", name, [*NATIVE, *names])
    return library.load_optimizer(name)


def _timm(name: str) -> Callable[..., torch.optim.Optimizer]:
    library = _library("timm.optim", "timm", "kdviz[models]")
    if name not in library.list_optimizers():
        raise unknown("timm optimizer", name, library.list_optimizers())
    return library.get_optimizer_class(name)


def _library(module: str, who: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # torchvision for another torch raises RuntimeError
        missing = isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]
        reason = "is not installed" if missing else f"cannot be imported ({str(error).splitlines()[0]})"
        raise KdvizError(f"{who} {reason}; pip install '{extra}'") from error
