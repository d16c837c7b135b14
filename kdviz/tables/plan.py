"""From a declaration to runs: every cell under every seed, teachers first, what is finished already set aside."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kdviz.base.check import KdvizError, existing, unknown
from kdviz.checkpoints.run_folder import RunFolder
from kdviz.methods import METHODS, canonical
from kdviz.models.detection import is_detector
from kdviz.tables.declare import Cell, Declaration
from kdviz.tables.job import CHANGEABLE, Job, digest, digest_of, expected, images_of, load_imports, misfits
from kdviz.tables.records import Outcome, facts_of, outcome_of, read_record
from kdviz.train.recipe import Recipe, load_recipe


@dataclass(frozen=True)
class Plan:
    """A table's runs.

    Attributes:
        declaration: of the table.
        jobs: all of them by id, each after the one that it waits for.
        parts: (row, column) -> the cell, or its parts where it is a mean over pairs of nets; each with its jobs, one
            per seed; none where kdviz has no recipe, net or method for it.
        outcomes: id -> what the run came to, where it is there, whole and of the same recipe, data and teacher, or
            recorded.
        other: id -> why the run in its folder is not the job's.
        given: teacher's net -> the checkpoint that was given for it.
        backbones: detector -> the classifier's file that its backbone starts from.
    """

    declaration: Declaration
    jobs: Mapping[str, Job]
    parts: Mapping[tuple[str, str], tuple[tuple[Cell, tuple[Job, ...]], ...]]
    outcomes: Mapping[str, Outcome]
    other: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, Path] = field(default_factory=dict)
    backbones: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def cells(self) -> dict[tuple[str, str], tuple[Job, ...]]:
        """(row, column) -> all jobs of the cell."""
        return {key: tuple(job for _, jobs in parts for job in jobs) for key, parts in self.parts.items()}

    @property
    def finished(self) -> frozenset[str]:
        """Ids of the jobs that need no training."""
        return frozenset(self.outcomes)

    @property
    def left(self) -> list[Job]:
        """Jobs to be trained, teachers only where a student of theirs is to be trained or they are a cell.

        A teacher of which there is a record alone, without weights, is trained again where a student needs it.
        """
        needed = {job.after.id for job in self.jobs.values() if job.after and job.id not in self.outcomes}
        listed = {job.id for jobs in self.cells.values() for job in jobs}
        return [
            job
            for job in self.jobs.values()
            if (job.id in needed | listed and job.id not in self.outcomes)
            or (job.id in needed and not RunFolder(job.folder).last.is_file())
        ]


def plan(
    declaration: Declaration,
    *,
    runs: Path,
    teachers: Mapping[str, Path] | None = None,
    backbones: Mapping[str, Path] | None = None,
    root: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    teacher_cache: Path | None = None,
    records: Path | None = None,
) -> Plan:
    """The runs of a table.

    Args:
        declaration: of the table.
        runs: folder of the runs, shared by all tables.
        teachers: net -> checkpoint; the others are trained.
        backbones: detector -> a classifier's file that its backbone starts from; the others are fresh.
        root: folder of the data set's files.
        changes: of every recipe, {"epochs": 1}.
        teacher_cache: folder in which runs over the same images share the teacher's logits.
        records: folder of records of finished runs (`write.keep_records`), which stand for runs that are not here.
    Raises: KdvizError for an unknown method, recipe or setting, a teacher or backbone of a net that the table does not
        have, a backbone's file that is not there, and for a damaged record.
    """
    load_imports(declaration.imports)
    chosen = {net: existing(file, what="backbone") for net, file in (backbones or {}).items()}
    builder = _Builder(declaration, runs, dict(teachers or {}), chosen, root, dict(changes or {}), teacher_cache)
    parts = {
        key: tuple((part, builder.cell(part)) for part in cell.parts or (cell,))
        for key, cell in declaration.cells.items()
    }
    trained = {job.recipe.student for job in builder.jobs.values() if is_detector(job.recipe.student)}
    teaching = {str(one.teacher) for cell in parts.values() for one, _ in cell if one.teacher}
    for kind, asked, known in (("detector", chosen, trained), ("teacher", builder.given, teaching)):
        for net in asked:
            if net not in known:
                raise unknown(f"{kind} of {declaration.name}", net, known)
    outcomes: dict[str, Outcome] = {}
    other: dict[str, str] = {}
    for job in builder.jobs.values():
        facts = facts_of(job.folder)
        differing = [] if facts is None else misfits(job, facts, _data_sha256(job))
        outcome = None if differing else outcome_of(job.folder)
        if outcome is None and records is not None:
            outcome = read_record(records / f"{job.id}.npz")
            outcome = None if outcome is None or misfits(job, outcome.facts, _data_sha256(job)) else outcome
        if outcome is not None:
            outcomes[job.id] = outcome
        elif differing:
            other[job.id] = "; ".join(differing)
    return Plan(declaration, builder.jobs, parts, outcomes, other, builder.given, chosen)


def _content(file: Path) -> str:
    """What tells a given file from others, wherever it lies."""
    return digest_of(file) if file.is_file() else str(file.resolve())


def _data_sha256(job: Job) -> str | None:
    images = images_of(job)
    return images[1] if images else None


class _Builder:
    """Jobs by id; equal ones of several cells are made once."""

    def __init__(
        self,
        declaration: Declaration,
        runs: Path,
        given: dict[str, Path],
        backbones: dict[str, Path],
        root: Path | None,
        changes: dict[str, Any],
        teacher_cache: Path | None,
    ) -> None:
        self.declaration, self.runs, self.given, self.root, self.changes = declaration, runs, given, root, changes
        self.backbones, self.teacher_cache = backbones, teacher_cache
        self.jobs: dict[str, Job] = {}

    def cell(self, cell: Cell) -> tuple[Job, ...]:
        """The cell's jobs, one per seed; the teacher's row has one."""
        if not cell.trainable:
            return ()
        if cell.method == "teacher":
            return () if cell.teacher in self.given else (self.teacher(cell),)
        return tuple(self.student(cell, seed) for seed in self.declaration.seeds)

    def student(self, cell: Cell, seed: int) -> Job:
        """The job of a cell under one seed."""
        method = canonical(str(cell.method))
        taught = any("teacher" in METHODS[name].needs for name in method.split("+"))
        if taught and cell.teacher is None:
            raise KdvizError(f"{cell.row}, {cell.column}: {method} needs a teacher; name its net in the column")
        after = self.teacher(cell) if taught and cell.teacher not in self.given else None
        file = None
        if taught:
            file = RunFolder(after.folder).last if after else self.given[str(cell.teacher)]
        recipe = self._recipe(cell, str(cell.recipe), method, str(cell.student), seed, cell.settings)
        kind = f"{cell.student}_{method}" + (f"_of_{cell.teacher}" if taught else "")
        return self._add(recipe, str(cell.recipe), kind, file, after, cell.teacher if taught else None)

    def teacher(self, cell: Cell) -> Job:
        """The job that trains a cell's teacher, by the labels alone, under seed 0."""
        based_on = self.declaration.teacher_recipe or str(cell.recipe)
        labels = "detector" if is_detector(cell.teacher) else "ce"
        recipe = self._recipe(cell, based_on, labels, str(cell.teacher), 0, {}, teacher=True)
        return self._add(recipe, based_on, f"teacher_{cell.teacher}", None, None, None)

    def _recipe(
        self,
        cell: Cell,
        based_on: str,
        method: str,
        student: str,
        seed: int,
        settings: Mapping[str, Any],
        *,
        teacher: bool = False,
    ) -> Recipe:
        asked = {**self.declaration.changes, **({} if teacher else cell.changes), **self.changes}
        for key in asked:
            if key not in CHANGEABLE:
                raise unknown("recipe setting in changes", key, CHANGEABLE)
        if self.declaration.data is not None:
            asked["data"] = self.declaration.data
        if student in self.backbones:
            asked["backbone"] = str(self.backbones[student])
        return load_recipe(based_on, **{**asked, "method": method, "student": student, "seed": seed}, settings=settings)

    def _add(
        self, recipe: Recipe, based_on: str, kind: str, file: Path | None, after: Job | None, teacher: str | None
    ) -> Job:
        facts = {**recipe.result(), "teacher": after.id if after else file and _content(file)}
        facts.pop("seed")
        if recipe.backbone is not None:
            facts["backbone"] = _content(Path(recipe.backbone))
        facts["settings"] = expected(recipe, teacher)["settings"]
        safe = re.sub(r"[^\w.+]+", "-", kind)
        name = f"{re.sub(r'[^A-Za-z0-9_.+-]+', '-', recipe.data)}/{safe}_{digest(facts)}/seed{recipe.seed}"
        cache = self.teacher_cache if file is not None and not is_detector(recipe.student) else None
        imports = self.declaration.imports
        job = Job(name, self.runs / name, recipe, based_on, file, teacher, after, self.root, imports, cache)
        return self.jobs.setdefault(name, job)
