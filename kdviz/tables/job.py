"""One run of a table: its recipe, teacher and folder, the command that is the same run, and whether it is finished."""

import hashlib
import importlib
import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kdviz.base.check import KdvizError
from kdviz.base.files import sha256
from kdviz.methods.settings import as_text
from kdviz.models.external import is_external
from kdviz.train.recipe import OPTIONS, Recipe, as_words, load_recipe

# Settings of a recipe that a table may change; the others are what its cells and seeds are.
CHANGEABLE = tuple(
    key for key in Recipe.model_fields if key not in ("method", "student", "seed", "settings", "teacher", "backbone")
)


@dataclass(frozen=True)
class Job:
    """A run to be trained.

    Attributes:
        id: its folder below the runs, unique among all tables; equal runs of several tables are one job.
        folder: of the run.
        recipe: whole.
        based_on: the recipe that the command names.
        teacher: its checkpoint's file; None where the method has none.
        teacher_net: its net.
        after: the job that makes that file; None where it is given.
        root: folder of the data set's files.
        imports: modules that register what the recipe names.
        teacher_cache: folder in which runs over the same images share the teacher's logits.
    """

    id: str
    folder: Path
    recipe: Recipe
    based_on: str
    teacher: Path | None = None
    teacher_net: str | None = None
    after: "Job | None" = None
    root: Path | None = None
    imports: tuple[str, ...] = ()
    teacher_cache: Path | None = None

    @property
    def payload(self) -> dict[str, Any]:
        """What a worker needs, as plain values."""
        return {
            "folder": str(self.folder.resolve()),
            "recipe": {**self.recipe.model_dump(mode="json"), "backbone": _absolute(self.recipe.backbone)},
            "teacher": _absolute(self.teacher),
            "teacher_model": _own_name(self.teacher_net),
            "root": _absolute(self.root),
            "imports": list(self.imports),
            "teacher_cache": _absolute(self.teacher_cache),
            "command": self.command,
        }

    @property
    def command(self) -> str:
        """The `kdviz train` line of the same run."""
        base, words = load_recipe(self.based_on), ["kdviz", "train", self.based_on]
        if self.imports:
            program = f"import {', '.join(self.imports)}; from kdviz.cli.app import main; main()"
            words = ["python", "-c", program, "train", self.based_on]
        for key in dict.fromkeys((*OPTIONS, *CHANGEABLE)):
            value = getattr(self.recipe, key)
            if key in ("method", "student", "seed") or value != getattr(base, key):
                words += as_words(key, value)
        words += ["--backbone", self.recipe.backbone] if self.recipe.backbone is not None else []
        if self.teacher is not None:
            words += ["--teacher", str(self.teacher)]
            words += ["--teacher-model", name] if (name := _own_name(self.teacher_net)) else []
        for key, value in self.recipe.settings.items():
            if base.settings.get(key) != value or base.method != self.recipe.method:
                words += ["--set", f"{key}={as_text(value)}"]
        words += ["--root", str(self.root)] if self.root is not None else []
        words += ["--teacher-cache", str(self.teacher_cache)] if self.teacher_cache is not None else []
        return shlex.join([*words, "--out", str(self.folder)])


def _absolute(path: Path | str | None) -> str | None:
    return None if path is None else str(Path(path).resolve())


def _own_name(net: str | None) -> str | None:
    """The net's name where a file may not say it, or may not be believed: one of another library or of the user's."""
    return net if net and is_external(net) else None


def digest(facts: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits of the facts, whatever their order."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:8]


def load_imports(modules: Iterable[str]) -> None:
    """Import the user's own modules, from the working folder too. Raises KdvizError for one that cannot be imported."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise KdvizError(
                f"imports: {module} cannot be imported ({error}); run from the folder that holds it"
            ) from error


def settings_in_force(recipe: Recipe, teacher: str | None) -> dict[str, Any]:
    """Every setting of the recipe's method, defaults and presets of the pair included, as a run records them."""
    from kdviz import methods

    return methods.settings_in_force(recipe.method, student=recipe.student, teacher=teacher, settings=recipe.settings)


def expected(recipe: Recipe, teacher_net: str | None) -> dict[str, Any]:
    """What a finished run of the recipe records of itself, less what is read from the data and the teacher's file."""
    settings = settings_in_force(recipe, teacher_net)
    found = json.loads(json.dumps({**recipe.result(), "settings": settings}))
    if found["precision"] == "auto":  # a run records what it came to
        del found["precision"]
    return {**found, "backbone_sha256": recipe.backbone and digest_of(Path(recipe.backbone))}


def misfits(job: Job, found: Mapping[str, Any], data_sha256: str | None) -> list[str]:
    """What keeps a run from being the job, by name; empty where it is.

    Compared are the whole recipe with all settings in force, the sha256 of a detector's backbone file, that of the
    training images and labels, and that of the teacher's file; the last two where they can be read here.

    Args:
        job: that is wanted.
        found: what the run says of itself (`records.facts_of`).
        data_sha256: of the job's images; None where they are not here.
    """
    wanted: dict[str, Any] = expected(job.recipe, job.teacher_net)
    if data_sha256 is not None:
        wanted["data_sha256"] = data_sha256
    if job.teacher is not None and job.teacher.is_file():
        wanted["teacher"] = digest_of(job.teacher)
    return [
        f"{key} is {_brief(found.get(key))} there, {_brief(value)} in the table"
        for key, value in sorted(wanted.items())
        if found.get(key) != value
    ]


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


_digests: dict[tuple[Path, int, int], str] = {}  # (path, size, time of the last change) -> sha256


def digest_of(path: Path) -> str:
    """The file's sha256, computed once as long as the file does not change."""
    stat = path.stat()
    key = (path, stat.st_size, stat.st_mtime_ns)
    if key not in _digests:
        _digests[key] = sha256(path)
    return _digests[key]


@cache
def training_images(
    data: str, limit: int | None, holdout: bool | float, seed: int, root: Path | None
) -> tuple[int, str] | None:
    """(number, sha256) of the training images; None where the data set is not here."""
    from kdviz.data import has_boxes
    from kdviz.train.detection import training_boxes
    from kdviz.train.splits import training_split

    recipe = load_recipe(data=data, limit=limit, holdout=holdout, seed=seed)
    try:
        found = training_boxes(recipe, root) if has_boxes(data) else training_split(recipe, root)
    except KdvizError:
        return None
    return len(found), found.sha256


def images_of(job: Job) -> tuple[int, str] | None:
    """(number, sha256) of the job's training images; None where the data set is not here."""
    recipe = job.recipe
    seed = recipe.seed if recipe.limit else 0  # without a limit the seed changes nothing
    return training_images(recipe.data, recipe.limit, recipe.holdout, seed, job.root)
