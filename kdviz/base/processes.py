"""Which of torchrun's processes this one is, and the device that it uses."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kdviz.base.check import KdvizError, require


class RankError(KdvizError):
    """Bad input that one process of torchrun alone has met, so that it prints the line whatever its rank."""


@contextmanager
def said_by_any_rank() -> Iterator[None]:
    """A context whose bad input may be met by one process of torchrun alone."""
    try:
        yield
    except KdvizError as error:
        raise RankError(error) from error


def rank_and_world() -> tuple[int, int]:
    """This process's rank and how many there are, as torchrun says it; (0, 1) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def first_process() -> bool:
    """Whether this process is the only one, or the first of torchrun's, which writes and prints for all."""
    return rank_and_world()[0] == 0


def local_device() -> str:
    """The GPU of this rank on its machine, or "cpu"."""
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


def shared_store(who: str, mark: str) -> Any:
    """The `torch.distributed.Store` that all processes of torchrun share: torchrun's, or one that rank 0 opens.

    Keys are apart from those of other marks, and of the processes that ran before torchrun started them again.

    Raises: KdvizError where torchrun's variables are incomplete.
    """
    import torch.distributed as dist

    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    rank, world = rank_and_world()
    if world == 1 or not address or not port:
        require(world == 1, f"{who}: WORLD_SIZE is set but not MASTER_ADDR and MASTER_PORT; start it by torchrun")
        return dist.HashStore()
    theirs = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = dist.TCPStore(address, int(port), is_master=rank == 0 and not theirs, wait_for_workers=False)
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"kdviz/{mark}/{again}", store)


def one_process_only(who: str) -> None:
    """Refuse to run under torchrun with several processes."""
    require(rank_and_world()[1] == 1, f"{who}: runs on one process; start it without torchrun")
