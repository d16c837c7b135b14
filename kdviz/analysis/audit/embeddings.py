"""The pooled features of both nets in the plane, side by side, and how many neighbours they share."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from kdviz.analysis.attributes import meaning, naming
from kdviz.analysis.audit.numbers import Measure, Sampled, bootstrapped, finished, mean_of, table
from kdviz.analysis.audit.opened import RANDOM, WITHOUT
from kdviz.analysis.audit.sentences import beside, value
from kdviz.analysis.audit.stages import POOLED, stages
from kdviz.analysis.audit.subjects import Subjects
from kdviz.analysis.bootstrap import INTERVALS, Bootstrap
from kdviz.base.check import KdvizError, one_of, require
from kdviz.models import evaluating

if TYPE_CHECKING:
    from kdviz.data import Data

METHODS = {"tsne": "t-SNE", "umap": "UMAP"}
INSTALL = "install scikit-learn and umap-learn: pip install 'kdviz[embeddings]'"


def embeddings(
    student: Any,
    data: "Data",
    *,
    teacher: Any,
    against: Any = None,
    untrained: Any = None,
    methods: Sequence[str] = ("tsne", "umap"),
    neighbours: int = 10,
    bootstrap: Bootstrap = INTERVALS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """t-SNE and UMAP of each net's pooled features, and what of the neighbourhoods the student keeps.

    The numbers come from the features themselves, never from the plane: both methods keep neighbours and no distances.
    Each net's picture is turned, mirrored and scaled onto the teacher's (Procrustes), which changes nothing in it.

    Args:
        student, teacher: nets, or `Checkpoint`s, with pooled features.
        data: the images; some thousand at most, since both methods take minutes for more.
        against, untrained: as `cka`.
        methods: "tsne", "umap" or both.
        neighbours: of each image, in Euclid's distance of features, of which a net's share with the teacher is counted.
        bootstrap: coverage, draws and their seed.
        seed: of both methods.
        progress: called with (pictures done, pictures).
    Returns: kind "embeddings": `table` of shared, the fraction of an image's neighbours in the teacher's features that
        are its neighbours in the student's too, and pure, the fraction of its neighbours that have its label;
        position (method, net, sample, axis); label (sample); kept (channel), the mean of shared over each class.
    Raises: KdvizError where scikit-learn or umap-learn is missing, for too few images, or a net without pooled
        features.
    Source: van der Maaten and Hinton (2008); McInnes et al. (2018); the numbers are ours.
    """
    for one in methods:
        one_of("embeddings", METHODS, method=one)
    check_installed(methods)
    n = len(data)
    require(n > 3 * neighbours, f"embeddings: {neighbours} neighbours need more than {3 * neighbours} images, got {n}")
    subjects = Subjects.of(student, data, teacher=teacher, against=against, untrained=untrained)
    features = {name: pooled(net, data, who=subjects.titles[name]) for name, net in subjects.nets.items()}
    near = {name: nearest(one, neighbours) for name, one in features.items()}
    labels = data.labels.numpy()
    shared: dict[str, np.ndarray] = {}
    for name in subjects.nets:
        if name != "teacher":
            pair = ("student", RANDOM) if name == RANDOM else (name, "teacher")
            shared[name] = np.array([np.isin(*rows).mean() for rows in zip(near[pair[0]], near[pair[1]], strict=True)])
    pure = {name: (labels[one] == labels[:, None]).mean(axis=1) for name, one in near.items()}
    sampled: Mapping[str, dict[str, Sampled]] = {
        "shared": {name: mean_of(one) for name, one in shared.items()},
        "pure": {name: mean_of(one) for name, one in pure.items()},
    }
    measures = {
        "shared": Measure(f"of {neighbours} neighbours, shared with the teacher", "fraction"),
        "pure": Measure(f"of {neighbours} neighbours, of the same class", "fraction"),
    }
    result = table(subjects, measures, *bootstrapped(sampled, bootstrap))
    nets = list(subjects.nets)
    planes = []
    for at, method in enumerate(methods):
        flat: dict[str, np.ndarray] = {}
        for done, name in enumerate(nets):
            flat[name] = _turned(_plane(method, features[name], seed), flat.get("teacher"))
            if progress:
                progress(at * len(nets) + done + 1, len(methods) * len(nets))
        planes.append(np.stack([flat[name] for name in nets]))
    counts = np.bincount(labels, minlength=data.classes)
    sums = np.bincount(labels, weights=shared["student"], minlength=data.classes)
    kept = np.divide(sums, counts, out=np.full(data.classes, np.nan), where=counts > 0)
    result = result.assign(
        position=(
            ("method", "net", "sample", "axis"),
            np.stack(planes).astype(np.float32),
            meaning("1", "place in the plane"),
        ),
        target=("sample", labels, meaning("1", "label")),
        kept=("channel", kept, meaning("fraction", "neighbours shared with the teacher", "metric")),
    ).assign_coords(
        method=list(methods),
        net=nets,
        sample=data.ids.numpy(),
        axis=["x", "y"],
        class_name=("channel", np.array(data.class_names, dtype=object)),
    )
    result["method"].attrs = naming({name: METHODS[name] for name in methods})
    result["net"].attrs = subjects.naming(nets)
    caption = (
        "Pooled features in the plane, one point an image; pictures are turned onto the teacher's, and their axes have"
        " no unit. Distances in them mean little, neighbours something; the numbers come from the features. The random"
        " teacher is an untrained net of the teacher's architecture. Coloured are the classes whose neighbours the"
        " student shares least with its teacher."
    )
    result = finished(result, subjects, "embeddings", caption, bootstrap, neighbours=neighbours, embedding_seed=seed)
    return result.assign_attrs(finding=_finding(result))


def check_installed(methods: Sequence[str] = ("tsne", "umap")) -> None:
    """Refuse what cannot be computed here.

    Raises: KdvizError where scikit-learn or umap-learn is missing.
    """
    from importlib.util import find_spec

    wanted = {"tsne": ("sklearn", "scikit-learn"), "umap": ("umap", "umap-learn")}
    missing = [wanted[one][1] for one in methods if find_spec(wanted[one][0]) is None]
    require(not missing, f"embeddings: {' and '.join(missing)} is not installed; {INSTALL}")


def pooled(net: torch.nn.Module, data: "Data", *, who: str = "net", batch: int = 250) -> np.ndarray:
    """The features that the classifier sees, [n, c] float32.

    Args:
        net: any net; its mode is restored.
        data: the images.
        who: the net, for errors.
        batch: images in the net at a time.
    Raises: KdvizError for a net without pooled features.
    """
    parts = []
    with torch.inference_mode(), evaluating(net), stages(net) as look:
        for images, _ in data.batches(batch):
            found = look(images)
            if POOLED not in found:
                reason = "it does not end in a linear layer"
                raise KdvizError(f"embeddings: the {who} ({type(net).__name__}) has no pooled features: {reason}")
            parts.append(found[POOLED].float().cpu())
    return torch.cat(parts).numpy()


def nearest(features: np.ndarray, count: int) -> np.ndarray:
    """The `count` nearest other rows of each row in Euclid's distance, [n, count].

    >>> nearest(np.array([[0.0], [1.0], [3.0]]), 1).tolist()
    [[1], [0], [1]]
    """
    wide = torch.from_numpy(np.asarray(features, np.float64))
    found = []
    for start in range(0, len(wide), 1024):
        distance = torch.cdist(wide[start : start + 1024], wide)
        rows = torch.arange(len(distance))
        distance[rows, start + rows] = torch.inf
        found.append(distance.topk(count, dim=1, largest=False).indices)
    return torch.cat(found).numpy()


def _plane(method: str, features: np.ndarray, seed: int) -> np.ndarray:
    """Positions [n, 2]; the same seed gives the same ones."""
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    # one thread: their threads wait for each other in loops, for minutes where other work holds the cores
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")  # both libraries warn of their own next versions
        if method == "tsne":
            from sklearn.manifold import TSNE

            reach = min(30.0, (len(features) - 1) / 3)
            return TSNE(2, perplexity=reach, init="pca", random_state=seed).fit_transform(features)
        from umap import UMAP

        near = min(15, len(features) - 1)
        return np.asarray(UMAP(n_neighbors=near, random_state=seed, n_jobs=1).fit_transform(features))


def _turned(plane: np.ndarray, onto: np.ndarray | None) -> np.ndarray:
    """Centred, of unit size, and turned or mirrored onto another picture of the same points (Schoenemann, 1966)."""
    centred = plane.astype(np.float64) - plane.mean(axis=0)
    size = np.sqrt((centred**2).sum(axis=1).mean())
    centred = centred / size if size > 0 else centred
    if onto is None:
        return centred
    left, _, right = np.linalg.svd(centred.T @ onto)
    return centred @ (left @ right)


def _finding(result: xr.Dataset) -> str:
    names, kept = result["class_name"].values, result["kept"].values
    worst = [str(names[at]) for at in np.argsort(np.where(np.isnan(kept), np.inf, kept), kind="stable")[:3]]
    return (
        f"Of an image's neighbours in the teacher's features the student's have {value(result, 'shared')}"
        f"{beside(result, 'shared')}. Of its neighbours {value(result, 'pure')} are of the same class in the student's"
        f" features, {value(result, 'pure', 'teacher')} in the teacher's{beside(result, 'pure', (WITHOUT,))}. The"
        f" fewest are shared for the classes {', '.join(worst)}."
    )
