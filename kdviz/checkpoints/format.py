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

FORMAT = 1
FACTS = ("name", "classes", "data", "method", "seed", "epoch", "which", "recipe", "metrics", "teacher", "versions")


def plain(value: Any, *, where: str = "value") -> Any:
    """`value` as nested dicts, lists, numbers, strings and None; numpy and 0-d tensors become numbers.

    Raises: KdvizError for anything else, naming its place.

    >>> plain({"lr": torch.tensor(0.5), "steps": (1, 2)})
    {'lr': 0.5, 'steps': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(entry, where=f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry, where=f"{where}[{i}]") for i, entry in enumerate(value)]
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
    payload = {"kdviz": FORMAT} | {key: plain(value, where=key) for key, value in facts.items()}
    payload["state_dict"] = _tensors(model)
    buffer = io.BytesIO()  # torch writes a file's own name into it, which would make the bytes depend on the path
    torch.save(payload, buffer)
    with atomic(path) as partial:
        partial.write_bytes(buffer.getbuffer())
    return Path(path)


def facts_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of `Checkpoint` that a payload of ours holds.

    Raises: KdvizError when it was written by a newer kdviz or lacks something.
    """
    require(
        payload["kdviz"] == FORMAT,
        f"written in kdviz checkpoint format {payload['kdviz']}, but this kdviz reads {FORMAT}; update kdviz",
    )
    missing = [key for key in (*FACTS, "state_dict") if key not in payload]
    require(not missing, f"a kdviz checkpoint without {', '.join(missing)}")
    return {key: payload[key] for key in FACTS}
