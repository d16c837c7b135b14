"""The teacher's logits of every view of every image, on disk, shared by all runs over the same data.

Cropping with p pixels of padding and mirroring give (2p + 1)^2 * 2 views of an image, 162 at p = 4. One table holds the
logits of (image, view) in float16, filled as views are met, and serves every method, seed, batch size and order.

Rounding to float16 moves a logit by at most 2^-11 of itself (of the smallest normal number, 6.1e-5, below that). A
logit is rounded whether it is looked up or computed, so that both give the same loss.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdviz.base.check import KdvizError, require

FORMAT = "kdviz teacher logits 1"
LARGEST = 65504.0  # of float16


class TeacherTable:
    """Logits of (image, view) in a memory-mapped file that takes disk space for the views that were met alone.

    Args:
        folder: shared by any number of runs and processes.
        teacher_sha256, data_sha256, precision: what the logits depend on beside the view.
        images, views, classes: the table's size.
        device: where logits are wanted.
    Raises:
        KdvizError: a table that is damaged or cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        teacher_sha256: str,
        data_sha256: str,
        precision: str,
        padding: int,
        shape: tuple[int, int, int],
        device: torch.device,
    ) -> None:
        facts = {
            "format": FORMAT,
            "teacher_sha256": teacher_sha256,
            "data_sha256": data_sha256,
            "padding": padding,
            "precision": precision,
            "shape": list(shape),
        }
        name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        self.path, self.shape, self.device = Path(folder) / name, shape, device
        self._logits = self._open("logits.f16", np.dtype("<f2"), shape)
        self._known = self._open("known.u1", np.dtype("u1"), shape[:2])
        self._fresh: list[tuple[np.ndarray, np.ndarray]] = []
        about = self.path / "about.json"
        if not about.is_file():
            about.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    def _open(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
        path, size = self.path / name, int(np.prod(shape)) * dtype.itemsize
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as stream:
                if stream.tell() == 0:
                    stream.truncate(size)  # sparse: no block is taken until a view is written
            require(
                path.stat().st_size == size,
                f"{path}: damaged teacher table ({path.stat().st_size} bytes, expected {size}); delete the folder",
            )
            return np.memmap(path, dtype, "r+", shape=shape)
        except OSError as error:
            raise KdvizError(f"cannot write {path}: {error.strerror or error}") from error

    def get(self, ids: Tensor, views: Tensor) -> Tensor | None:
        """The logits `[n, k]`, float32, of images `ids` in `views` `[n]`; None unless all of them are known."""
        at = _host(ids), _host(views)
        if not self._known[at].all():
            return None
        return torch.from_numpy(self._logits[at].astype(np.float32)).to(self.device)

    def put(self, ids: Tensor, views: Tensor, logits: Tensor) -> Tensor:
        """Keep the logits `[n, k]` and return them as a later look-up will: rounded to float16."""
        at, rounded = (_host(ids), _host(views)), rounded_to_half(logits)
        self._logits[at] = rounded.cpu().numpy()
        self._fresh.append(at)
        return rounded.float()

    def flush(self) -> None:
        """Bring the logits to the disk, and only then mark them as known, so that a crash leaves no false entry."""
        if not self._fresh:
            return
        self._logits.flush()
        for at in self._fresh:
            self._known[at] = 1
        self._known.flush()
        self._fresh = []

    @property
    def complete(self) -> bool:
        """Whether every view of every image is known."""
        return bool(self._known.all())

    def on(self, device: torch.device) -> Tensor:
        """All logits `[images, views, classes]` as float16 on a device, for steps that cannot ask the host."""
        return torch.from_numpy(np.asarray(self._logits)).to(device, copy=True)

    @property
    def share(self) -> float:
        """The fraction of (image, view) that is known."""
        return float(np.count_nonzero(self._known)) / self._known.size


def rounded_to_half(logits: Tensor) -> Tensor:
    """Logits in float16, those beyond its range at its largest number; what is not a number stays so."""
    return logits.detach().float().clamp(-LARGEST, LARGEST).half()


def _host(index: Tensor) -> np.ndarray:
    return index.cpu().numpy()
