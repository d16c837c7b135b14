"""Channels that take no part in a sample: those at -inf in either net, as sparse logits and forbidden tokens have them.

What the measurements do with a masked channel: it has probability 0 in every softmax, and is never among the largest;
rankings (Kendall's tau, Spearman's correlation, shares, overlaps) and losses are those of the sample's other channels
alone, as if the net had no more; a histogram counts it in no bin, and the ranks of a sample end with its last channel.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from kdviz.analysis.sources import Chunk


def masked(chunk: "Chunk") -> Tensor | None:
    """Which channels are at -inf in either net, [b, k]; None where none is."""
    found = chunk.student == -torch.inf
    if chunk.teacher is not None:
        found = found | (chunk.teacher == -torch.inf)
    return found if bool(found.any()) else None


def usable(chunk: "Chunk", mask: Tensor) -> Tensor:
    """Samples that keep two channels and that of their label, [b]."""
    good = (~mask).sum(1) >= 2
    return good if chunk.target is None else good & ~mask.gather(1, chunk.target[:, None])[:, 0]


def in_both(chunk: "Chunk", mask: Tensor) -> "Chunk":
    """The chunk with the masked channels at -inf in both nets."""
    student = chunk.student.masked_fill(mask, -torch.inf)
    teacher = None if chunk.teacher is None else chunk.teacher.masked_fill(mask, -torch.inf)
    return chunk._replace(student=student, teacher=teacher)


def compact(chunk: "Chunk") -> list["Chunk"]:
    """The chunk in pieces whose samples have equally many channels, and those alone; itself where none is masked.

    `channels` of a piece [n, m] names them, in the order of the net; targets are positions among them.
    """
    mask = masked(chunk)
    if mask is None:
        return [chunk]
    pieces, counts = [], (~mask).sum(1)
    for count in counts.unique():
        rows = counts == count
        channels = (~mask[rows]).nonzero()[:, 1].view(-1, int(count))
        target = None if chunk.target is None else (channels == chunk.target[rows][:, None]).int().argmax(1)
        teacher = None if chunk.teacher is None else chunk.teacher[rows].gather(1, channels)
        student = chunk.student[rows].gather(1, channels)
        piece = chunk._replace(student=student, teacher=teacher, target=target, channels=channels)
        pieces.append(piece._replace(ids=chunk.ids[rows.to(chunk.ids.device)]))
    return pieces


def remarks(attrs: Mapping[str, Any]) -> str:
    """Sentences of a caption about the logits' layout and masks; "" where there is nothing to say.

    >>> remarks({"masked": 3})
    ' In 3 samples some channels are masked (at -inf) and take no part.'
    """
    found = f" The logits are {attrs['layout']}." if "layout" in attrs else ""
    found += f" {attrs['rest']}." if "rest" in attrs else ""
    count = attrs.get("masked", 0)
    return found + (f" In {count:,} samples some channels are masked (at -inf) and take no part." if count else "")
