"""Logits from anywhere, in chunks: our .nc, arrays, files of arrays, or a stream of either; validated as they come."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdviz.analysis import layouts, masks
from kdviz.analysis.attributes import labelled
from kdviz.analysis.logit_files import numpy_file, torch_file
from kdviz.base.check import KdvizError, require, same_shape

NUMBERS = 1 << 22  # logits of one net held at once: 16 MiB in float32
_NAMES = {
    "student": ("logits_student", "student", "s"),
    "teacher": ("logits_teacher", "teacher", "t"),
    "target": ("target", "targets", "labels", "y"),
}


class Chunk(NamedTuple):
    """Some samples: logits [b, k] of student and teacher (None where there is none), labels [b] or None, ids [b].

    Where only some channels of each sample take part (see `masks`), `channels` [b, k] are their numbers in the net, and
    labels count among them.
    """

    student: Tensor
    teacher: Tensor | None
    target: Tensor | None
    ids: Tensor
    channels: Tensor | None = None

    def in_net(self, index: Tensor) -> Tensor:
        """The numbers in the net [b] of channels of this chunk [b]."""
        return index if self.channels is None else self.channels.gather(1, index[:, None])[:, 0]

    def pieces(self, numbers: int) -> "list[Chunk]":
        """The chunk cut for threads, about so many logits of one net in each; whole on a device other than the CPU."""
        n, k = self.student.shape
        step = max(1, numbers // k) if self.student.device.type == "cpu" else n
        cuts = [slice(start, start + step) for start in range(0, n, step)]
        return [Chunk(*(None if one is None else one[cut] for one in self)) for cut in cuts]  # pyright: ignore

    def pair(self) -> tuple[Tensor, Tensor]:
        """Student and teacher, where there is a teacher (`chunks` sees to it)."""
        if self.teacher is None:
            raise KdvizError("these logits have no teacher's beside them")
        return self.student, self.teacher


@dataclass(frozen=True, eq=False)
class Logits:
    """A source of logits: `chunks()` starts a pass over (student[, teacher[, target[, ids]]]) arrays.

    Attributes:
        name: who to name in errors.
        chunks: a fresh iterator at each call.
        attrs: what is known of their origin, carried into results.
        count: how many samples, where that is known before they are read.
    """

    name: str
    chunks: Callable[[], Iterable[tuple]]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    count: int | None = None


def open_logits(source: Any, *, label: str | None = None, rest: str = "mask") -> Logits:
    """Logits of a student and its teacher, whatever holds them.

    Args:
        source: a dataset of `collect_logits`; the path of one (.nc), of an .npz or of a .pt dict with the arrays
            logits_student, logits_teacher and target (or student, teacher, labels); paths of .npy or .pt arrays as
            "student.npy,teacher.npy[,labels.npy]" (read by memory map); arrays as (student, teacher[, labels]); or an
            iterable (or a function that returns one) of such tuples, a chunk of samples each. Logits [b, t, k] become
            b t samples, without those of label -100. In an .npz or .pt, student_indices and student_values [n, m]
            (teacher_... likewise; `classes` beside them) stand for logits of which only m are known.
        label: the student's name in figures.
        rest: what becomes of channels that are not known: "mask", "floor" or "spread", see `layouts.RESTS`.
    Returns: a source; files are opened now, their numbers read when asked for.
    Raises: KdvizError for files that are missing, damaged, unsafe or without logits.
    """
    if isinstance(source, Logits):
        opened = source
    elif isinstance(source, str | os.PathLike):
        opened = _from_path(os.fspath(source), rest)
    elif hasattr(source, "data_vars"):
        opened = _from_dataset(source, f"logits of {source.attrs.get('label', 'a student')}")
    elif isinstance(source, Mapping):
        opened = _from_mapping(source, "logits", rest)
    elif isinstance(source, tuple | list) and all(hasattr(one, "shape") for one in source):
        opened = _from_arrays(tuple(source), "logits")
    elif callable(source):
        opened = Logits("logits", source)  # pyright: ignore[reportArgumentType]
    else:
        require(isinstance(source, Iterable), f"logits: cannot read a {type(source).__name__}")
        opened = Logits("logits", lambda: iter(source))
    return Logits(opened.name, opened.chunks, labelled(opened.attrs, label), opened.count)


def chunks(
    source: Logits,
    *,
    who: str,
    drop_nonfinite: bool = False,
    teacher: bool = True,
    least: int = 2,
    compact: bool = False,
    tally: dict[str, Any] | None = None,
) -> Iterator[Chunk]:
    """One checked pass over a source: shapes that agree, finite logits, labels in range, enough samples.

    A channel at -inf in either net is masked for its sample and comes at -inf in both; a sample that keeps fewer than
    two channels, or not its label's, counts as not finite.

    Args:
        source: of `open_logits`.
        who: the measurement, for errors.
        drop_nonfinite: leave out samples with a NaN or an infinity instead of refusing.
        teacher: whether the teacher's logits are needed.
        least: samples needed in all.
        compact: without masked channels, samples of equally many together.
        tally: where to leave the counts "samples" and "dropped" at the end of the pass, and "masked", samples with
            masked channels, and "padding", where there are any.
    Raises: KdvizError for the first thing that is wrong, in one line.
    """
    seen = total = hidden = padding = short = 0
    bad = {"student": 0, "teacher": 0}
    channels = None
    for parts in source.chunks():
        flat, left_out = layouts.flattened(parts, total + padding)
        chunk = _chunk(flat, total + padding, source.name)
        padding += left_out
        if teacher and chunk.teacher is None:
            raise KdvizError(f"{source.name}: {who} needs the teacher's logits too; name its checkpoint with --teacher")
        channels = channels or chunk.student.shape[1]
        require(
            chunk.student.shape[1] == channels,
            f"{source.name}: samples {total}.. have {chunk.student.shape[1]} channels, those before {channels}",
        )
        total += len(chunk.student)
        mask = masks.masked(chunk)
        finite = torch.ones(len(chunk.student), dtype=torch.bool)
        for net in bad:
            if (logits := getattr(chunk, net)) is not None:
                good = (logits.isfinite() if mask is None else logits.isfinite() | mask).all(1).cpu()
                bad[net] += int((~good).sum())
                finite &= good
        if mask is not None:
            enough = masks.usable(chunk, mask).cpu()
            short += int((finite & ~enough).sum())
            finite &= enough
            hidden += int((mask.any(1).cpu() & finite).sum())
            chunk = masks.in_both(chunk, mask)
        chunk = chunk if finite.all() else _rows(chunk, finite)
        seen += len(chunk.student)
        if len(chunk.student) and (drop_nonfinite or not (short or any(bad.values()))):
            yield from masks.compact(chunk) if compact else (chunk,)  # once refused, the rest is only counted
    if any(bad.values()) and not drop_nonfinite:
        found = " and ".join(f"{count:,} of the {net}'s" for net, count in bad.items() if count)
        raise KdvizError(
            f"{source.name}: NaN or Inf in {found} {total:,} samples; leave them out with --drop-nonfinite"
        )
    require(
        drop_nonfinite or not short,
        f"{source.name}: {short:,} of {total:,} samples have their label's channel or all but one at -inf;"
        " leave them out with --drop-nonfinite",
    )
    require(total, f"{source.name}: no samples")
    require(seen >= least, f"{source.name}: {who} needs {least} samples or more, got {seen}")
    if tally is not None:
        tally |= {"samples": seen, "dropped": total - seen}
        tally |= {name: count for name, count in {"masked": hidden, "padding": padding}.items() if count}


def where(attrs: Mapping[str, Any]) -> str:
    """The data behind logits for a caption, "" where it is unknown.

    >>> where({"data": "glyphs100", "split": "test", "data_kind": "synthetic"})
    ' of glyphs100 (test, synthetic)'
    """
    if "data" not in attrs:
        return ""
    return f" of {attrs['data']} ({', '.join(str(attrs[key]) for key in ('split', 'data_kind') if key in attrs)})"


def _rows(chunk: Chunk, mask: Tensor) -> Chunk:
    def keep(one: Tensor) -> Tensor:
        return one[mask.to(one.device)]

    teacher, target = (None if one is None else keep(one) for one in (chunk.teacher, chunk.target))
    return Chunk(keep(chunk.student), teacher, target, keep(chunk.ids))


def _chunk(parts: tuple, start: int, name: str) -> Chunk:
    student, teacher, target, ids = parts
    student = _logits(student, f"{name}: student")
    teacher = None if teacher is None else _logits(teacher, f"{name}: teacher").to(student.device)
    if teacher is not None:
        same_shape(name, logits_student=student, logits_teacher=teacher)
    n, k = student.shape
    require(k >= 2, f"{name}: logits have {k} channel{'s' * (k != 1)}; two or more are needed")
    target = None if target is None else _labels(target, n, k, name).to(student.device)
    ids = torch.arange(start, start + n) if ids is None else _tensor(ids)
    return Chunk(student, teacher, target, ids)


def _logits(array: Any, who: str) -> Tensor:
    tensor = _tensor(array)
    require(tensor.ndim == 2, f"{who}: logits must be [n, channels], got {tuple(tensor.shape)}")
    require(tensor.is_floating_point(), f"{who}: logits must be real numbers, got {tensor.dtype}")
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _tensor(array: Any) -> Tensor:
    """A tensor of its own: memory maps are read-only, and results of xarray are lazy."""
    return array.detach() if isinstance(array, Tensor) else torch.from_numpy(np.array(array))


def _labels(array: Any, n: int, k: int, name: str) -> Tensor:
    target = _tensor(array)
    require(target.shape == (n,), f"{name}: {n} rows of logits but labels of shape {tuple(target.shape)}")
    require(
        not target.is_floating_point() and target.dtype != torch.bool,
        f"{name}: labels must be whole numbers, got {target.dtype}",
    )
    outside = ((target < 0) | (target >= k)).sum().item()
    if outside:
        raise KdvizError(
            f"{name}: {outside:,} labels outside 0..{k - 1} (they span {target.min()}..{target.max()});"
            f" the logits have {k} channels"
        )
    return target.long()


def _from_path(text: str, rest: str) -> Logits:
    parts = [Path(part) for part in text.split(",")] if "," in text and not Path(text).exists() else [Path(text)]
    for path in parts:
        require(path.is_file(), f"logits not found: {path}")
        require(path.stat().st_size, f"{path}: the file is empty")
    if len(parts) > 1:
        require(len(parts) <= 3, f"{text}: expected student,teacher[,labels], got {len(parts)} files")
        return _from_arrays(tuple(map(_array, parts)), text)
    name, suffix = text, parts[0].suffix
    if suffix == ".nc":
        return _from_netcdf(parts[0])
    found = torch_file(parts[0]) if suffix in (".pt", ".pth") else numpy_file(parts[0])
    if isinstance(found, Mapping):
        return _from_mapping(found, name, rest)
    if isinstance(found, tuple | list):
        require(all(hasattr(one, "shape") for one in found), f"{name}: expected tensors, got a list of other things")
        return _from_arrays(tuple(found), name)
    raise KdvizError(
        f"{name}: one array alone; name two, the student's first: --logits student{suffix},teacher{suffix}"
    )


def _array(path: Path) -> Any:
    found = torch_file(path) if path.suffix in (".pt", ".pth") else numpy_file(path)
    require(hasattr(found, "shape"), f"{path}: expected one array, got a {type(found).__name__}")
    return found


def _named(found: Mapping[str, Any], name: str) -> tuple:
    parts = [next((found[key] for key in keys if key in found), None) for keys in _NAMES.values()]
    if parts[0] is None or (parts[1] is None and "logits_student" not in found):
        raise KdvizError(
            f"{name}: expected the arrays logits_student and logits_teacher (and target),"
            f" got {', '.join(found) or 'none'}"
        )
    require(
        all(hasattr(one, "shape") for one in parts[:2] if one is not None),
        f"{name}: expected arrays of logits, got a {type(parts[0]).__name__}; is it a checkpoint?",
    )
    return tuple(parts)


def _from_netcdf(path: Path) -> Logits:
    """A file of `collect_logits`, read from the disk chunk by chunk."""
    import xarray as xr

    def opened() -> xr.Dataset:
        try:
            return xr.open_dataset(path, engine="h5netcdf")
        except (OSError, ValueError, KeyError) as error:
            raise KdvizError(f"{path}: not a kdviz result (netCDF): {str(error).splitlines()[0]}") from error

    def passes() -> Iterator[tuple]:
        with opened() as dataset:
            yield from _from_dataset(dataset, str(path)).chunks()

    with opened() as dataset:
        found = _from_dataset(dataset, str(path))
        return Logits(str(path), passes, found.attrs, found.count)


def _from_dataset(dataset: Any, name: str) -> Logits:
    kind = dataset.attrs.get("kind")
    require("logits_student" in dataset, f"{name}: holds no logits_student; a result of kind {kind!r}?")
    names = ("logits_student", "logits_teacher", "target", "sample")
    arrays = tuple(dataset.get(key) for key in names)
    return _from_arrays(arrays, name, dict(dataset.attrs))


def _from_mapping(found: Mapping[str, Any], name: str, rest: str) -> Logits:
    dense = layouts.sparse(found, name, rest)
    some = any(isinstance(one, layouts.TopK) for one in dense.values())
    return _from_arrays(_named(dense, name), name, {"rest": layouts.RESTS[rest]} if some else {})


def _from_arrays(arrays: tuple, name: str, attrs: Mapping[str, Any] | None = None) -> Logits:
    require(len(arrays) in (2, 3, 4), f"{name}: expected (student, teacher[, labels]), got {len(arrays)} arrays")
    first = arrays[0]
    for array, who in zip(arrays[1:], ("the teacher's logits", "labels", "ids"), strict=False):
        if array is not None and len(array) != len(first):
            raise KdvizError(f"{name}: {len(first):,} samples of the student's logits but {len(array):,} of {who}")
    step = max(1, NUMBERS // max(1, math.prod(first.shape[1:])))

    def passes() -> Iterator[tuple]:
        for start in range(0, len(first), step):
            stop = min(start + step, len(first))  # some readers of HDF5 fill up a slice beyond the end
            yield tuple(None if one is None else one[start:stop] for one in arrays)

    known = dict(attrs or {})
    count = len(first)
    if len(first.shape) == 3:
        known["layout"] = f"{first.shape[0]} x {first.shape[1]} positions, each a sample"
        count *= first.shape[1]
    return Logits(name, passes, known, count)
