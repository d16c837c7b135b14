"""Numbers beside the picture of a landscape: convexity, flatness around the centre, minima and how deep they are."""

from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kdviz.analysis.grid import convex_share, curvatures
from kdviz.base.check import one_of, positive, require
from kdviz.base.variables import with_role

if TYPE_CHECKING:
    import xarray as xr

CONNECTIVITY = ("full", "axes")


class Minima(NamedTuple):
    """Local minima of a grid, the most persistent first; the lowest has infinite persistence.

    index: [m, dims] positions on the grid; value: [m]; death: [m], the level at which the minimum's basin joins that
    of a lower one; persistence = death - value: [m], in the values' unit; parent: [m], the row of that lower minimum,
    always an earlier one; saddle: [m, dims], the position where the basins join. Both are -1 where the death is
    infinite.
    """

    index: np.ndarray  # pyright: ignore[reportIncompatibleMethodOverride]  (tuple.index is not used)
    value: np.ndarray
    death: np.ndarray
    persistence: np.ndarray
    parent: np.ndarray
    saddle: np.ndarray


def _offsets(dims: int, connectivity: str) -> list[tuple[int, ...]]:
    around: list[tuple[int, ...]] = [step for step in product((-1, 0, 1), repeat=dims) if any(step)]
    return around if connectivity == "full" else [step for step in around if sum(map(abs, step)) == 1]


def minima(values: np.ndarray, *, connectivity: str = "full") -> Minima:
    """Local minima with their 0-dimensional sublevel-set persistence, by union-find over the sorted points.

    The level rises; each local minimum gives birth to a basin, and where two basins meet the one with the higher
    minimum dies. Basins that die at the level they were born (plateaus) are left out. Not-finite values are walls.

    Args:
        values: [a] or [a, b] (or more axes).
        connectivity: "full" (8 adjacent points in a plane, so a diagonal valley has one minimum) or "axes" (4).
    Raises:
        KdvizError: no finite value, an unknown connectivity.
    Source: Edelsbrunner & Harer, Computational Topology (2010), ch. VII; grid version ours.

    >>> minima(np.array([3.0, 0.0, 2.0, 1.0, 5.0])).persistence.tolist()
    [inf, 1.0]
    """
    one_of("minima", CONNECTIVITY, connectivity=connectivity)
    values = np.asarray(values, dtype=float)
    require(np.isfinite(values).any(), "minima: there is no finite value on the grid")
    padded = np.pad(np.where(np.isfinite(values), values, np.inf), 1, constant_values=np.inf)
    strides = np.array([int(np.prod(padded.shape[axis + 1 :])) for axis in range(padded.ndim)])
    jumps = [int(np.dot(step, strides)) for step in _offsets(values.ndim, connectivity)]
    flat = padded.ravel()
    order = np.argsort(flat, kind="stable")
    births = _basins(order[: int(np.isfinite(flat).sum())].tolist(), jumps)
    points, joins, elders = (np.array(one) for one in (list(births), *zip(*births.values(), strict=True)))
    value, death = flat[points], np.where(joins < 0, np.inf, flat[joins])
    keep = np.flatnonzero(death > value)
    kept = keep[np.lexsort((value[keep], -(death - value)[keep]))]
    row = {int(point): place for place, point in enumerate(points[kept])}
    parent = np.array([row.get(int(elder), -1) for elder in elders[kept]])
    index, saddle = (
        np.stack(np.unravel_index(one[kept], padded.shape), axis=-1) - 1 for one in (points, joins.clip(0))
    )
    return Minima(
        index, value[kept], death[kept], (death - value)[kept], parent, np.where(parent[:, None] < 0, -1, saddle)
    )


def _basins(order: list[int], jumps: list[int]) -> dict[int, tuple[int, int]]:
    """Every birth's position -> (where its basin joins, the birth of the older basin), both -1 where it never does.

    Points enter in `order`. A basin with a parent of no persistence has none either, since the parent is older.
    """
    parent: dict[int, int] = {}

    def root(point: int) -> int:
        while parent[point] != point:
            parent[point] = parent[parent[point]]
            point = parent[point]
        return point

    rank = {point: place for place, point in enumerate(order)}
    born: dict[int, tuple[int, int]] = {}
    for point in order:
        around = {root(point + jump) for jump in jumps if point + jump in parent}
        if not around:
            parent[point], born[point] = point, (-1, -1)
            continue
        oldest = min(around, key=rank.__getitem__)
        parent[point] = oldest
        for other in around - {oldest}:
            parent[other], born[other] = oldest, (point, oldest)
    return born


def count_minima(values: np.ndarray, *, share: float = 0.01, connectivity: str = "full") -> int:
    """How many local minima have a persistence of at least `share` of the range of the values (1 or more).

    >>> count_minima(np.array([3.0, 0.0, 2.0, 1.0, 5.0])), count_minima(np.array([3.0, 0.0, 2.0, 1.0, 5.0]), share=0.5)
    (2, 1)
    """
    positive("count_minima", share=share)
    finite = np.asarray(values, dtype=float)
    span = np.ptp(finite[np.isfinite(finite)]) if np.isfinite(finite).any() else 0.0
    return int((minima(values, connectivity=connectivity).persistence >= share * span).sum())


def _centre(who: str, coordinate: np.ndarray, name: str) -> int:
    at = int(np.abs(coordinate).argmin())
    reach = np.abs(coordinate).max()
    require(abs(coordinate[at]) <= 1e-9 * reach, f"{who}: {name} has no point at 0; take an odd number of steps")
    return at


