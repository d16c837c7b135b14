"""Top eigenpairs and trace of a Hessian: Lanczos' method (ARPACK) and Hutchinson's estimator."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from kdviz.analysis.landscape.hessian_product import HessianProduct, Part, Weights
from kdviz.base.check import KdvizError, positive, require
from kdviz.base.seeds import numpy_generator

Progress = Callable[[int, int], None]
MEANINGS: dict[str, dict[str, str]] = {
    "eigenvalue": {"long_name": "Hessian eigenvalue", "role": "metric"},
    "residual": {"long_name": "residual of the eigenpair", "role": "error", "of": "eigenvalue"},
    "trace": {"long_name": "Hessian trace", "role": "metric"},
    "trace_stderr": {"long_name": "standard error of the trace", "role": "error", "of": "trace"},
}


def spectrum(
    parts: Sequence[Part],
    weights: Weights,
    *,
    eigenvalues: int = 5,
    probes: int = 30,
    seed: int = 0,
    tolerance: float = 1e-3,
    exact: bool = True,
    progress: Progress | None = None,
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
        trace_stderr; attrs weights (their count) and products (H v spent).
        And the unit eigenvectors as name -> tensor.
    Raises:
        KdvizError: a wrong count, Lanczos that does not converge.
    Source: Lehoucq, Sorensen & Yang (1998), ARPACK; Hutchinson (1990).
    """
    product = HessianProduct(parts, weights, exact=exact)
    possible = isinstance(eigenvalues, int) and 0 < eigenvalues <= product.size
    require(possible, f"sharpness: eigenvalues must be 1 to {product.size} (the weights), got {eigenvalues}")
    positive("sharpness", tolerance=tolerance)
    values, vectors = _top(product, eigenvalues, seed, tolerance)
    residuals = [np.linalg.norm(product(v) - value * v) for value, v in zip(values, vectors.T, strict=True)]
    drawn = _probe(product, probes, seed, progress)
    found: dict[str, Any] = {"eigenvalue": ("rank", values), "residual": ("rank", np.array(residuals))}
    if probes:
        stderr = float(np.std(drawn, ddof=1) / np.sqrt(probes)) if probes > 1 else np.nan
        found |= {"trace": float(np.mean(drawn)), "trace_stderr": stderr}
    attrs = {"weights": product.size, "products": product.products, "seed": seed, "probes": probes}
    result = xr.Dataset(found, {"rank": np.arange(1, eigenvalues + 1)}, {"kind": "sharpness", **attrs})
    for name, meaning in MEANINGS.items():
        if name in result:
            result[name].attrs = {"units": "1", **meaning}
    return result, [product.split(vector) for vector in vectors.T]


def _probe(product: HessianProduct, probes: int, seed: int, progress: Progress | None) -> list[float]:
    """Hutchinson's z'Hz for so many Rademacher vectors."""
    drawn = []
    for probe in range(probes):
        z = numpy_generator(seed, "hutchinson", probe).choice((-1.0, 1.0), product.size)
        drawn.append(float(z @ product(z)))
        if progress is not None:
            progress(probe + 1, probes)
    return drawn


def _top(product: HessianProduct, count: int, seed: int, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """The largest eigenvalues, falling, and their unit vectors in columns, signed so that each sum is positive."""
    from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh

    if product.size <= max(2 * count, 20):  # ARPACK needs a space larger than its basis
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
