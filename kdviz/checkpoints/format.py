"""Our own format: a torch file of plain values that opens with `weights_only=True`."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, Unpack

import torch
from torch import Tensor, nn

from kdviz.base.check import KdvizError, one_of, require, unknown
from kdviz.base.files import atomic, versions
from kdviz.checkpoints.schema import FORMAT, check_checkpoint


def as_plain_values(value: Any, *, where: str = "value") -> Any:
    """`value` as nested dicts, lists, numbers, strings and None; numpy and 0-d tensors become numbers.

    Raises: KdvizError for anything else, naming its place.

    >>> as_plain_values({"lr": torch.tensor(0.5), "steps": (1, 2)})
    {'lr': 0.5, 'steps': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(key): as_plain_values(entry, where=f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_plain_values(entry, where=f"{where}[{i}]") for i, entry in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value) not in (bool, int, float, str, type(None)) and getattr(value, "size", None) is not None:
        count = value.numel() if isinstance(value, Tensor) else value.size
        require(count == 1, f"save_checkpoint: {where} must be a number, not an array of {count}")
        return value.item()
    for kind in (bool, int, float, str):  # subclasses (enums, numpy.float64) would need a global to open
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    raise KdvizError(f"save_checkpoint: {where} is a {type(value).__name__}; expected numbers, strings, lists, dicts")


def _tensors(model: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state as CPU tensors with storage of their own, without the prefixes of torch.compile and DDP."""
    state = model.state_dict() if isinstance(model, nn.Module) else model
    require(state, "save_checkpoint: the model has no tensors")
    found = {}
    for key, tensor in state.items():
        while key.startswith(("module.", "_orig_mod.")):
            key = key.split(".", 1)[1]
        found[key] = tensor.detach().to("cpu", copy=True).contiguous()
    return found


class Facts(TypedDict):
    """What a checkpoint says of its net, as `Checkpoint` describes it; plain values."""

    name: str
    classes: int
    data: str | None
    method: str | None
    seed: int | None
    epoch: int | None
    which: NotRequired[str]
    recipe: Mapping[str, Any]
    metrics: Mapping[str, Any]
    teacher: NotRequired[Mapping[str, Any] | None]


def save_checkpoint(
    path: str | os.PathLike, *, model: nn.Module | Mapping[str, Tensor], **facts: Unpack[Facts]
) -> Path:
    """Write a checkpoint atomically; the same content gives the same bytes.

    Args:
        path: the file; its folder is made.
        model: the net, or its state_dict.
        facts: name, classes, data, method, seed, epoch, recipe, metrics; teacher [default: None]; which [default:
            "last"].

    Returns: path.

    Raises: KdvizError when a fact is missing, unknown or not a plain value, or the file cannot be written.
    """
    for name in facts:
        if name not in Facts.__annotations__:
            raise unknown("fact of a checkpoint", name, Facts.__annotations__)
    given = {"which": "last", "teacher": None, **facts}
    missing = [name for name in Facts.__annotations__ if name not in given]
    require(not missing, f"save_checkpoint: needs {', '.join(missing)}")
    one_of("save_checkpoint", ("last", "best", "ema"), which=given["which"])
    ordered = {name: given[name] for name in Facts.__annotations__} | {"versions": versions()}
    payload = {"kdviz": FORMAT} | {key: as_plain_values(value, where=key) for key, value in ordered.items()}
    payload["state_dict"] = _tensors(model)
    try:
        check_checkpoint(payload)
    except KdvizError as error:
        raise KdvizError(f"save_checkpoint: {error}") from error
    buffer = io.BytesIO()  # torch writes a file's own name into it, which would make the bytes depend on the path
    torch.save(payload, buffer)
    with atomic(path) as partial:
        partial.write_bytes(buffer.getbuffer())
    return Path(path)
