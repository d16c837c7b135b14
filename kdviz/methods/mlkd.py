"""MLKD: KD and Gram matrices at several temperatures, of the plain and of the strongly augmented view."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from kdviz.base.check import one_of, positive, require
from kdviz.losses import batch_gram, class_gram, kd, papers
from kdviz.losses.inputs import Normalize
from kdviz.methods.batch import Batch
from kdviz.methods.method import METHODS, Method, Term
from kdviz.methods.term import Probe
from kdviz.methods.views import both_views
from kdviz.models import Outputs

WHO = "mlkd"
Form = Literal["code", "paper"]


class MultiLevel(nn.Module):
    """The distillation terms of MLKD, in one of two forms; each sums a loss over the temperatures.

    form "code", which the published numbers were trained with:

        L = kd * (m * KD + KD' + KD_rest) + class_gram * c * CC + batch_gram * m * BC

    KD, CC and BC are `kd`, `class_gram` and `batch_gram` of the plain view at all temperatures, KD' is `kd` of the
    strong view at `strong_temperatures` and KD_rest `kd` of the plain view at the others. m is the share of samples
    whose teacher's confidence is at most the batch's median, c the share of classes whose summed teacher probability is
    at most the classes' median, both of the plain view: about one half, since the code averages before it masks.

    form "paper", its text: every loss is on both views at all temperatures, and nothing is masked.

    normalize "zscore" is LSKD on MLKD: both nets' logits z-scored over the classes in the KD terms alone.

    Args:
        form: "code" or "paper" as above.
        normalize: of the logits in the KD terms, "none" or "zscore".
        temperatures: above 0.
        strong_temperatures: of `temperatures`, those at which form "code" takes the strong view.
        kd, class_gram, batch_gram: factors of the three losses within the term.

    Source: Jin et al. 2023, sec. 3; form "code" by the public code of logit standardisation (Sun et al. 2024), which
    the tables of MLKD, LSKD and RKKD go with.
    """

    needs = frozenset({"teacher", "strong"})

    def __init__(
        self,
        probe: Probe,
        *,
        form: Form = "code",
        normalize: Normalize = "none",
        temperatures: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0, 6.0),
        strong_temperatures: tuple[float, ...] = (3.0, 4.0, 5.0),
        kd: float = 1.0,
        class_gram: float = 1.0,
        batch_gram: float = 1.0,
    ) -> None:
        super().__init__()
        one_of(WHO, ("code", "paper"), form=form)
        one_of(WHO, ("none", "zscore"), normalize=normalize)
        require(len(temperatures) > 0, f"{WHO}: temperatures must hold one number at least")
        for temperature in temperatures:
            positive(WHO, temperatures=temperature)
        foreign = sorted(set(strong_temperatures) - set(temperatures))
        require(not foreign, f"{WHO}: strong_temperatures {foreign} are not among temperatures {temperatures}")
        self.form = form
        self.normalize: Normalize = normalize
        self.temperatures, self.strong_temperatures = tuple(temperatures), frozenset(strong_temperatures)
        self.weights = (kd, class_gram, batch_gram)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch, *, epoch: float) -> Tensor:
        """The sum as a scalar: nats of the KD terms, beside the Gram terms, which have no unit."""
        plain, strong = both_views(WHO, student, teacher)
        of_kd, of_classes, of_samples = self.weights
        if self.form == "paper":
            return sum(
                of_kd * self._kd(view, self.temperatures)
                + of_classes * self._levels(class_gram, view)
                + of_samples * self._levels(batch_gram, view)
                for view in (plain, strong)
            )  # type: ignore[return-value]
        samples, classes = shares(plain[1])
        own = [one for one in self.temperatures if one in self.strong_temperatures]
        rest = [one for one in self.temperatures if one not in self.strong_temperatures]
        distilled = samples * self._kd(plain, self.temperatures) + self._kd(strong, own) + self._kd(plain, rest)
        grams = of_classes * classes * self._levels(class_gram, plain)
        return of_kd * distilled + grams + of_samples * samples * self._levels(batch_gram, plain)

    def _kd(self, view: tuple[Tensor, Tensor], temperatures: Sequence[float]) -> Tensor:
        none = view[0].new_zeros(())
        return sum((kd(*view, temperature=one, normalize=self.normalize) for one in temperatures), none)

    def _levels(self, loss: Callable[..., Tensor], view: tuple[Tensor, Tensor]) -> Tensor:
        return sum((loss(*view, temperature=one) for one in self.temperatures), view[0].new_zeros(()))


@torch.no_grad()
def shares(teacher: Tensor) -> tuple[Tensor, Tensor]:
    """The shares m of samples and c of classes that the code's masks keep, by the teacher's logits `[n, k]`.

    >>> shares(torch.tensor([[4.0, 0.0], [3.0, 0.0], [0.0, 0.1]]))  # two samples of three, one class of two
    (tensor(0.6667), tensor(0.5000))
    """
    chances = teacher.softmax(1)
    sure, mass = chances.amax(1), chances.sum(0)
    return (sure <= _median(sure)).to(sure.dtype).mean(), (mass <= _median(mass)).to(mass.dtype).mean()


def _median(values: Tensor) -> Tensor:
    """The median, of an even number of values the mean of the middle two, as numpy's percentile 50."""
    ordered, n = values.sort().values, len(values)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


METHODS.add(
    "mlkd",
    Method(
        "mlkd",
        (Term("ce", 0.1, strong=True), Term("mlkd", 0.9, build=MultiLevel)),
        "KD and Gram matrices at five temperatures, plain and strong view, as its published numbers were trained.",
        papers.MLKD,
    ),
)
