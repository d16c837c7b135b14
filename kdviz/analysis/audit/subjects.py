"""The nets of an audit, for what is measured inside of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from kdviz.analysis.attributes import labelled
from kdviz.analysis.audit.opened import RANDOM, WITHOUT, Audited
from kdviz.analysis.logits import label_of
from kdviz.models import net_of

if TYPE_CHECKING:
    from kdviz.data import Data


@dataclass(frozen=True, eq=False)
class Subjects(Audited):
    """The student's and the teacher's net, and those of the controls that are there.

    Attributes:
        nets: "teacher", "student", "without_teacher", "random_teacher"; the last is an untrained net of the teacher's
            architecture.
    """

    nets: dict[str, nn.Module]

    @property
    def titles(self) -> dict[str, str]:
        """What figures and tables call each net."""
        return super().titles | {RANDOM: "untrained teacher"}

    @classmethod
    def of(cls, student: Any, data: "Data", *, teacher: Any, against: Any = None, untrained: Any = None) -> "Subjects":
        """The nets, each given as a net or a `Checkpoint`, and the attributes of results on `data`."""
        given = {"teacher": teacher, "student": student, WITHOUT: against, RANDOM: untrained}
        attrs: dict[str, Any] = labelled({"label": label_of(student)})
        for role, one in (("student", student), ("teacher", teacher)):
            if getattr(one, "sha256", None):
                attrs |= {f"{role}_sha256": one.sha256, f"{role}_name": one.name}
        kind = "synthetic" if data.synthetic else "real"
        attrs |= {"data": data.name, "split": data.split, "data_sha256": data.sha256, "data_kind": kind}
        attrs |= {"synthetic": int(data.synthetic), "samples": len(data), **data.remarks}
        return cls(attrs, {name: net_of(one) for name, one in given.items() if one is not None})
