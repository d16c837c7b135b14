"""The logits that an audit compares: a student's, its teacher's, and those of two controls."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdviz.analysis.attributes import naming
from kdviz.analysis.logits import load_logits
from kdviz.base.check import KdvizError, require
from kdviz.base.seeds import numpy_generator

WITHOUT, RANDOM = "without_teacher", "random_teacher"
ORIGIN = (
    *("label", "title", "data", "split", "data_sha256", "data_kind", "data_variant", "data_warning", "synthetic"),
    *("student_sha256", "student_name", "teacher_sha256", "teacher_name", "dropped", "layout", "rest"),
)


@dataclass(frozen=True, eq=False)
class Audited:
    """What the nets of an audit are called.

    Attributes:
        attrs: of results: label, data, SHA-256 of the nets, and the number of samples.
    """

    attrs: Mapping[str, Any]

    @property
    def titles(self) -> dict[str, str]:
        """What figures and tables call each net or comparison."""
        label = str(self.attrs.get("title") or self.attrs.get("label") or "student")
        named = label if label == "student" else f"{label} student"
        return {"teacher": "teacher", "student": named, WITHOUT: "student without teacher", RANDOM: "random teacher"}

    def naming(self, columns: Iterable[str]) -> dict[str, str]:
        """The attributes of a coordinate of nets or comparisons."""
        return naming({name: self.titles[name] for name in columns})


@dataclass(frozen=True, eq=False)
class Opened(Audited):
    """Logits of the same n samples from every net of an audit, finite, in memory.

    Two controls stand beside every number. "without_teacher" is a student that was trained without a teacher: what it
    shares with the teacher comes from the task. "random_teacher" is the teacher's own logits with the samples permuted
    (one cycle, so that no sample keeps its own). Every logit, and so every marginal (confidence, spread, frequent
    classes), stays; only what the teacher says of the sample is gone. The logits of an untrained net would differ from
    the teacher's in all of these at once, and one's own logits come without a net.

    Attributes:
        student, teacher: [n, k] float32.
        target: [n] int64, or None.
        ids: [n] int64, the samples' numbers in their data set.
        against: [n, k] of the student without a teacher, or None.
        order: [n], the sample whose teacher's logits the random teacher has.
        class_names: [k].
    """

    student: Tensor
    teacher: Tensor
    target: Tensor | None
    ids: np.ndarray
    against: Tensor | None
    order: np.ndarray
    class_names: tuple[str, ...]

    @property
    def pairs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """(student's, teacher's) logits of every comparison: of the student, and of each control."""
        found = {"student": (self.student, self.teacher)}
        found |= {} if self.against is None else {WITHOUT: (self.against, self.teacher)}
        return found | {RANDOM: (self.student, self.teacher[self.order])}

    @property
    def nets(self) -> dict[str, Tensor]:
        """Logits of every net by itself."""
        others = {name: (pair[1] if name == RANDOM else pair[0]) for name, pair in self.pairs.items()}
        return {"teacher": self.teacher, **others}

    def labels(self, who: str) -> Tensor:
        """The samples' labels.

        Raises: KdvizError where there are none.
        """
        if self.target is None:
            raise KdvizError(f"{who}: needs the samples' labels; give them beside the logits, as the array 'target'")
        return self.target


def open_audit(
    source: Any, *, against: Any = None, seed: int = 0, drop_nonfinite: bool = False, label: str | None = None
) -> Opened:
    """The logits of an audit, checked.

    Args:
        source: student and teacher, as `kdviz.analysis.sources.open_logits`; an `Opened` is returned as it is.
        against: the logits of a student without a teacher over the same samples, of which only the student's are read;
            None for none.
        seed: of the random teacher's permutation.
        drop_nonfinite: leave out samples with NaN or infinite logits instead of refusing them.
        label: the student's name in figures.
    Raises: KdvizError for logits that `chunks` refuses, without a teacher's, with masked channels, of fewer than four
        samples, or of other samples or classes than `against`.
    """
    if isinstance(source, Opened):
        return source
    loaded = load_logits(source, drop_nonfinite=drop_nonfinite, label=label)
    require(
        "logits_teacher" in loaded,
        "audit: the logits have no teacher's beside them; name its checkpoint with --teacher",
    )
    other = None if against is None else load_logits(against, drop_nonfinite=drop_nonfinite)
    if other is not None:
        require(
            other.sizes["channel"] == loaded.sizes["channel"],
            f"audit: the student has {loaded.sizes['channel']} classes, the one without teacher"
            f" {other.sizes['channel']}; name one of the same data set with --against",
        )
        shared = np.intersect1d(loaded["sample"].values, other["sample"].values)
        same = loaded.sizes["sample"] == other.sizes["sample"] == len(shared)
        require(
            len(shared) and (same or drop_nonfinite),
            f"audit: the student's logits are of {loaded.sizes['sample']:,} samples, those of the one without teacher"
            f" of {other.sizes['sample']:,}, {len(shared):,} of which are the same; both must be of the same images",
        )
        loaded, other = loaded.sel(sample=shared), other.sel(sample=shared)
        if "target" in loaded and "target" in other:
            require(
                bool((loaded["target"].values == other["target"].values).all()),
                "audit: the labels of the student without teacher are not the student's; are they other samples?",
            )
    n, k = loaded["logits_student"].shape
    require(n >= 4, f"audit: needs 4 samples or more, got {n}")
    arrays = [loaded["logits_student"], loaded["logits_teacher"], *([] if other is None else [other["logits_student"]])]
    require(
        all(bool(np.isfinite(one.values).all()) for one in arrays),
        "audit: some channels are masked (at -inf), and an audit compares all; for sparse logits use --rest floor",
    )
    student, teacher, *rest = (torch.from_numpy(one.values) for one in arrays)
    target = torch.from_numpy(loaded["target"].values) if "target" in loaded else None
    return Opened(
        student=student,
        teacher=teacher,
        target=target,
        ids=loaded["sample"].values,
        against=rest[0] if rest else None,
        order=one_cycle(n, "random teacher", seed),
        class_names=_class_names(source, k),
        attrs={key: loaded.attrs[key] for key in ORIGIN if key in loaded.attrs} | {"samples": n},
    )


def one_cycle(n: int, name: str, seed: int = 0) -> np.ndarray:
    """A permutation of n things that is one cycle, so that none stays where it was; `name` and `seed` decide it.

    >>> sorted(one_cycle(3, "a")) == [0, 1, 2], any(one_cycle(3, "a") == [0, 1, 2])
    (True, False)
    """
    order = numpy_generator(seed, name).permutation(n)
    found = np.empty(n, dtype=np.int64)
    found[order] = np.roll(order, 1)
    return found


def _class_names(source: Any, classes: int) -> tuple[str, ...]:
    if hasattr(source, "coords") and "class_name" in source.coords:
        return tuple(map(str, source["class_name"].values))
    return tuple(map(str, range(classes)))
