"""TensorBoard and Weights & Biases beside a run's journal; one that fails is left out, and the run goes on."""

import hashlib
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from kdviz.base.check import KdvizError, unknown


class Logger(Protocol):
    """What a logger does with the numbers of an epoch."""

    def log(self, values: Mapping[str, float], step: int) -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """Event files in FOLDER/tensorboard; `tensorboard --logdir FOLDER` draws them."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        writer = _library("torch.utils.tensorboard", "tensorboard").SummaryWriter
        self._writer = writer(log_dir=str(folder / "tensorboard"))
        self._writer.add_text("settings", "\n".join(f"    {key}: {value}" for key, value in settings.items()), 0)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Each number under its name."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """End the files."""
        self._writer.close()


class WeightsAndBiases:
    """A Weights & Biases run in FOLDER/wandb: offline, unless $WANDB_MODE says otherwise; `wandb sync` uploads it.

    The same folder is the same run, so that a resumed run goes on in it.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        wandb = _library("wandb", "wandb")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "kdviz"),
            name=folder.name,
            id=hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16],
            dir=str(folder),
            mode=os.environ.get("WANDB_MODE", "offline"),
            resume="allow" if os.environ.get("WANDB_MODE") == "online" else None,  # offline runs are joined by sync
            config=dict(settings),
            settings=wandb.Settings(silent=True, console="off"),
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        """All numbers of a step at once."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish()


LOGGERS: dict[str, Callable[[Path, Mapping[str, Any]], Logger]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


class Loggers:
    """The loggers of a run, each left out from its first failure on.

    Args:
        names: of `LOGGERS`; none is fine.
        folder: the run's.
        settings: what the run was started with, for the loggers' own pages.
        warn: called with one line for each logger that fails.
    Raises: KdvizError, before the run, for an unknown name or a library that is not installed.

    >>> Loggers((), folder=Path("."), settings={}, warn=print).log({"train": {"total": 1.0}}, step=1)
    """

    def __init__(
        self, names: Sequence[str], *, folder: Path, settings: Mapping[str, Any], warn: Callable[[str], None]
    ) -> None:
        self._warn = warn
        self._open: dict[str, Logger] = {}
        for name in dict.fromkeys(names):
            if name not in LOGGERS:
                raise unknown("logger", name, LOGGERS)
            try:
                self._open[name] = LOGGERS[name](folder, settings)
            except KdvizError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on
                self._fail(name, error)

    def log(self, entry: Mapping[str, Any], *, step: int) -> None:
        """The numbers of a journal's entry, by names like "val/top1"; whatever is no number is left out."""
        values = numbers(entry)
        for name, logger in list(self._open.items()):
            try:
                logger.log(values, step)
            except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on
                self._fail(name, error)

    def close(self) -> None:
        """End every logger; safe to call twice."""
        for name, logger in list(self._open.items()):
            try:
                logger.close()
            except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on
                self._fail(name, error)
        self._open.clear()

    def _fail(self, name: str, error: Exception) -> None:
        self._open.pop(name, None)
        reason = (str(error).splitlines() or [""])[0]
        self._warn(f"{name}: {type(error).__name__}: {reason}; the run goes on without it")


def numbers(entry: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers in nested mappings, by their path.

    >>> numbers({"lr": 0.1, "val": {"top1": 0.5, "of": "val"}, "done": True})
    {'lr': 0.1, 'val/top1': 0.5}
    """
    found: dict[str, float] = {}
    for key, value in entry.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{key}"] = float(value)
    return found


def _library(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise KdvizError(f"logger {package}: is not installed; pip install 'kdviz[loggers]'") from error
