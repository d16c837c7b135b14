"""Explicit randomness: independent streams from one seed and the names of what they are for."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed for the stream called `names`; the same on every machine and in every process.

    >>> derive(0, "alpha") == derive(0, "alpha") != derive(0, "beta")
    True
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, *names: object, device: str = "cpu") -> "torch.Generator":
    """A torch.Generator on `device` for the stream called `names`."""
    import torch

    return torch.Generator(device).manual_seed(derive(seed, *names))


def numpy_generator(seed: int, *names: object) -> "np.random.Generator":
    """A PCG64 generator for the stream called `names`."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(derive(seed, *names)))
