"""RKKD Fig. 3: the loss landscape of a student distilled without and with the ranking loss."""

from collections.abc import Callable, Mapping
from typing import Any

from kdviz.base.check import require
from kdviz.base.statistics import NO, YES
from kdviz.papers.entry import OPEN, Claim, Drawing, Inputs, Measured, PaperEntry, Results

WITHOUT, WITH = "kd", "kd+rk"
LOSS = "ce"
CHUNK = 50  # a fixed one, because what a timed trial picks rounds differently from run to run


def compute(inputs: Inputs, settings: Mapping[str, Any]) -> Results:
    """A landscape per student, from the same seed of directions over the same images, and its Hessian's sharpness."""
    from kdviz.analysis.landscape import landscape
    from kdviz.analysis.landscape.sharpness import sharpness

    data, samples = inputs.data, settings["samples"]
    if data is None:
        return {}
    require(samples is None or samples <= len(data), f"fig3: samples must be at most {len(data)}, got {samples}")
    found = {}
    for at, (label, student) in enumerate(inputs.students.items()):
        name = f"landscape_{label}"
        journal = None if inputs.work is None else inputs.work / f".{name}.journal"
        one = landscape(
            student.model,
            data,
            losses=(LOSS,),
            span=settings["span"],
            steps=settings["steps"],
            seed=settings["seed"],
            samples=samples,
            chunk=CHUNK,
            journal=journal,
            progress=_part(inputs, at),
        )
        facts = {"label": label, "student_name": student.name, "student_sha256": student.sha256}
        found[name] = one.assign_attrs(facts)
        few = min(settings["hessian_samples"], len(data))
        found[f"sharpness_{label}"] = sharpness(
            student.model, data, samples=few, eigenvalues=1, probes=10, seed=settings["seed"]
        ).assign_attrs(facts)
    return found


def _part(inputs: Inputs, at: int) -> Callable[[int, int], None] | None:
    """The progress of student `at` as a part of all students' progress."""
    move, many = inputs.progress, len(inputs.students)
    return None if move is None else lambda done, total: move(at * total + done, many * total)


def _geometry(results: Results, key: str) -> dict[str, Any]:
    """One number of `geometry.summary` per student."""
    from kdviz.analysis.landscape.geometry import summary

    return {
        str(one.attrs["label"]): summary(one)[LOSS][key]
        for name, one in results.items()
        if name.startswith("landscape_")
    }


def _pair(values: Mapping[str, Any]) -> bool:
    return WITHOUT in values and WITH in values


def _marked(values: dict[str, Any], lesser: float, greater: float) -> Measured:
    """Whether the greater exceeds the lesser by a tenth at least; less than that, one seed of training cannot tell."""
    if lesser < greater < 1.1 * lesser:
        return Measured(values, NO, "that way round, but by less than a tenth")
    return Measured(values, YES if greater > lesser else NO)


def _flatter(results: Results) -> Measured:
    """The radius within which the loss stays within .1 nats of the trained one, and the curvature at the centre."""
    radius, curvature = _geometry(results, "flatness_radius"), _geometry(results, "curvature_high")
    values = {f"{label} radius": value for label, value in radius.items()}
    values |= {f"{label} largest curvature": value for label, value in curvature.items()}
    if not _pair(radius):
        return Measured(values, OPEN, f"needs students named {WITHOUT} and {WITH}")
    if (radius[WITH] > radius[WITHOUT]) == (curvature[WITH] > curvature[WITHOUT]):
        return Measured(values, NO, "radius and curvature disagree")
    return _marked(values, radius[WITHOUT], radius[WITH])


def _less_sharp(results: Results) -> Measured:
    """The largest eigenvalue and the trace of the Hessian, which hang on no direction."""
    found = {str(one.attrs["label"]): one for name, one in results.items() if name.startswith("sharpness_")}
    top = {label: float(one["eigenvalue"].max()) for label, one in found.items()}
    values = {f"{label} largest eigenvalue": value for label, value in top.items()}
    values |= {f"{label} trace": float(one["trace"]) for label, one in found.items()}
    values |= {f"{label} trace's standard error": float(one["trace_stderr"]) for label, one in found.items()}
    if not _pair(top):
        return Measured(values, OPEN, f"needs students named {WITHOUT} and {WITH}")
    return _marked(values, top[WITH], top[WITHOUT])


def _fewer_optima(results: Results) -> Measured:
    """Local minima of the slice whose persistence is at least 1 % of the range of the losses."""
    counts, deepest = _geometry(results, "minima"), _geometry(results, "second_persistence")
    values = {f"{label} minima": value for label, value in counts.items()}
    values |= {f"{label} second minimum's persistence, nats": value for label, value in deepest.items()}
    if not _pair(counts):
        return Measured(values, OPEN, f"needs students named {WITHOUT} and {WITH}")
    alike = counts[WITH] == counts[WITHOUT]
    note = "as many in both slices, so that this slice shows no difference" if alike else ""
    return Measured(values, YES if counts[WITH] < counts[WITHOUT] else NO, note)


def _convex(results: Results) -> Measured:
    """The share of the slice that is convex."""
    shares = _geometry(results, "convex_share")
    values = {f"{label} convex share": value for label, value in shares.items()}
    if not _pair(shares):
        return Measured(values, OPEN, f"needs students named {WITHOUT} and {WITH}")
    return _marked(values, shares[WITHOUT], shares[WITH])


ENTRY = PaperEntry(
    name="fig3",
    title="Loss landscapes of a student distilled without (left) and with (right) the ranking loss",
    source="arXiv 2409.17823, Fig. 3",
    compute=compute,
    students=(WITHOUT, WITH),
    needs=("data",),
    split="train",
    settings={"span": 1.0, "steps": 25, "samples": 500, "hessian_samples": 500, "seed": 0},
    drawings=(Drawing("surface", "surface", ("landscape_",)), Drawing("contour", "contour", ("landscape_",))),
    claims=(
        Claim(
            "with the ranking loss the landscape is markedly flatter",
            "Sec. 5.3",
            "the largest radius around the trained weights within which the loss rises by at most .1 nats",
            _flatter,
        ),
        Claim(
            "the same, read over all directions at the trained weights",
            "Sec. 5.3",
            "the largest eigenvalue of the Hessian of the same loss",
            _less_sharp,
        ),
        Claim(
            "with the ranking loss there are fewer local optima",
            "Sec. 5.3, Fig. 3",
            "count of minima on the slice with a persistence of 1 % of the range or more",
            _fewer_optima,
        ),
        Claim("suboptimal solutions are reduced", "Fig. 3", "a larger share of the slice is convex", _convex),
    ),
    choices=(
        "loss: not stated; cross-entropy on the training set, {samples} images without augmentation",
        "directions and span: not stated; filter-normalised normal directions, seed {seed}, [-{span:g}, {span:g}]²",
        "grid: not stated; {steps} × {steps}",
        "batch norm: not stated; the trained statistics, frozen",
        "eigenvalues: not in the paper; {hessian_samples} of the images",
        "nets: not named; students as given",
        "one seed of training and of directions, so that differences within their spread mean nothing",
    ),
)
