"""Other producers' layouts: who wrote it, which entry holds the weights, what it states of the training."""

import argparse
import math
import re
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from kdviz.base.check import KdvizError, require
from kdviz.checkpoints.schema import LONGEST, MOST, Facts, Recipe, validate
from kdviz.data import DATA
from kdviz.models import LIBRARY_NAMES

# Entries that hold weights: as trained, the student's first, and averaged over the steps.
ENTRIES = {
    "raw": ("student", "state_dict", "model", "model_state_dict", "net"),
    "ema": ("state_dict_ema", "model_ema", "ema_model", "ema"),
}
INNER = ("shadow", "module", "state_dict", "model")  # where the classes that average keep the tensors in their entry
SWAPPED = "ema_state_dict"  # mmengine's: here are the weights as trained, and the averaged ones are in state_dict
COUNTERS = ("total_ops", "total_params")  # that thop leaves in every module
SETTINGS = ("args", "opt", "hyper_parameters", "config", "meta")


class Foreign(NamedTuple):
    """What a file of another producer holds: its weights as it names them, and the rest.

    Attributes:
        producer: who wrote it, as far as its layout tells.
        state: tensors by name, prefixes still on.
        claims: architectures that the file names, as `kdviz.models.build` might take them.
        dropped: entries that are not used.
        weights: "raw", or "ema" where they are an average over the steps.
        facts: fields of `Checkpoint` that the file fills.
    """

    producer: str
    state: dict[str, Any]
    claims: list[str]
    dropped: list[str]
    weights: str
    facts: dict[str, Any]


def parse(payload: Any, weights: str | None = None) -> Foreign:
    """The parts of a payload of another producer.

    Args:
        payload: what the file holds.
        weights: "raw" or "ema" [default: raw, where the file has them].

    Raises: KdvizError when there are no weights in it, or none of those that were asked for.
    """
    require(
        isinstance(payload, Mapping),
        f"holds a {type(payload).__name__}, not a checkpoint; expected a state_dict or a dict with one inside",
    )
    require(
        not {"fingerprint", "position", "objective"} <= payload.keys(),
        "is the resume state of kdviz train; open last.pt or best.pt beside it",
    )
    entry, state, kind = _choose(payload, weights)
    producer = _producer(payload, state)
    settings = _settings(payload)
    tensors = {
        key: value
        for key, value in state.items()
        if isinstance(value, Tensor) and key.rsplit(".", 1)[-1] not in COUNTERS
    }
    unused = sorted(set(payload) - {entry, "epoch"}, key=str) if entry else []
    extra = [str(key) for key in state if key not in tensors and key.rsplit(".", 1)[-1] not in COUNTERS]
    extra += [f"thop's {name}" for name in COUNTERS if any(key.rsplit(".", 1)[-1] == name for key in state)]
    facts = _facts(payload, settings)
    validate(Facts, facts)
    return Foreign(producer, tensors, _claims(producer, payload, settings), [*map(str, unused), *extra], kind, facts)


def _choose(payload: Mapping[Any, Any], wanted: str | None) -> tuple[str | None, Mapping[str, Any], str]:
    """The entry that holds the weights (None: the payload itself), the weights in it, and "raw" or "ema"."""
    found = {kind: _entry(payload, names) for kind, names in ENTRIES.items()}
    if found["raw"] and _is_state(payload.get(SWAPPED)):
        found = {"raw": (SWAPPED, payload[SWAPPED]), "ema": found["raw"]}
    if not any(found.values()) and _is_state(payload):
        found["raw"] = (None, payload)
    if not any(found.values()):
        raise KdvizError(f"has no weights in it; it holds {_names(payload)}")
    if wanted == "ema" and found["ema"] is None and found["raw"] is not None:
        entry, state = found["raw"]
        part = _averaged_part(state)
        found["ema"] = (entry, part) if part else None
    kind = wanted or ("raw" if found["raw"] else "ema")
    chosen = found[kind]
    if chosen is None:
        other, hint = ("averaged", "ema") if kind == "raw" else ("no averaged", "raw")
        raise KdvizError(f"holds {other} weights{' alone' if kind == 'raw' else ''}; open it with --weights {hint}")
    entry, state = chosen
    return entry, _completed(state, found["raw"]) if kind == "ema" else state, kind


def _entry(payload: Mapping[Any, Any], names: tuple[str, ...]) -> tuple[str | None, Mapping[str, Any]] | None:
    """The first entry that holds weights, by itself or one level deeper, and they."""
    for name in names:
        value = payload.get(name)
        inside = (value[key] for key in INNER if key in value) if isinstance(value, Mapping) else ()
        state = next((one for one in (value, *inside) if _is_state(one)), None)
        if state is not None:
            return name, state
    return None


