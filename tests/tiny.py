"""A data set small enough to train on in a second: the class is the quadrant-and-colour of a bright square.

Run as a script it trains on itself: python tests/tiny.py OUT METHOD [TEACHER], for tests that kill the process.
"""

import sys
from pathlib import Path

import torch

from kdviz.data import DATA, Data, DataEntry

CLASSES = 6


def load(split: str, root: Path | None = None) -> Data:
    count = {"train": 192, "val": 48, "test": 96}[split]
    generator = torch.Generator().manual_seed(len(split))
    labels = torch.arange(count) % CLASSES
    images = torch.randint(0, 90, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, channel = divmod(label, 3)
        image[channel, 16 * row + 4 : 16 * row + 12, 10:22] = 255
    names = tuple(f"class {label}" for label in range(CLASSES))
    return Data("tiny", split, images, labels, (0.3, 0.3, 0.3), (0.2, 0.2, 0.2), names, synthetic=True, flip=False)


if "tiny" not in DATA:
    DATA.add("tiny", DataEntry("a test's own data set", CLASSES, (3, 32, 32), load, synthetic=True))

if __name__ == "__main__":
    from kdviz import load_checkpoint
    from kdviz.train import load_recipe, train

    torch.set_num_threads(1)
    out, method, *teacher = sys.argv[1:]
    recipe = load_recipe(student="resnet8", data="tiny", method=method, epochs=3, batch=32, lr=0.05, seed=3)
    taught = load_checkpoint(teacher[0]) if teacher else None
    train(recipe, out=out, teacher=taught, device="cpu", save_minutes=0.002)  # so that kills meet writes
