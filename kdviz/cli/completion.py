"""Values that the shell completes, from the registries; those of torch's modules take the second that torch takes."""

from collections.abc import Callable, Iterable

Complete = Callable[[str], list[str]]


def _completing(names: Callable[[], Iterable[str]], separators: str = "") -> Complete:
    """The function that typer asks; after a separator (of "ce,kd", "kd+rk") the next name begins."""

    def complete(incomplete: str) -> list[str]:
        at = max((incomplete.rfind(one) for one in separators), default=-1) + 1
        before, begun = incomplete[:at], incomplete[at:]
        return [before + name for name in sorted(names()) if name.startswith(begun)]

    return complete


def _losses() -> Iterable[str]:
    from kdviz.losses import LOSSES

    return LOSSES


def _measured() -> Iterable[str]:
    from kdviz.analysis.landscape.metrics import METRICS

    return {*_losses(), *METRICS}


def _methods() -> Iterable[str]:
    from kdviz.methods import METHODS

    return METHODS


def _models() -> Iterable[str]:
    from kdviz.models import MODELS
    from kdviz.models.detection import DETECTORS

    return [*MODELS, *DETECTORS]


def _data() -> Iterable[str]:
    from kdviz.data import DATA

    return DATA


def _recipes() -> Iterable[str]:
    from kdviz.train.recipe import recipes

    return recipes()


def _venues() -> Iterable[str]:
    from kdviz.plots.style import VENUES

    return VENUES


def _formats() -> Iterable[str]:
    from kdviz.plots.style import KNOWN_FORMATS

    return KNOWN_FORMATS


def _figures() -> Iterable[str]:
    from kdviz.plots import FIGURES

    return {name for kind in FIGURES.values() for name in kind}


losses, measured = _completing(_losses, ","), _completing(_measured, ",")
methods, models, data = _completing(_methods, "+"), _completing(_models), _completing(_data)
recipes, venues, formats = _completing(_recipes), _completing(_venues), _completing(_formats, ",")
figures = _completing(_figures, ",")


def choices(*names: str, separators: str = "") -> Complete:
    """The completion of a few fixed words."""
    return _completing(lambda: names, separators)
