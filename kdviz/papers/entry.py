"""The declaration of one figure or table of a paper: inputs, computation, drawings, claims, what stays open."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kdviz.base.check import require
from kdviz.base.registry import Registry

if TYPE_CHECKING:
    import xarray as xr

    from kdviz.checkpoints import Checkpoint
    from kdviz.data import Data

Results = Mapping[str, "xr.Dataset"]
OPEN = "not comparable"


class Measured(NamedTuple):
    """What was found beside a claim: named numbers, and whether they agree ("yes", "no", "not comparable").

    `here` is the same of a table that `kdviz table` measured, where `agrees` is about printed numbers: "yes", "no",
    "not told apart", or "" where nothing is measured.
    """

    values: dict[str, Any]
    agrees: str
    note: str = ""
    here: str = ""


@dataclass(frozen=True)
class Claim:
    """What the paper says of a figure or table, and the measurement that stands beside it.

    Attributes:
        says: the claim, in our words.
        where: its place in the paper.
        reading: the numbers that decide it; the choice is ours.
        measure: results -> Measured.
    """

    says: str
    where: str
    reading: str
    measure: Callable[[Results], Measured] = field(repr=False)


@dataclass(frozen=True)
class Drawing:
    """One figure of an entry.

    Attributes:
        figure: a key of `kdviz.plots.FIGURES[kind]`.
        stem: name of the files.
        results: which results it shows, by name, or by its beginning where that ends in "_"; empty: all, in order.
        options: for the plot function.
    """

    figure: str
    stem: str
    results: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def shows(self, name: str) -> bool:
        """Whether the result called `name` is in the figure.

        >>> Drawing("overlap", "overlap", ("cases_",)).shows("cases_kd")
        True
        """
        whole = not self.results or name in self.results
        return whole or any(one.endswith("_") and name.startswith(one) for one in self.results)


@dataclass(frozen=True)
class Inputs:
    """What an entry is computed from; names have become objects.

    Attributes:
        students: label -> checkpoint, in the order of drawing.
        teacher, data: where the entry needs them.
        runs: (row of a table, checkpoint of a finished run) pairs.
        tables: folder of what `kdviz table` wrote, from which measured tables are read.
        shipped: whether these are the students that come with kdviz.
        settings: numbers that override the entry's own.
        work: folder for the journals of long computations, so that they resume.
        progress: called with (done, total).
    """

    students: Mapping[str, "Checkpoint"] = field(default_factory=dict)
    teacher: "Checkpoint | None" = None
    data: "Data | None" = None
    runs: tuple[tuple[str, "Checkpoint"], ...] = ()
    tables: Path | None = None
    shipped: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    work: Path | None = None
    progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class PaperEntry:
    """A figure or table of a paper.

    Attributes:
        name: "fig1", "tab7".
        title: what is shown, in a few words.
        source: its place in the paper.
        compute: (inputs, settings) -> results by name.
        claims: what the paper says of it.
        choices: what the paper leaves open and what was taken; `{name}` stands for a setting.
        drawings: its figures; a table has none.
        tables: whether it is drawn from accuracy tables, printed and measured.
        students: labels of the shipped students that it takes, () where it needs no checkpoint.
        needs: what else it is computed from: "teacher", "data".
        split: of the data.
        settings: its numbers, each of which a user may override.
    """

    name: str
    title: str
    source: str
    compute: Callable[[Inputs, Mapping[str, Any]], Results] = field(repr=False)
    claims: tuple[Claim, ...]
    choices: tuple[str, ...]
    drawings: tuple[Drawing, ...] = ()
    tables: bool = False
    students: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    split: str = "test"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def resolved(self, inputs: Inputs) -> dict[str, Any]:
        """The settings with what the inputs override; those that the entry does not have are passed over."""
        return {**self.settings, **{key: value for key, value in inputs.settings.items() if key in self.settings}}

    def results(self, inputs: Inputs) -> Results:
        """The computation, once the inputs are seen to be there."""
        for what in self.needs:
            require(getattr(inputs, what) is not None, f"{self.name}: needs {what}; name it with --{what}")
        require(inputs.students or not self.students, f"{self.name}: needs students; name them with --student")
        return self.compute(inputs, self.resolved(inputs))


@dataclass(frozen=True)
class PaperRecord:
    """A paper and its entries; the figures come first and are what the whole paper means on the command line."""

    name: str
    title: str
    cite: str
    entries: Registry[PaperEntry]

    @property
    def figures(self) -> list[PaperEntry]:
        """The entries that draw something."""
        return [entry for entry in self.entries.values() if entry.drawings]


def findings(entry: PaperEntry, results: Results) -> list[dict[str, Any]]:
    """Each claim with what was measured beside it, as plain values; floats are kept to six digits."""
    found = []
    for claim in entry.claims:
        measured = claim.measure(results)
        values = {
            key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in measured.values.items()
        }
        found.append(
            {
                "claim": claim.says,
                "where": claim.where,
                "reading": claim.reading,
                "measured": values,
                "agrees": measured.agrees,
                "measured_agrees": measured.here,
                "note": measured.note,
            }
        )
    return found
