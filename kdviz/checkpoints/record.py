"""What is known of a checkpoint once it is open."""

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from kdviz.base.measures import CALLED


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
        part: "teacher" where these are the weights of the teacher in a student's file.
        recipe: settings of the training run.
        metrics: {"best": {"epoch", "top1", "loss"}, "last": {...}}; top1 is a fraction, loss in nats; a
            detector has "ap", "ap50" and "ap75" in their place.
        teacher: {"path", "sha256", "name"} of the teacher, as the file names it.
        versions: of the libraries that wrote it.
        sha256: of the file; of averaged weights, SHA-256 of the file's and " ema"; of a teacher in a student's file, of
            the file's and " teacher".
        weights: "raw", or "ema" where they are an average over the steps.
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
    part: str | None = None
    recipe: dict[str, Any] = field(default_factory=dict, repr=False)
    metrics: dict[str, Any] = field(default_factory=dict)
    teacher: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict, repr=False)
    weights: str = "raw"

    @property
    def parameters(self) -> int:
        """Number of trainable numbers in the net."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def facts(self) -> dict[str, str]:
        """What is known, label by label, ready to print; nothing that is unknown."""
        shown = {
            "file": f"{self.path} ({self.part})" if self.part else str(self.path),
            "written by": self.producer,
            "model": f"{self.name}, {self.classes} classes, {self.parameters:,} parameters",
            "weights": "averaged (EMA)" if self.weights == "ema" else None,
            "data": self.data,
            "method": self.method,
            "seed": self.seed,
            "epoch": f"{self.epoch} ({self.which})" if self.which else self.epoch,
            **{which: _scores(scores) for which, scores in self.metrics.items()},
            "teacher": _teacher(self.teacher),
            "recipe": _pairs(self.recipe),
            "versions": _pairs(self.versions),
            "sha256": self.sha256,
            "not used": ", ".join(self.dropped),
        }
        return {label: str(value) for label, value in shown.items() if value not in (None, "")}

    def as_dict(self) -> dict[str, Any]:
        """Everything but the net, as plain values for JSON."""
        names = (
            "name",
            "classes",
            "producer",
            "weights",
            "data",
            "method",
            "seed",
            "epoch",
            "which",
            "recipe",
            "metrics",
        )
        return {
            "path": str(self.path),
            **{key: getattr(self, key) for key in names},
            "parameters": self.parameters,
            "teacher": self.teacher,
            "versions": self.versions,
            "sha256": self.sha256,
            "dropped": self.dropped,
        }

    def _repr_html_(self) -> str:
        cell = "padding:2px 12px 2px 0;vertical-align:top;text-align:left;overflow-wrap:anywhere"
        folded = {"recipe": f"{len(self.recipe)} settings", "versions": f"{len(self.versions)} libraries"}
        rows = "".join(
            f'<tr><th style="{cell};font-weight:normal;opacity:.65;white-space:nowrap">{html.escape(label)}</th>'
            f'<td style="{cell}">{_folded(value, folded.get(label))}</td></tr>'
            for label, value in self.facts.items()
        )
        return f'<table style="border-collapse:collapse"><tbody>{rows}</tbody></table>'


def _folded(value: str, summary: str | None) -> str:
    """The text as HTML; a long one opens by a click on its summary."""
    if summary is None:
        return html.escape(value)
    return f"<details><summary>{html.escape(summary)}</summary>{html.escape(value)}</details>"


def _scores(scores: Any) -> str:
    """{"epoch": 9, "top1": .81, "loss": .9} as a reader has it: "top-1 81.00 %, loss 0.9000 nats, epoch 9"."""
    if not isinstance(scores, Mapping):
        return str(scores)

    def shares(part: str = "") -> dict[str, Callable[[Any], str]]:
        return {
            f"{part}{key}": lambda value, name=name: f"{part.replace('_', ' ')}{name} {100 * value:.2f} %"
            for key, name in CALLED.items()
        }

    known = {
        **shares(),
        "loss": lambda value: f"loss {value:.4f} nats",
        "epoch": lambda value: f"epoch {value}",
        **shares("val_"),
        "val_loss": lambda value: f"val loss {value:.4f} nats",
    }
    parts = [text(scores[key]) for key, text in known.items() if isinstance(scores.get(key), int | float)]
    rest = [f"{key} {_value(value)}" for key, value in scores.items() if key not in known]
    return ", ".join(parts + rest)


def _teacher(teacher: Mapping[str, Any] | None) -> str:
    if not teacher:
        return ""
    digest = teacher.get("sha256")
    return f"{teacher.get('name')}, {teacher.get('path')}" + (f", sha256 {digest}" if digest else "")


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return f"({_pairs(value)})"
    return str(value)
