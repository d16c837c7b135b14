"""Checkpoints: our own format, and every other that distillation work leaves behind, opened by one function.

Functions that need torch are loaded on first use, so that a run's folder is read without it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from kdviz.checkpoints.run_folder import RunFolder, checkpoint_file, is_run

if TYPE_CHECKING:
    from kdviz.checkpoints.format import save_checkpoint
    from kdviz.checkpoints.open import load_checkpoint
    from kdviz.checkpoints.record import Checkpoint

_NAMES = {
    "Checkpoint": "kdviz.checkpoints.record",
    "load_checkpoint": "kdviz.checkpoints.open",
    "save_checkpoint": "kdviz.checkpoints.format",
}

__all__ = ["Checkpoint", "RunFolder", "checkpoint_file", "is_run", "load_checkpoint", "save_checkpoint"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'kdviz.checkpoints' has no attribute {name!r}")
