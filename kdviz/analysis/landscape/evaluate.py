"""Losses, accuracy and agreement of a net at any weights: the objective of a landscape."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kdviz.analysis.landscape.interval import halfwidth, share_halfwidth
from kdviz.analysis.landscape.metrics import METRICS, WITH_TEACHER, variables
from kdviz.analysis.landscape.network import Network
from kdviz.analysis.landscape.options import Measurement
from kdviz.analysis.landscape.replay import recorded
from kdviz.base.check import one_of, require
from kdviz.base.files import versions
from kdviz.base.processes import local_device
from kdviz.base.threads import in_threads
from kdviz.data import Data
from kdviz.losses import loss_value, resolve, validate_logits
from kdviz.models import net_of

CHUNKS = {"cpu": (16, 32, 64), "cuda": (128, 256, 512, 1024, 2048)}
RESIDENT = 2**31  # bytes of images that are kept ready for the net
IN_FLIGHT = 2**26  # numbers of the images that are in the net at a time: 445 images of 3 x 224 x 224


class Evaluator:
    """weights -> {loss: value, ..., "accuracy": share}, computed from one pass over the images.

    The images go through the net in chunks that stay in the cache, on a CPU by threads of one core each; every loss
    and metric then comes from the same logits. A loss that is no mean over samples (dist) sees all images as one batch.
    The model itself is never touched.

    Args:
        model: any net that returns logits, or a `Checkpoint`.
        data: the images; at most 2 GiB of them are kept ready.
        measurement: losses, teacher, samples, precision and the like.
    Attributes:
        weights: name -> tensor, the model's parameters, on the device.
        chunk, threads: images at a time, and how many chunks at the same time.
        attrs: what is needed to repeat the measurement.
        variables: name -> unit, long name and role of every value.
    Raises:
        KdvizError: an unknown loss or setting, a missing teacher, class counts that differ, weights not finite.
    Source: ours.
    """

    def __init__(self, model: Any, data: Data, measurement: Measurement = Measurement()) -> None:
        one_of("landscape", ("frozen", "recompute", None), bn=measurement.bn)
        device = torch.device(measurement.device or local_device())
        self.model, self.measurement, self.bn = net_of(model), measurement, measurement.bn or "frozen"
        self.data = data if measurement.samples is None else data.subset(measurement.samples, seed=measurement.seed)
        self.sampled = len(self.data) < len(data)
        self.population = torch.bincount(data.labels, minlength=data.classes)
        self.target = self.data.labels.to(device)
        example = next(self.data.batches(min(len(self.data), 8)))[0]
        self.network = Network(
            self.model, example, fold=measurement.fold, precision=measurement.precision, device=device
        )
        self.weights = {name: tensor.detach().to(device, copy=True) for name, tensor in self.model.named_parameters()}
        self.terms, self.metrics = _terms(measurement)
        self.variables = variables([*self.terms, *self.metrics, "accuracy"])
        self.logits_teacher = self._teacher(measurement.teacher, data, example, device)
        self._validate(self.network(self.network.prepare(example)))
        self.chunk, self.threads = self._plan(measurement.chunk, example[0])
        size = example[0].numel() * len(self.data) * self.network.dtype.itemsize
        self._ready = list(self._chunks()) if size <= RESIDENT else None
        self._pass = recorded(self._whole, device) if device.type == "cuda" and self._ready else self._whole
        self.attrs = self._attributes(data)

    def _attributes(self, whole: Data) -> dict[str, Any]:
        return {
            "data": whole.name,
            "split": whole.split,
            "data_sha256": whole.sha256,
            "synthetic": int(whole.synthetic),
            **whole.remarks,
            "samples": len(self.data),
            "population": len(whole),
            "samples_seed": self.measurement.seed,
            "losses": " ".join([*self.terms, *self.metrics]),
            "settings": json.dumps(dict(self.measurement.settings), sort_keys=True),
            "precision": self.measurement.precision,
            "bn": self.bn,
            "folded": len(self.network.pairs),
            "device": self.network.device.type,
            "versions": json.dumps(versions()),
        }

    def __call__(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Every loss and metric at these weights."""
        return self.measure(self.logits(weights))

    def logits(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The net's logits [n, k] at these weights; on a GPU the next call overwrites them."""
        self.network.load(weights)
        if self.bn == "recompute":
            require(len(self.data) > 1, "landscape: bn='recompute' needs two images or more")
            self.network.recompute(images for images, _ in self.data.batches(_even(100, len(self.data))))
        return self._pass()

    def _whole(self) -> Tensor:
        return torch.cat(in_threads(self.network, self._ready or self._chunks(), self.threads))

    @torch.no_grad()
    def measure(self, logits: Tensor) -> dict[str, float]:
        """Every loss and metric of these logits [n, k]."""
        values = {}
        labels = self.data.labels
        for name, settings in self.terms.items():
            tensors = (logits, self.logits_teacher, self.target)
            mean = "none" if resolve(name).separable else "mean"
            each = loss_value(name, *tensors, settings=settings, reduction=mean).double()
            values[name] = float(each.mean())
            if self.sampled and each.dim():
                values[f"{name}_halfwidth"] = halfwidth(each.cpu(), labels, self.population)
        found = {name: METRICS[name].function(logits, self.logits_teacher) for name in self.metrics}  # pyright: ignore
        found["accuracy"] = (logits.argmax(1) == self.target).double()
        for name, each in found.items():
            each = each.cpu()
            known = ~each.isnan()  # a sample with equal logits has no tau
            values[name] = float(each[known].mean())
            if self.sampled and METRICS[name].unit == "fraction":
                values[f"{name}_halfwidth"] = share_halfwidth(int(each.sum()), len(each), int(self.population.sum()))
            elif self.sampled:
                values[f"{name}_halfwidth"] = halfwidth(each[known], labels[known], self.population)
        return values

    @property
    def teacher(self) -> nn.Module | Tensor | None:
        """The teacher's net, or, where it was given as logits, those of the images that are used."""
        given = self.measurement.teacher
        return self.logits_teacher if given is None or isinstance(given, Tensor) else net_of(given)

    def twin(self, precision: str) -> "Evaluator":
        """The same measurement in another precision, of the same images (as all there are: without half-widths)."""
        settings = {f"{name}.{key}": value for name, term in self.terms.items() for key, value in term.items()}
        changed = replace(
            self.measurement,
            losses=[*self.terms, *self.metrics],
            teacher=self.logits_teacher,
            settings=settings,
            samples=None,
            seed=0,
            precision=precision,
            bn=self.bn,
            chunk=self.chunk,
            fold=True,
            device=self.network.device,
        )
        return Evaluator(self.network.plain, self.data, changed)

    def _chunks(self) -> Iterator[Tensor]:
        return (self.network.prepare(images) for images, _ in self.data.batches(self.chunk))

    def _plan(self, chunk: int | str, image: Tensor) -> tuple[int, int]:
        """Images at a time, and threads of one core that take them (1: every chunk by all cores)."""
        n, device = len(self.data), self.network.device.type
        threads = min(torch.get_num_threads(), n) if device == "cpu" and self.network.shareable else 1
        if chunk != "auto":
            size = _even(chunk, n)
            return size, min(threads, -(-n // size))
        most = max(min(n, IN_FLIGHT // image.numel()) // threads, 1)
        sizes = [size for size in CHUNKS.get(device, CHUNKS["cuda"]) if size <= most] or [most]
        size = self._fastest(sizes, threads) if len(sizes) > 1 else sizes[0]
        return _even(size, n, threads), threads

    def _fastest(self, sizes: Sequence[int], threads: int) -> int:
        """The size that takes the least time per image, the better of two runs after a first."""
        images = next(self.data.batches(sizes[-1] * threads))[0]
        cost = {}
        for size in sizes:
            batches = [self.network.prepare(one) for one in images[: size * threads].split(size)]
            spent = [_seconds(lambda b=batches: in_threads(self._wait, b, threads)) for _ in range(3)]
            cost[size] = min(spent[1:]) / size
        return min(cost, key=cost.__getitem__)

    def _wait(self, images: Tensor) -> float:
        """The net, called and waited for."""
        return self.network(images).sum().item()

    def _teacher(self, teacher: Any, whole: Data, example: Tensor, device: torch.device) -> Tensor | None:
        if teacher is None:
            return None
        if isinstance(teacher, Tensor):
            fits = teacher.dim() == 2 and len(teacher) == len(whole)
            require(fits, f"landscape: teacher logits are {tuple(teacher.shape)}, but {whole.name} has {len(whole)}")
            order = whole.ids.argsort()
            place = order[torch.searchsorted(whole.ids[order], self.data.ids)]
            return teacher.detach()[place].to(device)
        network = Network(net_of(teacher), example, device=device)
        return torch.cat([network(network.prepare(images)) for images, _ in self.data.batches(50)])

    def _validate(self, logits: Tensor) -> None:
        if self.logits_teacher is not None:
            shapes = logits.shape[1], self.logits_teacher.shape[1]
            require(
                shapes[0] == shapes[1],
                f"landscape: the student has {shapes[0]} classes but the teacher {shapes[1]};"
                " were they trained on different data sets?",
            )
            validate_logits(self.logits_teacher, self.logits_teacher, self.target, who="landscape")
        validate_logits(logits, None, self.target[: len(logits)], who="landscape")
        most = int(self.target.max())
        require(most < logits.shape[1], f"landscape: label {most}, but the net has {logits.shape[1]} classes")


def _terms(measurement: Measurement) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """{loss: its settings} and the metrics, by their registered names."""
    losses, teacher = measurement.losses, measurement.teacher is not None
    names = [losses] if isinstance(losses, str) else list(losses)
    require(names, "landscape: no loss is named; try 'ce'")
    terms: dict[str, dict[str, Any]] = {}
    for name in names:
        if name in WITH_TEACHER:
            continue
        loss = resolve(name)
        wants = any(one.startswith(("pooled", "features")) for one in loss.takes)
        require(not wants, f"landscape: loss {loss.name!r} needs features; only losses of logits can be drawn")
        terms[loss.name] = {}
        lacking = "logits_teacher" in loss.takes and not teacher
        require(not lacking, f"landscape: loss {loss.name!r} needs a teacher; name one (teacher=, --teacher)")
    metrics = [name for name in names if name in WITH_TEACHER]
    require(teacher or not metrics, f"landscape: {', '.join(metrics)} needs a teacher; name one (teacher=, --teacher)")
    require(terms, f"landscape: {', '.join(metrics)} is no loss; name one beside it, e.g. 'ce'")
    for key, value in measurement.settings.items():
        name, _, setting = key.partition(".")
        found = resolve(name).name
        require(setting and found in terms, f"landscape: setting {key!r} is not LOSS.NAME of {', '.join(terms)}")
        terms[found][setting] = value
    return terms, metrics


def _even(chunk: int | str, n: int, threads: int = 1) -> int:
    """The size of as many equal chunks as `chunk` needs, a multiple of `threads`, so that none is left over small."""
    require(isinstance(chunk, int) and chunk > 0, f"landscape: chunk must be 'auto' or above 0, got {chunk!r}")
    rounds = -(-n // (int(chunk) * threads))
    return -(-n // (rounds * threads))


def _seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
