"""What the page asks for, whoever asks: the server for a browser, or the writer of a saved page."""

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from typing import Any, NamedTuple

from kdviz.base.check import KdvizError, one_line
from kdviz.plots.data import FORMATS, table, text_of
from kdviz.viewer import results, runs, samples
from kdviz.viewer.images import Images
from kdviz.viewer.library import PAGE, QUEUE, RESULT, RUN, Library

HELD = 24  # answers about results that are kept, so that a result is read once
MOST_IMAGES = 200  # of a request
JSON, TEXT, PNG, HTML = "application/json", "text/plain; charset=utf-8", "image/png", "text/html; charset=utf-8"


class Answer(NamedTuple):
    """Bytes of a type; `file` names what a browser saves them as, `foreign` says that they are a page of another maker,
    which must not reach ours."""

    type: str
    body: bytes
    file: str = ""
    foreign: bool = False


class Answers:
    """The answers to the page's requests, each by its path and its parameters.

    Args:
        library: what there is to be shown.
        ahead: read a data set's images, which takes seconds, once a page has its samples, before it asks for images.
    """

    def __init__(self, library: Library, *, ahead: bool = False) -> None:
        self.library, self.images, self._ahead = library, Images(), ahead
        self._lock = threading.RLock()  # HDF5 and matplotlib are for one thread at a time
        self._held: dict[tuple[Any, ...], Answer] = {}
        self._paths = {
            "/api/overview": self._overview,
            "/api/curves": self._curves,
            "/api/result": self._result,
            "/api/samples": self._samples,
            "/api/images": self._images,
            "/figure": self._figure,
            "/download": self._download,
            "/page": self._page,
        }

    def get(self, path: str, query: Mapping[str, str]) -> Answer:
        """The answer to a request.

        Args:
            path: one of those above.
            query: its parameters.
        Raises: LookupError for a path, a thing or a parameter that is not there; KdvizError for a file that cannot be
            shown.
        """
        return self._paths[path](query)

    def json(self, path: str, **query: str) -> Any:
        """The answer of one of the paths /api/..., as Python's values."""
        return json.loads(self.get(path, query).body)

    def _overview(self, _query: Mapping[str, str]) -> Answer:
        from kdviz import __version__

        items = self.library.items()
        found: dict[str, Any] = {"title": self.library.title, "version": __version__}
        found["runs"] = [runs.summary(one) for one in items if one.kind == RUN]
        found["tables"] = [part for one in items if one.kind == QUEUE for part in runs.tables(one)]
        found["pages"] = [{"id": one.id, "name": one.name} for one in items if one.kind == PAGE]
        found["results"] = [self._line(one) for one in items if one.kind == RESULT]
        return _json(found)

    def _line(self, item: Any) -> dict[str, Any]:
        told = self.library.attributes(item)
        names = ("kind", "label", "title", "data", "split")
        return {"id": item.id, "name": item.name, "stamp": item.stamp[0], **{key: told.get(key, "") for key in names}}

    def _curves(self, query: Mapping[str, str]) -> Answer:
        return _json(runs.curves(self.library.item(query["id"], RUN)))

    def _result(self, query: Mapping[str, str]) -> Answer:
        return self._of_result("result", query, results.drawing)

    def _samples(self, query: Mapping[str, str]) -> Answer:
        found = self._of_result("samples", query, samples.table)
        if self._ahead:
            first = json.loads(found.body)["ids"][:1]
            threading.Thread(target=self._read_ahead, args=(query["id"], first), daemon=True).start()
        return found

    def _read_ahead(self, name: str, first: list[int]) -> None:
        with suppress(KdvizError, LookupError):  # whoever asks for the images is told
            self._images({"id": name, "samples": ",".join(map(str, first))})

    def _of_result(self, what: str, query: Mapping[str, str], make: Any) -> Answer:
        """An answer made once for a file's present state."""
        item = self.library.item(query["id"], RESULT)
        with self._lock:
            others = tuple(one.stamp for one in self.library.items(RESULT))  # a result of the same logits may have come
            key = (what, item.id, others)
            if key not in self._held:
                self._held[key] = _json(make(self.library, item))
                while len(self._held) > HELD:
                    del self._held[next(iter(self._held))]
            return self._held[key]

    def _images(self, query: Mapping[str, str]) -> Answer:
        item = self.library.item(query["id"], RESULT)
        asked = [int(one) for one in query["samples"].split(",")[:MOST_IMAGES] if one.isdecimal()]
        with self._lock:
            request = samples.image_request(self.library, item, asked)
        return _json({"images": self.images.get(request)})

    def _figure(self, query: Mapping[str, str]) -> Answer:
        item = self.library.item(query["id"], RESULT)
        return Answer(PNG, self.figure(item, query["style"]))

    def figure(self, item: Any, style: str) -> bytes:
        """A figure of a result as matplotlib draws it, PNG."""
        from kdviz import plots

        with self._lock, plots.style("neurips"):
            drawn = plots.draw([self.library.read(item)], style, venue="neurips")
            buffer = BytesIO()
            drawn.savefig(buffer, format="png", dpi=150)
        return buffer.getvalue()

    def _download(self, query: Mapping[str, str]) -> Answer:
        item, name, form = self.library.item(query["id"], RESULT), query["table"], query["as"]
        if form not in FORMATS:
            raise LookupError(form)
        with self._lock:
            found = table(self.library.read(item), name)
        return Answer(TEXT, text_of(found, form).encode(), f"{item.path.stem}_{name}.{form}")

    def _page(self, query: Mapping[str, str]) -> Answer:
        item = self.library.item(query["id"], PAGE)
        try:
            return Answer(HTML, item.path.read_bytes(), foreign=True)
        except OSError as error:
            raise KdvizError(f"{item.name}: cannot be read: {error.strerror}") from error


def _json(value: Any) -> Answer:
    return Answer(JSON, json.dumps(value, allow_nan=False).encode("ascii"))


def refusal(error: Exception) -> tuple[int, Answer]:
    """Status and answer for an error of `Answers.get`."""
    if isinstance(error, KdvizError):
        return 422, _json({"error": str(error)})
    return 404, _json({"error": f"not found: {one_line(str(error))[:200]}"})
