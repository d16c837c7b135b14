"""The folder that `kdviz train` writes: where each of its files is, and what its journal says."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdviz.base.check import KdvizError, one_line
from kdviz.base.files import sha256
from kdviz.base.jsonl import append_line, read_lines


@dataclass(frozen=True)
class RunFolder:
    """A training run on disk.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def journal(self) -> Path:
        """JSON lines, each with an "event": start, epoch, resume, warning, failed, end."""
        return self.path / "journal.jsonl"

    @property
    def last(self) -> Path:
        """The checkpoint of the last epoch."""
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint of the epoch with the highest top-1 on val."""
        return self.path / "best.pt"

    @property
    def ema(self) -> Path:
        """The checkpoint of the weights' moving average after the last epoch (`--ema`)."""
        return self.path / "ema.pt"

    @property
    def state(self) -> Path:
        """What the next step needs, for resuming."""
        return self.path / "state.pt"

    @property
    def kept(self) -> list[Path]:
        """The checkpoints of single epochs (`--keep-epochs`), in order."""
        return sorted((self.path / "epochs").glob("epoch_*.pt"))

    @property
    def root(self) -> Path | None:
        """The folder of the data set's files (`--root`) that the run was last trained from, while it is there."""
        roots = [entry["root"] for entry in self.events() if isinstance(entry.get("root"), str)]
        return Path(roots[-1]) if roots and os.path.exists(roots[-1]) else None

    def epoch_file(self, number: int) -> Path:
        """Where the checkpoint of one epoch is kept."""
        return self.path / "epochs" / f"epoch_{number:04d}.pt"

    def log(self, event: str, **fields: Any) -> None:
        """Append an event to the journal. Raises KdvizError when it cannot be written."""
        append_line(self.journal, {"event": event, **fields})

    @contextmanager
    def failures_logged(self) -> Iterator[None]:
        """An error that leaves the block is an event "failed" in the journal, with its text in one line."""
        try:
            yield
        except Exception as error:
            with suppress(KdvizError):  # a full disk, say; the error itself says more
                self.log("failed", text=one_line(str(error) or type(error).__name__))
            raise

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The journal's whole lines, or those of one kind of event, in order."""
        lines = (entry for entry in read_lines(self.journal) if isinstance(entry.get("event"), str))
        return [entry for entry in lines if kind in (None, entry["event"])]

    def epochs(self) -> list[dict[str, Any]]:
        """One entry per finished epoch, in order; the last one written where a resumed run wrote it twice."""
        latest = {entry["epoch"]: entry for entry in self.events("epoch") if isinstance(entry.get("epoch"), int)}
        return [latest[number] for number in sorted(latest)]

    def result(self) -> Mapping[str, Any] | None:
        """The metrics of a finished run whose two checkpoints are still those that it wrote; None otherwise."""
        ends = self.events("end")
        if not ends:
            return None
        files = {"best": self.best, "last": self.last}
        digests = {which: sha256(path) if path.is_file() else None for which, path in files.items()}
        return ends[-1].get("metrics") if ends[-1].get("sha256") == digests else None


def is_run(path: str | os.PathLike) -> bool:
    """Whether `path` is a folder that `kdviz train` writes."""
    folder = RunFolder(Path(path))
    return folder.path.is_dir() and (folder.journal.is_file() or folder.last.is_file())


def checkpoint_file(path: str | os.PathLike) -> Path:
    """`path`, or the last epoch's checkpoint of a run's folder: papers report the last epoch.

    Raises: KdvizError for a run without a finished epoch.
    """
    if not is_run(path):
        return Path(path)
    last = RunFolder(Path(path)).last
    if not last.is_file():
        raise KdvizError(f"{path}: has no last.pt yet; no epoch of this run is finished")
    return last


def root_of(checkpoint: str | os.PathLike) -> Path | None:
    """The folder of the data set's files that the run of a checkpoint was trained from.

    None for a checkpoint outside its run's folder, a run without `--root`, and where that folder is gone.
    """
    folder = Path(checkpoint).parent
    run = folder.parent if folder.name == "epochs" else folder
    return RunFolder(run).root if is_run(run) else None