def flatness_radius(
    values: np.ndarray, alphas: np.ndarray, betas: np.ndarray | None = None, *, epsilon: float = 0.1
) -> float:
    """The largest radius around the centre within which loss <= loss(centre) + epsilon.

    Crossings of that level are interpolated linearly along the grid's edges and the diagonals of its cells, so the
    radius is good to the square of the step. Where the level is never crossed on the grid the result is the radius of
    the largest disc on it, which then is a lower bound.

    Args:
        values: [a, b], or [a] where betas is None; not-finite values count as crossed.
        alphas, betas: [a], [b], with 0 among them.
        epsilon: allowed rise, in the values' unit, above 0.
    Returns:
        A length in the units of the coordinates.
    Raises:
        KdvizError: no centre on the grid, a centre that is not finite, epsilon not above 0.
    Source: after the epsilon-flatness of Hochreiter & Schmidhuber, Flat Minima (1997), on the slice; ours.

    >>> a = np.linspace(-1, 1, 41)
    >>> round(flatness_radius(a[:, None] ** 2 + a**2, a, a, epsilon=0.25), 2)
    0.5
    """
    who = "flatness_radius"
    positive(who, epsilon=epsilon)
    axes = [np.asarray(axis, dtype=float) for axis in (alphas, betas) if axis is not None]
    values = np.asarray(values, dtype=float)
    require(values.shape == tuple(map(len, axes)), f"{who}: values are {values.shape}, not {tuple(map(len, axes))}")
    centre = values[tuple(_centre(who, axis, name) for axis, name in zip(axes, ("alpha", "beta"), strict=False))]
    require(np.isfinite(centre), f"{who}: the loss at the centre is {centre}")
    disc = min(min(-axis.min(), axis.max()) for axis in axes)
    above = np.where(np.isfinite(values), values, np.inf) - (centre + epsilon)
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    steps = [step for step in product((0, 1, -1), repeat=len(axes)) if step > (0,) * len(axes)]
    return float(min([disc, *(_nearest_crossing(above, points, step) for step in steps)]))


def _nearest_crossing(above: np.ndarray, points: np.ndarray, step: tuple[int, ...]) -> float:
    """Distance of the nearest zero of `above` on the grid's edges along `step` (inf where there is none)."""
    near = tuple({0: slice(None), 1: slice(None, -1), -1: slice(1, None)}[one] for one in step)
    far = tuple({0: slice(None), 1: slice(1, None), -1: slice(None, -1)}[one] for one in step)
    f, g, p, q = above[near], above[far], points[near], points[far]
    crossed = (f <= 0) != (g <= 0)
    f, g, p, q = f[crossed], g[crossed], p[crossed], q[crossed]
    with np.errstate(invalid="ignore"):
        share = np.clip(np.nan_to_num(f / (f - g)), 0, 1)
    share = np.where(np.isinf(f), 1.0, np.where(np.isinf(g), 0.0, share))
    return float(np.linalg.norm(p + share[:, None] * (q - p), axis=-1).min(initial=np.inf))


def loss_names(dataset: "xr.Dataset") -> list[str]:
    """The variables of a landscape that are losses on its full grid."""
    dims = tuple(name for name in ("alpha", "beta") if name in dataset.dims)
    return with_role(dataset, "loss", dims=dims)


def summary(dataset: "xr.Dataset", *, epsilon: float = 0.1, share: float = 0.01) -> dict[str, dict[str, Any]]:
    """Geometry of every loss of a landscape.

    Args:
        dataset: a landscape, dims alpha (and beta), evenly spaced, with 0 among them; variables say their role.
        epsilon: rise that still counts as flat, in the unit of the loss.
        share: minima below this share of the range are noise.
    Returns:
        loss name -> {centre, minimum, minimum_at, range (unit of the loss), convex_share (fraction), flatness_radius
        and whether it is a lower bound (flatness_open), minima (count), second_persistence (unit of the loss, 0 with
        one minimum), curvature_low and curvature_high at the centre (that per squared unit of the coordinates)}.
    Raises:
        KdvizError: no loss on the dataset, an uneven grid, one without its centre.
    Source: ours.
    """
    names = loss_names(dataset)
    require(names, "summary: the dataset has no variable of role 'loss' over (alpha, beta); see kdviz.base.variables")
    return {name: _of_loss(dataset[name], epsilon=epsilon, share=share) for name in names}


def _of_loss(array: "xr.DataArray", *, epsilon: float, share: float) -> dict[str, Any]:
    axes = [array[str(dim)].to_numpy().astype(float) for dim in array.dims]
    values = array.to_numpy().astype(float)
    middle = tuple(_centre("summary", axis, str(dim)) for axis, dim in zip(axes, array.dims, strict=True))
    inner = tuple(min(max(at - 1, 0), len(axis) - 3) for at, axis in zip(middle, axes, strict=True))
    low, high = curvatures(values, *axes)
    found = minima(values)
    lowest = found.index[int(found.value.argmin())]
    finite = values[np.isfinite(values)]
    radius = flatness_radius(values, *axes, epsilon=epsilon)
    return {
        "centre": float(values[middle]),
        "minimum": float(finite.min()),
        "minimum_at": tuple(float(axis[at]) for axis, at in zip(axes, lowest, strict=True)),
        "range": float(np.ptp(finite)),
        "convex_share": convex_share(values, *axes),
        "flatness_radius": radius,
        "flatness_open": bool(radius >= min(min(-axis.min(), axis.max()) for axis in axes)),
        "minima": count_minima(values, share=share),
        "second_persistence": float(found.persistence[1]) if len(found.persistence) > 1 else 0.0,
        "curvature_low": float(low[inner]),
        "curvature_high": float(high[inner]),
    }
