"""Checkpoints: our own format, and every other that distillation work leaves behind, opened by one function."""

from kdviz.checkpoints.format import save_checkpoint
from kdviz.checkpoints.open import load_checkpoint
from kdviz.checkpoints.record import Checkpoint
from kdviz.checkpoints.run_folder import RunFolder, checkpoint_file, is_run

__all__ = ["Checkpoint", "RunFolder", "checkpoint_file", "is_run", "load_checkpoint", "save_checkpoint"]
