"""The landscape engine beside its peers: one run, the same net, images and plane; time per grid point, and errors.

    python benchmarks/landscape.py [--net resnet8x4] [--images 512] [--points 4] [--rounds 3]

Engines take turns, so that a drifting machine slows all of them alike; ratios are of medians. loss-landscapes 3.0.6
(extra `compare`) and the naive loop forward all images at once, as their users do; "chunks of 50" is the plain loop at
its best; "six losses" draws ce, kd, rank_kendall, pld, dist and lskd from the same logits. Errors are relative, of the
cross-entropy against float64. bf16 runs where the processor has it, or with --bf16.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from kdviz.analysis.landscape import Evaluator, Measurement, random_pair
from kdviz.data import load_data
from kdviz.models import build
from kdviz.train.device import choose_precision

LOSSES = ("ce", "kd", "rank_kendall", "pld", "dist", "lskd")
SIX = "kdviz fp32, six losses"


def places(count: int) -> list[tuple[float, float]]:
    """Points of the plane, spread over [-1, 1]^2 by a golden-ratio sequence."""
    return [(2 * ((0.7549 * i) % 1) - 1, 2 * ((0.5698 * i) % 1) - 1) for i in range(1, count + 1)]


def trained(name: str, data, steps: int = 8) -> nn.Module:
    """A net whose batch norm has seen data; weights as they come after a few steps."""
    net = build(name, classes=data.classes, seed=0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    for images, labels in list(data.batches(64))[:steps]:
        optimizer.zero_grad()
        cross_entropy(net(images).logits, labels).backward()
        optimizer.step()
    return net.eval()


def plain(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, chunk: int) -> Callable:
    """The loop that one writes by hand: functional weights, forward in chunks."""
    buffers = dict(net.named_buffers())

    @torch.inference_mode()
    def measure(weights: dict[str, torch.Tensor]) -> float:
        total = 0.0
        for x, y in zip(images.split(chunk), labels.split(chunk), strict=True):
            logits = functional_call(net, {**weights, **buffers}, (x,)).logits
            total += float(cross_entropy(logits, y, reduction="sum"))
        return total / len(labels)

    return measure


def loss_landscapes_engine(
    net: nn.Module, images: torch.Tensor, labels: torch.Tensor, points: int
) -> Callable[[], float]:
    """Seconds per point of loss-landscapes' random_plane."""
    import loss_landscapes
    from loss_landscapes.metrics import Loss

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x).logits

    side = max(round(points**0.5), 2)

    def run() -> float:
        begun = time.perf_counter()
        metric = Loss(cross_entropy, images, labels)
        with torch.inference_mode(False):
            loss_landscapes.random_plane(Logits(), metric, 1, side, "filter", deepcopy_model=True)
        return (time.perf_counter() - begun) / side**2

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="resnet8x4")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--points", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--errors", type=int, default=20, help="points compared with float64")
    parser.add_argument("--bf16", action="store_true", help="time bf16 even where it is emulated")
    options = parser.parse_args()
    data = load_data("glyphs100").subset(options.images)
    net = trained(options.net, data)
    images, labels = next(data.batches(options.images))
    ours = Evaluator(net, data)
    native = choose_precision("auto", torch.device("cpu")) == "bf16"
    kinds = ("fp32", "bf16") if native or options.bf16 else ("fp32",)
    engine = {
        f"kdviz {kind}": ours if kind == "fp32" else Evaluator(net, data, Measurement(precision=kind)) for kind in kinds
    }
    teacher = torch.randn(len(data), data.classes, generator=torch.Generator().manual_seed(0))
    engine[SIX] = Evaluator(net, data, Measurement(losses=LOSSES, teacher=teacher, chunk=ours.chunk))
    weights = ours.weights
    alpha, beta = random_pair(weights, seed=0)

    def at(a: float, b: float) -> dict[str, torch.Tensor]:
        return {key: w + a * alpha[key] + b * beta[key] if key in alpha else w for key, w in weights.items()}

    grid = [at(a, b) for a, b in places(options.points)]

    def timed(measure: Callable) -> Callable[[], float]:
        def run() -> float:
            begun = time.perf_counter()
            for point in grid:
                measure(point)
            return (time.perf_counter() - begun) / len(grid)

        return run

    engines = {
        "loss-landscapes 3.0.6": loss_landscapes_engine(net, images, labels, options.points),
        "naive loop, one batch": timed(plain(net, images, labels, options.images)),
        "plain loop, chunks of 50": timed(plain(net, images, labels, 50)),
        **{name: timed(one) for name, one in engine.items()},
    }
    found: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(options.rounds):
        for name, run in engines.items():
            found[name].append(run())
    base = statistics.median(found["kdviz fp32"])
    exact = plain(net.double(), images.double(), labels, 64)
    errors = dict.fromkeys(engine, 0.0)
    for a, b in places(options.errors):
        point = at(a, b)
        truth = exact({key: tensor.double() for key, tensor in point.items()})
        for name, one in engine.items():
            errors[name] = max(errors[name], abs(one(point)["ce"] - truth) / truth)
    print(
        f"{options.net}, {options.images} images, {options.points} points x {options.rounds}, torch {torch.__version__}"
    )
    print(f"{'engine':<26}{'s/point':>9}{'kdviz fp32 is':>16}{'max rel. error':>16}")
    for name, seconds in found.items():
        middle = statistics.median(seconds)
        error = f"{errors[name]:.1e}" if name in errors else "-"
        print(f"{name:<26}{middle:>9.3f}{middle / base:>12.2f} x  {error:>16}")


if __name__ == "__main__":
    main()
