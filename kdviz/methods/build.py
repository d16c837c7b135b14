"""From a name such as "kd+rk" and settings such as {"kd.weight": 0.5} to the objective that a trainer minimises."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch

from kdviz.base.check import KdvizError, require, unknown
from kdviz.base.seeds import derive
from kdviz.losses import ALIASES, LOSSES
from kdviz.methods.batch import Batch
from kdviz.methods.method import METHODS, Method, Term
from kdviz.methods.objective import Objective, Part
from kdviz.methods.settings import checked, finite
from kdviz.methods.term import LossTerm, Probe
from kdviz.models import Outputs

# Other names of methods: those of the losses that have the same name as theirs, and of the ranking loss.
NAMES = {**ALIASES, "rank_kendall": "rk", "rkkd": "rk", "kendall": "rk"}
METHODS.accept(name for name in NAMES if name not in METHODS)
LABELS = ("ce", "detector")  # the terms of the labels alone, which are counted once in a sum of methods


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
    probe: Probe | None = None,
) -> Objective:
    """The objective of a method or of several joined by "+".

    A sum of methods keeps each one's distillation term at its own weight; cross-entropy is counted once, with the
    weight that the first method gives it (none where the first has none, as pld). In a sum with a method of detectors
    ("detector+dist", "roi_kd+rk") the detector's own losses stand in its place. The ranking loss' weight (RKKD's
    gamma) is the first method's distillation weight, at most 1: .9 with kd, 1 with dkd; 1 where the first method
    compares features. `Objective.settings` shows what holds.

    Args:
        spec: names of `METHODS`, "kd", "dkd+rk", "kd+dist+rk".
        classes: how many there are, at least 2.
        student, teacher: names of the nets, for presets of the paper (dkd's beta).
        settings: overrides, "<term>.<setting>"; a temperature may be several, (2.0, 3.0, 4.0), whose losses are then
            summed; rank_kendall.channels is ("top", 0.3), ("min", 0.5) or None.
        probe: both nets' outputs for two images; methods that read features need it.

    Raises: KdvizError for an unknown method or setting, a value out of range, a term that two methods both bring, or
        features that the nets do not give.

    >>> build("dkd+rk", classes=10, teacher="resnet56", student="resnet20").settings["dkd.beta"]
    2.0
    """
    require(classes >= 2, f"{spec}: needs at least 2 classes, got {classes}")
    methods = _methods(spec)
    values = settings_in_force(spec, student=student, teacher=teacher, settings=settings)
    terms = _terms(methods)
    parts = [part for term in terms if (part := _part(term, values, probe or Probe.made_up(classes)))]
    require(parts, f"{spec}: every weight is 0; nothing is left to minimise")
    return Objective("+".join(method.name for method in methods), parts, values)


def settings_in_force(
    spec: str, *, student: str | None = None, teacher: str | None = None, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Every setting that `build` would have, without building: defaults, then the pair's presets, then `settings`.

    Raises: KdvizError for an unknown method or setting, or a value of another type.

    >>> settings_in_force("kd", settings={"kd.weight": 0.5})["kd.weight"]
    0.5
    """
    methods = _methods(spec)
    terms = _terms(methods)
    values = {f"{term.name}.{key}": value for term in terms for key, value in term.defaults.items()}
    types = {f"{term.name}.{key}": annotation for term in terms for key, annotation in term.types.items()}
    values |= {key: value for key, value in _presets(methods, teacher, student).items() if key in values}
    return values | _overrides(settings or {}, types)


def _part(term: Term, values: Mapping[str, Any], probe: Probe) -> Part | None:
    """The term with its settings in force, tried once on the probe; None at weight 0."""
    own = {key: values[f"{term.name}.{key}"] for key in term.defaults}
    weight, warmup = (finite(f"{term.name}.{key}", own.pop(key)) for key in ("weight", "warmup"))
    if weight == 0:
        return None
    if term.build is not None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive(probe.seed, "term", term.name))
            return Part(term.name, weight, warmup, term.build(probe, **own))
    module = LossTerm(LOSSES[term.name], tuple(_per_temperature(own)), strong=term.strong)
    if probe.measured or not module.needs & {"features", "preactivations"}:
        _try(module, probe)
    return Part(term.name, weight, warmup, module)


def _per_temperature(own: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The loss' keyword arguments, once per temperature."""
    temperature = own.get("temperature")
    for one in temperature if isinstance(temperature, tuple) else (temperature,):
        yield {**own, "temperature": one} if "temperature" in own else dict(own)


def _try(module: LossTerm, probe: Probe) -> None:
    """One evaluation on the probe, so that a setting out of range is refused now and not after an hour."""
    student = probe.student._replace(strong=Outputs(probe.student.logits))
    teacher = None if probe.teacher is None else probe.teacher._replace(strong=Outputs(probe.teacher.logits))
    n, device = len(student.logits), student.logits.device
    batch = Batch(student.logits, torch.zeros(n, dtype=torch.int64, device=device), torch.arange(n, device=device))
    with torch.no_grad():
        module(student, teacher, batch, epoch=0.0)


def _methods(spec: str) -> list[Method]:
    names = [name.strip().lower() for name in spec.split("+")]
    methods = [METHODS[name if name in METHODS else NAMES.get(name, name)] for name in names]
    twice = sorted({method.name for method in methods if methods.count(method) > 1})
    require(not twice, f"method {spec!r}: {', '.join(twice)} stands there twice; raise its weight in its place")
    return methods


def _terms(methods: list[Method]) -> list[Term]:
    """The summands, the labels' first; every name once."""
    first, labels = methods[0], _labels(methods)
    distils = next((term.weight for term in first.terms if term.name not in LABELS), 0.9)
    gamma = min(distils, 1.0) if first.kind == "logit" else 1.0  # weights of features are in other units
    terms, owner = [labels], {}
    for method in methods:
        for term in method.terms:
            if term.name in LABELS:
                continue
            if term.name in owner:
                raise KdvizError(f"{owner[term.name]} and {method.name} both bring the term {term.name}; drop one")
            owner[term.name] = method.name
            terms.append(term._replace(weight=gamma) if method.name == "rk" and method is not first else term)
    return terms


def _labels(methods: list[Method]) -> Term:
    """The term of the labels: the detector's where a method has it, else the first method's cross-entropy."""
    of_all = (term for method in methods for term in method.terms if term.name == "detector")
    of_first = (term for term in methods[0].terms if term.name == "ce")
    return next(of_all, None) or next(of_first, Term("ce", 0.0))


def _presets(methods: list[Method], teacher: str | None, student: str | None) -> dict[str, Any]:
    """The papers' settings for this pair of nets."""
    found: dict[str, Any] = {}
    for method in methods:
        for (for_teacher, for_student), preset in method.presets.items():
            if fnmatchcase(teacher or "", for_teacher) and fnmatchcase(student or "", for_student):
                found |= preset
                break
    return found


def _overrides(settings: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    """The user's settings under their full names, each checked against the type of the parameter that takes it."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        term, _, option = key.partition(".")
        full = f"{ALIASES.get(term, term)}.{option}"
        if full not in types:
            raise unknown("setting", key, types)
        weighs = full.endswith((".weight", ".warmup"))
        found[full] = finite(full, value) if weighs else checked(full, value, types[full])
    return found
