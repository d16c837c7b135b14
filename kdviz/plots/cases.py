"""Suboptimal cases one by one: the images, and the top channels of teacher and students."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.plots.style import BLACK, VENUES, figure, label_of, legend, look, title_of, titles_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

TOP = 5
RIGHT, WRONG = "#0072b2", "#d55e00"


def gallery(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", cases: int = 4) -> "Figure":
    """Pairs of samples: on the left the one of smaller KL, wrong; on the right the one of larger KL, right.

    Args:
        datasets: cases of one student or several; each shows its own.
        cases: rows for each student.
    """
    rows = [(one, at) for one in datasets for at in range(min(cases, one.sizes["case"]))]
    if not rows:
        return nothing(VENUES[venue][0], "no pair of samples is suboptimal")
    colours = _colours([label_of(one) for one in datasets])
    titles = {label_of(one): title_of(one) for one in datasets}
    fig = figure(VENUES[venue][1], 1.3 * len(rows) + 0.35)
    places = fig.subfigures(len(rows), 2, squeeze=False)
    for (one, at), pair in zip(rows, places, strict=True):
        for side, place in enumerate(pair):
            case = one.isel(case=at, side=side)
            image, axis = place.subplots(1, 2, width_ratios=[1, 2.6])
            picture(image, case)
            channels(axis, case, {"teacher": 0, label_of(one): 1}, colours)
            kl = float(case["case_loss"].sel(criterion="kl"))
            verdict = "wrong" if side == 0 else "right"
            axis.set_title(f"{short(title_of(one))} {verdict}, KL {kl:.2g} nats", loc="left", fontsize=8)
    _legend(fig, colours, titles)
    return fig


def duels(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", cases: int = 6) -> "Figure":
    """Samples on which the student nearer to the teacher is wrong and the farther one right, two to a row."""
    (found, *_others) = datasets
    count = min(cases, found.sizes["case"])
    if not count:
        return nothing(VENUES[venue][0], "no sample on which the nearer student is wrong and the other right")
    rows = -(-count // 2)
    titles = titles_of(found["this"])
    colours = _colours(list(titles))
    fig = figure(VENUES[venue][1], 1.6 * rows + 0.3)
    places = np.ravel(fig.subfigures(rows, 2, squeeze=False))
    for at in range(count):
        case = found.isel(case=at)
        image, axis = places[at].subplots(1, 2, width_ratios=[1, 2.6])
        picture(image, case)
        names = {"teacher": "teacher", "this": str(case["case_this"].values), "that": str(case["case_that"].values)}
        channels(axis, case, dict(zip(names.values(), range(3), strict=True)), colours)
        wrong, right = (float(case["case_loss"].sel(criterion="kl", side=side)) for side in ("wrong", "right"))
        this, that = (short(titles[names[one]]) for one in ("this", "that"))
        heading = f"{this} wrong, KL {wrong:.2g} nats\n{that} right, KL {right:.2g} nats"
        axis.set_title(heading, loc="left", fontsize=7.5, linespacing=1.1)
    students = np.concatenate([found["case_this"].values[:count], found["case_that"].values[:count]])
    shown = {name: colour for name, colour in colours.items() if name == "teacher" or name in students}
    _legend(fig, shown, titles)
    return fig


def nothing(width: float, text: str) -> "Figure":
    """A figure that says why there is nothing to draw."""
    fig = figure(width, 0.6)
    fig.set_layout_engine("none")  # there are no axes to lay out
    fig.text(0.5, 0.5, text, ha="center", va="center")
    return fig


def picture(axis: Any, case: "xr.Dataset") -> None:
    """The image of a case, or its number where there is none, below the name of its label."""
    axis.set_axis_off()
    if "image" in case:
        pixels = np.moveaxis(case["image"].values, 0, -1)
        axis.imshow(pixels if pixels.shape[-1] == 3 else pixels[..., 0], cmap="gray", interpolation="nearest")
    else:
        axis.text(0.5, 0.5, f"sample\n{int(case['case_sample'])}", ha="center", va="center", transform=axis.transAxes)
    name = str(case["class_name"].values[int(case["case_label"])])
    axis.set_title(f"label {short(name)}", fontsize=8, pad=2)


def channels(
    axis: Any, case: "xr.Dataset", nets: dict[str, int], colours: dict[str, str], quantity: str = "softened prob."
) -> None:
    """The teacher's top channels and whatever a student puts first, as grouped bars; the label in bold blue."""
    values = case["probability"].values
    label = int(case["case_label"])
    first = [label, *(int(row.argmax()) for row in values), *np.argsort(-values[0], kind="stable").tolist()]
    shown = sorted(list(dict.fromkeys(first))[:TOP], key=lambda at: -values[0, at])
    width = 0.8 / len(nets)
    for at, (name, row) in enumerate(nets.items()):
        colour = colours[name]
        x = np.arange(len(shown)) + (at - (len(nets) - 1) / 2) * width
        axis.bar(x, values[row, shown], 0.88 * width, color=colour)
        best = int(values[row].argmax())
        if best in shown:
            axis.plot(x[shown.index(best)], values[row, best], "v", color=colour, markersize=3, clip_on=False)
    axis.set_xticks(range(len(shown)), [short(str(case["class_name"].values[one])) for one in shown])
    for text, one in zip(axis.get_xticklabels(), shown, strict=True):
        if one == label:
            text.set(color=RIGHT, weight="bold")
    axis.tick_params(labelsize=7, length=2)
    axis.set_xlabel("class", fontsize=7, labelpad=1)
    axis.set_ylabel(quantity, fontsize=7)
    axis.margins(y=0.15)
    axis.locator_params(axis="y", nbins=3)


def _colours(students: list[str]) -> dict[str, str]:
    """Teacher and students, each once."""
    return {"teacher": BLACK} | {name: look(name, at)["color"] for at, name in enumerate(dict.fromkeys(students))}


def _legend(fig: "Figure", colours: dict[str, str], titles: dict[str, str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=colour) for colour in colours.values()]
    handles.append(Line2D([], [], color=BLACK, marker="v", markersize=4, linestyle="none"))
    legend(fig, handles, [*(titles.get(name, name) for name in colours), "argmax"], handlelength=1.0)


def short(name: str) -> str:
    """A class' name as a label of an axis."""
    bare = name.replace(r"\$", "$")
    text = bare if len(bare) <= 10 else bare[:9] + "\N{HORIZONTAL ELLIPSIS}"
    return text.replace("$", r"\$")
