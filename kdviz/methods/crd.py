"""CRD: each sample's features contrasted with those of other classes, with a memory of all samples."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdviz.base.check import positive, require
from kdviz.losses import papers
from kdviz.losses.inputs import unmixed, wide
from kdviz.methods.batch import Batch
from kdviz.methods.method import METHODS, Method, Term
from kdviz.methods.shapes import both, pooled
from kdviz.methods.term import Probe
from kdviz.models import Outputs

EPSILON = 1e-7  # of the original code, beside the noise probability


class Embedding(nn.Module):
    """A linear layer onto the unit sphere."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, dim)

    def forward(self, features: Tensor) -> Tensor:
        return functional.normalize(self.linear(features))


class CRD(nn.Module):
    """Noise-contrastive estimation of which pair of features belongs to one sample.

    A score is exp(<memory, embedding> / temperature) / Z, with p = score, c = K / N + 1e-7 and K / N the noise; each
    side's loss is -[log p / (p + c) of the sample itself + sum log (K / N) / (p + c) of K samples of other classes],
    mean over the batch. The student's embedding is scored against the teacher's memory and the other way round. Z is
    the mean score of the first batch times N and then stays; memories move towards the batch's embeddings.

    Buffers: `memory_student`, `memory_teacher` [N, dim], rows of unit length after their first update; `log_z` [2], of
    the student's and of the teacher's embedding, NaN until the first batch. Negatives are drawn from torch's global
    random state on the device, without replacement where other classes have K samples at least.

    Args:
        probe: of both nets, with the labels of the training split.
        dim: of the embeddings.
        negatives: K, per sample, 1 or more.
        temperature: above 0.
        momentum: share of the old row in an updated memory, from 0 up to but not 1.

    Source: Tian et al. 2020, sec. 3.1; negatives of other classes as in its code ("exact").

    Differs from: the original code, which gathers K + 1 rows of the memory per sample; here all N scores are computed
    and K + 1 of them taken, the same numbers in less memory.
    """

    needs = frozenset({"teacher", "pooled", "ids"})
    memory_student: Tensor
    memory_teacher: Tensor
    log_z: Tensor

    def __init__(
        self, probe: Probe, *, dim: int = 128, negatives: int = 16384, temperature: float = 0.07, momentum: float = 0.5
    ) -> None:
        super().__init__()
        require(not isinstance(temperature, tuple), f"crd: temperature must be one number, got {temperature}")
        positive("crd", dim=dim, negatives=negatives, temperature=temperature)
        require(0 <= momentum < 1, f"crd: momentum must be from 0 up to but not 1, got {momentum}")
        student, teacher = both("crd", probe)
        widths = (pooled("crd", "student", student).shape[1], pooled("crd", "teacher", teacher).shape[1])
        counts = torch.bincount(probe.labels.cpu(), minlength=probe.classes)
        fewest = len(probe.labels) - int(counts.max())
        require(fewest > 0, "crd: needs negatives, but all samples of the training split are of one class")
        self.temperature, self.momentum, self.count = temperature, momentum, negatives
        self.embed_s, self.embed_t = (Embedding(width, dim) for width in widths)
        self.draw = OfOtherClasses(probe.labels, counts, negatives, replace=negatives > fewest)
        span = (3 / dim) ** 0.5  # uniform within it: rows of expected square length 1
        for side in ("student", "teacher"):
            self.register_buffer(f"memory_{side}", torch.empty(len(probe.labels), dim).uniform_(-span, span))
        self.register_buffer("log_z", torch.full((2,), math.nan))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, *, epoch: float) -> Tensor:
        """The loss as a scalar in nats; in training mode also updates the memories."""
        features = pooled("crd", "student", student), pooled("crd", "teacher", teacher).detach()
        with unmixed(features[0].device):
            learnt, taught = self.embed_s(wide(features[0])), self.embed_t(wide(features[1]))
            chosen = torch.cat([batch.ids[:, None], self.draw(batch.labels)], 1)  # [n, 1 + K]
            # copies, as the memories change before the backward pass reads them
            sides = ((learnt, self.memory_teacher.clone()), (taught, self.memory_student.clone()))
            scores = torch.stack([(own @ memory.mT).gather(1, chosen) for own, memory in sides]) / self.temperature
            log_z = torch.where(self.log_z.isnan(), self._constants(scores.detach()), self.log_z)
            loss = self._contrast(scores - log_z[:, None, None])
        if self.training:
            self.log_z.copy_(log_z)
            self._remember(self.memory_student, learnt.detach(), batch.ids)
            self._remember(self.memory_teacher, taught.detach(), batch.ids)
        return loss

    def _constants(self, scores: Tensor) -> Tensor:
        """log Z of both sides: the mean of exp(score) times N."""
        each = scores[0].numel()
        return torch.logsumexp(scores.flatten(1), 1) + math.log(len(self.memory_student) / each)

    def _contrast(self, log_p: Tensor) -> Tensor:
        """Both sides' losses added, of log scores `[2, n, 1 + K]`, the positive one first."""
        noise = self.count / len(self.memory_student)
        odds = log_p - math.log(noise + EPSILON)
        positives = functional.softplus(-odds[:, :, 0])
        negatives = functional.softplus(odds[:, :, 1:]).sum(2) + self.count * math.log1p(EPSILON / noise)
        return (positives + negatives).mean(1).sum()

    def _remember(self, memory: Tensor, embeddings: Tensor, ids: Tensor) -> None:
        moved = self.momentum * memory[ids] + (1 - self.momentum) * embeddings
        memory.index_copy_(0, ids, functional.normalize(moved).to(memory.dtype))


class OfOtherClasses(nn.Module):
    """Uniform draws among the samples of other classes, on the device, from torch's global random state.

    Args:
        labels: `[N]`.
        counts: samples of each class `[k]`.
        draws: how many for each sample.
        replace: with replacement, for more draws than there are samples of other classes.
    """

    labels: Tensor
    order: Tensor
    counts: Tensor

    def __init__(self, labels: Tensor, counts: Tensor, draws: int, *, replace: bool) -> None:
        super().__init__()
        self.draws, self.replace = draws, replace
        labels = labels.cpu()
        order = labels.argsort(stable=True)
        for name, tensor in (("labels", labels), ("order", order), ("counts", counts)):
            self.register_buffer(name, tensor, persistent=False)  # follow from the data, so the state is without them

    def forward(self, own: Tensor) -> Tensor:
        """Ids `[n, draws]` of samples whose labels differ from `own` `[n]`."""
        if not self.replace:
            # the highest of independent uniform keys are a uniform subset
            keys = torch.rand(len(own), len(self.labels), device=own.device)
            keys.masked_fill_(own[:, None] == self.labels, -1.0)
            return keys.topk(self.draws, sorted=False).indices
        count = self.counts[own][:, None]
        start = (self.counts.cumsum(0) - self.counts)[own][:, None]
        others = len(self.labels) - count
        place = (torch.rand(len(own), self.draws, device=own.device) * others).long().clamp_max(others - 1)
        return self.order[place + count * (place >= start)]  # the own class, contiguous in the order, is skipped


METHODS.add(
    "crd",
    Method(
        "crd",
        (Term("ce"), Term("crd", 0.8, build=CRD)),
        "Contrast of each sample with those of other classes, in a memory.",
        papers.CRD,
        kind="relation",
    ),
)
