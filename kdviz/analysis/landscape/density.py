"""Spectral density of a Hessian by stochastic Lanczos quadrature.

The density of the eigenvalues of a symmetric p x p matrix H is phi(t) = 1/p sum_i delta(t - lambda_i). For a random
vector z with E[z z'] = I, m steps of Lanczos' method from z / |z| give a tridiagonal matrix whose eigenvalues theta_k
and squared first components w_k of eigenvectors are the Gauss quadrature of z's own density:
    sum_k w_k f(theta_k) = z' f(H) z / z'z   for every polynomial f up to degree 2m - 1,
whose mean over z is the integral of f over phi. Drawn with Gaussian kernels instead of deltas, it is a curve.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from kdviz.analysis.landscape.hessian_product import HessianProduct
from kdviz.base.check import positive, require
from kdviz.base.seeds import numpy_generator

Progress = Callable[[int, int], None]
MOST = 2**33  # bytes of Lanczos' vectors
SUMS: dict[str, tuple[str, str]] = {
    "negative_mass": ("fraction", "share of eigenvalues below 0 by more than the kernel's width"),
    "negative_curvature": ("fraction", "share of the sum of |eigenvalue| that negative eigenvalues have"),
    "trace": ("", "Hessian trace"),
}


def lanczos(
    product: Callable[[np.ndarray], np.ndarray], start: np.ndarray, iterations: int
) -> tuple[np.ndarray, np.ndarray]:
    """Gauss quadrature of a symmetric matrix' spectral density as seen from one vector.

    Every new vector is orthogonalised against all before it, twice, so that no eigenvalue appears again by rounding.
    It ends early where the vectors fill an invariant space; the quadrature is then exact.

    Args:
        product: v -> H v, vectors [p].
        start: [p], not zero.
        iterations: products to spend, at most p of them.
    Returns:
        (eigenvalues [m] of the tridiagonal matrix, weights [m] that sum to 1), m <= iterations.
    Source: Golub & Welsch 1969; Golub & Meurant 2010, "Matrices, Moments and Quadrature".

    >>> nodes, weights = lanczos(lambda v: np.array([1.0, 4.0]) * v, np.array([1.0, 3.0]), 2)
    >>> nodes.round(9).tolist(), weights.round(9).tolist()
    ([1.0, 4.0], [0.1, 0.9])
    """
    from scipy.linalg import eigh_tridiagonal

    basis = np.empty((min(iterations, len(start)), len(start)))
    basis[0] = start / np.linalg.norm(start)
    diagonal, beside = [], []
    for step, vector in enumerate(basis):
        image = product(vector)
        diagonal.append(float(image @ vector))
        for _ in range(2):
            image = image - basis[: step + 1].T @ (basis[: step + 1] @ image)
        length = float(np.linalg.norm(image))
        scale = max(map(abs, (*diagonal, *beside)))
        if step + 1 == len(basis) or length <= 1e-10 * scale:
            break
        beside.append(length)
        basis[step + 1] = image / length
    nodes, vectors = eigh_tridiagonal(np.array(diagonal), np.array(beside))
    return nodes, np.square(vectors[0])


def quadrature(
    product: HessianProduct, *, probes: int = 8, iterations: int = 60, seed: int = 0, progress: Progress | None = None
) -> xr.Dataset:
    """The quadratures of a Hessian from random vectors of +1 and -1.

    Args:
        product: of the Hessian.
        probes: how many vectors.
        iterations: products per vector; memory is iterations x weights x 8 bytes.
        seed: of the vectors.
        progress: called with (products done, products).
    Returns:
        Dataset over probe and node: node (eigenvalues; NaN where a probe ended early) and weight (0 there); attrs
        weights (their count), probes, iterations, seed.
    Raises:
        KdvizError: counts that are not positive, more memory than 8 GiB, products that are not finite.
    Source: Ubaru, Chen & Saad 2017; Ghorbani, Krishnan & Xiao 2019; Papyan 2018.
    """
    positive("spectrum", probes=probes, iterations=iterations)
    steps = min(iterations, product.size)
    need = steps * product.size * 8
    most = MOST // (8 * product.size)
    require(need <= MOST, f"spectrum: {steps} vectors of {product.size} weights take {need / 2**30:.0f} GiB;"
            f" iterations of up to {most} fit")  # fmt: skip
    done = 0

    def counted(vector: np.ndarray) -> np.ndarray:
        nonlocal done
        image = product(vector)
        require(np.isfinite(image).all(), "spectrum: the Hessian is not finite at these weights; did training diverge?")
        done += 1
        if progress is not None:
            progress(done, probes * steps)
        return image

    node, weight = np.full((probes, steps), np.nan), np.zeros((probes, steps))
    for probe in range(probes):
        start = numpy_generator(seed, "spectrum", probe).choice((-1.0, 1.0), product.size)
        nodes, weights = lanczos(counted, start, steps)
        node[probe, : len(nodes)], weight[probe, : len(nodes)] = nodes, weights
        done = (probe + 1) * steps
    attrs = {"weights": product.size, "probes": probes, "iterations": steps, "seed": seed}
    return xr.Dataset({"node": (("probe", "step"), node), "weight": (("probe", "step"), weight)}, attrs=attrs)


def smoothed(found: Sequence[xr.Dataset], *, width: float | None = None, points: int = 1001) -> list[xr.Dataset]:
    """Densities of one or several quadratures, with one kernel on the same eigenvalues, and what is negative in them.

    Args:
        found: of `quadrature`.
        width: standard deviation of the Gaussian kernel, in the unit of the eigenvalues [default: 1/200 of the range
            of all nodes].
        points: eigenvalues at which the density is given, over all nodes and four widths beyond them.
    Returns:
        Each with, over eigenvalue: density and density_stderr (per unit of eigenvalue; standard error of the mean over
        probes, NaN of one probe); negative_mass, negative_curvature and trace with their standard errors; largest and
        smallest (of all nodes: bounds from within of the extreme eigenvalues); attrs kind "density", width.
    Raises:
        KdvizError: a width that is not positive.
    Source: as `quadrature`; negative curvature as Ghorbani, Krishnan & Xiao 2019.
    """
    low = min(float(one["node"].min()) for one in found)
    high = max(float(one["node"].max()) for one in found)
    sigma = ((high - low) / 200 or abs(high) / 200 or 1.0) if width is None else float(width)
    positive("spectrum", width=sigma)
    grid = np.linspace(low - 4 * sigma, high + 4 * sigma, points)
    return [_smooth(one, grid, sigma) for one in found]


def _smooth(one: xr.Dataset, grid: np.ndarray, sigma: float) -> xr.Dataset:
    node, weight = one["node"].fillna(0.0).values, one["weight"].values
    kernels = np.exp(-0.5 * np.square((grid[:, None, None] - node) / sigma)) / (sigma * np.sqrt(2 * np.pi))
    size = np.sum(weight * np.abs(node), axis=1)
    each = {
        "density": np.sum(weight * kernels, axis=2),
        "negative_mass": np.sum(weight * (node < -sigma), axis=1),
        "negative_curvature": np.sum(weight * np.clip(-node, 0, None), axis=1) / np.where(size > 0, size, 1.0),
        "trace": one.attrs["weights"] * np.sum(weight * node, axis=1),
    }
    result = one.assign_coords(eigenvalue=grid)
    for name, values in each.items():
        dims = ("eigenvalue",) if name == "density" else ()
        count = values.shape[-1]
        spread = values.std(axis=-1, ddof=1) / np.sqrt(count) if count > 1 else np.full(values.shape[:-1], np.nan)
        result[name], result[f"{name}_stderr"] = (dims, values.mean(axis=-1)), (dims, spread)
        unit, long_name = SUMS.get(name, ("", "spectral density"))
        result[name].attrs = {"units": unit, "long_name": long_name, "role": "metric"}
        result[f"{name}_stderr"].attrs = {
            "units": unit, "long_name": f"standard error of the {long_name}", "role": "error", "of": name,
        }  # fmt: skip
    for name, value in (("largest", float(one["node"].max())), ("smallest", float(one["node"].min()))):
        result[name] = value
        result[name].attrs = {"units": "", "long_name": f"{name} node", "role": "metric"}
    return _with_unit(result, str(one.attrs.get("unit", "1"))).assign_attrs(kind="density", width=sigma)


def _with_unit(result: xr.Dataset, unit: str) -> xr.Dataset:
    """The density with the unit of its eigenvalues where a variable has none yet."""
    for name, values in result.data_vars.items():
        if values.attrs.get("units") == "":
            values.attrs["units"] = f"1 / ({unit})" if str(name).startswith("density") else unit
    result["eigenvalue"].attrs = {"units": unit, "long_name": "Hessian eigenvalue"}
    result["node"].attrs = {"units": unit, "long_name": "node of the quadrature", "role": "mark"}
    result["weight"].attrs = {"units": "fraction", "long_name": "weight of the node", "role": "mark"}
    return result


def facts(result: xr.Dataset) -> dict[str, Any]:
    """The scalars of a density with their standard errors: name -> (value, standard error or NaN)."""
    return {name: (float(result[name]), float(result.get(f"{name}_stderr", np.nan))) for name in SUMS}
