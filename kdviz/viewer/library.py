"""What there is to be shown below some folders: runs, results, queues of tables, pages."""

import hashlib
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdviz.base.check import KdvizError, existing, require
from kdviz.base.results import attributes_of, read_dataset
from kdviz.checkpoints.run_folder import RunFolder, is_run

if TYPE_CHECKING:
    import xarray as xr

MOST = 5000  # things on a page
OPEN = 4  # results that are kept in memory
FRESH = 2.0  # seconds for which a scan of the folders holds
SKIPPED = {"__pycache__", "node_modules", "site-packages", "epochs"}
PAGES = {"report.html", "comparison.html", "landscape.html", "audit.html", "status.html"}
# In these, results of the same nets on the same data set agree.
SAME = ("student_sha256", "teacher_sha256", "data", "split", "data_variant")
RUN, RESULT, QUEUE, PAGE = "run", "result", "queue", "page"


@dataclass(frozen=True)
class Item:
    """One thing on the page.

    Attributes:
        id: 12 hexadecimal digits, by which requests name it.
        kind: RUN, RESULT, QUEUE or PAGE.
        path: the run's folder, or the file.
        name: the path from the folder that was asked for, with that folder's own name where there are several.
    """

    id: str
    kind: str
    path: Path
    name: str

    @property
    def stamp(self) -> tuple[int, int]:
        """Time and size of the file (of a run, its journal), which differ once it was written again."""
        try:
            found = (RunFolder(self.path).journal if self.kind == RUN else self.path).stat()
        except OSError:
            return (0, 0)
        return found.st_mtime_ns, found.st_size


class Library:
    """The things below `paths`, found anew every few seconds; requests name them by id, never by path.

    Args:
        paths: folders, run folders, results (.nc) or pages (.html).
        root: folder of the data sets' files, where results need their images.
    Raises: KdvizError for a path that is missing or is none of these.
    """

    def __init__(self, paths: Sequence[str | os.PathLike], root: str | os.PathLike | None = None) -> None:
        self.paths = [_checked(Path(path)) for path in paths]
        self.root = None if root is None else str(Path(root).expanduser().resolve())
        self._lock = threading.Lock()
        self._items: dict[str, Item] = {}
        self._scanned = -FRESH
        self._reading = threading.Lock()  # HDF5 is for one thread at a time
        self._datasets: dict[tuple[str, tuple[int, int]], xr.Dataset] = {}
        self._attributes: dict[str, tuple[tuple[int, int], dict[str, str]]] = {}

    @property
    def title(self) -> str:
        """The names of the paths."""
        return ", ".join(path.resolve().name or str(path) for path in self.paths)

    def items(self, kind: str | None = None) -> list[Item]:
        """Everything, or one kind, in the order of the names."""
        with self._lock:
            if time.monotonic() - self._scanned >= FRESH:
                several = len(self.paths) > 1
                found = [one for path in self.paths for one in _found(path, path.resolve().name if several else "")]
                found.sort(key=lambda one: one.name)
                self._items = {one.id: one for one in found[:MOST]}
                self._scanned = time.monotonic()
            return [one for one in self._items.values() if kind in (None, one.kind)]

    def item(self, name: str, *kinds: str) -> Item:
        """The thing with this id. Raises LookupError where there is none, or it is of another kind."""
        found = self._items.get(name) or next((one for one in self.items() if one.id == name), None)
        if found is None or found.kind not in kinds:
            raise LookupError(name)
        return found

    def attributes(self, item: Item) -> dict[str, str]:
        """The texts among a result's attributes; its numbers are not read."""
        stamp = item.stamp
        held = self._attributes.get(item.id)
        if held is None or held[0] != stamp:
            held = self._attributes[item.id] = (stamp, attributes_of(item.path))
        return held[1]

    def read(self, item: Item) -> "xr.Dataset":
        """A result, read once as long as its file stays as it is and not many others are read meanwhile.

        Raises: KdvizError for a file that has gone, or is no result.
        """
        if not item.path.exists():
            raise KdvizError(f"{item.name}: is no longer there")
        key = (item.id, item.stamp)
        with self._reading:
            found = self._datasets.pop(key, None)
            self._datasets[key] = read_dataset(item.path) if found is None else found
            while len(self._datasets) > OPEN:
                del self._datasets[next(iter(self._datasets))]
            return self._datasets[key]

    def of_same_nets(self, item: Item, *kinds: str, same_images: bool = False) -> Item | None:
        """The result of one of these kinds, earlier ones first, that is of the same nets and data set as `item`.

        Samples of such results are told by their numbers in the data set. Among several results that on the same images
        is taken, then that in the folder of `item`. Results of logits of unknown origin are of the same nets where they
        lie in one folder and were measured on the same file.

        Args:
            item: a result.
            kinds: of the other result.
            same_images: whether it must be over exactly the same images.
        Returns: None where there is none.
        """
        own, images = self._origin(item), self.attributes(item).get("data_sha256")
        for kind in kinds if own else ():
            alike = [one for one in self.items(RESULT) if self._is_alike(one, kind, own)]
            rated = [(self.attributes(one).get("data_sha256") != images, one) for one in alike]
            rated = [(differ, one.path.parent != item.path.parent, one) for differ, one in rated]
            best = min(rated, key=lambda one: one[:2], default=None)
            if best is not None and not (same_images and best[0]):
                return best[2]
        return None

    def _is_alike(self, item: Item, kind: str, origin: tuple[str | None, ...]) -> bool:
        return self.attributes(item).get("kind") == kind and self._origin(item) == origin

    def _origin(self, item: Item) -> tuple[str | None, ...]:
        """What results of the same nets on the same data set agree in; nothing where that is not known."""
        told = self.attributes(item)
        if told.get("student_sha256") and told.get("data_sha256"):
            return tuple(map(told.get, SAME))
        return (str(item.path.parent), told["subject"]) if told.get("subject") else ()


def _checked(path: Path) -> Path:
    existing(path, what="folder or file")
    good = path.is_dir() or path.suffix in (".nc", ".html")
    require(good, f"{path}: expected a folder, a run, a result (.nc) or a page (.html)")
    return path


def _item(kind: str, path: Path, name: str) -> Item:
    digest = hashlib.sha256(kind.encode() + b"\0" + os.fsencode(path.absolute())).hexdigest()[:12]
    return Item(digest, kind, path, name)


def _found(top: Path, prefix: str) -> list[Item]:
    """The things at and below a path; their names begin with `prefix`."""
    if not top.is_dir():
        name = str(Path(top.resolve().parent.name, top.name))
        return [_item(RESULT if top.suffix == ".nc" else PAGE, top, name)]
    items: list[Item] = []
    for place, folders, files in os.walk(top):
        folders[:] = sorted(one for one in folders if not one.startswith(".") and one not in SKIPPED)
        folder = Path(place)
        name = str(prefix / folder.relative_to(top)) if folder != top else top.resolve().name
        if "journal.jsonl" in files and is_run(folder):
            items.append(_item(RUN, folder, name))
        for file in files:
            kind = RESULT if file.endswith(".nc") else QUEUE if file == "queue.sqlite" else None
            kind = PAGE if file in PAGES else kind
            if kind and (folder / file).is_file():
                items.append(_item(kind, folder / file, str(prefix / (folder / file).relative_to(top))))
        if len(items) > MOST:
            break
    return items
