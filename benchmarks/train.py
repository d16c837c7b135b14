"""The trainer's step beside the loop that the field copies: KD from resnet32x4 to resnet8x4, images per second.

    python benchmarks/train.py [--batch 64 256] [--steps 30] [--rounds 3]

The other loop is written as the public code bases write theirs: the same layers in float32 and NCHW, a DataLoader with
per-image transforms in two workers, a loss call and `.item()` in every step. Each engine runs alone, in a process of
its own, the two taking turns; printed are medians, the ratio of each round, and the peak memory of the process. Images
are random, of CIFAR-100's shape; the nets' weights are random too, since only the time is asked for.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

CLASSES, IMAGES = 100, 5000
TEACHER, STUDENT = "resnet32x4", "resnet8x4"
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


class PerImage(Dataset):
    """Random crop, mirror, conversion and normalisation of one image at a time."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self.images = generator.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
        self.labels = generator.integers(0, CLASSES, IMAGES)

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int):
        image = torch.from_numpy(np.pad(self.images[index], ((4, 4), (4, 4), (0, 0)))).permute(2, 0, 1)
        down, right = torch.randint(9, (2,)).tolist()
        image = image[:, down : down + 32, right : right + 32]
        if torch.rand(()) < 0.5:
            image = image.flip(2)
        image = image.float() / 255
        return (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None], int(self.labels[index])


def copied_loop(batch: int, steps: int, warm: int) -> float:
    """Images per second of the loop that the field copies."""
    from kdviz.models import build

    torch.manual_seed(0)
    student, teacher = build(STUDENT, seed=0).train(), build(TEACHER, seed=1).eval()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    loader = DataLoader(PerImage(), batch_size=batch, shuffle=True, num_workers=2, drop_last=True)
    done, began = 0, 0.0
    while True:
        for images, labels in loader:
            if done == warm:
                began = time.perf_counter()
            logits = student(images).logits
            with torch.no_grad():
                taught = teacher(images).logits
            p, log_q = functional.softmax(taught / 4, 1), functional.log_softmax(logits / 4, 1)
            distilled = functional.kl_div(log_q, p, reduction="batchmean") * 16
            loss = 0.1 * functional.cross_entropy(logits, labels) + 0.9 * distilled
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            done += 1
            if done == warm + steps:
                return batch * steps / (time.perf_counter() - began)


def trainer(batch: int, steps: int, warm: int, precision: str, tabulated: bool) -> float:
    """Images per second of kdviz' own step, with or without the teacher's table."""
    from kdviz.checkpoints import RunFolder, load_checkpoint, save_checkpoint
    from kdviz.data import DATA, Data, DataEntry
    from kdviz.models import build
    from kdviz.train import load_recipe
    from kdviz.train.loop import train_step
    from kdviz.train.setup import prepare

    def load(split: str, root: Path | None = None) -> Data:
        count = IMAGES if split == "train" else 2 * CLASSES
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
        names = tuple(f"class {label}" for label in range(CLASSES))
        return Data("random", split, images, torch.arange(count) % CLASSES, MEAN, STD, names, synthetic=True)

    DATA.add("random", DataEntry("random pixels", CLASSES, (3, 32, 32), load, synthetic=True))
    with tempfile.TemporaryDirectory() as place:
        facts = {"data": None, "method": "ce", "seed": 1, "epoch": 1, "recipe": {}, "metrics": {}}
        path = Path(place) / "teacher.pt"
        save_checkpoint(path, model=build(TEACHER, seed=1), name=TEACHER, classes=CLASSES, **facts)
        recipe = load_recipe(
            student=STUDENT, data="random", method="kd", batch=batch, lr=0.05, nesterov=False, precision=precision
        )
        table = Path(place) / "table" if tabulated else None
        folder = RunFolder(Path(place) / "run")
        run = prepare(recipe, folder, teacher=load_checkpoint(path), device="cpu", teacher_cache=table)
        run.student.train()
        if tabulated:  # as in a run whose crops other runs have met: every look-up succeeds
            run.table._known[:] = 1
        began, done, epoch = 0.0, 0, 0
        while True:
            plan = run.batches.plan(epoch)
            for step in range(run.batches.steps):
                if done == warm:
                    began = time.perf_counter()
                train_step(run, plan, step)
                done += 1
                if done == warm + steps:
                    return batch * steps / (time.perf_counter() - began)
            epoch += 1


def one(engine: str, batch: int, steps: int) -> dict[str, float]:
    """Run one engine in this process; images per second and peak memory in MiB."""
    torch.set_num_threads(os.cpu_count() or 1)
    warm = 5
    if engine == "copied loop":
        rate = copied_loop(batch, steps, warm)
    else:
        precision = "fp32" if "fp32" in engine else "auto"
        rate = trainer(batch, steps, warm, precision, "table" in engine)
    return {"rate": rate, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        print(json.dumps(one(options.engine, options.batch[0], options.steps)))
        return
    engines = ("copied loop", "kdviz fp32", "kdviz", "kdviz, teacher's table")
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    for batch in options.batch:
        found = {engine: [] for engine in engines}
        for _ in range(options.rounds):
            for engine in engines:
                words = [sys.executable, __file__, "--engine", engine, "--batch", str(batch)]
                words += ["--steps", str(options.steps)]
                done = subprocess.run(words, check=True, capture_output=True, text=True)
                found[engine].append(json.loads(done.stdout.splitlines()[-1]))
        for engine in engines:
            rates = [entry["rate"] for entry in found[engine]]
            ratios = [rate / base["rate"] for rate, base in zip(rates, found["copied loop"], strict=True)]
            memory = statistics.median(entry["memory"] for entry in found[engine])
            row = f"{statistics.median(rates):8.0f} images/s  {min(ratios):.2f} to {max(ratios):.2f} times"
            print(f"batch {batch:4}  {engine:24} {row}  {memory:6.0f} MiB")


if __name__ == "__main__":
    main()
