"""What a result's variables mean, written once as xarray attributes that figures and reports read.

On a variable: `units` ("nats", "fraction", "1", ...), `long_name` (what an axis calls it) and `role` (one of ROLES). On
a coordinate of names, `titles` and `units_of`: JSON tables from each name to its title in figures and to the unit of
the values that belong to it.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from kdviz.base.check import one_of
from kdviz.base.variables import ROLES
from kdviz.losses import resolve
from kdviz.methods.titles import method_title


def meaning(units: str, long_name: str, role: str | None = None) -> dict[str, str]:
    """The attributes of a variable.

    >>> meaning("fraction", "top-1", "metric")
    {'units': 'fraction', 'long_name': 'top-1', 'role': 'metric'}
    """
    if role is None:
        return {"units": units, "long_name": long_name}
    one_of("meaning", ROLES, role=role)
    return {"units": units, "long_name": long_name, "role": role}


def loss_meaning(name: str) -> dict[str, str]:
    """The attributes of a variable that holds the values of a registered loss.

    >>> loss_meaning("ce")
    {'units': 'nats', 'long_name': 'cross-entropy', 'role': 'loss'}
    """
    return meaning(resolve(name).unit, resolve(name).long_name, "loss")


def naming(titles: Mapping[str, str], units: Mapping[str, str] | None = None) -> dict[str, str]:
    """The attributes of a coordinate of names.

    >>> naming({"ce": "CE"}, {"ce": "nats"})
    {'titles': '{"ce": "CE"}', 'units_of': '{"ce": "nats"}'}
    """
    found = {"titles": json.dumps(dict(titles))}
    return found if units is None else found | {"units_of": json.dumps(dict(units))}


def loss_naming(names: Iterable[str]) -> dict[str, str]:
    """The attributes of a coordinate of registered losses."""
    chosen = {name: resolve(name) for name in names}
    return naming({name: one.title for name, one in chosen.items()}, {name: one.unit for name, one in chosen.items()})


def student_naming(labels: Iterable[str]) -> dict[str, str]:
    """The attributes of a coordinate of students' labels; those that are no methods keep their own writing."""
    return naming({label: title for label in labels if (title := method_title(label)) is not None})


def labelled(attrs: Mapping[str, Any], label: str | None = None) -> dict[str, Any]:
    """The attributes of a student's result under `label` (None: its own), with the `title` that figures give it.

    >>> labelled({"label": "kd", "title": "KD"}, "a net of mine")
    {'label': 'a net of mine'}
    """
    found = {key: value for key, value in attrs.items() if key != "title"} | ({"label": label} if label else {})
    title = method_title(str(found["label"])) if "label" in found else None
    return found | ({"title": title} if title else {})
