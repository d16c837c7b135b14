"""The measurement on a line or plane through several nets, whose batch norm statistics may move with the weights."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from kdviz.analysis.landscape.describe import caption
from kdviz.analysis.landscape.evaluate import Evaluator
from kdviz.analysis.landscape.options import Measurement
from kdviz.analysis.landscape.states import State
from kdviz.base.check import one_of, require
from kdviz.data import Data

POLICIES = ("interpolate", "recompute", "frozen")
WHERE = {
    "path": "on the line between the nets",
    "plane": "on the plane through the nets",
    "trajectory": "on the plane of the run's two principal components",
}


class PathEvaluator:
    """state -> {loss: value, ...}, where a state is the weights and, under bn="interpolate", the statistics.

    bn="interpolate": statistics are part of the state and move linearly with it, so that every checkpoint on the line
    or plane has exactly its own loss. Outside of the checkpoints a line through variances falls towards zero and below,
    and the loss would explode: there a variance is held at the smallest that any of the checkpoints has.
    bn="recompute": at each point anew from the images. bn="frozen": those of the evaluator's net everywhere.

    Args:
        model: the net whose statistics are used where bn is "frozen".
        data, measurement: as `Evaluator`; measurement.bn is one of the three.
        states: of the checkpoints.
    """

    def __init__(self, model: nn.Module, data: Data, measurement: Measurement, states: Sequence[State]) -> None:
        one_of("landscape", POLICIES, bn=measurement.bn)
        self.bn = measurement.bn
        inner = "recompute" if self.bn == "recompute" else "frozen"
        self.evaluator = Evaluator(model, data, replace(measurement, bn=inner))
        self.attrs = {**self.evaluator.attrs, "bn": self.bn}
        self.terms, self.variables, self.chunk = self.evaluator.terms, self.evaluator.variables, self.evaluator.chunk
        self.weights = set(self.evaluator.weights)
        self.buffers = {n: b for n, b in self.evaluator.network.plain.named_buffers() if b.is_floating_point()}
        self.first = {name: buffer.clone() for name, buffer in self.buffers.items()}
        self.least = {
            name: torch.stack([state[name] for state in states]).amin(0).to(buffer)
            for name, buffer in self.buffers.items()
            if name.endswith("running_var")
        }

    def moving(self, state: State) -> State:
        """The part of a state that moves under this policy."""
        return state if self.bn == "interpolate" else {n: t for n, t in state.items() if n in self.weights}

    def __call__(self, at: Mapping[str, Tensor]) -> dict[str, float]:
        self._set_statistics(at if self.bn == "interpolate" else self.first)
        return self.evaluator({name: tensor for name, tensor in at.items() if name in self.weights})

    def trained(self, state: State) -> dict[str, float]:
        """The values of a checkpoint with its own trained statistics, whatever the policy."""
        self._set_statistics(state)
        policy, self.evaluator.bn = self.evaluator.bn, "frozen"
        try:
            return self.evaluator({name: tensor for name, tensor in state.items() if name in self.weights})
        finally:
            self.evaluator.bn = policy

    def describe(self, result: xr.Dataset, kind: str, **attrs: Any) -> xr.Dataset:
        """The kind, the axes' units and the caption of a result of `sweep`."""
        unit = "share of the way" if kind == "path" else "distance in weight space"
        for i, name in enumerate(one for one in ("alpha", "beta") if one in result.dims):
            result[name].attrs.update(long_name="interpolation" if kind == "path" else f"direction {i + 1}", units=unit)
        result.attrs.update(kind=kind, caption=caption(result.attrs, WHERE[kind]), **attrs)
        return result

    def mark(self, name: str, of: str = "", **others: Any) -> dict[str, Any]:
        """The attributes of a value that is marked on a result: of the loss or metric `of`, or with a unit given."""
        known = self.variables.get(of, {})
        return {
            "units": known.get("units", "1"),
            "long_name": name,
            "role": "mark",
            **({"of": of} if of else {}),
            **others,
        }

    def mark_nets(self, result: xr.Dataset, states: list[State], labels: Sequence[str], places: np.ndarray) -> None:
        """Put the nets on the result: where they are, and their first loss and accuracy with their own statistics."""
        require(len(labels) == len(states), f"landscape: {len(states)} nets but {len(labels)} labels")
        values = [self.trained(state) for state in states]
        result.coords["mark"] = [str(label) for label in labels]
        loss = next(iter(self.terms))
        unit = "share of the way" if places.shape[1] == 1 else "distance in weight space"
        for i, name in enumerate(("alpha", "beta")[: places.shape[1]]):
            result[f"mark_{name}"] = ("mark", places[:, i], self.mark(f"place of the net along {name}", units=unit))
        for name, of in (("loss", loss), ("accuracy", "accuracy")):
            long_name = f"{self.variables[of]['long_name']} of the net"
            result[f"mark_{name}"] = ("mark", np.array([one[of] for one in values]), self.mark(long_name, of))

    @torch.no_grad()
    def _set_statistics(self, at: Mapping[str, Tensor]) -> None:
        for name, buffer in self.buffers.items():
            buffer.copy_(at[name])
            if name in self.least:
                buffer.clamp_(min=self.least[name])
