"""Checkpoints: our own format, and every other that distillation work leaves behind, behind one door."""

from kdviz.checkpoints.format import save_checkpoint
from kdviz.checkpoints.open import load_checkpoint
from kdviz.checkpoints.record import Checkpoint

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]
