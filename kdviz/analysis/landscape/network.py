"""A private copy of a net that takes new weights and gives logits, quickly."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from itertools import product

import torch
from torch import Tensor, fx, nn

from kdviz.analysis.landscape.directions import random_direction
from kdviz.analysis.landscape.fold import CONVOLUTIONS, NORMS, Pair, fuse
from kdviz.base.check import one_of, require
from kdviz.models import logits_of

PRECISIONS = ("fp32", "bf16", "fp64")
# What a net of unknown code may raise when it is traced or run in another memory format; its plain form remains.
UNTRACEABLE = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, NameError, AssertionError)


class Network:
    """A net's own copy: `load` sets its weights, calling it gives the logits `[n, k]` of a batch.

    Two nets inside: the plain one holds the weights as the model has them, the fast one is what runs: batch norm folded
    into the convolutions, channels last. Where a net cannot be traced, or a fast form disagrees with the plain one, the
    next simpler form runs, at last the plain one itself. The model that it was made from is not touched.

    Args:
        model: any net that returns logits (see `models.logits_of`); evaluated in eval mode.
        example: float images [b, c, h, w], a few, to try the forms on.
        fold: whether to fold where it can be done.
        precision: "fp32"; "bf16" (a net without other layers than convolutions and linear ones, once folded, wholly in
            bfloat16, others by autocast); "fp64".
        device: where to run.
    Raises:
        KdvizError: weights that are not finite; batch norm without running statistics; an unknown precision.
    Source: ours.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Tensor,
        *,
        fold: bool = True,
        precision: str = "fp32",
        device: torch.device | str = "cpu",
    ) -> None:
        one_of("landscape", PRECISIONS, precision=precision)
        self.precision, self.device = precision, torch.device(device)
        wide = torch.float64 if precision == "fp64" else torch.float32
        self.plain = _private(model, self.device, wide)
        _check(self.plain)
        self.weights = dict(self.plain.named_parameters())
        self._choose(model, example.to(self.device, wide), fold)

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take these weights; names that are missing keep what they have."""
        for name, tensor in weights.items():
            require(name in self.weights, f"landscape: the net has no weight {name!r}")
            self.weights[name].copy_(tensor)
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Carry the plain net's weights and statistics over to the fast one."""
        for source, target in self._copies:
            target.copy_(source)
        for pair in self.pairs:
            pair.refresh()

    def prepare(self, images: Tensor) -> Tensor:
        """Images on the device, in the number and memory format that the fast net likes."""
        images = images.to(self.device, self.dtype)
        return images.contiguous(memory_format=self.form) if images.dim() == 4 else images

    def __call__(self, images: Tensor) -> Tensor:
        """The logits of prepared images, in float32 (float64 where that is the precision)."""
        logits = self._run(self.fast, images, self._autocast)
        return logits if logits.dtype == torch.float64 else logits.float()

    @property
    def shareable(self) -> bool:
        """Whether threads may call it at the same time: traced, so that no code but torch's is left, without hooks."""
        hooked = any(one._forward_hooks or one._forward_pre_hooks for one in self.fast.modules())
        return isinstance(self.fast, fx.GraphModule) and not hooked

    def recompute(self, batches: Iterable[Tensor]) -> None:
        """Batch norm's statistics anew: the mean over these batches, each weighing the same.

        Source: as torch.optim.swa_utils.update_bn does it.
        """
        norms = [one for one in self.plain.modules() if isinstance(one, NORMS)]
        for one in norms:
            one.reset_running_stats()
            one.momentum = None
            one.train()
        with torch.no_grad():
            for images in batches:
                self.plain(images.to(self.device, next(iter(self.weights.values())).dtype))
        for one in norms:
            one.eval()
        self.refresh()

    def _run(self, net: nn.Module, images: Tensor, autocast: bool = False) -> Tensor:
        cast = torch.autocast(self.device.type, torch.bfloat16) if autocast else nullcontext()
        on_gpu = self.device.type == "cuda"  # whose convolutions would otherwise round fp32 to ten bits (TF32)
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if on_gpu else nullcontext()
        with torch.inference_mode(), cast, exact:
            return logits_of(net(images))

    def _choose(self, model: nn.Module, example: Tensor, fold: bool) -> None:
        """Keep the first form that agrees with the plain net, at the centre and at displaced weights."""
        centre = {name: tensor.clone() for name, tensor in self.weights.items()}
        step = random_direction(centre, seed=0)
        places = {name: tensor.add(step[name], alpha=0.1) for name, tensor in centre.items()}, centre
        self._use(self.plain, torch.contiguous_format)
        truths = []
        for place in places:
            self.load(place)
            truths.append(self._run(self.plain, example).clone())
        for folded, form in product((fold, False), (torch.channels_last, torch.contiguous_format)):
            try:
                self._try(model, folded, form)
                if all(self._agrees(place, example, truth) for place, truth in zip(places, truths, strict=True)):
                    return
            except UNTRACEABLE:
                continue
        self._use(self.plain, torch.contiguous_format)
        self.load(centre)

    def _try(self, model: nn.Module, folded: bool, form: torch.memory_format) -> None:
        if not folded:
            return self._use(_formed(self.plain, form), form)
        copy = _private(model, self.device, next(iter(self.weights.values())).dtype)
        fast, pairs = fuse(copy, self.plain)
        theirs = {**dict(copy.named_parameters()), **dict(copy.named_buffers())}
        ours = (*self.plain.named_parameters(), *self.plain.named_buffers())
        held = {id(tensor) for tensor in (*fast.parameters(), *fast.buffers())}
        copies = [(mine, theirs[name]) for name, mine in ours if id(theirs[name]) in held]
        return self._use(_formed(fast, form), form, pairs, copies)

    def _use(
        self,
        fast: nn.Module,
        form: torch.memory_format,
        pairs: Sequence[Pair] = (),
        copies: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> None:
        self.fast, self.form, self.pairs, self._copies = fast, form, pairs, copies
        half = self.precision == "bf16" and isinstance(fast, fx.GraphModule) and _only_linear(fast)
        self._autocast = self.precision == "bf16" and not half
        self.dtype = torch.bfloat16 if half else next(iter(self.weights.values())).dtype
        if half:
            fast.to(self.dtype)

    def _agrees(self, place: Mapping[str, Tensor], example: Tensor, truth: Tensor) -> bool:
        self.load(place)
        logits = self(self.prepare(example))
        near = 0.1 if self.precision == "bf16" else 1e-3
        return bool((logits - truth).abs().max() <= near * truth.abs().max() + 1e-6)


def _formed(net: nn.Module, form: torch.memory_format) -> nn.Module:
    """The net, its convolutions' weights in this memory format."""
    for tensor in net.parameters():
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=form)
    return net


def _private(model: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    copy = deepcopy(model).to(device, dtype).eval()
    for tensor in copy.parameters():
        tensor.requires_grad_(False)
        tensor.grad = None
    return copy


def _check(net: nn.Module) -> None:
    require(any(True for _ in net.parameters()), "landscape: the net has no weights")
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        fine = bool(torch.isfinite(tensor).all())
        require(fine, f"landscape: {name!r} of the net holds NaN or infinity; did its training diverge?")
    for name, module in net.named_modules():
        bare = isinstance(module, NORMS) and module.running_mean is None
        require(not bare, f"landscape: {name!r} keeps no running statistics, so a sample's loss depends on its batch")


def _only_linear(net: nn.Module) -> bool:
    """Whether every weight belongs to a convolution or a linear layer, so that bfloat16 needs no exceptions."""
    holders = [one for one in net.modules() if any(True for _ in one.parameters(recurse=False))]
    return all(type(one) in (*CONVOLUTIONS, nn.Linear) for one in holders)
