"""How large the logits of teacher and student are, channel by channel from the largest to the smallest (RKKD Fig. 1).

Every number streams through in chunks into a table of counts, rank by value, whose bins widen by doubling: any number
of samples passes in the memory of one table, and the result does not depend on how the samples were cut.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr

from kdviz.analysis.attributes import loss_naming, meaning
from kdviz.analysis.cost import Announce, announce_pairs
from kdviz.analysis.counts import Counts, quantiles, shared
from kdviz.analysis.masks import compact, remarks
from kdviz.analysis.sources import Chunk, chunks, open_logits, where
from kdviz.base.check import KdvizError, positive, require
from kdviz.base.files import versions
from kdviz.losses import rank_kendall

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
RANKS = 1024  # rows of a table; longer rankings share rows evenly
SPACES = {"logit": "logit", "probability": "fraction"}  # what is counted, and its unit


def histogram(
    source: Any,
    *,
    temperature: float = 4.0,
    bins: int = 1024,
    small: float = 0.9,
    rank_samples: int = 1000,
    drop_nonfinite: bool = False,
    label: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    announce: Announce | None = None,
) -> xr.Dataset:
    """Histograms of logits, raw and after softmax(logits / temperature), and what each channel's rank means for KL.

    The share of channel c in KL's gradient is |p_c - q_c| / sum_j |p_j - q_j|, of student p and teacher q at the
    temperature, averaged over samples; the ranking loss' the same with its own gradient, at its default settings.

    Args:
        source: as `kdviz.analysis.sources.open_logits`; one pass is made, so a generator will do.
        temperature: above 0, of the softmax.
        bins: of each table, 16 to 16384; the bins used are at least half as many, if the values are not all equal.
        small: the share of channels, from the smallest up, that is called small; in (0, 1).
        rank_samples: samples behind the ranking loss' gradient, whose cost is quadratic in channels; 0 leaves it out.
        drop_nonfinite, label: as `open_logits` and its chunks. A masked channel (`masks`) is in no bin; of its sample
            the others have the ranks, and it has no share of a gradient.
        progress: called with (samples done, samples in all, 0 where that is unknown).
        announce: called with a sentence that says how long the ranking loss' gradient will take, if that is long.
    Returns: kind "histogram". counts_logit (net, logit) and counts_probability (net, probability), whose coordinates
        are the bins' left edges and whose attribute `width` is the bins' width; band_logit, band_probability (net,
        rank, quantile), to within a bin of logits or of ln p; mass (net, rank), the mean probability of the k-th
        largest channel by a net's own ranking; gradient (loss, rank), shares by the teacher's ranking; small_mass
        (net), small_gradient (loss).
    Raises: KdvizError for settings out of range or logits that `chunks` refuses.
    Source: RKKD Fig. 1; the gradients' shares are ours.
    """
    positive("histogram", temperature=temperature)
    require(0 < small < 1, f"histogram: small must be between 0 and 1, got {small}")
    require(16 <= bins <= 16384, f"histogram: bins must be 16 to 16384, got {bins}")
    opened = open_logits(source, label=label)
    sums, tally = None, {}
    for chunk in chunks(opened, who="histogram", drop_nonfinite=drop_nonfinite, teacher=False, tally=tally):
        if sums is None:
            sums = _Sums(chunk, temperature, bins, rank_samples)
            few = min(rank_samples, opened.count or rank_samples)
            if chunk.teacher is not None:
                announce_pairs(announce, "the ranking loss' gradient", few, sums.channels)
        sums.add(chunk)
        if progress:
            progress(sums.samples, opened.count or 0)
    if sums is None:
        raise KdvizError(f"{opened.name}: no samples")
    settings = {"temperature": temperature, "bins": bins, "small": small, "rank_samples": sums.ranked}
    attrs = {**opened.attrs, **tally, **settings, "kind": "histogram", "versions": json.dumps(versions())}
    return _dataset(sums, small, {"label": "student", **attrs, "caption": _caption(attrs)})


class _Sums:
    """What accumulates over the chunks: a table per net and space, mass by rank, gradients' shares by rank."""

    def __init__(self, chunk: Chunk, temperature: float, bins: int, rank_samples: int) -> None:
        self.nets = ("student",) if chunk.teacher is None else ("teacher", "student")
        self.channels = chunk.student.shape[1]
        self.rows = min(self.channels, RANKS)
        self.temperature, self.samples, self.ranked, self.rank_samples = temperature, 0, 0, rank_samples
        rows = {"logit": self.rows, "probability": 1, "logarithm": self.rows}
        self.tables = {(net, space): Counts(rows[space], bins) for net in self.nets for space in rows}
        self.mass = {net: np.zeros(self.rows) for net in self.nets}
        self.gradient = {loss: np.zeros(self.rows) for loss in ("kd", "rank_kendall")}

    def add(self, chunk: Chunk) -> None:
        self.samples += len(chunk.student)
        for net in self.nets:
            logits = getattr(chunk, net).cpu().numpy()
            falling = np.sort(logits, axis=1)[:, ::-1]
            logarithms = _log_softmax(falling, self.temperature)
            chances = np.exp(logarithms)
            self.tables[net, "logit"].add(falling)
            self.tables[net, "probability"].add(np.where(falling > -np.inf, chances, -np.inf))
            self.tables[net, "logarithm"].add(logarithms)
            self.mass[net] += self._by_row(chances.sum(axis=0, dtype=np.float64))
        if chunk.teacher is not None:
            self._add_gradients(chunk.student.cpu(), chunk.teacher.cpu())

    def _add_gradients(self, student: torch.Tensor, teacher: torch.Tensor) -> None:
        order = np.argsort(-teacher.numpy(), axis=1, kind="stable")
        p, q = (_log_softmax(one.numpy().astype(np.float64), self.temperature) for one in (student, teacher))
        self.gradient["kd"] += self._shares(np.abs(np.exp(p) - np.exp(q)), order)
        few = max(0, min(len(student), self.rank_samples - self.ranked))
        for start in range(0, few, 64):  # numbers in float64
            part = slice(start, min(start + 64, few))
            slope = _rank_gradient(student[part].double(), teacher[part].double())
            self.gradient["rank_kendall"] += self._shares(slope.abs().numpy(), order[part])
        self.ranked += few

    def _shares(self, sizes: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Each channel's share of its sample's total, summed over samples, by the teacher's ranking."""
        total = sizes.sum(axis=1, keepdims=True)
        share = np.take_along_axis(sizes, order, axis=1) / np.where(total > 0, total, 1)
        return self._by_row(share.sum(axis=0))

    def _by_row(self, by_channel: np.ndarray) -> np.ndarray:
        return np.bincount(np.arange(self.channels) * self.rows // self.channels, weights=by_channel)


def _rank_gradient(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The ranking loss' gradient in the student's logits, [n, k]; 0 at masked channels, which are not in the loss."""
    found = torch.zeros_like(student)
    for piece in compact(Chunk(student, teacher, None, torch.arange(len(student)))):
        leaf = piece.student.requires_grad_()
        loss = rank_kendall(leaf, piece.pair()[1], reduction="none").sum()
        (slope,) = torch.autograd.grad(loss, leaf)
        if piece.channels is None:
            return slope
        found[piece.ids[:, None], piece.channels] = slope
    return found


def _log_softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    lowered = (logits - logits.max(axis=1, keepdims=True)) / logits.dtype.type(temperature)
    return lowered - np.log(np.exp(lowered).sum(axis=1, keepdims=True))


def _exp(logarithms: np.ndarray) -> np.ndarray:
    """Probabilities; the bin that holds ln 1 reaches beyond it."""
    return np.exp(np.minimum(logarithms, 0.0))


def _dataset(sums: _Sums, small: float, attrs: dict[str, Any]) -> xr.Dataset:
    ranks = np.arange(sums.channels)
    rows = ranks * sums.rows // sums.channels
    coordinates: dict[str, Any] = {
        "net": list(sums.nets),
        "rank": ("rank", np.bincount(rows, weights=ranks + 1) / np.bincount(rows), meaning("1", "rank, 1 the largest")),
        "quantile": list(QUANTILES),
    }
    values: dict[str, Any] = {}
    for space in SPACES:
        left, width, tables = shared([sums.tables[net, space] for net in sums.nets])
        coordinates[space] = (space, left, {"width": width} | meaning(SPACES[space], space))
        values[f"counts_{space}"] = (("net", space), tables.sum(axis=1), meaning("1", "values in the bin", "count"))
    for space, table_of, back in (("logit", "logit", np.asarray), ("probability", "logarithm", _exp)):
        left, width, tables = shared([sums.tables[net, table_of] for net in sums.nets])
        bands = np.stack([back(quantiles(table, left, width, QUANTILES)) for table in tables])
        values[f"band_{space}"] = (("net", "rank", "quantile"), bands, meaning(SPACES[space], space, "bound"))
    mass = np.stack([sums.mass[net] for net in sums.nets]) / sums.samples
    values["mass"] = (("net", "rank"), mass, meaning("fraction", "mean probability", "metric"))
    large = np.ceil((1 - small) * sums.channels - 1e-9)  # one channel at least, whatever (1 - small) rounds to
    inside = coordinates["rank"][1] > large
    values["small_mass"] = (
        ("net",),
        mass[:, inside].sum(axis=1),
        meaning("fraction", "probability in the small channels", "metric"),
    )
    counted = {"kd": sums.samples, "rank_kendall": sums.ranked} if "teacher" in sums.nets else {}
    losses = [loss for loss, count in counted.items() if count]
    if losses:
        coordinates["loss"] = ("loss", losses, loss_naming(losses))
        shares = np.stack([sums.gradient[loss] / counted[loss] for loss in losses])
        share = meaning("fraction", "share of the gradient", "metric")
        reached = sums.tables["teacher", "logit"].table.any(axis=1)  # masks may leave no sample with so many channels
        values["gradient"] = (("loss", "rank"), np.where(reached, shares, np.nan), share)
        values["small_gradient"] = (("loss",), shares[:, inside].sum(axis=1), share)
    return xr.Dataset(values, coordinates, attrs)


def _caption(attrs: dict[str, Any]) -> str:
    """The open choices of the figure, for its caption."""
    return (
        f"Logits of all channels over {attrs['samples']:,} samples{where(attrs)}, raw and after softmax at temperature"
        f" {attrs['temperature']:g}; small channels are the smallest {attrs['small']:.0%} of a sample's. The ranking"
        f" loss' gradient is that of its default settings, over {attrs['rank_samples']:,} samples.{remarks(attrs)}"
    )
