"""Single samples: what student and teacher think of each image, and which images lie behind a bin, cell or point."""

from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.base.check import require
from kdviz.checkpoints.run_folder import RunFolder
from kdviz.viewer.library import RUN, Item, Library

if TYPE_CHECKING:
    import xarray as xr

TOP = 5
PER_BIN = 24  # samples kept for a bin
SCANNED = 1 << 23  # logits of one net that are looked at together, and in all for the samples of bins
NETS = ("teacher", "student")
KINDS = ("samples", "logits")  # results that say the top five of each sample, the first to be asked


def numbers(values: Any, digits: int = 6) -> list[Any]:
    """An array as lists for JSON: so many significant digits, None for what is not finite.

    >>> import numpy as np
    >>> numbers(np.array([[0.1234567891, np.nan], [2.0, 3.0]]))
    [[0.123457, None], [2.0, 3.0]]
    """
    array = np.asarray(values)
    if array.dtype.kind != "f":
        return array.tolist()
    if array.ndim > 1:
        return [numbers(row, digits) for row in array]
    return [float(f"{one:.{digits}g}") if np.isfinite(one) else None for one in array.tolist()]


def source_of(library: Library, item: Item) -> Item | None:
    """The result that says each sample's top five for a result of `kdviz tau`, `histogram`, ...; None without one."""
    kind = library.attributes(item).get("kind")
    if kind in KINDS:
        return item
    binned = kind == "histogram"
    kinds = ("logits",) if binned else KINDS
    return library.of_same_nets(item, *kinds, same_images=binned) or (item if kind == "tau" else None)


def table(library: Library, item: Item) -> dict[str, Any]:
    """Every sample of a result: its number in the data set, label, both nets' top five, tau, KL, places in embeddings.

    Args:
        library: where a result of `kdviz tau` of the same logits may be.
        item: a result of kind "samples" (of `kdviz audit`), "logits" or "tau".
    Returns: lists over samples: ids; target, tau, kl (nats), student and teacher ({"top", "p"}: classes and
        probabilities), each None where the result does not say it; embeddings {name, x, y}; the classes' names.
    """
    dataset = library.read(item)
    facts = {name: str(dataset.attrs.get(name, "")) for name in ("data", "split", "label")}
    found = _from_logits(dataset) if "logits_student" in dataset else _from_samples(dataset)
    ids = found.pop("ids")
    if (other := library.of_same_nets(item, "embeddings")) is not None:
        found["embeddings"] = [*_positions(library.read(other), ids), *found["embeddings"]]
    tau = found.pop("tau")
    if tau is None and (other := library.of_same_nets(item, "tau")) is not None:
        tau = _aligned(library.read(other), ids)
    return {
        **facts,
        "ids": ids.tolist(),
        "target": dataset["target"].values.tolist() if "target" in dataset else None,
        "tau": None if tau is None else numbers(tau, 4),
        "names": class_names(dataset),
        **found,
    }


def _aligned(tau: "xr.Dataset", ids: np.ndarray) -> np.ndarray | None:
    """tau-b of the samples `ids`, NaN for those that the result does not hold; None where it says no numbers."""
    if "sample" not in tau.coords or "tau_b" not in tau:
        return None
    at = dict(zip(tau["sample"].values.tolist(), tau["tau_b"].values, strict=True))
    return np.array([at.get(one, np.nan) for one in ids.tolist()])


def class_names(dataset: "xr.Dataset") -> list[str] | None:
    """The classes by their numbers, where the result names them."""
    if "class_name" in dataset.variables:
        return [str(one) for one in dataset["class_name"].values.ravel()]
    given = dataset.attrs.get("class_names")
    return [str(one) for one in given] if isinstance(given, list | np.ndarray) else None


