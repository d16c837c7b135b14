"""RKKD Fig. 2: the student nearer to the teacher in KL has the wrong class; our numbers, and real pairs of nets."""

from collections.abc import Mapping
from typing import Any

from kdviz.base.statistics import NO, YES
from kdviz.papers.entry import OPEN, Claim, Drawing, Inputs, Measured, PaperEntry, Results
from kdviz.papers.rkkd.logits import chosen, collect

WITHOUT, WITH = "kd", "kd+rk"


def compute(inputs: Inputs, settings: Mapping[str, Any]) -> Results:
    """Results "toy", "cases_<student>" (pairs of samples) and, with two students or more, "duels"."""
    from kdviz.analysis.suboptimal import CriteriaSettings, mine_samples, mine_students, toy

    data = chosen(inputs, settings)
    logits = collect(inputs, data)
    criteria = CriteriaSettings(settings["temperature"])
    options = {"top": settings["cases"], "data": data}
    found = {"toy": toy()}
    found |= {f"cases_{label}": mine_samples(one, criteria, label=label, **options) for label, one in logits.items()}
    if len(logits) > 1:
        found["duels"] = mine_students([*logits.values()], criteria, labels=[*logits], **options)
    return found


def _students(results: Results) -> dict[str, Any]:
    return {name.removeprefix("cases_"): one for name, one in results.items() if name.startswith("cases_")}


def _toy(results: Results) -> Measured:
    """KL of both students of the toy case, and which of them is right."""
    loss, right = results["toy"]["loss"].sel(criterion="kl").to_numpy(), results["toy"]["right"].to_numpy()
    values: dict[str, Any] = {}
    for at in range(2):
        values[f"student {at + 1} KL, nats"] = float(loss[at])
        values[f"student {at + 1} is"] = "right" if right[at] else "wrong"
    case = loss[0] < loss[1] and not right[0] and right[1]
    return Measured(values, YES if case else NO, "probabilities are an example of ours; the paper prints none")


def _real(results: Results) -> Measured:
    """How often it happens: among the samples of a student, and between students."""
    values: dict[str, Any] = {}
    for label, one in _students(results).items():
        values[f"{label} pairs"] = f"{int(one['pairs'].sel(criterion='kl')):,} of {int(one['candidates']):,}"
        values[f"{label} share"] = float(one["share"].sel(criterion="kl"))
    if "duels" in results:
        duels = results["duels"].sel(criterion="kl")
        values |= {
            f"{this} nearer and wrong, {that} right": f"{int(duels['pairs'].sel(this=this, that=that))} samples"
            for this in duels["this"].values
            for that in duels["that"].values
            if this != that
        }
    counts = [int(one["pairs"].sel(criterion="kl")) for one in _students(results).values()]
    return Measured(values, YES if min(counts) > 0 else NO, "the paper gives one case and no count")


def _ranking_helps(results: Results) -> Measured:
    """The share of wrongly ordered pairs under KL, and under KL and the ranking loss together."""
    values = {
        f"{label} share under {criterion}": float(one["share"].sel(criterion=criterion))
        for label, one in _students(results).items()
        for criterion in ("kl", "kl+rk")
    }
    drops = [
        float(one["share"].sel(criterion="kl") - one["share"].sel(criterion="kl+rk"))
        for one in _students(results).values()
    ]
    falls = " to ".join(f"{100 * drop:.2g}" for drop in sorted({min(drops), max(drops)}))
    note = f"the share falls by {falls} percentage points"
    return Measured(values, YES if min(drops) > 0 else NO, note)


def _ranking_judges(results: Results) -> Measured:
    """What the ranking loss, alone and with KL, makes of the two students of the toy case."""
    loss, right = results["toy"]["loss"], results["toy"]["right"].to_numpy()
    values = {
        f"student {at + 1} {what}": float(loss.sel(criterion=criterion)[at])
        for criterion, what in (("rank_kendall", "ranking loss"), ("kl+rk", "KL+ranking"))
        for at in range(2)
    }
    preferred = {name: int(loss.sel(criterion=name).to_numpy().argmin()) for name in ("rank_kendall", "kl+rk")}
    return Measured(values, YES if right[list(preferred.values())].all() else NO, "the smaller loss is preferred")


def _escapes(results: Results) -> Measured:
    """Samples on which one student is nearer in KL and wrong while the other is right, both ways round."""
    if "duels" not in results or not {WITHOUT, WITH} <= set(results["duels"]["this"].values):
        return Measured({}, OPEN, f"needs students named {WITHOUT} and {WITH}")
    share = results["duels"]["share"].sel(criterion="kl")
    without, with_ = float(share.sel(this=WITHOUT, that=WITH)), float(share.sel(this=WITH, that=WITHOUT))
    values = {f"{WITHOUT} nearer where it alone is wrong": without, f"{WITH} nearer where it alone is wrong": with_}
    return Measured(values, YES if with_ < without else NO, "shares of the samples on which only the named one errs")


ENTRY = PaperEntry(
    name="fig2",
    title="The suboptimal case of KL in four channels, and how often it happens to real students",
    source="arXiv 2409.17823, Fig. 2",
    compute=compute,
    students=(WITHOUT, WITH),
    needs=("teacher", "data"),
    settings={"temperature": 4.0, "samples": None, "cases": 6, "seed": 0},
    drawings=(
        Drawing("bars", "toy", ("toy",)),
        Drawing("overlap", "overlap", ("cases_",)),
        Drawing("duels", "duels", ("duels",)),
    ),
    claims=(
        Claim(
            "the student with the smaller KL can have the wrong class while one with a larger KL has the right one",
            "Sec. 1, Fig. 2",
            "KL of student 1 is below that of student 2, and only student 2 is right",
            _toy,
        ),
        Claim(
            "a smaller KL does not always mean a right class",
            "Sec. 1",
            "pairs of samples, the nearer one wrong and the other right, are found for every student",
            _real,
        ),
        Claim(
            "the ranking loss puts the right class first, which corrects KL's direction",
            "Secs. 1 and 4",
            "the ranking loss, alone and with KL, prefers student 2 of the toy case",
            _ranking_judges,
        ),
        Claim(
            "the ranking loss eliminates some of the suboptimal cases of KL",
            "Sec. 4",
            "fewer such pairs under KL and ranking loss together than under KL, for every student",
            _ranking_helps,
        ),
        Claim(
            "training with the ranking loss helps to avoid suboptimal solutions",
            "Secs. 1 and 4",
            "where one student alone errs, the one with the ranking loss is less often the nearer one",
            _escapes,
        ),
    ),
    choices=(
        "probabilities of the toy case: not stated; an example of ours, KL at temperature 1",
        "real cases: not in the paper; KL at temperature {temperature:g} over the test split",
        "weights of KL and ranking loss in their sum: equal, with KL times the squared temperature",
    ),
)
