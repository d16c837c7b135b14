"""What a finished run came to, from its folder or from a record of it without weights.

Records are small enough to be committed, so that several machines share the work of a table, and anyone can draw it.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdviz.base.check import KdvizError
from kdviz.base.files import atomic
from kdviz.checkpoints.run_folder import RunFolder
from kdviz.tables.hits import hits


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes:
        facts: its whole recipe with all settings in force and the sha256 of its data, and "teacher", the sha256 of the
            teacher's file.
        metrics: of the last epoch and of the best on val.
        sha256: of the two checkpoints.
        hits: which test images it gets right, as `hits` has them; None where that was not kept.
    """

    facts: Mapping[str, Any]
    metrics: Mapping[str, Any]
    sha256: Mapping[str, str]
    hits: Mapping[str, np.ndarray] | None


def facts_of(folder: Path) -> dict[str, Any] | None:
    """What a run, finished or not, says of its recipe, data and teacher; None where there is no run."""
    begun = [event for event in RunFolder(folder).events() if event["event"] in ("start", "resume")]
    if not begun:
        return None
    return {**begun[-1].get("recipe", {}), "teacher": (begun[-1].get("teacher") or {}).get("sha256")}


def outcome_of(folder: Path) -> Outcome | None:
    """The outcome of a run in its folder; None where it is not finished, or its checkpoints are not there any more."""
    run, facts = RunFolder(folder), facts_of(folder)
    metrics = run.result()
    if metrics is None or facts is None:
        return None
    return Outcome(facts, metrics, run.events("end")[-1]["sha256"], hits(folder))


def record(outcome: Outcome, path: Path) -> None:
    """Write the outcome as one file, some kilobytes; the same outcome gives the same bytes."""
    text = json.dumps(
        {"facts": dict(outcome.facts), "metrics": outcome.metrics, "sha256": outcome.sha256}, sort_keys=True
    )
    arrays = {"record": np.array(text), **(outcome.hits or {})}
    with atomic(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            buffer = io.BytesIO()
            np.save(buffer, arrays[name], allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED)


def read_record(path: Path) -> Outcome | None:
    """The outcome that `record` wrote; None where there is no such file. Raises KdvizError for a damaged one."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            arrays = {key: kept[key] for key in kept.files}
        said = json.loads(str(arrays.pop("record")))
        whole = {key: arrays[key] for key in ("last", "best", "target")} if arrays else None
        return Outcome(said["facts"], said["metrics"], said["sha256"], whole)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise KdvizError(f"{path}: is no record of a run ({error}); remove it, and the run is trained again") from error