def _averaged_part(state: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors below a group of averaged weights ("ema_model."), under the names that they have there."""
    found = {}
    for key, tensor in state.items():
        parts = key.split(".")
        place = next((i for i, part in enumerate(parts[:-1]) if part in ENTRIES["ema"]), None)
        if place is not None:
            found[".".join(parts[place + 1 :])] = tensor
    return found


def _completed(state: Mapping[str, Any], raw: tuple[str | None, Mapping[str, Any]] | None) -> Mapping[str, Any]:
    """Averaged weights with what their modules lack from the raw ones: some averages follow no running statistics."""
    if raw is None:
        return state
    averaged = _unwrapped(state)
    modules = {key.rpartition(".")[0] for key in averaged}
    lacking = {
        key: tensor
        for key, tensor in _unwrapped(raw[1]).items()
        if key not in averaged and "." in key and key.rpartition(".")[0] in modules
    }
    return {**averaged, **lacking} if lacking else state


def _unwrapped(state: Mapping[str, Any]) -> dict[str, Any]:
    return {re.sub(r"^(module\.|_orig_mod\.)+", "", key): tensor for key, tensor in state.items()}


def _is_state(value: Any) -> bool:
    """A mapping from names to mostly tensors; torchvision's and Lightning's may hold a few other things."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return False
    tensors = sum(isinstance(entry, Tensor) for entry in value.values())
    return tensors > 0 and 2 * tensors >= len(value)


# Distinguished by what each alone writes, the most particular first.
LAYOUTS: tuple[tuple[str, Callable[[set[str], str], bool]], ...] = (
    ("Lightning", lambda has, key: "pytorch-lightning_version" in has),
    ("mmrazor", lambda has, key: {"meta", "state_dict"} <= has),
    ("timm", lambda has, key: {"arch", "state_dict"} <= has and bool({"version", "args", "metric"} & has)),
    ("PyTorch ImageNet example", lambda has, key: {"arch", "state_dict"} <= has),
    ("DIST_KD", lambda has, key: "model" in has and bool({"ema_model", "dyrep"} & has)),
    ("torchdistill", lambda has, key: {"model", "best_value"} <= has),
    ("torchvision", lambda has, key: {"model", "lr_scheduler"} <= has),
    ("mdistiller", lambda has, key: key.startswith(("module.student.", "module.teacher.")) or has == {"model"}),
    ("CTKD", lambda has, key: {"epoch", "model", "best_acc"} == has and key.startswith("module.")),
    ("RepDistiller", lambda has, key: "model" in has and bool({"accuracy", "best_acc", "opt"} & has)),
)


def _producer(payload: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    if state is payload:
        return "bare"
    has, first = {str(key) for key in payload}, next(iter(state))
    return next((name for name, written_by in LAYOUTS if written_by(has, first)), "unknown")


def _settings(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers, strings and lists among the file's settings."""
    found: dict[str, Any] = {}
    for key in SETTINGS:
        entry = payload.get(key)
        values = vars(entry) if isinstance(entry, argparse.Namespace) else entry
        if isinstance(values, Mapping):
            short = {_short(str(name)): _short(value) for name, value in islice(values.items(), MOST // 64)}
            found |= {name: value for name, value in short.items() if value is not None}
    return found


def _short(value: Any) -> Any:
    """A number, a string or a short list of them; None for anything else."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple) and len(value) <= 32:
        parts = [_short(part) if not isinstance(part, list | tuple) else None for part in value]
        return None if None in parts else parts
    if isinstance(value, str):  # surrogates, which no other file can hold, become question marks
        return value[:LONGEST].replace("\0", "").encode(errors="replace").decode()
    return value if isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**63) else None


def _claims(producer: str, payload: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Architectures of other libraries that the file names; nets of our own are known by their shapes."""
    library = {"timm": "timm", "PyTorch ImageNet example": "torchvision", "torchvision": "torchvision"}.get(producer)
    named = payload.get("arch") or settings.get("model")
    return [claim(library, named)] if library and isinstance(named, str) else []


def claim(library: str, name: str) -> str:
    """The name for `kdviz.models.build` of another library's net: ours where we have the same one.

    >>> claim("timm", "resnet18.a1_in1k"), claim("timm", "vit_tiny")
    ('resnet18_imagenet', 'timm:vit_tiny')
    """
    return LIBRARY_NAMES.get(name.split(".")[0], f"{library}:{name}")


def _facts(payload: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    # kdviz' own parts of a recipe are of types that only kdviz writes
    recipe = {name: value for name, value in settings.items() if name not in Recipe.model_fields}
    facts: dict[str, Any] = {"recipe": recipe, "data": _data(settings)}
    epoch = _number(payload.get("epoch", settings.get("epoch")))
    facts["epoch"] = None if epoch is None or not 0 <= epoch < 2**63 else int(epoch)
    if isinstance(settings.get("distill"), str):  # RepDistiller's name for the method
        facts["method"] = settings["distill"]
    seed = settings.get("seed")
    facts["seed"] = seed if isinstance(seed, int) and not isinstance(seed, bool) else None
    for key, which in (("best_acc", "best"), ("best_acc1", "best"), ("best_value", "best"), ("accuracy", "last")):
        percent = _number(payload.get(key))
        if percent is not None and 0 <= percent <= 100:
            facts["metrics"] = {which: {"top1": percent / 100}}
            break
    version = payload.get("pytorch-lightning_version")
    facts["versions"] = {"pytorch-lightning": _short(version)} if isinstance(version, str) else {}
    return facts


def _number(value: Any) -> float | None:
    """A finite number, out of a 0-d tensor or NumPy's type if need be."""
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 and not value.is_meta else None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _data(settings: Mapping[str, Any]) -> str | None:
    """Our name of the data set that the settings name ("torch/CIFAR-100" is cifar100)."""
    for key in ("dataset", "data", "data_name"):
        named = settings.get(key)
        if isinstance(named, str):
            wanted = re.sub(r"[^a-z0-9]", "", named.rsplit("/", 1)[-1].lower())
            for name in DATA:
                if re.sub(r"[^a-z0-9]", "", name) == wanted:
                    return name
    return None


def _names(payload: Mapping[Any, Any]) -> str:
    names = [str(key)[:40] for key in payload]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") or "nothing"
