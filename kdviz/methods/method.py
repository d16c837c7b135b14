"""What a method is: a frozen declaration of weighted terms, with its paper, defaults and presets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from torch import nn

from kdviz.base.registry import Registry
from kdviz.losses import LOSSES
from kdviz.losses.papers import Paper
from kdviz.methods.settings import signature
from kdviz.methods.term import TENSORS

Kind = Literal["logit", "feature", "relation"]


class Term(NamedTuple):
    """One summand of a method: a loss of the registry, or a module with weights or memory of its own.

    Attributes:
        name: a loss' name; for a term with a module, the name of its settings.
        weight: its factor in the total.
        warmup: epochs over which the weight rises linearly from 0; 0 for none.
        settings: defaults that differ from the loss' (or module's) own. A temperature may be several, whose losses are
            summed.
        strong: whether a loss of the strongly augmented view is added to that of the plain one.
        build: None for the loss of that name; else the class of the term (see `kdviz.methods.term`), called with a
            `Probe` and the term's settings.
    """

    name: str
    weight: float = 1.0
    warmup: float = 0.0
    settings: Mapping[str, Any] = {}
    strong: bool = False
    build: Callable[..., nn.Module] | None = None

    @property
    def types(self) -> dict[str, Any]:
        """The annotation of every setting, `weight` and `warmup` first."""
        own = signature(self.build or LOSSES[self.name].function)
        return {"weight": float, "warmup": float, **{key: annotation for key, (annotation, _) in own.items()}}

    @property
    def defaults(self) -> dict[str, Any]:
        """Every setting of the term, `weight` and `warmup` first."""
        own = signature(self.build or LOSSES[self.name].function)
        defaults = {key: default for key, (_, default) in own.items()}
        return {"weight": self.weight, "warmup": self.warmup, **defaults, **self.settings}

    @property
    def needs(self) -> frozenset[str]:
        """What the term reads beside labels and the student's logits, a subset of `kdviz.methods.term.NEEDS`."""
        if self.build is not None:
            return frozenset(getattr(self.build, "needs", ()))
        takes = (TENSORS[name][1] for name in LOSSES[self.name].takes)
        return frozenset().union(*takes, {"strong"} if self.strong else ())

    @property
    def couples(self) -> bool:
        """Whether it is no mean over independent samples, so that it needs the whole batch in one place."""
        return getattr(self.build, "couples", True) if self.build is not None else not LOSSES[self.name].separable


@dataclass(frozen=True)
class Method:
    """A named sum of terms.

    Attributes:
        terms: the summands; the first one that is not "ce" is the distillation term proper.
        source: its paper.
        summary: one line.
        presets: settings for pairs of nets, (teacher pattern, student pattern) -> {"dkd.beta": 6.0}; the first match
            holds.
        kind: what it compares: "logit", "feature" (maps of one sample) or "relation" (between samples).
    """

    name: str
    terms: tuple[Term, ...]
    summary: str
    source: Paper | None = None
    presets: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    kind: Kind = "logit"

    @property
    def paper(self) -> str:
        return str(self.source) if self.source else ""

    @property
    def bibtex(self) -> str:
        return self.source.bibtex if self.source else ""

    @property
    def needs(self) -> frozenset[str]:
        """What its terms read: a subset of `kdviz.methods.term.NEEDS`; "boxes" makes it a method of detectors."""
        return frozenset().union(*(term.needs for term in self.terms))

    @property
    def couples(self) -> bool:
        """Whether a term of it couples the samples of a batch."""
        return any(term.couples for term in self.terms)

    @property
    def defaults(self) -> dict[str, Any]:
        """Its settings under the names that the command line takes: {"kd.weight": 0.9, "kd.temperature": 4.0, ...}."""
        return {f"{term.name}.{key}": value for term in self.terms for key, value in term.defaults.items()}


METHODS: Registry[Method] = Registry("method")
