"""The finished runs of a plan as one dataset: means, spreads, differences and what was printed."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.base.check import KdvizError
from kdviz.base.statistics import LEVEL, RESAMPLES, difference, over_columns, spread
from kdviz.tables.declare import Cell
from kdviz.tables.job import Job
from kdviz.tables.plan import Plan

if TYPE_CHECKING:
    import xarray as xr

CELLS = ("measured", "std", "best", "best_std")
GAINS = ("gain", "low", "high", "t_low", "t_high", "improvement")
LONG = {
    "published": "printed accuracy",
    "measured": "mean accuracy of the last epoch",
    "std": "standard deviation over seeds, last epoch",
    "best": "mean accuracy of the epoch that is best on val",
    "best_std": "standard deviation over seeds, best epoch",
    "last_by_seed": "accuracy of the last epoch",
    "best_by_seed": "accuracy of the epoch that is best on val",
    "gain": "mean paired difference to the base row, last epoch",
    "low": "bootstrap interval of the gain, lower end",
    "high": "bootstrap interval of the gain, upper end",
    "t_low": "Student's interval of the gain over seeds, lower end",
    "t_high": "Student's interval of the gain over seeds, upper end",
    "improvement": "probability of improvement over the base row",
    "mean_gain": "gain averaged over columns",
    "mean_low": "interval of the averaged gain, lower end",
    "mean_high": "interval of the averaged gain, upper end",
}


def collect(plan: Plan, *, resamples: int = RESAMPLES, seed: int = 0) -> "xr.Dataset":
    """What the plan's finished runs measured, beside what was printed.

    Args:
        plan: of the table.
        resamples, seed: of the bootstrap.
    Returns: kind "table", dims row, column, seed; accuracies in per cent, gains in points, on the test split. A gain
        whose `clear` is 0 is inside the noise, or is of a single seed.
    """
    import xarray as xr

    table = plan.declaration
    shape = (len(table.rows), len(table.columns))
    by_seed = {which: np.full((*shape, len(table.seeds)), np.nan) for which in ("last", "best")}
    for i, row in enumerate(table.rows):
        for j, column in enumerate(table.columns):
            for which, found in by_seed.items():
                found[i, j] = _accuracies(plan, row, column, which)
    dims = ("row", "column")
    moments = {}
    for which, names in (("last", CELLS[:2]), ("best", CELLS[2:])):
        pairs = np.array([[spread(one[np.isfinite(one)]) for one in line] for line in by_seed[which]])
        moments |= {name: (dims, 100 * pairs[..., place]) for place, name in enumerate(names)}
    published = [[table.cells[row, column].published for column in table.columns] for row in table.rows]
    variables: dict[str, Any] = {
        "published": (dims, np.array(published)),
        **moments,
        "runs": (dims, np.isfinite(by_seed["last"]).sum(-1)),
        "command": (dims, [[_next(plan, row, column) for column in table.columns] for row in table.rows]),
        **{f"{which}_by_seed": ((*dims, "seed"), 100 * found) for which, found in by_seed.items()},
        **_differences(plan, by_seed["last"], resamples, seed),
    }
    coords = {"row": list(table.rows), "column": list(table.columns), "seed": list(table.seeds)}
    dataset = xr.Dataset(variables, coords, _attributes(plan, resamples))
    what = "average precision" if of_detectors(dataset) else "accuracy"
    for name, text in LONG.items():
        text = text.replace("accuracy", what)
        units = "1" if name == "improvement" else "points" if name in GAINS or name.startswith("mean_") else "per cent"
        dataset[name].attrs |= {"long_name": text, "units": units}
    dataset.attrs["caption"] = _caption(dataset, what)
    return dataset


def _caption(result: "xr.Dataset", what: str) -> str:
    """What the figure of gains shows, as a sentence."""
    level, seeds = f"{100 * result.attrs['level']:.0f} %", result.sizes["seed"]
    printed = "; diamonds are printed gains" if bool(result["published"].notnull().any()) else ""
    text = (
        f"{title(result)}: gain of each row over the row that it is compared with, in points of {what}. Dots are means"
        f" over {seeds} seed{'s' * (seeds != 1)}, thick bars {level} intervals by bootstrap over {drawn(result)}, thin"
        f" bars by Student's t over seeds; grey gains are inside the noise{printed}."
    )
    return f"{text} {result.attrs['note']}".strip()


def title(result: "xr.Dataset") -> str:
    """A table's title and where it was printed."""
    source = f" ({result.attrs['source']})" if result.attrs["source"] else ""
    return f"{result.attrs['title']}{source}"


def drawn(result: "xr.Dataset") -> str:
    """What the bootstrap of a table's gains draws."""
    return "seeds" if of_detectors(result) else "seeds and test images"


def of_detectors(result: "xr.Dataset") -> bool:
    """Whether a table's numbers are average precisions, which are no means over images."""
    return "ap" in result.attrs.get("measures", "")  # results of earlier versions are of classifiers


def _next(plan: Plan, row: str, column: str) -> str:
    """The command of the cell's first run that is not finished; "" where there is none."""
    left = [job.command for job in plan.cells[row, column] if job.id not in plan.finished]
    return left[0] if left else ""


