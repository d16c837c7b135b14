"""Where a run stands: everything that the next step needs, in one file, replaced whole."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from kdviz.base.check import KdvizError, require
from kdviz.base.files import atomic
from kdviz.checkpoints.read import read_file


class Position(NamedTuple):
    """The next step to take, the sums of the epoch so far, and the best epoch so far."""

    epoch: int
    step: int
    sums: dict[str, Any]
    best: dict[str, Any] | None


def fingerprint(record: dict[str, Any], data_sha256: str) -> str:
    """What tells this run from another: its recipe, teacher and data, as JSON."""
    teacher = (record.get("teacher") or {}).get("sha256")
    return json.dumps({**record["recipe"], "teacher": teacher, "data_sha256": data_sha256}, sort_keys=True)


def keep(
    out: Path, mark: str, at: Position, student: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write state.pt, atomically."""
    holder = {
        "fingerprint": mark,
        "position": tuple(at),
        "student": student.state_dict(),
        "objective": objective.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with atomic(out / "state.pt") as partial:
        torch.save(holder, partial)


def restore(
    out: Path, mark: str, student: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer, *, fresh: bool
) -> Position:
    """Load state.pt into the modules and say where the run stands; the beginning where there is none.

    Raises: KdvizError when the folder holds another recipe's run, or a state that cannot be read.
    """
    path, start = out / "state.pt", Position(0, 0, {}, None)
    for torn in out.rglob(".*.part"):  # what a killed process was writing
        torn.unlink(missing_ok=True)
    if fresh:
        for old in (path, out / "journal.jsonl"):
            old.unlink(missing_ok=True)
    if not path.is_file():
        return start
    try:
        held = read_file(path)
        other = _differences(json.loads(held["fingerprint"]), json.loads(mark))
    except (KdvizError, KeyError, TypeError, ValueError) as error:
        raise KdvizError(f"{path}: cannot be read ({str(error).splitlines()[0]}); --fresh begins anew") from error
    require(not other, f"{out} holds a run of another recipe ({other}); choose another folder (-o), or --fresh")
    student.load_state_dict(held["student"])
    objective.load_state_dict(held["objective"])
    optimizer.load_state_dict(held["optimizer"])
    return Position(*held["position"])


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    def brief(value: object) -> str:
        text = str(value)
        return hashlib.sha256(text.encode()).hexdigest()[:8] if len(text) > 40 else text

    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    return ", ".join(f"{key}: {brief(old.get(key))} there, {brief(new.get(key))} now" for key in changed)
