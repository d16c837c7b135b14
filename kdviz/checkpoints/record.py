"""What is known of a checkpoint once it is open."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained net and what its file says of it; what a file does not say is None or empty.

    Attributes:
        path: the file (or the folder, for Hugging Face's layout).
        model: the net, in eval mode, on the CPU, float32.
        name: the architecture, as `kdviz.models.build` takes it.
        classes: number of classes.
        producer: who wrote the file ("kdviz", "mdistiller", ...).
        dropped: what of the file was left unused: key prefixes ("teacher.") and entries ("optimizer").
        data, method, seed: what it was trained on, how, and from which seed.
        epoch: epochs behind these weights.
        which: "last" or "best".
        recipe: settings of the training run.
        metrics: {"best": {"epoch", "top1", "loss"}, "last": {...}}; top1 is a fraction, loss in nats.
        teacher: {"path", "sha256", "name"} of the teacher, as the file names it.
        versions: of the libraries that wrote it.
        sha256: of the file.
    """

    path: Path
    model: nn.Module = field(repr=False)
    name: str
    classes: int
    producer: str
    sha256: str
    dropped: list[str] = field(default_factory=list)
    data: str | None = None
    method: str | None = None
    seed: int | None = None
    epoch: int | None = None
    which: str | None = None
    recipe: dict[str, Any] = field(default_factory=dict, repr=False)
    metrics: dict[str, Any] = field(default_factory=dict)
    teacher: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def parameters(self) -> int:
        """Number of trainable numbers in the net."""
        return sum(parameter.numel() for parameter in self.model.parameters())