def _from_samples(dataset: "xr.Dataset") -> dict[str, Any]:
    """Of a result that holds each sample's top five, or its tau alone."""
    count = dataset.sizes["sample"]
    index = "image" if "image" in dataset and dataset["image"].dims == ("sample",) else "sample"
    ids = dataset[index].values if index in dataset.variables else np.arange(count)
    tau = next((dataset[name].values for name in ("tau", "tau_b") if name in dataset), None)
    kl = numbers(dataset["kl"].values, 4) if "kl" in dataset else None
    found: dict[str, Any] = {"ids": ids, "tau": tau, "kl": kl, "embeddings": _embeddings(dataset)}
    for net in NETS:
        top, chance = f"top_{net}", f"probability_{net}"
        found[net] = None
        if top in dataset and chance in dataset:
            ranked = [dataset[name].transpose("sample", ...).values[:, :TOP] for name in (top, chance)]
            found[net] = {"top": ranked[0].tolist(), "p": numbers(ranked[1], 4)}
    return found


def _embeddings(dataset: "xr.Dataset") -> list[dict[str, Any]]:
    """Variables with two numbers for each sample, by their names."""
    found = []
    for name, values in dataset.data_vars.items():
        plane = [dim for dim in values.dims if dim != "sample"]
        if str(name).startswith("embedding") and len(plane) == 1 and dataset.sizes[plane[0]] == 2:
            x, y = values.transpose(plane[0], "sample").values
            title = str(values.attrs.get("long_name", name))
            found.append({"name": title, "x": numbers(x, 4), "y": numbers(y, 4)})
    return found


def _positions(dataset: "xr.Dataset", ids: np.ndarray) -> list[dict[str, Any]]:
    """The planes of an audit's embeddings, one for each net and method, for the samples `ids`."""
    if "position" not in dataset or set(dataset["position"].dims) != {"method", "net", "sample", "axis"}:
        return []
    place = {one: at for at, one in enumerate(dataset["sample"].values.tolist())}
    index = [place.get(one, -1) for one in ids.tolist()]
    found = []
    for method in dataset["method"].values:
        for net in dataset["net"].values:
            plane = dataset["position"].sel({"method": method, "net": net}).transpose("axis", "sample").values
            x, y = np.where(np.array(index) < 0, np.nan, plane[:, index])
            title = f"{net}'s features, {method}".replace("_", " ")
            found.append({"name": title, "x": numbers(x, 4), "y": numbers(y, 4)})
    return found


def _from_logits(dataset: "xr.Dataset") -> dict[str, Any]:
    """The top five and KL from logits, in pieces; of not too many the two principal components of each net's logits."""
    count, channels = dataset.sizes["sample"], dataset.sizes["channel"]
    ids = dataset["sample"].values if "sample" in dataset.coords else np.arange(count)
    nets = [net for net in NETS if f"logits_{net}" in dataset]
    step = max(1, SCANNED // channels)
    parts = [_piece(dataset.isel(sample=slice(at, at + step)), nets) for at in range(0, count, step)]
    found: dict[str, Any] = {"ids": ids, "tau": None, "kl": None, "teacher": None, "embeddings": []}
    for net in nets:
        top, chance = (np.concatenate([part[net][at] for part in parts]) for at in (0, 1))
        found[net] = {"top": top.tolist(), "p": numbers(chance, 4)}
    if len(nets) == 2:
        found["kl"] = numbers(np.concatenate([part["kl"] for part in parts]), 4)
    for net in nets if len(parts) == 1 and min(count, channels) > 2 else ():
        rows = logits_of(dataset, net)
        if np.isfinite(rows).all():
            x, y = principal(rows - rows.mean(axis=1, keepdims=True))
            name = f"{net}'s logits, two principal components"
            found["embeddings"].append({"name": name, "x": numbers(x, 4), "y": numbers(y, 4)})
    return found


def _piece(dataset: "xr.Dataset", nets: list[str]) -> dict[str, Any]:
    """Of some samples, for each net its top classes and their probabilities, and KL(teacher || student) in nats."""
    logarithms = {net: log_softmax(logits_of(dataset, net)) for net in nets}
    found: dict[str, Any] = {}
    for net, rows in logarithms.items():
        top = np.argsort(-rows, axis=1, kind="stable")[:, :TOP]
        found[net] = top, np.exp(np.take_along_axis(rows, top, 1))
    if len(nets) == 2:
        p, q = logarithms["teacher"], logarithms["student"]
        with np.errstate(invalid="ignore"):
            found["kl"] = np.where(p > -np.inf, np.exp(p) * (p - q), 0).sum(axis=1)
    return found


def logits_of(dataset: "xr.Dataset", net: str) -> np.ndarray:
    """A net's logits [n, k] in float64; -inf for what is no number."""
    rows = dataset[f"logits_{net}"].transpose("sample", "channel").values.astype(np.float64)
    return np.where(np.isfinite(rows), rows, -np.inf)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """ln softmax over the last axis; -inf throughout where a row holds no number."""
    top = logits.max(axis=1, keepdims=True)
    lowered = logits - np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):
        sums = np.log(np.exp(lowered).sum(axis=1, keepdims=True))
    return np.where(np.isfinite(sums), lowered - np.where(np.isfinite(sums), sums, 0), -np.inf)


