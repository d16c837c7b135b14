"""The student among a file's tensors: prefixes come off until what is left fits a net."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from kdviz.base.check import KdvizError
from kdviz.checkpoints.match_architecture import Match, Shapes, shapes_of

# Groups that are the student where they stand; the first one found is taken, and the groups beside it are dropped.
STUDENT_GROUPS = ("student", "architecture", "model_s", "student_model")
OTHER_GROUPS = ("teacher", "model_t", "teacher_model", "ema", "ema_model", "model_ema")
TEACHER_GROUPS = ("teacher", "model_t", "teacher_model")
WRAPPERS = ("module", "_orig_mod", "model", "net", "backbone")
DEPTH = 5  # module._orig_mod.student.module._orig_mod.

Fits = Callable[[Shapes], Match | None]


class Selection(NamedTuple):
    """The net's tensors under its own names, what they fit, and the prefixes of all others."""

    state: dict[str, Any]
    match: Match
    dropped: list[str]


def find(state: Mapping[str, Any], fits: Fits) -> Selection | None:
    """The part of `state` that fits a net, its prefix taken off; None when no part does.

    Where there is a student's group ("student.", "architecture."), nothing outside it is looked at; a teacher's group
    is looked at only when there is no other.

    Raises: KdvizError when several parts fit and none is called the student.
    """
    return _find(state, fits, "", DEPTH)


def _find(state: Mapping[str, Any], fits: Fits, prefix: str, depth: int) -> Selection | None:
    match = fits(shapes_of(state))
    if match is not None:
        return Selection(dict(state), match, [])
    groups = grouped(state)
    found = {}
    for name in chosen(groups) if depth else ():
        student = _find(groups[name], fits, f"{prefix}{name}.", depth - 1)
        if student is not None:
            found[name] = student
    if len(found) > 1:
        raise KdvizError(
            f"holds several nets ({', '.join(f'{prefix}{name}.' for name in found)});"
            " save the one you mean alone, or under the prefix student."
        )
    for name, student in found.items():
        beside = [f"{prefix}{other}." for other in groups if other not in (name, "")]
        loose = [f"{prefix}{key}" for key in groups.get("", {})]
        return student._replace(dropped=[*beside, *loose, *student.dropped])
    return None


def grouped(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Tensors by the first part of their names; those without a dot under ''.

    >>> grouped({"student.fc.bias": 1, "scale": 2})
    {'student': {'fc.bias': 1}, '': {'scale': 2}}
    """
    groups: dict[str, dict[str, Any]] = {}
    for key, tensor in state.items():
        first, dot, rest = key.partition(".")
        group, name = (first, rest) if dot else ("", key)
        groups.setdefault(group, {})[name] = tensor
    return groups


def chosen(groups: Mapping[str, Any]) -> list[str]:
    """The groups that may be the student."""
    for name in STUDENT_GROUPS:
        if name in groups:
            return [name]
    named = [name for name in groups if name]
    return [name for name in named if name not in OTHER_GROUPS] or named


def without_prefixes(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The most likely net in `state`, for a message when nothing fits: the usual prefixes come off.

    >>> list(without_prefixes({"module.net.fc.bias": 1, "module.loss.scale": 2}))
    ['fc.bias']
    """
    for _ in range(DEPTH):
        groups = grouped(state)
        name = next((name for name in (*STUDENT_GROUPS, *WRAPPERS) if name in groups), None)
        if name is None:
            break
        state = groups[name]
    return state


def names_teacher(prefixes: Iterable[str]) -> bool:
    """Whether what was left unused of a student's file (`Checkpoint.dropped`) holds its teacher.

    >>> names_teacher(["module.teacher.", "optimizer"]), names_teacher(["module.conv_reg."])
    (True, False)
    """
    return any(prefix.rstrip(".").rpartition(".")[2] in TEACHER_GROUPS for prefix in prefixes)


def teacher_state(payload: Any) -> dict[str, Any] | None:
    """The tensors of the teacher in a student's file, its prefix taken off; None where there is none."""
    for _ in range(DEPTH):
        if not isinstance(payload, Mapping):
            return None
        groups: dict[str, Any] = {str(key): value for key, value in payload.items() if isinstance(value, Mapping)}
        groups = grouped({str(key): value for key, value in payload.items() if key not in groups}) | groups
        name = next((name for name in TEACHER_GROUPS if name in groups), None)
        if name is not None:
            return groups[name]
        payload = next((groups[name] for name in (*WRAPPERS, "state_dict", "model_state_dict") if name in groups), None)
    return None
