"""From a name such as "kd+rk" and settings such as {"kd.weight": 0.5} to the objective that a trainer minimises."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Any

import torch

from kdviz.base.check import KdvizError, require, unknown
from kdviz.losses import ALIASES
from kdviz.methods.method import METHODS, Method, Term, plain
from kdviz.methods.objective import Objective, Part


def canonical(spec: str) -> str:
    """The spec with every method under its registered name.

    >>> canonical("KD + rank_kendall")
    'kd+rk'
    """
    return "+".join(method.name for method in _methods(spec))


def build(
    spec: str,
    *,
    classes: int,
    student: str | None = None,
    teacher: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Objective:
    """The objective of a method or of several joined by "+".

    A sum of methods keeps each one's distillation term at its own weight; cross-entropy is counted once, with the
    weight that the first method gives it (none where the first has none, as pld). The ranking loss' weight (RKKD's
    gamma) is the first method's distillation weight, at most 1: .9 with kd, 1 with dkd. `Objective.settings` shows
    what holds.

    Args:
        spec: names of `METHODS`, "kd", "dkd+rk", "kd+dist+rk".
        classes: how many there are, at least 2.
        student, teacher: names of the nets, for presets of the paper (dkd's beta).
        settings: overrides, "<term>.<setting>"; a temperature may be several, "2,3,4", whose losses are then summed;
            rank_kendall.channels is "all", "top:0.3" or "min:0.5".

    Raises: KdvizError for an unknown method or setting, a value out of range, or a term that two methods both bring.

    >>> build("dkd+rk", classes=10, teacher="resnet56", student="resnet20").settings["dkd.beta"]
    2.0
    """
    require(classes >= 2, f"{spec}: needs at least 2 classes, got {classes}")
    methods = _methods(spec)
    terms = _terms(methods)
    values = {f"{term.name}.{key}": value for term in terms for key, value in term.defaults.items()}
    values |= {key: value for key, value in _presets(methods, teacher, student).items() if key in values}
    values |= _overrides(settings or {}, values)
    parts, modules = [], {}
    for term in terms:
        own = {key: values[f"{term.name}.{key}"] for key in term.defaults}
        weight, warmup = (_number(f"{term.name}.{key}", own.pop(key)) for key in ("weight", "warmup"))
        if weight == 0:
            continue
        if term.module:
            modules[term.name] = term.module(**own)
        parts.append(
            Part(term.name, weight, warmup, tuple(_spread(term.name, own)) if not term.module else (), term.strong)
        )
    require(parts, f"{spec}: every weight is 0; nothing is left to minimise")
    objective = Objective("+".join(method.name for method in methods), parts, modules, values)
    _rehearse(objective, classes)
    return objective


def _methods(spec: str) -> list[Method]:
    alias = {**ALIASES, "rank_kendall": "rk", "rkkd": "rk", "kendall": "rk"}
    names = [name.strip().lower() for name in spec.split("+")]
    methods = [METHODS[name if name in METHODS else alias.get(name, name)] for name in names]
    twice = sorted({method.name for method in methods if methods.count(method) > 1})
    require(not twice, f"method {spec!r}: {', '.join(twice)} stands there twice; raise its weight in its place")
    return methods


def _terms(methods: list[Method]) -> list[Term]:
    """The summands, cross-entropy first; every name once."""
    first = methods[0]
    entropy = next((term for term in first.terms if term.name == "ce"), Term("ce", 0.0))
    gamma = min(next((term.weight for term in first.terms if term.name != "ce"), 0.9), 1.0)
    terms, owner = [entropy], {}
    for method in methods:
        for term in method.terms:
            if term.name == "ce":
                continue
            if term.name in owner:
                raise KdvizError(f"{owner[term.name]} and {method.name} both bring the term {term.name}; drop one")
            owner[term.name] = method.name
            terms.append(term._replace(weight=gamma) if method.name == "rk" and method is not first else term)
    return terms


def _presets(methods: list[Method], teacher: str | None, student: str | None) -> dict[str, Any]:
    """The papers' settings for this pair of nets."""
    found: dict[str, Any] = {}
    for method in methods:
        for (for_teacher, for_student), preset in method.presets.items():
            if fnmatchcase(teacher or "", for_teacher) and fnmatchcase(student or "", for_student):
                found |= preset
                break
    return found


def _overrides(settings: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The user's settings under their full names, numbers as the kind of number that the default is."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        term, _, option = key.partition(".")
        full = f"{ALIASES.get(term, term)}.{option}"
        if full not in known:
            raise unknown("setting", key, known)
        value, default = plain(value), known[full]
        if isinstance(default, float) and not full.endswith("temperature"):
            value = _number(full, value)
        elif isinstance(value, bool) != isinstance(default, bool):
            raise KdvizError(
                f"{full} must be {'true or false' if isinstance(default, bool) else 'a value like '}"
                f"{'' if isinstance(default, bool) else repr(default)}, got {value!r}"
            )
        found[full] = value
    return found


def _number(key: str, value: Any) -> float:
    """A finite number, not negative where it is a weight or a warm-up."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    require(good, f"{key} must be a finite number, got {value!r}")
    if key.endswith((".weight", ".warmup")):
        require(value >= 0, f"{key} must not be negative, got {value}")
    return float(value)


def _spread(name: str, own: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The loss' keyword arguments, once per temperature."""
    if "channels" in own:
        own = {**own, "channels": _channels(f"{name}.channels", own["channels"])}
    if "temperature" not in own:
        yield own
        return
    text = str(own["temperature"])
    try:
        temperatures = [float(entry) for entry in text.split(",")]
    except ValueError:
        raise KdvizError(f"{name}.temperature must be a number, or several as in 2,3,4; got {text!r}") from None
    for temperature in temperatures:
        yield {**own, "temperature": temperature}


def _channels(key: str, text: str) -> tuple[str, float] | None:
    """What rank_kendall takes: None for "all", ("top", 0.3) for "top:0.3"."""
    if text == "all":
        return None
    side, _, share = str(text).partition(":")
    try:
        return side, float(share)
    except ValueError:
        raise KdvizError(f"{key} must be all, top:SHARE or min:SHARE, got {text!r}") from None


def _rehearse(objective: Objective, classes: int) -> None:
    """One evaluation on made-up outputs, so that a setting out of range is refused now and not after an hour."""
    ramp = torch.linspace(0, 1, 3 * classes).view(3, classes)
    made_up = SimpleNamespace(logits=ramp, features=(), pooled=ramp)
    with torch.no_grad():
        objective(made_up, made_up, torch.zeros(3, dtype=torch.long), epoch=0.0, strong=(made_up, made_up))
