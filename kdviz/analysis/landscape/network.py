"""A private copy of a net that takes new weights and gives logits, quickly."""

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from copy import deepcopy

import torch
from torch import Tensor, nn

from kdviz.analysis.landscape.directions import random_direction
from kdviz.analysis.landscape.fold import CONVOLUTIONS, NORMS, Pair, fuse
from kdviz.base.check import one_of, require
from kdviz.models import logits_of

PRECISIONS = ("fp32", "bf16", "fp64")
# What a stranger's net may raise when it is traced or run in another memory format; its plain form remains.
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
        precision: "fp32"; "bf16" (folded nets wholly in bfloat16, others by autocast); "fp64".
        device: where to run.
    Raises:
        KdvizError: weights that are not finite; batch norm without running statistics; an unknown precision.
    Source: ours.
    """

    def __init__(
        self, model: nn.Module, example: Tensor, *, fold: bool = True, precision: str = "fp32",
        device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        one_of("landscape", PRECISIONS, precision=precision)
        self.dtype = torch.float64 if precision == "fp64" else torch.float32
        self.device = torch.device(device)
        self.plain = _private(model, self.device, self.dtype)
        _check(self.plain)
        self.weights = dict(self.plain.named_parameters())
        self._autocast = False
        self._use(self.plain, torch.contiguous_format)
        self._choose(model, example.to(self.device, self.dtype), fold)
        self._autocast = precision == "bf16" and not (self.pairs and _only_linear(self.fast))
        if precision == "bf16" and not self._autocast:
            self.dtype = torch.bfloat16
            self.fast.to(self.dtype)
            self.refresh()

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
        cast = torch.autocast(self.device.type, torch.bfloat16) if self._autocast else nullcontext()
        on_gpu = self.device.type == "cuda"  # whose convolutions would otherwise round fp32 to ten bits (TF32)
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if on_gpu else nullcontext()
        with torch.inference_mode(), cast, exact:
            logits = logits_of(self.fast(images))
        return logits if logits.dtype == torch.float64 else logits.float()

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

    def _use(self, fast: nn.Module, form: torch.memory_format, pairs: tuple[Pair, ...] = ()) -> None:
        self.fast, self.form, self.pairs = fast, form, pairs
        self._copies: list[tuple[Tensor, Tensor]] = []

    def _choose(self, model: nn.Module, example: Tensor, fold: bool) -> None:
        """Keep the first form that agrees with the plain net, at the centre and at displaced weights."""
        centre = {name: tensor.clone() for name, tensor in self.weights.items()}
        step = random_direction(centre, seed=0)
        places = {name: tensor.add(step[name], alpha=0.1) for name, tensor in centre.items()}, centre
        truths = []
        for place in places:
            self.load(place)
            truths.append(self(example).clone())
        forms = [(one, form) for one in (fold, False) for form in (torch.channels_last, torch.contiguous_format)]
        for folded, form in forms:
            try:
                self._try(model, folded, form)
                if all(self._agrees(place, example, truth) for place, truth in zip(places, truths, strict=True)):
                    return
            except UNTRACEABLE:
                continue
        self._use(self.plain, torch.contiguous_format)
        self.load(centre)

    def _try(self, model: nn.Module, folded: bool, form: torch.memory_format) -> None:
        fast, pairs = self.plain, ()
        if folded:
            copy = _private(model, self.device, self.dtype)
            fast, found = fuse(copy, self.plain)
            pairs = tuple(found)
        for tensor in fast.parameters():
            if tensor.dim() == 4:
                tensor.data = tensor.data.contiguous(memory_format=form)
        self._use(fast, form, pairs)
        if folded:
            theirs = {**dict(copy.named_parameters()), **dict(copy.named_buffers())}
            ours = (*self.plain.named_parameters(), *self.plain.named_buffers())
            self._copies = [(mine, theirs[name]) for name, mine in ours]

    def _agrees(self, place: Mapping[str, Tensor], example: Tensor, truth: Tensor) -> bool:
        self.load(place)
        logits = self(self.prepare(example))
        return bool((logits - truth).abs().max() <= 1e-3 * truth.abs().max() + 1e-6)


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
        require(not bare, f"landscape: {name!r} keeps no running statistics, so a sample's loss hangs on its batch")


def _only_linear(net: nn.Module) -> bool:
    """Whether every weight belongs to a convolution or a linear layer, so that bfloat16 needs no exceptions."""
    holders = [one for one in net.modules() if any(True for _ in one.parameters(recurse=False))]
    return all(type(one) in (*CONVOLUTIONS, nn.Linear) for one in holders)
