"""Images of a data set as one file of arrays, made in a process of its own: `python -m kdviz.viewer.images FILE`.

The request comes as JSON on standard input: data, split, root, ids, target. What opens data sets needs torch, which the
page's own process never imports.
"""

import base64
import io
import json
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from kdviz.base.check import KdvizError, require
from kdviz.base.files import atomic

WHOLE = 2**27  # bytes of pixels up to which a split in memory is taken whole, for all later requests
FILES = 2**24  # the same for images in files
SIDE = 160  # pixels of the longer side that are shown
PATIENCE = 300  # seconds


class Images:
    """Images by data set, split and number, read when they are asked for the first time and kept as long as this."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str | None], dict[int, np.ndarray]] = {}
        self._lock = threading.Lock()

    def get(self, request: dict[str, Any]) -> dict[int, str]:
        """PNG images as data URIs by their number.

        Args:
            request: data, split, root, ids, and target: the labels of these ids, or None.
        Raises: KdvizError where the data set is not here, or its labels are not those.
        """
        key = (request["data"], request["split"], request["root"])
        with self._lock:
            kept = self._kept.setdefault(key, {})
            if any(one not in kept for one in request["ids"]):
                kept.update(_read(request))
        return {one: data_uri(kept[one]) for one in request["ids"] if one in kept}


def data_uri(pixels: np.ndarray) -> str:
    """An image uint8 [c, h, w] as a PNG inside a data URI, at most SIDE pixels wide and high."""
    from PIL import Image

    plain = pixels[0] if len(pixels) < 3 else np.moveaxis(pixels[:3], 0, -1)
    picture = Image.fromarray(np.ascontiguousarray(plain))
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _read(request: dict[str, Any]) -> dict[int, np.ndarray]:
    """Images [c, h, w] by number, from a process that ends with this call."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.npz"
        command = [sys.executable, "-m", "kdviz.viewer.images", str(file)]
        try:
            done = subprocess.run(command, input=json.dumps(request).encode(), capture_output=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise KdvizError(f"{request['data']}: reading its images took more than {PATIENCE} s") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["the process ended without a word"]
            raise KdvizError(said[-1])
        with np.load(file, allow_pickle=False) as found:
            return dict(zip(found["ids"].tolist(), found["images"], strict=True))


def write(request: dict[str, Any], path: Path) -> None:
    """Write ids and images (uint8 [n, c, h, w]) of a request; where the split is small, of all of it.

    Raises: KdvizError for a data set that is not here, or that its file may not choose, and labels that differ.
    """
    import torch

    from kdviz.data.crops import load_samples
    from kdviz.data.external import named_by_file

    name = named_by_file(request["data"], where="the result")
    data = load_samples(name, split=request["split"], root=request["root"])
    place = {int(one): at for at, one in enumerate(data.ids)}
    missing = [one for one in request["ids"] if one not in place]
    require(not missing, f"sample {missing[:1]} is not in {data.name} ({data.split})")
    index = torch.tensor([place[one] for one in request["ids"]], dtype=torch.int64)
    if request.get("target"):
        same = data.labels[index].tolist() == request["target"]
        require(same, f"the labels are not those of {data.name} ({data.split}); is it another split?")
    if int(np.prod(data.images.shape)) <= (WHOLE if isinstance(data.images, torch.Tensor) else FILES):
        index = torch.arange(len(data))
    with atomic(path) as partial, partial.open("wb") as stream:
        np.savez(stream, ids=data.ids[index].numpy(), images=torch.as_tensor(data.images[index]).numpy())


def main() -> None:
    """Answer the request on standard input; an error is a line on standard error and exit code 1."""
    request = json.load(sys.stdin)
    try:
        write(request, Path(sys.argv[1]))
    except KdvizError as error:
        with suppress(OSError):
            sys.stderr.write(f"{error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
