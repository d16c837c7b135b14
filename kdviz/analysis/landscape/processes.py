"""Which of torchrun's processes this one is, and the device that it uses."""

import os

import torch

from kdviz.base.check import require


def rank_and_world() -> tuple[int, int]:
    """This process's rank and how many there are, as torchrun says it; (0, 1) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def local_device() -> str:
    """The GPU of this rank on its machine, or "cpu"."""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


def one_process_only(who: str) -> None:
    """Refuse to run under torchrun with several processes."""
    require(rank_and_world()[1] == 1, f"{who}: runs on one process; start it without torchrun")
