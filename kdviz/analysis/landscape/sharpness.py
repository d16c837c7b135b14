"""Curvature at a net's weights: top Hessian eigenvalues, their directions, the trace with its standard error.

Hessian-vector products (the gradient of a gradient) under ARPACK's Lanczos, which restarts until its error bound is
met; nothing but torch and scipy is needed.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from kdviz import losses
from kdviz.analysis.landscape.density import quadrature
from kdviz.analysis.landscape.hessian_product import HessianProduct, Part
from kdviz.analysis.landscape.loss_parts import differentiates_twice, loss_parts
from kdviz.analysis.landscape.metrics import attributes
from kdviz.analysis.landscape.options import known_only
from kdviz.analysis.landscape.spectrum import Progress, spectrum
from kdviz.base.check import require
from kdviz.base.files import versions
from kdviz.base.variables import with_role
from kdviz.data import Data


class SpectrumOptions(TypedDict, total=False):
    """The keywords of `spectrum` that `hessian` passes on."""

    eigenvalues: int
    probes: int
    seed: int
    tolerance: float
    progress: Progress | None


class QuadratureOptions(TypedDict, total=False):
    """The keywords of `quadrature` that `spectral_quadrature` passes on."""

    probes: int
    iterations: int
    seed: int
    progress: Progress | None


class HessianOptions(SpectrumOptions, total=False):
    """The keywords of `hessian` that `sharpness` passes on."""

    loss: str
    teacher: Any
    settings: Mapping[str, Any] | None
    samples: int | None
    chunk: int


def hessian(
    model: nn.Module,
    data: Data,
    *,
    loss: str = "ce",
    teacher: nn.Module | Tensor | None = None,
    settings: Mapping[str, Any] | None = None,
    samples: int | None = None,
    chunk: int = 32,
    **options: Unpack[SpectrumOptions],
) -> tuple[xr.Dataset, list[dict[str, Tensor]]]:
    """Sharpness of a net and its top Hessian eigenvectors, in eval mode with frozen batch norm statistics.

    Args:
        model: left exactly as it is.
        data: the images.
        samples: how many of them, a stratified subset [default: all].
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
    known_only("hessian", options, (*HessianOptions.__annotations__, *SpectrumOptions.__annotations__))
    used = data if samples is None else data.subset(samples, seed=options.get("seed", 0))
    point = _at_weights(model, used, loss, teacher, settings, chunk)
    result, vectors = spectrum(point.parts, point.weights, exact=point.exact, **options)
    result["loss"] = ((), point.value, attributes(point.loss))
    for measured in with_role(result, "metric", "error"):
        result[measured].attrs["units"] = point.unit
    result.attrs.update(_facts(point, used, settings, "trace by Hutchinson"))
    own = dict(model.named_parameters())
    return result, [{key: v.to(own[key].dtype) for key, v in vector.items()} for vector in vectors]


def sharpness(model: nn.Module, data: Data, **options: Unpack[HessianOptions]) -> xr.Dataset:
    """The Dataset of `hessian` without the eigenvectors: eigenvalue, residual, trace, trace_stderr, loss."""
    return hessian(model, data, **options)[0]


def spectral_quadrature(
    model: nn.Module,
    data: Data,
    *,
    loss: str = "ce",
    teacher: nn.Module | Tensor | None = None,
    settings: Mapping[str, Any] | None = None,
    samples: int | None = None,
    chunk: int = 32,
    **options: Unpack[QuadratureOptions],
) -> xr.Dataset:
    """What the spectral density of a net's Hessian is drawn from; `smoothed` makes one or several into curves.

    Args:
        model, data, loss, teacher, settings, samples, chunk: as `hessian`.
        options: probes, iterations, seed, progress of `quadrature`.
    Returns:
        Dataset of `quadrature` with loss and the attributes of `hessian`, and attrs unit (of the eigenvalues).
    Raises:
        KdvizError: as `hessian` and `quadrature`.
    Source: as `quadrature`.
    """
    known_only("spectral_quadrature", options, tuple(QuadratureOptions.__annotations__))
    used = data if samples is None else data.subset(samples, seed=options.get("seed", 0))
    point = _at_weights(model, used, loss, teacher, settings, chunk)
    result = quadrature(HessianProduct(point.parts, point.weights, exact=point.exact), **options)
    result["loss"] = ((), point.value, attributes(point.loss))
    drawn = f"{result.attrs['probes']} probes of {result.attrs['iterations']} Lanczos iterations"
    return result.assign_attrs(_facts(point, used, settings, f"spectral density from {drawn}"), unit=point.unit)


class _Point(NamedTuple):
    """A loss at a net's weights: its parts, the weights in the precision of its derivatives, its value and unit."""

    parts: list[Part]
    weights: dict[str, Tensor]
    exact: bool
    loss: str
    value: float

    @property
    def unit(self) -> str:
        """The unit of the Hessian's eigenvalues."""
        return f"{losses.resolve(self.loss).unit} per squared unit of weight"


def _at_weights(
    model: nn.Module, data: Data, loss: str, teacher: Any, settings: Mapping[str, Any] | None, chunk: int
) -> _Point:
    name = losses.resolve(loss).name
    exact = differentiates_twice(name, settings)
    dtype = torch.float32 if exact else torch.float64
    weights = {key: tensor.detach().to(dtype) for key, tensor in model.named_parameters()}
    parts = loss_parts(model, data, loss=name, teacher=teacher, settings=settings, chunk=chunk, dtype=dtype)
    with torch.no_grad():
        value = sum(float(part(dict(weights))) for part in parts)
    require(np.isfinite(value), f"sharpness: the loss is {value} at these weights; did training diverge?")
    return _Point(parts, weights, exact, name, value)


def _facts(point: _Point, data: Data, settings: Mapping[str, Any] | None, how: str) -> dict[str, Any]:
    """What is needed to repeat the measurement."""
    return {
        "loss_name": point.loss,
        "settings": json.dumps(dict(settings or {})),
        "samples": len(data),
        "data": data.name,
        "data_split": data.split,
        "data_sha256": data.sha256,
        "versions": json.dumps(versions()),
        "method": "second derivative" if point.exact else "central differences of the gradient, float64",
        "caption": f"Hessian of {point.loss} over {len(data)} images, batch norm statistics frozen; {how}",
    }
