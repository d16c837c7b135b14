"""Products of the Hessian with vectors, by differentiating the gradient, chunk by chunk and in threads."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from kdviz.base.check import require
from kdviz.base.threads import in_threads

KEPT = 2**31  # bytes of graphs
Weights = Mapping[str, Tensor]
Part = Callable[[dict[str, Tensor]], Tensor]


class HessianProduct:
    """The product H v of the Hessian of a sum of differentiable parts at `weights`, on flat float64 vectors.

    The parts' gradients, with the graphs that differentiate them again, are kept for the next product until they
    pass `KEPT` bytes; on a CPU each of those is then differentiated by a thread of its own.

    Args:
        parts: functions weights -> scalar tensor; the loss is their sum, so that one over many images is taken chunk by
            chunk.
        weights: name -> floating tensor, the point; never modified.
        exact: by a second differentiation; otherwise by central differences of the gradient,
            (g(w + e v) - g(w - e v)) / 2 e with e |v| = 1e-5 |w|, for parts that differentiate only once (in float64).
    Raises:
        KdvizError: weights that are not floating.
    Source: Pearlmutter (1994).

    >>> bowl = HessianProduct([lambda at: (at["x"] ** 2).sum() + at["x"].prod()], {"x": torch.tensor([1.0, 2.0])})
    >>> bowl(np.array([1.0, 0.0])).tolist()
    [2.0, 1.0]
    """

    def __init__(self, parts: Sequence[Part], weights: Weights, *, exact: bool = True) -> None:
        require(weights and parts, "sharpness: there are no weights or no images")
        for name, tensor in weights.items():
            require(tensor.is_floating_point(), f"sharpness: weights {name!r} are {tensor.dtype}, not floating")
        self.parts, self.exact, self.products = parts, exact, 0
        self.point = {name: tensor.detach().clone().requires_grad_() for name, tensor in weights.items()}
        self.size = sum(tensor.numel() for tensor in self.point.values())
        self.length = float(sum(tensor.detach().double().square().sum() for tensor in self.point.values())) ** 0.5
        self._kept: list[tuple[Tensor, ...]] | None = None

    def split(self, vector: np.ndarray) -> dict[str, Tensor]:
        """A flat vector [p] as name -> tensor, in the weights' shapes, dtypes and order."""
        pieces = np.split(vector, np.cumsum([tensor.numel() for tensor in self.point.values()])[:-1])
        return {
            name: torch.from_numpy(piece.copy()).to(tensor.detach()).view_as(tensor)
            for (name, tensor), piece in zip(self.point.items(), pieces, strict=True)
        }

    def __call__(self, vector: np.ndarray) -> np.ndarray:
        self.products += 1
        toward = self.split(np.asarray(vector, dtype=np.float64).ravel())
        if self.exact:
            return sum(self._seconds(list(toward.values())), np.zeros(self.size))
        step = 1e-5 * max(self.length, 1e-3) / max(float(np.linalg.norm(vector)), 1e-30)
        ahead, behind = (
            {name: (w + sign * step * toward[name]).detach().requires_grad_() for name, w in self.point.items()}
            for sign in (1, -1)
        )
        rise = (self._first(part, ahead) - self._first(part, behind) for part in self.parts)
        return sum(rise, np.zeros(self.size)) / (2 * step)

    def _first(self, part: Part, at: dict[str, Tensor]) -> np.ndarray:
        with torch.enable_grad():
            return _flat(torch.autograd.grad(part(at), list(at.values()), materialize_grads=True))

    def _seconds(self, toward: list[Tensor]) -> list[np.ndarray]:
        if self._kept is None:
            self._kept = self._keep()
        threads = torch.get_num_threads() if all(one.device.type == "cpu" for one in toward) else 1
        found = in_threads(
            lambda slope: self._second(slope, toward), self._kept, threads if threads <= len(self._kept) else 1
        )
        return found + [self._second(self._slope(part), toward) for part in self.parts[len(self._kept) :]]

    def _keep(self) -> list[tuple[Tensor, ...]]:
        kept, held = [], {}

        def hold(tensor: Tensor) -> Tensor:
            held[tensor.data_ptr()] = tensor.nbytes
            return tensor

        for part in self.parts:
            with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
                kept.append(self._slope(part))
            if sum(held.values()) > KEPT:
                break
        return kept

    def _slope(self, part: Part) -> tuple[Tensor, ...]:
        """A part's gradient, itself differentiable."""
        with torch.enable_grad():
            point = list(self.point.values())
            return torch.autograd.grad(part(self.point), point, create_graph=True, materialize_grads=True)

    def _second(self, slope: tuple[Tensor, ...], toward: list[Tensor]) -> np.ndarray:
        curved = [(g, v) for g, v in zip(slope, toward, strict=True) if g.requires_grad]
        if not curved:  # a part that is linear in the weights
            return np.zeros(self.size)
        gradients, along = zip(*curved, strict=True)
        point = list(self.point.values())
        return _flat(torch.autograd.grad(gradients, point, along, retain_graph=True, materialize_grads=True))


def _flat(tensors: Sequence[Tensor]) -> np.ndarray:
    return torch.cat([one.detach().flatten().double().cpu() for one in tensors]).numpy()
