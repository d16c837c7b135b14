"""Our own format: a torch file of plain values that opens with `weights_only=True`."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdviz.base.check import KdvizError, one_of, require
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


def save_checkpoint(
    path: str | os.PathLike,
    *,
    model: nn.Module | Mapping[str, Tensor],
    name: str,
    classes: int,
    data: str | None,
    method: str | None,
    seed: int | None,
    epoch: int | None,
    recipe: Mapping[str, Any],
    metrics: Mapping[str, Any],
    teacher: Mapping[str, Any] | None = None,
    which: str = "last",
) -> Path:
    """Write a checkpoint atomically; the same content gives the same bytes.

    Args:
        path: the file; its folder is made.
        model: the net, or its state_dict.
        name, classes: as `kdviz.models.build` takes them.
        data, method, seed, epoch, recipe, metrics, teacher, which: as `Checkpoint` describes them; plain values.

    Returns: path.

    Raises: KdvizError when a value is not plain, or the file cannot be written.
    """
    one_of("save_checkpoint", ("last", "best"), which=which)
    facts = {
        "name": name,
        "classes": classes,
        "data": data,
        "method": method,
        "seed": seed,
        "epoch": epoch,
        "which": which,
        "recipe": recipe,
        "metrics": metrics,
        "teacher": teacher,
        "versions": versions(),
    }
    payload = {"kdviz": FORMAT} | {key: as_plain_values(value, where=key) for key, value in facts.items()}
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
