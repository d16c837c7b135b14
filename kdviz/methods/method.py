"""What a method is: a frozen declaration of weighted terms, with its paper, defaults and presets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn

from kdviz.base.registry import Registry
from kdviz.losses import LOSSES
from kdviz.losses.papers import Paper


def plain(value: Any) -> Any:
    """A setting as one scalar, so that it fits a TOML table, a JSON record and the command line.

    >>> plain(None), plain(("top", 0.3)), plain([2, 4.0])
    ('all', 'top:0.3', '2,4')
    """
    if value is None:
        return "all"
    if isinstance(value, list | tuple):
        separator = ":" if value and isinstance(value[0], str) else ","
        return separator.join(f"{entry:g}" if isinstance(entry, float) else str(entry) for entry in value)
    return value


class Term(NamedTuple):
    """One summand of a method: a loss of the registry, or a module with weights of its own.

    Attributes:
        name: a loss' name; for a term with a module, the name of its settings.
        weight: its factor in the total.
        warmup: epochs over which the weight rises linearly from 0; 0 for none.
        settings: defaults that differ from the loss' own. A temperature may be several, "2,3,4", whose losses are
            summed.
        strong: whether the strongly augmented view is added to the plain one.
        module: builds a module whose `forward(student, teacher, target, *, epoch)` is the term's loss; its keyword
            arguments are the term's settings.
    """

    name: str
    weight: float = 1.0
    warmup: float = 0.0
    settings: Mapping[str, Any] = {}
    strong: bool = False
    module: Callable[..., nn.Module] | None = None

    @property
    def defaults(self) -> dict[str, Any]:
        """Every setting of the term, `weight` and `warmup` first."""
        own = {} if self.module else LOSSES[self.name].defaults
        named = {"weight": self.weight, "warmup": self.warmup, **own, **self.settings}
        return {key: plain(value) for key, value in named.items()}


@dataclass(frozen=True)
class Method:
    """A named sum of terms.

    Attributes:
        terms: the summands; the first one that is not "ce" is the distillation term proper.
        source: its paper.
        summary: one line.
        presets: settings for pairs of nets, (teacher pattern, student pattern) -> {"dkd.beta": 6.0}; the first match
            holds.
    """

    name: str
    terms: tuple[Term, ...]
    summary: str
    source: Paper | None = None
    presets: Mapping[tuple[str, str], Mapping[str, float]] = field(default_factory=dict)

    @property
    def paper(self) -> str:
        return str(self.source) if self.source else ""

    @property
    def bibtex(self) -> str:
        return self.source.bibtex if self.source else ""

    @property
    def defaults(self) -> dict[str, Any]:
        """Its settings under the names that the command line takes: {"kd.weight": 0.9, "kd.temperature": 4.0, ...}."""
        return {f"{term.name}.{key}": value for term in self.terms for key, value in term.defaults.items()}


METHODS: Registry[Method] = Registry("method")
