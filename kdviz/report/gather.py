"""What a report describes: a run folder or a checkpoint file, its journal, and the results measured on it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdviz.analysis.attributes import meaning
from kdviz.base.check import KdvizError, existing, require
from kdviz.base.files import read_dataset, sha256
from kdviz.base.measures import CALLED, MAIN
from kdviz.checkpoints import Checkpoint, RunFolder, checkpoint_file, is_run, load_checkpoint
from kdviz.checkpoints.references import split_reference
from kdviz.losses import LOSSES
from kdviz.methods.titles import method_title

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Subject:
    """One run or checkpoint of a report.

    Attributes:
        label: what the page calls it.
        checkpoint: of a run, its last epoch.
        training: the journal's epochs (kind "training"), or None for a lone file.
        results: saved results that were measured on it.
        unmeasured: why the report measured nothing itself, where it tried.
    """

    label: str
    checkpoint: Checkpoint
    training: "xr.Dataset | None" = None
    results: tuple["xr.Dataset", ...] = ()
    unmeasured: str = ""


def gather(paths: Sequence[Path], *, results: Iterable[Path] = (), model: str | None = None) -> list[Subject]:
    """The subjects at `paths`, each with the results below the folders `results` that name its checkpoint's sha256, or
    that of one of a run's kept epochs.

    Args:
        paths: run folders of `kdviz train`, or checkpoints of any known producer.
        results: folders searched for .nc files; run folders are searched in any case.
        model: architecture, where a file does not say.
    Raises:
        KdvizError: nothing there, a run without a finished epoch, a file that is no checkpoint.
    """
    require(paths, "report: name at least one run folder or checkpoint")
    labels = _labels([Path(path) for path in paths])
    saved = {file: None for folder in results for file in sorted(Path(folder).rglob("*.nc"))}
    return [_subject(Path(path), label, list(saved), model) for path, label in zip(paths, labels, strict=True)]


def _labels(paths: Sequence[Path]) -> list[str]:
    """The file's stem or the folder's name; longer where two would be the same."""
    short = [path.resolve().name if path.is_dir() else path.stem for path in paths]
    doubled = {name for name in short if short.count(name) > 1}
    return [str(path) if name in doubled else name for path, name in zip(paths, short, strict=True)]


def _subject(path: Path, label: str, saved: list[Path], model: str | None) -> Subject:
    reference, path = path, split_reference(path)[0]
    existing(path, what="run or checkpoint")
    if not is_run(path):
        checkpoint = load_checkpoint(reference, model=model)
        return Subject(label, checkpoint, None, _measured_on(saved, {checkpoint.sha256}))
    run, file = RunFolder(path), checkpoint_file(path)
    entries = run.epochs()
    hashes = {sha256(one) for one in (file, run.best, *run.kept) if one.is_file()}
    own = [one for one in sorted(path.rglob("*.nc")) if one not in saved]
    checkpoint = load_checkpoint(file, model=model)
    training = curves(entries, label, checkpoint.method) if entries else None
    return Subject(label, checkpoint, training, _measured_on([*own, *saved], hashes))


def curves(entries: list[dict[str, Any]], label: str, method: str | None) -> "xr.Dataset":
    """The journal's epochs as a Dataset of kind "training": "total", its terms (role "loss"), "val_top1" (fraction), of
    a detector "val_ap"."""
    import numpy as np
    import xarray as xr

    names = dict.fromkeys(name for entry in entries for name in entry.get("train", {}))
    columns = {name: [entry.get("train", {}).get(name, np.nan) for entry in entries] for name in names}
    for name in (*MAIN, "loss"):
        if any(name in (entry.get("val") or {}) for entry in entries):
            columns[f"val_{name}"] = [(entry.get("val") or {}).get(name, np.nan) for entry in entries]
    variables = {name: ("epoch", np.array(values, dtype=float), _meaning(name)) for name, values in columns.items()}
    epochs, written = {"epoch": [entry["epoch"] for entry in entries]}, label.replace("$", r"\$")
    return xr.Dataset(variables, epochs, {"kind": "training", "method": method or "", "label": label, "title": written})


def _meaning(name: str) -> dict[str, str]:
    """The attributes of one of a journal's columns; a term is weighted, so that only its name is that of its loss."""
    if name.removeprefix("val_") in MAIN:
        return meaning("fraction", f"{CALLED[name.removeprefix('val_')]} on val", "metric")
    if name in ("total", "val_loss"):
        return meaning(
            "nats" if name == "val_loss" else "1", {"total": "training loss"}.get(name, "loss on val"), "metric"
        )
    title = LOSSES[name].title if name in LOSSES else method_title(name)
    return meaning("1", f"weighted {title or name}", "loss") | ({"title": title} if title else {})


def _measured_on(files: list[Path], hashes: set[str]) -> tuple["xr.Dataset", ...]:
    """Results whose attributes name one of the checkpoints, alone or among others; other files are passed over."""
    found = []
    for file in files:
        try:
            dataset = read_dataset(file)
        except KdvizError:
            continue
        named = " ".join(str(dataset.attrs.get(name)) for name in ("student_sha256", "checkpoint_sha256"))
        if hashes.intersection(named.split()):
            found.append(dataset)
    return tuple(found)
