"""A data set small enough to train on in a second: the class is the quadrant-and-colour of a bright square.

Run as a script it trains on itself, for tests that kill the process: python tests/tiny.py OUT METHOD [TEACHER], or
python tests/tiny.py OUT 50.
"""

import os
import random
import signal
import sys
import time
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


def small(classes: int) -> torch.nn.Module:
    """A net of the test's own, called tiny:small."""
    from kdviz.models import build

    return build("resnet8", classes=classes)


if "tiny" not in DATA:
    DATA.add("tiny", DataEntry("a test's own data set", CLASSES, (3, 32, 32), load, synthetic=True))


def fifty_kills(out: Path) -> None:
    """Train in child processes that are killed with SIGKILL at random moments, fifty times, and then to the end.

    Each kill must leave a state that is at most one step behind what was done, since the state is saved in every step.
    Prints "KILLS RESUMES". The children are forked, so that none has to import torch again.
    """
    from kdviz.checkpoints import RunFolder
    from kdviz.train import load_recipe, train

    recipe = load_recipe(student="resnet8", data="tiny", epochs=30, batch=32, lr=0.05, seed=3)
    moments, kills, done, ended = random.Random(1), 0, 0, False
    counter = os.open(out.with_suffix(".done"), os.O_RDWR | os.O_CREAT)
    while not ended:
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)  # threads do not survive a fork
            step = lambda count, whole: os.pwrite(counter, b"%08d" % count, 0)  # noqa: E731
            train(recipe, out=out, device="cpu", save_minutes=0.0, progress=step)
            os._exit(0)
        if kills < 50:
            begun, deadline = os.pread(counter, 8, 0), time.monotonic() + 30
            while kills % 5 and os.pread(counter, 8, 0) == begun and time.monotonic() < deadline:
                time.sleep(0.002)  # four in five come after a step of this process, the fifth wherever it falls
            time.sleep(moments.uniform(0, 0.1))
            os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)[1] == 0
        kills += not ended
        if (out / "state.pt").is_file():
            done = int(os.pread(counter, 8, 0) or 0)
            epoch, step, *_ = torch.load(out / "state.pt", weights_only=True)["position"]
            assert 6 * epoch + step >= done - 1, (epoch, step, done)
    print(kills, len(RunFolder(out).events("resume")))  # noqa: T201


if __name__ == "__main__":
    from kdviz import load_checkpoint
    from kdviz.train import load_recipe, train

    torch.set_num_threads(1)
    if sys.argv[2] == "50":
        fifty_kills(Path(sys.argv[1]))
        sys.exit()
    out, method, *teacher = sys.argv[1:]
    recipe = load_recipe(student="resnet8", data="tiny", method=method, epochs=3, batch=32, lr=0.05, seed=3)
    taught = load_checkpoint(teacher[0]) if teacher else None
    train(recipe, out=out, teacher=taught, device="cpu", save_minutes=0.002)  # so that kills meet writes
