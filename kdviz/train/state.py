"""Where a run stands: everything that the next step needs, in one file, replaced whole."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from kdviz.base.check import KdvizError, require
from kdviz.base.files import atomic
from kdviz.checkpoints.read import read_file
from kdviz.checkpoints.run_folder import RunFolder
from kdviz.train.optim import load_state


class Position(NamedTuple):
    """Where a run stands.

    Attributes:
        epoch, step: of the next update.
        sums: of the terms over the epoch so far.
        best: metrics of the best epoch so far.
        entry: the journal's line of the last finished epoch, written again where a kill came before the journal.
    """

    epoch: int
    step: int
    sums: dict[str, Any]
    best: dict[str, Any] | None
    entry: dict[str, Any] | None = None


def fingerprint(record: dict[str, Any], data_sha256: str) -> str:
    """What distinguishes this run from another: its recipe, teacher and data, as JSON."""
    teacher = (record.get("teacher") or {}).get("sha256")
    return json.dumps({**record["recipe"], "teacher": teacher, "data_sha256": data_sha256}, sort_keys=True)


def save(folder: RunFolder, mark: str, at: Position, moving: Mapping[str, Any]) -> None:
    """Write state.pt, atomically: the position and the `state_dict()` of everything that moves, by name."""
    holder = {"fingerprint": mark, "position": tuple(at)}
    holder |= {name: part.state_dict() for name, part in moving.items()}
    with atomic(folder.state) as partial:
        torch.save(holder, partial)


def restore(
    folder: RunFolder, mark: str, moving: Mapping[str, Any], *, fresh: bool = False, reader: bool = False
) -> Position:
    """Load state.pt into everything that moves and return where the run stands; the beginning where there is none.

    Args:
        folder: of the run.
        mark: its fingerprint.
        moving: what is loaded, by name.
        fresh: remove what is there first.
        reader: leave the folder as it is, because another process has mended it.
    Raises: KdvizError when the folder holds another recipe's run, or a state that cannot be read.
    """
    path, start = folder.state, Position(0, 0, {}, None)
    for torn in () if reader else folder.path.rglob(".*.part"):  # what a killed process was writing
        torn.unlink(missing_ok=True)
    if fresh:
        for old in (path, folder.journal):
            old.unlink(missing_ok=True)
    if not path.is_file():
        return start
    try:
        held = read_file(path)
        other = _differences(json.loads(held["fingerprint"]), json.loads(mark))
    except (KdvizError, KeyError, TypeError, ValueError) as error:
        raise KdvizError(f"{path}: cannot be read ({str(error).splitlines()[0]}); --fresh begins anew") from error
    require(not other, f"{folder.path} holds a run of another recipe ({other}); choose another folder (-o), or --fresh")
    for name, part in moving.items():
        if isinstance(part, torch.optim.Optimizer):
            load_state(part, held[name])
        else:
            part.load_state_dict(held[name])
    at = Position(*held["position"])
    if not reader and at.entry and at.entry["epoch"] not in [entry["epoch"] for entry in folder.epochs()]:
        folder.log("epoch", **at.entry)
    return at


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    def brief(value: object) -> str:
        text = str(value)
        return hashlib.sha256(text.encode()).hexdigest()[:8] if len(text) > 40 else text

    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    return ", ".join(f"{key}: {brief(old.get(key))} there, {brief(new.get(key))} now" for key in changed)
