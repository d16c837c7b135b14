"""Figures of an audit that are matrices: confusion of ranks, class correlations, CKA; and embeddings."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.plots.audited import RANDOM, WITHOUT, key, looks, only
from kdviz.plots.cases import nothing, short
from kdviz.plots.style import COLOURS, DIVERGING, MARKERS, SEQUENTIAL, VENUES, figure, letter, titles_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

NAMED = 24  # classes that an axis has room to name
PAIRS = 12


def rank_confusion(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", rank: int = 1) -> "Figure":
    """Where the student's class at a rank is not the teacher's: all pairs of classes, and the most frequent ones.

    Args:
        datasets: one result of kind "rank_confusion".
        rank: of the classes that are compared.
    """
    found = only(datasets).sel(rank=rank)
    width = VENUES[venue][1]
    names = [short(str(one)) for one in found["class_name"].values]
    count = int((found["pair_count"].values > 0).sum())
    if not count:
        return nothing(width, f"student and teacher have the same class at rank {rank} of every sample")
    fig = figure(width, 0.5 * width + 0.35)
    whole = "counts" in found
    axes = np.ravel(fig.subplots(1, 1 + whole, width_ratios=[1.15, 1] if whole else None))
    if whole:
        counts = found["counts"].values.astype(float)
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        np.fill_diagonal(share, np.nan)
        _classes(axes[0], names)
        drawn = axes[0].imshow(np.where(share > 0, 100 * share, np.nan), cmap="magma_r", vmin=0, aspect="auto")
        axes[0].set(xlabel="student's class", ylabel="teacher's class")
        fig.colorbar(drawn, ax=axes[0], label="%", shrink=0.8)
    axis, shown = axes[-1], min(count, PAIRS)
    look = looks(only(datasets))
    rows = np.arange(shown)
    share, low, high, other = (
        100 * found[f"pair_{name}"].values[:shown] for name in ("share", "low", "high", "without")
    )
    ends = np.stack([share - low, high - share]).clip(0)
    axis.barh(rows, share, 0.6, xerr=ends, color=look["student"]["color"], error_kw={"lw": 0.8}, capsize=1.5)
    if WITHOUT in look and np.isfinite(other).any():
        mark = look[WITHOUT]
        axis.plot(other, rows, mark["marker"], color="white", mec=mark["color"], ms=4)
        key(fig, {name: look[name] for name in ("student", WITHOUT)})
    labels = [
        f"{names[int(a)]} \N{RIGHTWARDS ARROW} {names[int(b)]}"
        for a, b in zip(found["pair_teacher"].values[:shown], found["pair_student"].values[:shown], strict=True)
    ]
    axis.set_yticks(rows, labels)
    axis.set_ylim(shown - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("% of the teacher's class")
    letter(axes, (f"all pairs, rank {rank}", "teacher → student") if whole else ("teacher → student",))
    return fig


def _classes(axis: Any, names: Sequence[str]) -> None:
    """Names of the classes on both axes where there is room for them."""
    if len(names) <= NAMED:
        axis.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0, fontsize=6)
        axis.set_yticks(range(len(names)), names, fontsize=6)


def correlation(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """The class correlations of the student's logits minus its teacher's, beside those of a student without teacher.

    Args: datasets: one result of kind "class_correlation".
    """
    found = only(datasets)
    width = VENUES[venue][1]
    nets = [name for name in ("student", WITHOUT) if name in found["net"].values]
    titles = titles_of(found["net"])
    teacher = found["correlation"].sel(net="teacher").values
    differences = [found["correlation"].sel(net=name).values - teacher for name in nets]
    reach = max(float(np.quantile(np.abs(one), 0.998)) for one in differences) or 1.0
    colours = {"cmap": DIVERGING, "vmin": -reach, "vmax": reach}
    return _beside(
        found,
        differences,
        [f"{titles[name]} − teacher" for name in nets],
        labels=("class", "class", "difference of correlations"),
        colours=colours,
        width=width,
    )


def _beside(
    found: "xr.Dataset",
    matrices: Sequence[np.ndarray],
    heads: Sequence[str],
    *,
    labels: tuple[str, str, str],
    colours: Mapping[str, Any],
    width: float,
) -> "Figure":
    """Matrices over pairs of classes beside each other; `labels` are those of x, y and the common colour bar."""
    across, down, colour = labels
    fig = figure(width, width / max(len(matrices), 1.6) + 0.1)
    axes = np.ravel(fig.subplots(1, len(matrices)))
    names = [short(str(one)) for one in found["class_name"].values]
    drawn: Any = None
    for axis, one in zip(axes, matrices, strict=True):
        drawn = axis.imshow(one, interpolation="nearest", **colours)
        _classes(axis, names)
        axis.set_xlabel(across)
    axes[0].set_ylabel(down)
    letter(axes, heads)
    fig.colorbar(drawn, ax=list(axes), label=colour, shrink=0.75, pad=0.02)
    return fig


def class_means(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """The absolute differences of the mean logits of each label's samples, as mdistiller's notebook draws them.

    Args: datasets: one result of kind "class_correlation", of logits with labels.
    """
    found = only(datasets)
    width = VENUES[venue][1]
    if "class_mean" not in found:
        return nothing(width, "the logits have no labels, over whose samples there could be means")
    nets = [name for name in ("student", WITHOUT) if name in found["net"].values]
    titles = titles_of(found["net"])
    gaps = [
        np.abs(found["class_mean"].sel(net=name).values - found["class_mean"].sel(net="teacher").values)
        for name in nets
    ]
    for gap in gaps:
        np.fill_diagonal(gap, 0)
    reach = max(float(np.nanquantile(one, 0.998)) for one in gaps) or 1.0
    return _beside(
        found,
        gaps,
        [f"|{titles[name]} − teacher|" for name in nets],
        labels=("class of the logit", "label of the samples", "difference of mean logits"),
        colours={"cmap": "magma_r", "vmin": 0, "vmax": reach},
        width=width,
    )


def cka(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """CKA between the stages of both nets, one matrix for each comparison.

    Args: datasets: one result of kind "cka".
    """
    found = only(datasets)
    width = VENUES[venue][1]
    names = [name for name in ("student", WITHOUT, RANDOM) if f"cka_{name}" in found]
    titles = titles_of(found["compared"])
    heads = {
        "student": "teacher, student",
        WITHOUT: f"teacher, {titles.get(WITHOUT)}",
        RANDOM: "untrained teacher, student",
    }
    fig = figure(width, 0.3 * width + 0.95)
    axes = np.ravel(fig.subplots(1, len(names)))
    drawn: Any = None
    for axis, name in zip(axes, names, strict=True):
        matrix = found[f"cka_{name}"]
        drawn = axis.imshow(matrix.values, cmap=SEQUENTIAL, vmin=0, vmax=1, aspect="auto")
        rows, columns = ([str(one) for one in matrix[dim].values] for dim in matrix.dims)
        axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor", fontsize=7)
        axis.set_yticks(range(len(rows)), rows if name in (names[0], RANDOM) else [""] * len(rows), fontsize=7)
        if max(len(rows), len(columns)) <= 8:
            for (row, column), value in np.ndenumerate(matrix.values):
                colour = "black" if value > 0.6 else "white"
                axis.text(column, row, _digits(value), ha="center", va="center", fontsize=6, color=colour)
        axis.set_xlabel("stage of the student")
    axes[0].set_ylabel("stage of the teacher")
    letter(axes, [_wrapped(heads[name]) for name in names])
    for axis in axes:
        axis._left_title.set_fontsize(8)
    fig.colorbar(drawn, ax=list(axes), label="CKA", shrink=0.9, pad=0.02)
    return fig


def _digits(value: float) -> str:
    """Two digits without a leading zero.

    >>> _digits(0.531), _digits(-0.001), _digits(-0.014)
    ('.53', '.00', '−.01')
    """
    text = f"{abs(value):.2f}".removeprefix("0")
    return text if value >= 0 or text == ".00" else f"\N{MINUS SIGN}{text}"


def _wrapped(text: str) -> str:
    first, _, rest = text.partition(", ")
    return f"{first},\n{rest}"


def embeddings(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", classes: int = 8) -> "Figure":
    """Each net's features in the plane by each method; in colour the classes whose neighbours the student keeps least.

    Args:
        datasets: one result of kind "embeddings".
        classes: that are coloured, 8 at most.
    """
    from kdviz.plots.style import legend

    found = only(datasets)
    width = VENUES[venue][1]
    methods, nets = titles_of(found["method"]), titles_of(found["net"])
    kept = np.where(np.isnan(found["kept"].values), np.inf, found["kept"].values)
    chosen = [
        int(one) for one in np.argsort(kept, kind="stable")[: min(classes, len(COLOURS))] if np.isfinite(kept[one])
    ]
    labels = found["target"].values
    size = width / len(nets)
    fig = figure(width, size * len(methods) + 0.75)
    axes = fig.subplots(len(methods), len(nets), squeeze=False)
    handles: dict[str, Any] = {}
    for row, method in enumerate(methods):
        for column, net in enumerate(nets):
            axis, place = axes[row, column], found["position"].sel({"method": method, "net": net}).values
            rest = ~np.isin(labels, chosen)
            axis.plot(*place[rest].T, ".", color="0.8", ms=1.5, mew=0, rasterized=True)
            for at, one in enumerate(chosen):
                name = short(str(found["class_name"].values[one]))
                points = place[labels == one].T
                (handles[name],) = axis.plot(*points, MARKERS[at], color=COLOURS[at], ms=2.6, mew=0, rasterized=True)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(True)
            axis.spines[:].set_color("0.8")
            axis.set_aspect("equal", adjustable="datalim")
            if row == 0:
                axis.set_title(nets[net] if len(nets[net]) < 15 else nets[net].replace(" ", "\n", 1), fontsize=8)
            if column == 0:
                axis.set_ylabel(methods[method])
    legend(fig, list(handles.values()), list(handles), handlelength=0.8, markerscale=1.8)
    return fig
