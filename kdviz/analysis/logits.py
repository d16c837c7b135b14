"""One pass over a data set: logits of student and teacher, labels and sample ids in one dataset."""

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from kdviz.analysis.attributes import meaning
from kdviz.analysis.sources import chunks, open_logits
from kdviz.base.check import KdvizError, require
from kdviz.base.files import versions
from kdviz.models import evaluating, logits_of, net_of

if TYPE_CHECKING:
    from kdviz.data import Data

Progress = Callable[[int, int], None]


def collect_logits(
    model: Any,
    data: "Data | Iterable[tuple[Tensor, Tensor]]",
    *,
    teacher: Any = None,
    batch: int = 250,
    label: str | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Logits of a net, and of its teacher, over a data set.

    Nets run in eval mode, in float32, without gradients, on their own device; modes are restored. Logits are recorded
    as they come: NaN and infinities are counted in the attributes and refused by the measurements.

    Args:
        model: a net, or a `Checkpoint`.
        data: a `Data`, or an iterable of (images, labels) batches that fit the net.
        teacher: a net, a `Checkpoint`, or logits [n, k] that were collected before; None for the student alone.
        batch: images per forward pass, where data is a `Data`.
        label: the student's name in figures; None takes the checkpoint's method.
        progress: called with (images done, images in all; 0 where unknown).
    Returns: dataset (sample, channel): logits_student, logits_teacher float32; target int64 (sample); class_name
        (channel) where the data set has names.
    Raises: KdvizError for class counts that differ, an empty data set, or teacher logits of another data set.
    """
    require(batch > 0, f"collect_logits: batch must be above 0, got {batch}")
    nets = {"student": net_of(model)}
    if isinstance(teacher, nn.Module) or hasattr(teacher, "model"):
        nets["teacher"] = net_of(teacher)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (*nets, "target")}
    total = len(data) if hasattr(data, "batches") else 0  # pyright: ignore[reportArgumentType]
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # a GPU would round convolutions to 10 bits
    with evaluating(*nets.values()), torch.inference_mode(), exact:
        done = 0
        for images, labels in data.batches(batch) if hasattr(data, "batches") else data:  # pyright: ignore
            for name, net in nets.items():
                parts[name].append(_forward(net, images))
            parts["target"].append(np.asarray(labels.cpu(), dtype=np.int64))
            done += len(images)
            if progress:
                progress(done, total)
    require(parts["target"], "collect_logits: the data set has no images")
    arrays = {name: np.concatenate(part) for name, part in parts.items()}
    if teacher is not None and "teacher" not in nets:
        arrays["teacher"] = np.asarray(getattr(teacher, "values", teacher), dtype=np.float32)
    return dataset_of(arrays, data, origin_of(model, data, teacher, label))


def load_logits(source: Any, *, drop_nonfinite: bool = False, label: str | None = None) -> xr.Dataset:
    """Logits from anywhere as one checked dataset in memory, as `collect_logits` returns them.

    Args: source, label as `open_logits`; drop_nonfinite leaves samples with NaN or infinities out.
    Raises: KdvizError for class counts that differ, NaN or Inf, no samples, labels out of range.
    """
    opened = open_logits(source, label=label)
    parts = list(chunks(opened, who="load_logits", drop_nonfinite=drop_nonfinite, teacher=False, least=1))
    names = ("student", "teacher", "target")
    arrays = {name: _joined([getattr(part, name) for part in parts]) for name in names}
    loaded = dataset_of({k: v for k, v in arrays.items() if v is not None}, None, {**opened.attrs, "kind": "logits"})
    return loaded.assign_coords(sample=_joined([part.ids for part in parts]))


def _joined(parts: list[Tensor | None]) -> np.ndarray | None:
    return None if parts[0] is None else torch.cat([part.cpu() for part in parts if part is not None]).numpy()


def _forward(net: nn.Module, images: Tensor) -> np.ndarray:
    first = next(iter(net.parameters()), None)
    moved = images if first is None else images.to(first.device)
    return logits_of(net(moved)).float().cpu().numpy()


def dataset_of(arrays: dict[str, np.ndarray], data: Any, attrs: dict[str, Any]) -> xr.Dataset:
    """The dataset of collected logits "student" and "teacher" [n, k] and labels "target" [n], where there are any.

    Raises: KdvizError for shapes that differ, or labels out of range.
    """
    student, target = arrays["student"], arrays.get("target")
    n, k = student.shape
    if "teacher" in arrays and arrays["teacher"].shape != student.shape:
        raise KdvizError(
            f"collect_logits: the student's logits are {student.shape} but the teacher's {arrays['teacher'].shape};"
            " were they trained on different data sets?"
        )
    if target is not None and target.size:
        require(
            target.min() >= 0 and target.max() < k,
            f"collect_logits: labels span {target.min()}..{target.max()} but the net has {k} classes",
        )
    values: dict[str, Any] = {
        f"logits_{name}": (("sample", "channel"), array) for name, array in arrays.items() if name != "target"
    }
    if target is not None:
        values["target"] = (("sample",), target)
    ids = data.ids.numpy() if hasattr(data, "ids") else np.arange(n)
    coordinates: dict[str, Any] = {"sample": ids, "channel": np.arange(k)}
    if len(getattr(data, "class_names", ())) == k:
        coordinates["class_name"] = ("channel", np.array(data.class_names, dtype=object))
    dataset = xr.Dataset(values, coordinates, attrs)
    for name in ("student", "teacher"):
        if name in arrays:
            dataset[f"logits_{name}"].attrs |= meaning("logit", f"{name}'s logit")
    if "logits_teacher" in dataset:  # so that they can serve the next student by themselves
        dataset["logits_teacher"].attrs |= {key: attrs[key] for key in attrs if str(key).startswith("teacher_")}
    return dataset


def origin_of(model: Any, data: Any, teacher: Any, label: str | None) -> dict[str, Any]:
    """What a reader needs to repeat the pass."""
    found: dict[str, Any] = {"kind": "logits", "label": label or label_of(model), "versions": json.dumps(versions())}
    for role, one in (("student", model), ("teacher", teacher)):
        if getattr(one, "sha256", None):
            found |= {f"{role}_name": one.name, f"{role}_sha256": one.sha256, f"{role}_path": str(one.path)}
    if isinstance(teacher, xr.DataArray):
        found |= {key: value for key, value in teacher.attrs.items() if str(key).startswith("teacher_")}
    if hasattr(data, "sha256"):
        kind = "synthetic" if data.synthetic else "real"
        found |= {"data": data.name, "split": data.split, "data_sha256": data.sha256, "data_kind": kind}
        found |= {"synthetic": int(data.synthetic), **data.remarks}
    return found


def label_of(model: Any) -> str:
    """A student's name in figures: its method, or its file's stem, or "student"."""
    if not hasattr(model, "sha256"):
        return "student"
    return model.method or model.path.stem
