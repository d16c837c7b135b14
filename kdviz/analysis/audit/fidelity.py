"""How closely a student follows its teacher, sample by sample."""

from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from kdviz.analysis import ranks
from kdviz.analysis.audit.numbers import Measure, bootstrapped, estimate, finished, mean_of, table
from kdviz.analysis.audit.opened import WITHOUT, open_audit
from kdviz.analysis.audit.sentences import beside, value
from kdviz.analysis.bootstrap import INTERVALS, Bootstrap
from kdviz.analysis.sources import Chunk
from kdviz.base.threads import in_threads

THIRD = 1 / 3
ROWS = 1 << 20  # logits of one net in a piece


def fidelity(source: Any, *, against: Any = None, bootstrap: Bootstrap = INTERVALS, top: int = 5) -> xr.Dataset:
    """Agreement, KL and Kendall's tau between student and teacher, beside both controls.

    Args:
        source, against: as `open_audit`.
        bootstrap: coverage, draws and their seed.
        top: depth of the overlap of the largest channels; left out where there are no more classes.
    Returns: kind "fidelity": `table` of agreement and overlap (fractions), kl = KL(teacher || student) in nats at
        temperature 1, tau (Kendall's tau-b over all channels) and tau_top, tau_middle, tau_bottom, over the third of
        the channels that the teacher ranks first, in the middle and last.
    Raises: KdvizError as `open_audit`.
    Source: Stanton et al. (2021) for agreement and KL as fidelity; tau by thirds is ours.
    """
    opened = open_audit(source, against=against)
    overlap = f"top{top}"
    measures = {"agreement": Measure("same first class", "fraction")}
    measures |= {overlap: Measure(f"overlap of the first {top}", "fraction")} if opened.student.shape[1] > top else {}
    measures |= {"kl": Measure("KL(teacher ‖ student)", "nats"), "tau": Measure("Kendall's τ, all channels")}
    measures |= {f"tau_{end}": Measure(f"τ, {end} third") for end in ("top", "middle", "bottom")}
    by_pair = {name: _of_pair(*pair, top) for name, pair in opened.pairs.items()}
    sampled = {one: {name: mean_of(found[one]) for name, found in by_pair.items()} for one in measures}
    result = table(opened, measures, *bootstrapped(sampled, bootstrap))
    caption = (
        "How closely the student follows its teacher: first class, first classes, KL at temperature 1, and Kendall's"
        " tau-b, also within the third of the channels that the teacher ranks first, in the middle and last. The random"
        " teacher is the teacher's logits of another sample."
    )
    result = finished(result, opened, "fidelity", caption, bootstrap, top=top)
    return result.assign_attrs(finding=_finding(result))


def kl_per_sample(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(softmax(teacher / T) || softmax(student / T)) of each sample, in nats.

    Args: student, teacher: [n, k] finite logits; temperature above 0.
    Returns: [n] float64.

    >>> kl_per_sample(torch.zeros(1, 2), torch.tensor([[0.0, torch.log(torch.tensor(3.0))]]))  # ln 2 - H(1/4)
    tensor([0.1308], dtype=torch.float64)
    """
    p, q = (one.double().div(temperature).log_softmax(1) for one in (teacher, student))
    return (p.exp() * (p - q)).sum(1)


def _of_pair(student: Tensor, teacher: Tensor, top: int) -> dict[str, np.ndarray]:
    """Every measure of every sample."""
    whole = Chunk(student, teacher, None, torch.arange(len(student)))
    pieces = whole.pieces(ROWS)
    found = ranks.per_sample(whole, (THIRD,), (top,))
    ends = {"top": "top", "middle": "middle", "bottom": "min"}
    kl = torch.cat(in_threads(lambda piece: kl_per_sample(*piece.pair()), pieces)).numpy()
    taus = {f"tau_{name}": found[f"{end} {THIRD}"] for name, end in ends.items()}
    kept = {key: found[key] for key in (f"top{top}",) if key in found}
    return {"agreement": found["agree"].astype(float), "kl": kl, "tau": found["tau_b"], **taus, **kept}


def _finding(result: xr.Dataset) -> str:
    agreement = f"The student names its teacher's class for {value(result, 'agreement')} of the samples"
    agreement += beside(result, "agreement", (WITHOUT,), verb="does for")
    tau = f"It orders the channels with τ = {value(result, 'tau')}{beside(result, 'tau')}"
    ends = {end: estimate(result, f"tau_{end}").value for end in ("top", "middle", "bottom")}
    known = {end: one for end, one in ends.items() if not np.isnan(one)}
    if not known:
        return f"{agreement}. {tau}."
    best, worst = max(known, key=lambda end: known[end]), min(known, key=lambda end: known[end])
    parts = ", ".join(f"{one:.3f} in the {end} third" for end, one in known.items())
    order = "" if best == worst else f": closest in the {best} third, farthest in the {worst} third"
    return f"{agreement}. {tau}. By the teacher's ranks τ is {parts}{order}."
