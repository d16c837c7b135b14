"""A data set as a net needs it: normalised by the net's mean and std, its classes at the net's channels."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdviz.base.check import KdvizError, existing, one_of, require, unknown
from kdviz.data.base import Data
from kdviz.data.external import is_external
from kdviz.data.loader import picture_at

DAMAGED = ("refuse", "leave-out")
Constants = tuple[Sequence[float], Sequence[float]]  # mean and standard deviation per channel


@dataclass(frozen=True)
class Adaptation:
    """What of a data set is taken otherwise than it says.

    Args:
        mean, std: per channel, of pixels scaled to [0, 1]; both or none.
        channels: where the data set has some of the net's classes: the net's channel of each of its classes, in their
            order, as "0,217,482"; or a file with the names of all the net's classes in the order of its channels, in
            lines ("n01440764 tench, Tinca tinca") or JSON ({"0": ["n01440764", "tench"], ...} or a list).
        damaged: "refuse" stops at an image that cannot be read; "leave-out" tries all of them first, and measures those
            that can.
    """

    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    channels: str | None = None
    damaged: str = "refuse"

    def __post_init__(self) -> None:
        one_of("--damaged", DAMAGED, damaged=self.damaged)
        require((self.mean is None) == (self.std is None), "--mean and --std go together; give both")


def adapt(data: Data, adaptation: Adaptation, *, classes: int | None = None, own: Constants | None = None) -> Data:
    """`data` as `adaptation` has it, what was changed noted in its `variant`.

    Args:
        data: a split.
        adaptation: what is asked for.
        classes: of the net, where `channels` are named.
        own: the net's mean and std (see `constants`), taken where none are asked for and those of the data are only
            ImageNet's by default: folders, `hf:` and `package.module:function`.

    Raises: KdvizError for constants or channels that do not fit the data and the net.
    """
    if adaptation.mean is not None and adaptation.std is not None:
        data = normalized(data, adaptation.mean, adaptation.std, "as asked for")
    elif own is not None and (data.name.startswith("folder:") or is_external(data.name)):
        data = normalized(data, own[0], own[1], "the net's own")
    if adaptation.channels is not None:
        require(classes, "--channels: there is no net whose channels could be meant")
        data = at_channels(data, adaptation.channels, int(classes or 0))
    return data if adaptation.damaged == "refuse" else readable(data)


def readable(data: Data) -> Data:
    """`data` without the images that cannot be read, which are counted and named in its warning.

    Raises: KdvizError where none can be read.
    """

    def reason(position: int) -> str:
        try:
            picture_at(data.images, position)
        except KdvizError as error:
            return str(error)
        return ""

    if isinstance(data.images, Tensor):
        return data
    with ThreadPoolExecutor() as pool:  # decoding leaves Python's lock
        reasons = list(pool.map(reason, range(len(data))))
    bad = [one for one in reasons if one]
    require(len(bad) < len(data), f"{data.name}: none of its {len(data):,} images can be read; the first: {bad[:1]}")
    if not bad:
        return data
    index = torch.tensor([position for position, one in enumerate(reasons) if not one])
    shown = "; ".join(bad[:3]) + ("; ..." if len(bad) > 3 else "")
    note = f"{len(bad):,} of {len(data):,} images cannot be read and are left out: {shown}"
    return replace(data.take(index), warning=_joined(data.warning, note))


def constants(found: Any) -> Constants | None:
    """(mean, std) in the settings of a net or of its training ({"mean": ..., "std": ...}), None where there are none.

    >>> constants({"mean": (0.5,), "std": (0.5,), "crop_pct": 0.9})
    ((0.5,), (0.5,))
    """
    values = found if isinstance(found, Mapping) else vars(found) if hasattr(found, "__dict__") else {}
    mean, std = values.get("mean"), values.get("std")
    if not isinstance(mean, list | tuple) or not isinstance(std, list | tuple):
        return None
    return (mean, std) if all(isinstance(number, int | float) for number in (*mean, *std)) else None


def normalized(data: Data, mean: Sequence[float], std: Sequence[float], why: str) -> Data:
    """`data` with other constants; as it is where they are its own."""
    count = data.images.shape[1]
    for name, values in (("mean", mean), ("std", std)):
        require(len(values) == count, f"--{name}: {len(values)} values, but the images have {count} channels")
        low = "at least 0" if name == "mean" else "above 0"
        good = all((one >= 0 if name == "mean" else one > 0) and one <= 1 for one in values)
        require(good, f"--{name}: expected {low} and at most 1, of pixels scaled to [0, 1]; got {_list(values)}")
    if tuple(mean) == tuple(data.mean) and tuple(std) == tuple(data.std):
        return data
    note = f"mean {_list(mean)}, std {_list(std)} ({why})"
    return replace(data, mean=tuple(mean), std=tuple(std), variant=_joined(data.variant, note))


def at_channels(data: Data, channels: str, classes: int) -> Data:
    """`data` with the labels, class count and class names of a net that knows its classes among others.

    Raises: KdvizError for a class of the data that is not among the net's, twice the same channel, or a list of
        another length than the net's classes.
    """
    names = _names(Path(channels)) if not _is_list(channels) else None
    if names is None:
        found = [int(part) for part in channels.split(",")]
        require(
            len(found) == data.classes,
            f"--channels: {len(found)} channels, but {data.name} has {data.classes} classes: {_few(data.class_names)}",
        )
        outside = next((one for one in found if not 0 <= one < classes), None)
        require(outside is None, f"--channels: {outside} is none of the net's channels 0..{classes - 1}")
        whole = [f"channel {number}" for number in range(classes)]
        for channel, name in zip(found, data.class_names, strict=True):
            whole[channel] = name
    else:
        require(len(names) == classes, f"{channels}: {len(names)} classes, but the net has {classes}")
        known = _channels_by_name(names)
        found = [_channel(name, known, channels) for name in data.class_names]
        whole = [spellings[1 if _is_id(spellings[0]) and len(spellings) > 1 else 0] for spellings in names]
    twice = next((one for one in found if found.count(one) > 1), None)
    require(twice is None, f"--channels: channel {twice} stands there twice")
    note = f"{data.classes} of {classes} classes, at channels {', '.join(map(str, found))}"
    labels = torch.tensor(found)[data.labels.cpu()].to(data.labels.device)
    return replace(data, labels=labels, class_names=tuple(whole), variant=_joined(data.variant, note))


def _is_list(text: str) -> bool:
    return all(part.strip().isdecimal() for part in text.split(","))


def _names(path: Path) -> list[list[str]]:
    """Every class of a list of classes with the ways in which it may be called."""
    text = existing(path, what="list of classes").read_text(encoding="utf-8", errors="replace")
    if path.suffix != ".json":
        return [_spellings(line.strip()) for line in text.splitlines() if line.strip()]
    try:
        found = json.loads(text)
        if isinstance(found, dict):
            found = [found[str(number)] for number in range(len(found))]
    except (ValueError, KeyError, RecursionError) as error:
        raise KdvizError(f"{path}: no list of classes: {error}") from error
    require(isinstance(found, list) and found, f"{path}: no list of classes")
    return [[str(one) for one in entry] if isinstance(entry, list) else _spellings(str(entry)) for entry in found]


def _spellings(line: str) -> list[str]:
    """How the class of a line may be called: by the id that it starts with and each name after it, or as it stands.

    >>> _spellings("n01440764 tench, Tinca tinca"), _spellings("sea lion")
    (['n01440764', 'tench', 'Tinca tinca'], ['sea lion'])
    """
    first, _, rest = line.partition(" ")
    return [first, *(part.strip() for part in rest.split(",") if part.strip())] if _is_id(first) else [line]


def _is_id(word: str) -> bool:
    return word[:1] == "n" and word[1:].isdecimal()


def _channels_by_name(names: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for channel, spellings in enumerate(names):
        for name in dict.fromkeys(spellings):
            found.setdefault(name, []).append(channel)
    return found


def _channel(name: str, known: Mapping[str, list[int]], path: str) -> int:
    if name not in known:
        raise KdvizError(f"{path}: {unknown('class', name, known, most=5)}")
    channels = known[name]
    require(len(channels) == 1, f"{path}: {name!r} names the channels {', '.join(map(str, channels))}; use their ids")
    return channels[0]


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
