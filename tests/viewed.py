"""A folder with everything that `kdviz view` shows, small and with known contents; names in it are hostile."""

import json
import threading
from contextlib import contextmanager

import numpy as np
import xarray as xr
from PIL import Image

from kdviz.analysis.histogram import histogram
from kdviz.analysis.ranks import tau
from kdviz.base.files import write_dataset
from kdviz.viewer.library import Library
from kdviz.viewer.server import Server

EVIL = "<script>hacked=1</script>"
NAMES = ("one", EVIL, "</script><img src=x onerror=hacked=1>", "four")
PER_CLASS = 6


def colour(number):
    """The colour of the image of sample `number`: no two are alike."""
    return (10 * number, 255 - 10 * number, 128)


def pictures(folder):
    """A class-per-folder tree, train and test, of one-coloured images; sample i of the test split has `colour(i)`."""
    for split in ("train", "test"):
        for label in range(len(NAMES)):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            for at in range(PER_CLASS):
                Image.new("RGB", (8, 8), colour(PER_CLASS * label + at)).save(place / f"{at}.png")
    return f"folder:{folder}"


def logits(data):
    """Logits of 24 samples and 4 classes, of a student that resembles its teacher."""
    random = np.random.default_rng(0)
    count = PER_CLASS * len(NAMES)
    target = np.repeat(np.arange(len(NAMES)), PER_CLASS)
    teacher = random.normal(size=(count, len(NAMES))) + 3 * np.eye(len(NAMES))[target]
    student = (teacher + random.normal(size=teacher.shape)).astype(np.float32)
    attrs = {"kind": "logits", "label": "kd", "data": data, "split": "test", "student_sha256": "a" * 64}
    return xr.Dataset(
        {
            "logits_student": (("sample", "channel"), student),
            "logits_teacher": (("sample", "channel"), teacher.astype(np.float32)),
            "target": ("sample", target),
        },
        {"sample": np.arange(count), "class_name": ("channel", np.array(NAMES, dtype=object))},
        {**attrs, "teacher_sha256": "b" * 64, "data_sha256": "c" * 64},
    )


def landscape():
    axis = np.linspace(-1, 1, 5)
    heights = 1 + axis[:, None] ** 2 + 2 * axis**2
    role = {"role": "loss", "units": "nats", "long_name": "cross-entropy"}
    heights[0, 0] = np.nan
    coords = {"alpha": axis, "beta": axis}
    return xr.Dataset({"ce": (("alpha", "beta"), heights, role)}, coords, {"kind": "landscape", "label": EVIL})


def sharpness():
    """A kind that the page draws by matplotlib."""
    values = ("rank", [3.0, 1.0, 0.5], {"long_name": "eigenvalue", "units": "nats"})
    return xr.Dataset({"eigenvalue": values}, {"rank": [1, 2, 3]}, {"kind": "sharpness", "label": "kd"})


def journal(folder, *, epochs=3, end=False, failed=None, name="resnet8"):
    """A run's journal: val top-1 0.1, 0.2, ..., 100 images per second and 10 more each epoch."""
    folder.mkdir(parents=True)
    lines = [{"event": "start", "name": name, "method": "kd", "data": "glyphs100", "seed": 0, "recipe": {"epochs": 4}}]
    lines += [epoch(number) for number in range(1, epochs + 1)]
    lines += [{"event": "failed", "text": failed}] if failed else []
    lines += [{"event": "end", "metrics": {"last": {"top1": 0.45}}}] if end else []
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def epoch(number):
    train = {"ce": 1 / number, "total": 2 / number}
    return {
        "event": "epoch",
        "epoch": number,
        "lr": 0.1,
        "train": train,
        "val": {"top1": number / 10, "loss": float("nan")},
        "images_per_second": 100 + 10 * number,
    }


def build(folder):
    """All of it; the logits."""
    found = logits(pictures(folder / "data"))
    results = folder / "reports" / "kd"
    write_dataset(found, results / "logits.nc")
    write_dataset(tau(found), results / "tau.nc")
    write_dataset(histogram(found, bins=64), results / "histogram.nc")
    write_dataset(landscape(), folder / "reports" / "around" / "landscape.nc")
    write_dataset(sharpness(), folder / "reports" / "around" / "sharpness.nc")
    (results / "report.html").write_text("<title>an earlier report</title>")
    (results / "damaged.nc").write_bytes(b"no netCDF")
    journal(folder / "runs" / "done", epochs=4, end=True)
    journal(folder / "runs" / "half")
    journal(folder / "runs" / "broken", failed=f"the loss is not finite {EVIL}")
    journal(folder / "runs" / "<img src=x onerror=hacked=1>", name=EVIL)
    return found


@contextmanager
def served(folder):
    """A server of the folder's page, for as long as the block lasts."""
    with Server(Library([folder])) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()