def _attributes(plan: Plan, resamples: int) -> dict[str, Any]:
    table = plan.declaration
    return {
        "kind": "table",
        "name": table.name,
        "title": table.title,
        "source": table.source,
        "metric": table.metric,
        "measures": " ".join(sorted({cell.measure for cell in table.cells.values()})),
        "data": table.data or "",
        "scale": table.scale,
        "axis": table.axis,
        "note": table.note,
        "level": LEVEL,
        "resamples": resamples,
        "unmatched": "\n".join(f"{name}: {why}" for name, why in plan.other.items()),
    }


def _accuracies(plan: Plan, row: str, column: str, which: str) -> np.ndarray:
    """The cell's accuracies on the test split, a fraction per seed; NaN where the run is not finished.

    Of a cell that is a mean over pairs, a seed's accuracy is the mean of its runs of all pairs.
    """
    return np.mean([_of_part(plan, cell, jobs, which) for cell, jobs in plan.parts[row, column]], axis=0)


def _of_part(plan: Plan, cell: Cell, jobs: Sequence[Job], which: str) -> np.ndarray:
    found = np.full(len(plan.declaration.seeds), np.nan)
    if cell.method == "teacher" and cell.teacher in plan.given:
        found[0] = _given(plan.given[str(cell.teacher)], which, cell.measure)
    for place, job in enumerate(jobs):
        if job.id in plan.finished:
            metrics = plan.outcomes[job.id].metrics
            found[place] = metrics.get(which, {}).get(cell.measure, np.nan)
    return found


def _given(path: Path, which: str, measure: str) -> float:
    """What a given teacher's file says of its accuracy; NaN where it says nothing."""
    from kdviz.checkpoints import load_checkpoint

    try:
        metrics = load_checkpoint(path).metrics
    except KdvizError:
        return np.nan
    return float((metrics.get(which) or {}).get(measure, np.nan))


def _differences(plan: Plan, last: np.ndarray, resamples: int, seed: int) -> dict[str, Any]:
    """Gains over the base rows, their intervals, and their averages over columns."""
    table = plan.declaration
    found = {name: np.full(last.shape[:2], np.nan) for name in GAINS}
    clear, images = np.zeros(last.shape[:2], dtype=np.int8), np.zeros(last.shape[:2], dtype=np.int64)
    means = np.full((len(table.rows), 3), np.nan)
    place = {row: i for i, row in enumerate(table.rows)}
    for row, base in table.against.items():
        i, b, gaps = place[row], place[base], []
        for j, column in enumerate(table.columns):
            both = np.flatnonzero(np.isfinite(last[i, j]) & np.isfinite(last[b, j]))
            if len(both) == 0:
                continue
            gaps.append(last[i, j, both] - last[b, j, both])
            options = _hits(plan, (base, column), (row, column), both)
            result = difference(last[b, j, both], last[i, j, both], **options, resamples=resamples, seed=seed)
            for name in GAINS:
                found[name][i, j] = getattr(result, name) * (1 if name == "improvement" else 100)
            clear[i, j], images[i, j] = result.clear, result.images
        means[i] = over_columns(gaps, resamples=resamples, seed=seed)
    dims = ("row", "column")
    return {
        **{name: (dims, values) for name, values in found.items()},
        "clear": (dims, clear),
        "images": (dims, images),
        "base": ("row", [table.against.get(row, "") for row in table.rows]),
        **{f"mean_{name}": ("row", 100 * means[:, k]) for k, name in enumerate(("gain", "low", "high"))},
    }


def _hits(plan: Plan, base: tuple[str, str], other: tuple[str, str], seeds: Iterable[int]) -> dict[str, Any]:
    """The hits of two cells under the same seeds; empty where they are not kept, or the number shown is not top-1.

    Average precision is no mean over images: it ranks the detections of all of them together. To draw images it would
    have to be measured anew in every draw, so that of detectors seeds alone are drawn.
    """
    if plan.declaration.cells[other].measure != "top1":
        return {}
    kept = [[_of(plan, key, place) for place in seeds] for key in (base, other)]
    flat = [one for line in kept for one in line]
    if any(one is None or len(one["target"]) != len(flat[0]["target"]) for one in flat):  # type: ignore[index]
        return {}
    found = [np.stack([one["last"] for one in line if one]) for line in kept]
    return {"base_hits": found[0], "other_hits": found[1], "target": flat[0]["target"]}  # type: ignore[index]


def _of(plan: Plan, cell: tuple[str, str], place: int) -> Mapping[str, np.ndarray] | None:
    """The hits of a cell under one seed; the share of its pairs that are right, where it is a mean over pairs."""
    outcomes = [plan.outcomes.get(jobs[place].id) for _, jobs in plan.parts[cell] if place < len(jobs)]
    kept = [outcome.hits if outcome else None for outcome in outcomes]
    first = kept[0] if kept else None
    if first is None or len(kept) == 1:
        return first
    if any(one is None or not np.array_equal(one["target"], first["target"]) for one in kept):
        return None
    return {**first, "last": np.mean([one["last"] for one in kept if one], axis=0)}
