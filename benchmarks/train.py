"""The trainer's step beside the loop that the field copies: KD from resnet32x4 to resnet8x4, images per second.

    python benchmarks/train.py [--batch 64 256] [--steps 30] [--rounds 3] [--device cpu]
    python benchmarks/train.py --loader [--workers 2]      (images from files: reading ahead beside decoding alone)

The other loop is written as the public code bases write theirs: the same layers in float32 and NCHW, a DataLoader with
per-image transforms in two workers, a loss call and `.item()` in every step. Each engine runs alone, in a process of
its own, the two taking turns; printed are medians, the ratio of each round, the peak memory of the process and the time
of 240 epochs of 50 000 images at that pace. Images are random, of CIFAR-100's shape; the nets' weights are random too,
since only the time is asked for.
"""

import argparse
import json
import multiprocessing
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
from PIL import Image
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


def copied_loop(batch: int, steps: int, warm: int, device: str) -> float:
    """Images per second of the loop that the field copies."""
    from kdviz.models import build

    torch.manual_seed(0)
    student, teacher = build(STUDENT, seed=0).train().to(device), build(TEACHER, seed=1).eval().to(device)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    loader = DataLoader(PerImage(), batch_size=batch, shuffle=True, num_workers=2, drop_last=True)
    done, began = 0, 0.0
    while True:
        for images, labels in loader:
            if done == warm:
                began = time.perf_counter()
            images, labels = images.to(device), labels.to(device)
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


def trainer(batch: int, steps: int, warm: int, device: str, precision: str, tabulated: bool) -> float:
    """Images per second of kdviz' own step, with or without the teacher's table."""
    from kdviz.checkpoints import RunFolder, load_checkpoint, save_checkpoint
    from kdviz.data import DATA, Data, DataEntry
    from kdviz.models import build
    from kdviz.train import load_recipe
    from kdviz.train.capture import CapturedStep, obstacle
    from kdviz.train.device import arithmetic
    from kdviz.train.loop import updates
    from kdviz.train.setup import prepare
    from kdviz.train.tally import Tally

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
        run = prepare(recipe, folder, teacher=load_checkpoint(path), device=device, teacher_cache=table)
        run.student.train()
        if tabulated:  # as in a run whose crops other runs have met: every look-up succeeds
            run.table._known[:] = 1
        tally = Tally(run.batches.device)
        captured = CapturedStep(run, tally, print) if obstacle(run) is None else None
        began, done, epoch = 0.0, 0, 0
        with arithmetic(run.step.precision):
            while True:
                for _ in updates(run, tally, captured, run.batches.plan(epoch)):
                    done += 1
                    if done in (warm, warm + steps):
                        float(tally.sums["total"])  # wait for the device
                    if done == warm:
                        began = time.perf_counter()
                    if done == warm + steps:
                        return batch * steps / (time.perf_counter() - began)
                epoch += 1


def one(engine: str, batch: int, steps: int, device: str) -> dict[str, float]:
    """Run one engine in this process; images per second and peak memory in MiB."""
    torch.set_num_threads(os.cpu_count() or 1)
    warm = 5
    if engine == "copied loop":
        rate = copied_loop(batch, steps, warm, device)
    else:
        precision = "fp32" if "fp32" in engine else "auto"
        rate = trainer(batch, steps, warm, device, precision, "table" in engine)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rate": rate, "memory": torch.cuda.max_memory_allocated() / 2**20 if device != "cpu" else peak}


def decode(path: str) -> int:
    """Decode one file, nothing else."""
    with Image.open(path) as image:
        return image.convert("RGB").size[0]


def loader(workers: int, images: int = 512) -> None:
    """Print images per second of the loader for ImageNet-shaped files, beside decoding alone in as many processes."""
    from kdviz.data.loader import Loader, View
    from kdviz.data.tree import load_tree

    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        for number in range(images):
            folder = Path(place) / "train" / f"class{number % 8}"
            folder.mkdir(parents=True, exist_ok=True)
            small = Image.fromarray(draw.integers(0, 256, (47, 63, 3), dtype=np.uint8))
            small.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
        paths = [str(path) for path in Path(place).rglob("*.jpg")]
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            pool.map(decode, paths, chunksize=16)  # processes and files are warm
            began = time.perf_counter()
            pool.map(decode, paths, chunksize=16)
            alone = images / (time.perf_counter() - began)
        data = load_tree(Path(place), "train")
        with Loader(data, View(224), batch=64, workers=workers) as ready:
            for epoch in range(2):
                for _ in ready.epoch(epoch, torch.randperm(images)):
                    pass
            rate = ready.rate
    print(f"500 x 375 JPEG, {workers} processes: loader {rate:.0f} images/s, decoding alone {alone:.0f} images/s")
    print(f"ratio {rate / alone:.2f} (the loader also crops, resizes to 224 px, mirrors and makes batches)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--loader", action="store_true", help="measure reading images from files")
    parser.add_argument("--workers", type=int, default=2, help="of --loader")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        print(json.dumps(one(options.engine, options.batch[0], options.steps, options.device)))
        return
    if options.loader:
        loader(options.workers)
        return
    engines = ("copied loop", "kdviz fp32", "kdviz", "kdviz, teacher's table")
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    for batch in options.batch:
        found = {engine: [] for engine in engines}
        for _ in range(options.rounds):
            for engine in engines:
                words = [sys.executable, __file__, "--engine", engine, "--batch", str(batch)]
                words += ["--steps", str(options.steps), "--device", options.device]
                done = subprocess.run(words, check=True, capture_output=True, text=True)
                found[engine].append(json.loads(done.stdout.splitlines()[-1]))
        for engine in engines:
            rates = [entry["rate"] for entry in found[engine]]
            ratios = [rate / base["rate"] for rate, base in zip(rates, found["copied loop"], strict=True)]
            memory = statistics.median(entry["memory"] for entry in found[engine])
            rate = statistics.median(rates)
            row = f"{rate:8.0f} images/s  {min(ratios):.2f} to {max(ratios):.2f} times"
            print(f"batch {batch:4}  {engine:24} {row}  {memory:6.0f} MiB  240 epochs {12e6 / rate / 3600:.2f} h")


if __name__ == "__main__":
    main()
