"""Curvature at a net's weights: top Hessian eigenvalues, their directions, the trace with its standard error.

Hessian-vector products (the gradient of a gradient) under ARPACK's Lanczos, which restarts until its error bound is
met; nothing but torch and scipy is needed.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.func import functional_call

from kdviz import losses
from kdviz.analysis.landscape.threads import in_threads
from kdviz.base.check import KdvizError, positive, require
from kdviz.base.files import versions
from kdviz.base.seeds import numpy_generator
from kdviz.models import logits_of

if TYPE_CHECKING:
    from kdviz.data import Data

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


def spectrum(
    parts: Sequence[Part],
    weights: Weights,
    *,
    eigenvalues: int = 5,
    probes: int = 30,
    seed: int = 0,
    tolerance: float = 1e-3,
    exact: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[xr.Dataset, list[dict[str, Tensor]]]:
    """Top eigenpairs and trace of the Hessian of a sum of parts.

    Eigenvalues by implicitly restarted Lanczos; trace by Hutchinson's estimator, the mean of z'Hz over Rademacher
    vectors z, with stderr = std / sqrt(probes) (unbiased std; NaN for one probe).

    Args:
        parts, weights, exact: as `HessianProduct`.
        eigenvalues: how many of the largest (by value, not magnitude), at most the number of weights.
        probes: vectors z; 0 leaves the trace out.
        seed: of Lanczos' first vector and of the probes.
        tolerance: relative accuracy of the eigenvalues.
        progress: called with (probes done, probes).
    Returns:
        Dataset of kind "sharpness": eigenvalue and residual ||Hv - lambda v|| over rank, largest first; trace,
        trace_stderr (in nats per squared unit of weight); attrs weights (their count) and products (H v spent).
        And the unit eigenvectors as name -> tensor.
    Raises:
        KdvizError: a wrong count, Lanczos that does not converge.
    Source: Lehoucq, Sorensen & Yang (1998), ARPACK; Hutchinson (1990).
    """
    product = HessianProduct(parts, weights, exact=exact)
    fits = isinstance(eigenvalues, int) and 0 < eigenvalues <= product.size
    require(fits, f"sharpness: eigenvalues must be 1 to {product.size} (the weights), got {eigenvalues}")
    positive("sharpness", tolerance=tolerance)
    values, vectors = _top(product, eigenvalues, seed, tolerance)
    residuals = [np.linalg.norm(product(v) - value * v) for value, v in zip(values, vectors.T, strict=True)]
    drawn = []
    for probe in range(probes):
        z = numpy_generator(seed, "hutchinson", probe).choice((-1.0, 1.0), product.size)
        drawn.append(float(z @ product(z)))
        if progress is not None:
            progress(probe + 1, probes)
    result = xr.Dataset(
        {"eigenvalue": ("rank", values), "residual": ("rank", np.array(residuals))},
        {"rank": np.arange(1, eigenvalues + 1)},
        {"kind": "sharpness", "weights": product.size, "products": product.products, "seed": seed, "probes": probes},
    )
    if probes:
        result["trace"] = float(np.mean(drawn))
        result["trace_stderr"] = float(np.std(drawn, ddof=1) / np.sqrt(probes)) if probes > 1 else np.nan
    return result, [product.split(vector) for vector in vectors.T]


def _top(product: HessianProduct, count: int, seed: int, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """The largest eigenvalues, falling, and their unit vectors in columns, signed so that each sum is positive."""
    from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh

    if product.size <= max(2 * count, 20):  # ARPACK wants a space larger than its basis
        matrix = np.stack([product(row) for row in np.eye(product.size)])
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        values, vectors = values[-count:], vectors[:, -count:]
    else:
        operator = LinearOperator((product.size, product.size), matvec=product, dtype=np.float64)  # pyright: ignore
        start = numpy_generator(seed, "lanczos").standard_normal(product.size)
        try:
            values, vectors = eigsh(operator, k=count, which="LA", v0=start, tol=tolerance, maxiter=100)  # pyright: ignore
        except ArpackNoConvergence as error:
            found = len(error.eigenvalues)
            raise KdvizError(f"sharpness: {found} of {count} eigenvalues converged; raise tolerance") from error
        except ArpackError as error:
            raise KdvizError(f"sharpness: {error}; is the loss finite at these weights?") from error
    order = np.argsort(values)[::-1]
    vectors = vectors[:, order]
    return values[order], vectors * np.where(vectors.sum(axis=0) < 0, -1.0, 1.0)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, and every module back in its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def loss_parts(
    model: nn.Module,
    data: "Data",
    *,
    loss: str = "ce",
    teacher: nn.Module | None = None,
    settings: Mapping[str, Any] | None = None,
    chunk: int = 32,
    dtype: torch.dtype = torch.float32,
) -> list[Part]:
    """A loss over `data` as the parts that `HessianProduct` wants: one per chunk, weighted so that they sum to it.

    A loss that couples samples (dist, batch_gram) is one part over all images. The weights are the caller's; buffers
    (batch norm's statistics) the model's, frozen.

    Args:
        loss: of `kdviz.losses.LOSSES` or an alias, on logits.
        teacher: where the loss takes the teacher's logits.
        settings: of the loss.
        chunk: images per part.
        dtype: of the images and buffers.
    Raises:
        KdvizError: an unknown loss, one that wants features, a teacher that is missing.
    """
    declared = losses.resolve(loss)
    wants = any(name.startswith(("pooled", "features")) for name in declared.takes)
    require(not wants, f"sharpness: {declared.name} needs features; only losses of logits are measured")
    needs = "logits_teacher" in declared.takes
    require(teacher is not None or not needs, f"sharpness: {declared.name} needs a teacher; name one with --teacher")
    device = next(model.parameters()).device
    buffers = {name: b.to(dtype) if b.is_floating_point() else b for name, b in model.named_buffers()}

    def part(images: Tensor, labels: Tensor) -> Part:
        images, labels, taught = images.to(device), labels.to(device), None
        if needs and teacher is not None:
            with evaluating(teacher), torch.no_grad():
                taught = logits_of(teacher(images.to(next(teacher.parameters()).device))).to(device, dtype)
        images, share = images.to(dtype), len(labels) / len(data)

        def value(at: dict[str, Tensor]) -> Tensor:
            with evaluating(model):
                logits = logits_of(functional_call(model, {**buffers, **at}, (images,)))
            return share * losses.evaluate(declared.name, logits, taught, labels, settings=settings)

        return value

    return [part(*batch) for batch in data.batches(chunk if declared.separable else len(data))]


def _differentiates_twice(loss: str, settings: Mapping[str, Any] | None) -> bool:
    """Whether autograd's second derivative of a loss is the difference quotient of its first.

    A gradient written by hand may raise when differentiated again, or silently count as a constant.
    """
    logits = torch.tensor([[0.3, -1.0, 0.8, 0.1], [1.2, 0.4, -0.5, -0.9], [-0.2, 0.7, 1.5, -1.1]], dtype=torch.float64)
    taught, labels, toward = logits.flip(1) + logits.cos(), torch.tensor([0, 1, 2]), (3 * logits).sin()

    def first(at: Tensor) -> Tensor:
        value = losses.evaluate(loss, at, taught, labels, settings=settings)
        return torch.autograd.grad(value, at, create_graph=True)[0]

    with torch.enable_grad():
        ahead, behind = (first((logits + step * toward).requires_grad_()).detach() for step in (1e-5, -1e-5))
        at = logits.clone().requires_grad_()
        slope = (first(at) * toward).sum()
        try:
            second = torch.autograd.grad(slope, at)[0] if slope.requires_grad else torch.zeros_like(logits)
        except RuntimeError:
            return False
    return torch.allclose(second, (ahead - behind) / 2e-5, rtol=1e-3, atol=1e-6)


def hessian(
    model: nn.Module,
    data: "Data",
    *,
    loss: str = "ce",
    teacher: nn.Module | None = None,
    settings: Mapping[str, Any] | None = None,
    samples: int | None = None,
    chunk: int = 32,
    **options: Any,
) -> tuple[xr.Dataset, list[dict[str, Tensor]]]:
    """Sharpness of a net and its top Hessian eigenvectors, in eval mode with frozen batch norm statistics.

    Args:
        model: left exactly as it is.
        data: all of it, or a stratified subset of `samples` images.
        loss, teacher, settings, chunk: as `loss_parts`. A loss without a second derivative (rank_kendall) is taken
            by central differences of its gradient in float64.
        options: eigenvalues, probes, seed, tolerance, progress of `spectrum`.
    Returns:
        (Dataset of `spectrum`, unit eigenvectors, directions for `sweep`): with kind "sharpness" and attrs loss,
        settings, method, data, data_sha256, samples, versions.
    Raises:
        KdvizError: as `loss_parts` and `spectrum`; a loss or weights that are not finite.
    Source: Yao et al. 2020, PyHessian; ours.
    Differs from: PyHessian, whose power iteration finds the eigenvalues largest in magnitude, not in value.
    """
    used = data if samples is None else data.subset(samples, seed=options.get("seed", 0))
    name = losses.resolve(loss).name
    exact = _differentiates_twice(name, settings)
    dtype = torch.float32 if exact else torch.float64
    weights = {key: tensor.detach().to(dtype) for key, tensor in model.named_parameters()}
    parts = loss_parts(model, used, loss=name, teacher=teacher, settings=settings, chunk=chunk, dtype=dtype)
    with torch.no_grad():
        value = sum(float(part(dict(weights))) for part in parts)
    require(np.isfinite(value), f"sharpness: the loss is {value} at these weights; did training diverge?")
    result, vectors = spectrum(parts, weights, exact=exact, **options)
    result["loss"] = value
    result.attrs.update(
        loss_name=name,
        settings=json.dumps(dict(settings or {})),
        samples=len(used),
        data=data.name,
        data_split=data.split,
        data_sha256=data.sha256,
        versions=json.dumps(versions()),
        method="second derivative" if exact else "central differences of the gradient, float64",
        caption=f"Hessian of {name} over {len(used)} images, batch norm statistics frozen; trace by Hutchinson",
    )
    own = dict(model.named_parameters())
    return result, [{key: v.to(own[key].dtype) for key, v in vector.items()} for vector in vectors]


def sharpness(model: nn.Module, data: "Data", **settings: Any) -> xr.Dataset:
    """The Dataset of `hessian` alone: eigenvalue, residual, trace, trace_stderr, loss."""
    return hessian(model, data, **settings)[0]
