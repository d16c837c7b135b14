"""A cell of an accuracy table: the command that would run it, and whether a finished run is it."""

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdviz.checkpoints import Checkpoint
    from kdviz.papers.published import Column, Row, Table

# What tells runs of one cell from each other without making them another cell.
FREE = ("seed", "precision", "settings", "backbone_sha256")


def recipe_of(row: "Row", column: "Column") -> str | None:
    """The bundled recipe that would train the cell: the row's own for this column, else the column's."""
    return row.recipes.get(column.name, column.recipe)


def settings_of(row: "Row", column: "Column") -> dict[str, Any]:
    """The settings of the method's terms that the cell states; none of a method of the labels alone."""
    return {} if row.method == "ce" else {**column.set, **row.set, **column.by_row.get(row.name, {})}


def command(row: "Row", column: "Column") -> str | None:
    """The `kdviz train` line of one cell, or None where kdviz has no recipe, net or method for it.

    >>> from kdviz.papers.published import tables
    >>> table = tables("rkkd")["tab8"]
    >>> print(command(table.row("KD"), table.columns[0]))
    kdviz train rkkd-cifar100 --method kd --student resnet8x4 --teacher resnet32x4.pt
    """
    recipe = recipe_of(row, column)
    if row.method is None or recipe is None or column.student is None:
        return None
    from kdviz.methods.settings import as_text
    from kdviz.models.external import is_external
    from kdviz.train.recipe import as_words, load_recipe

    words = ["kdviz", "train", recipe, "--method", row.method, "--student", column.student]
    words += ["--backbone", backbone_file(column.student)] if load_recipe(recipe).expects_backbone else []
    for key, value in column.changes.items():
        words += as_words(key, value)
    if row.method != "ce":
        words += ["--teacher", f"{str(column.teacher).rpartition(':')[2]}.pt"]
        words += ["--teacher-model", column.teacher] if column.teacher and is_external(column.teacher) else []
        for key, value in settings_of(row, column).items():
            words += ["--set", f"{key}={as_text(value)}"]
    return shlex.join(words)


def backbone_file(detector: str) -> str:
    """What the commands call the file of a detector's backbone: its classifier's name.

    >>> backbone_file("fasterrcnn_mobilenet_v2_fpn")
    'mobilenet_v2.pth'
    """
    return f"{detector.removeprefix('fasterrcnn_').removesuffix('_fpn')}.pth"


def whole_recipe(row: "Row", column: "Column") -> dict[str, Any]:
    """Every recipe setting and every setting of the method that the cell's command trains with, as a run records them.

    Only for cells that have a command.
    """
    from kdviz.methods import settings_in_force
    from kdviz.train.recipe import load_recipe

    named = {**column.changes, "method": row.method, "student": column.student}
    recipe = load_recipe(recipe_of(row, column), **named, settings=settings_of(row, column))
    if recipe.expects_backbone:
        recipe = recipe.model_copy(update={"backbone": backbone_file(str(column.student))})
    nets = {"student": column.student, "teacher": None if row.method == "ce" else column.teacher}
    settings = settings_in_force(recipe.method, settings=recipe.settings, **nets)
    wanted = {key: value for key, value in recipe.result().items() if key not in FREE}
    return json.loads(json.dumps({**wanted, **settings}))


def misfits(
    checkpoint: "Checkpoint", table: "Table", row: "Row", column: "Column", data_sha256: str | None = None
) -> list[str]:
    """What keeps a finished run from being the cell (row, column), by name; empty where it is the cell.

    Args:
        checkpoint: of the run.
        table, row, column: the cell.
        data_sha256: of the training images that the table's other runs saw; None where there is no other.

    Returns: one text for each setting that differs, "epochs is 1, not 240".
    """
    from kdviz.train.recipe import OF_BACKBONES

    if command(row, column) is None:
        return ["kdviz has no recipe for this cell"]
    record = checkpoint.recipe
    found = {key: value for key, value in record.items() if key not in (*FREE, "normalization", "data_sha256")}
    found |= {"method": checkpoint.method, "student": checkpoint.name, "data": checkpoint.data}
    found |= {key: value for key, value in record.get("settings", {}).items() if not _idle(key, value)}
    wanted = {key: value for key, value in whole_recipe(row, column).items() if not _idle(key, value)}
    found, wanted = json.loads(json.dumps(found)), {**wanted, "data": table.data}
    if wanted.keys() >= set(OF_BACKBONES) and "backbone_sha256" not in record:
        found["backbone"] = "fresh"
        wanted = {"backbone": "of a file", **{key: value for key, value in wanted.items() if key not in OF_BACKBONES}}
    if row.method != "ce":
        found["teacher"], wanted["teacher"] = (checkpoint.teacher or {}).get("name"), column.teacher
    differing = [_difference(key, found, wanted) for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
    seen = record.get("data_sha256")
    if seen is None:
        differing.append("data_sha256 is not recorded")
    elif data_sha256 not in (None, seen):
        differing.append(f"data_sha256 is {seen[:12]}, not {str(data_sha256)[:12]} as of the table's other runs")
    return differing


def _idle(key: str, value: Any) -> bool:
    """Whether a setting changes nothing, so that a record may leave it out: a warm-up of no epochs."""
    return key.endswith(".warmup") and not value


def _difference(key: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    if key not in found:
        return f"{key} is not recorded"
    return f"{key} is {found[key]}, not {wanted.get(key, 'set')}"
