"""The terms of an epoch added up on the device, and the first step whose loss was not finite."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Tally:
    """Sums of the loss' terms over an epoch; adding waits for nothing and keeps its tensors where they are.

    Args:
        device: where the terms are.

    >>> tally = Tally(torch.device("cpu"))
    >>> for step, loss in enumerate([1.0, 2.0, float("nan")]):
    ...     tally.add({"total": torch.tensor(loss)}, torch.tensor(step))
    >>> tally.first_bad
    2
    """

    def __init__(self, device: torch.device) -> None:
        self._sums: dict[str, Tensor] = {}
        self._bad = torch.full((), -1, dtype=torch.int64, device=device)
        self._device = device

    def begin(self, sums: Mapping[str, Tensor]) -> None:
        """Start an epoch, at zero or at what a stopped run had added up."""
        self._bad.fill_(-1)
        for held in self._sums.values():
            held.zero_()
        for name, value in sums.items():
            self._of(name).copy_(torch.as_tensor(value))

    def add(self, terms: Mapping[str, Tensor], step: Tensor) -> None:
        """The terms of a step, scalars with one called "total"."""
        for name, value in terms.items():
            self._of(name).add_(value.double())
        self._bad.copy_(torch.where((self._bad < 0) & ~torch.isfinite(terms["total"]), step, self._bad))

    @property
    def sums(self) -> dict[str, Tensor]:
        """Copies of the sums, float64."""
        return {name: value.clone() for name, value in self._sums.items()}

    @property
    def first_bad(self) -> int:
        """The first step of the epoch with a loss that is not finite, or -1. Asking waits for the device."""
        return int(self._bad)

    def _of(self, name: str) -> Tensor:
        if name not in self._sums:
            self._sums[name] = torch.zeros((), dtype=torch.float64, device=self._device)
        return self._sums[name]
