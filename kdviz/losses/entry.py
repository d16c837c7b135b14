"""What the house knows of a loss besides its formula, and how it is called by name."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from torch import Tensor

from kdviz.base.check import KdvizError, unknown
from kdviz.base.registry import Registry
from kdviz.losses.papers import Paper

Function = TypeVar("Function", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class Loss:
    """A registered loss; whatever can be read off its function's signature and docstring is read there.

    Attributes:
        unit: of its value, "nats" or "1".
        long_name: what an axis calls it, "cross-entropy".
        title: what a panel or a legend calls it, "CE".
        source: its paper.
        shift_invariant: whether a number added to all logits of a sample leaves it as it is; for a loss of features, a
            number added to all of them. The contract tests hold it to either.
    """

    name: str
    function: Callable[..., Tensor]
    unit: str
    long_name: str
    title: str
    source: Paper | None = None
    shift_invariant: bool = True

    @cached_property
    def takes(self) -> tuple[str, ...]:
        """Its tensors, in the order of the function: ("logits_student", "logits_teacher", "target"), ..."""
        parameters = inspect.signature(self.function).parameters.values()
        return tuple(entry.name for entry in parameters if entry.kind is not entry.KEYWORD_ONLY)

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Its settings and their defaults."""
        parameters = inspect.signature(self.function).parameters.values()
        return {
            entry.name: entry.default
            for entry in parameters
            if entry.kind is entry.KEYWORD_ONLY and entry.name != "reduction"
        }

    @cached_property
    def separable(self) -> bool:
        """Whether it is a mean over independent samples; then it takes `reduction="mean" | "none"`."""
        return "reduction" in inspect.signature(self.function).parameters

    @property
    def summary(self) -> str:
        return inspect.cleandoc(self.function.__doc__ or "").splitlines()[0]

    @property
    def paper(self) -> str:
        return str(self.source) if self.source else ""

    @property
    def bibtex(self) -> str:
        return self.source.bibtex if self.source else ""

    def __call__(
        self,
        *,
        settings: Mapping[str, Any] | None = None,
        reduction: str = "mean",
        **tensors: Tensor | Sequence[Tensor] | None,
    ) -> Tensor:
        """The loss of those of the named tensors that it takes; the others are ignored."""
        settings = dict(settings or {})
        for key in settings:
            if key not in self.defaults:
                raise unknown(f"setting of {self.name}", key, self.defaults)
        given = {name: tensors.get(name) for name in self.takes}
        for name, tensor in given.items():
            if tensor is None:
                raise KdvizError(f"{self.name} needs {name}; it takes {', '.join(self.takes)}")
        if self.separable:
            settings["reduction"] = reduction
        elif reduction != "mean":
            raise KdvizError(f"{self.name} couples the samples of a batch; reduction must be mean, got {reduction!r}")
        return self.function(**given, **settings)


LOSSES: Registry[Loss] = Registry("loss")


def loss(
    source: Paper | None = None, *, unit: str, long_name: str, title: str | None = None, shift_invariant: bool = True
) -> Callable[[Function], Function]:
    """The decorator that registers a function under its own name and returns it unchanged.

    Args:
        source: its paper.
        unit, long_name, title, shift_invariant: as `Loss`; no title: the long name without its last word, "loss".
    """
    short = title or long_name.removesuffix(" loss")

    def register(function: Function) -> Function:
        entry = Loss(function.__name__, function, unit, long_name, short, source, shift_invariant)
        LOSSES.add(function.__name__, entry)
        return function

    return register
