"""CRLD: each view of the student taught by both views of the teacher, where the teacher is confident."""

from torch import Tensor, nn

from kdviz.base.check import positive, require
from kdviz.losses import papers
from kdviz.losses.kd import divergence
from kdviz.methods.batch import Batch
from kdviz.methods.method import METHODS, Method, Term
from kdviz.methods.term import Probe
from kdviz.methods.views import both_views
from kdviz.models import Outputs


class CrossView(nn.Module):
    """KL divergences within and across the plain and the strong view, masked by the teacher's confidence.

    L = within * mean([max p >= plain_threshold] * (KD(s, t) + KD(s', t')))
      + across * mean([max p' >= strong_threshold] * (KD(s', t) + KD(s, t')))

    with s, t the logits of student and teacher on the plain view, s', t' on the strong one, KD the KL divergence at
    `temperature` times its square, p and p' the teacher's softmax without temperature. The mean is over all samples;
    those below the threshold count as 0.

    Args:
        within: weight of the same view's teacher.
        across: weight of the other view's teacher.
        temperature: above 0.
        plain_threshold: 0..1, of the teacher's confidence on the plain view.
        strong_threshold: 0..1, of its confidence on the strong view.

    Source: Zhang et al. 2024 (arXiv 2412.16493); formula and defaults of the authors' public code.

    Differs from: the strong view is that of "mlkd". The authors' code applies each of its two operations with chance
    one half, at one of nine strengths, and cuts out a square of half the side every time.
    """

    needs = frozenset({"teacher", "strong"})
    couples = False

    def __init__(
        self,
        probe: Probe,
        *,
        within: float = 2.0,
        across: float = 0.5,
        temperature: float = 4.0,
        plain_threshold: float = 0.9,
        strong_threshold: float = 0.2,
    ) -> None:
        super().__init__()
        require(isinstance(temperature, int | float), f"crld: temperature must be one number, got {temperature}")
        positive("crld", temperature=temperature)
        for name, value in (("plain_threshold", plain_threshold), ("strong_threshold", strong_threshold)):
            require(0 <= value <= 1, f"crld: {name} must be 0..1, got {value}")
        self.weights, self.temperature = (within, across), temperature
        self.thresholds = (plain_threshold, strong_threshold)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch, *, epoch: float) -> Tensor:
        """The loss as a scalar in nats."""
        (plain, taught), (strong, taught_strong) = both_views("crld", student, teacher)
        within = self._kd(plain, taught) + self._kd(strong, taught_strong)
        across = self._kd(strong, taught) + self._kd(plain, taught_strong)
        sure, sure_strong = (
            logits.softmax(1).amax(1) >= threshold
            for logits, threshold in zip((taught, taught_strong), self.thresholds, strict=True)
        )
        return self.weights[0] * (sure * within).mean() + self.weights[1] * (sure_strong * across).mean()

    def _kd(self, student: Tensor, teacher: Tensor) -> Tensor:
        return divergence(student / self.temperature, teacher / self.temperature) * self.temperature**2


METHODS.add(
    "crld",
    Method(
        "crld",
        (Term("ce", strong=True), Term("crld", build=CrossView)),
        "KD within and across the plain and the strong view, where the teacher is confident.",
        papers.CRLD,
    ),
)