def principal(rows: np.ndarray) -> np.ndarray:
    """The coordinates [2, n] of rows [n, k] along their two directions of largest variance, signs made definite."""
    centred = rows - rows.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    first = vectors[:, ::-1][:, :2]
    signs = np.sign(first[np.abs(first).argmax(axis=0), [0, 1]])
    return (centred @ (first * np.where(signs == 0, 1, signs))).T


def behind_bins(logits: "xr.Dataset", edges: np.ndarray, temperature: float | None) -> dict[str, list[dict[str, Any]]]:
    """For each net and bin, how many samples have a channel in it, and some of them.

    Args:
        logits: a result of kind "logits".
        edges: [bins + 1], evenly spaced.
        temperature: of the softmax whose probabilities are binned; None for the logits themselves.
    Returns: net -> bins, each {"count", "ids", "channels"}: samples in their order, with a channel that is in the bin.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    logits = logits.isel(sample=slice(max(1, SCANNED // logits.sizes["channel"])))
    for net in (net for net in NETS if f"logits_{net}" in logits):
        rows = logits_of(logits, net)
        ids = logits["sample"].values if "sample" in logits.coords else np.arange(len(rows))
        values = rows if temperature is None else np.exp(log_softmax(rows / temperature))
        place = np.floor((values - edges[0]) / (edges[1] - edges[0]))
        place = np.where(np.isfinite(rows), place, -1)
        found[net] = [_behind(place == at, ids) for at in range(len(edges) - 1)]
    return found


def _behind(inside: np.ndarray, ids: np.ndarray) -> dict[str, Any]:
    samples = np.flatnonzero(inside.any(axis=1))
    few = samples[:PER_BIN]
    return {"count": len(samples), "ids": ids[few].tolist(), "channels": inside[few].argmax(axis=1).tolist()}


def image_request(library: Library, item: Item, asked: list[int]) -> dict[str, Any]:
    """What `kdviz.viewer.images` is asked for the samples `asked` of a result, with their labels where it says them."""
    dataset = library.read(item)
    ids = _from_samples(dataset)["ids"] if "logits_student" not in dataset else dataset["sample"].values
    target = dict(zip(ids.tolist(), dataset["target"].values.tolist(), strict=True)) if "target" in dataset else {}
    known = [one for one in asked if one in set(ids.tolist())]
    require("data" in dataset.attrs, f"{item.name} does not say of which data set its samples are")
    return {
        "data": str(dataset.attrs.get("data", "")),
        "split": str(dataset.attrs.get("split", "test")),
        "root": library.root or _root_of_runs(library, str(dataset.attrs.get("data", ""))),
        "ids": known,
        "target": [target[one] for one in known] if target else None,
    }


def _root_of_runs(library: Library, data: str) -> str | None:
    """The folder that a run of the library on this data set was trained from, where it was given one."""
    for item in library.items(RUN):
        run = RunFolder(item.path)
        if any(one.get("data") == data for one in run.events("start")) and run.root is not None:
            return str(run.root)
    return None
