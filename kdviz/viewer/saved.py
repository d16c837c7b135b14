"""The page as one file that needs no server, and as a cell's output in Jupyter."""

import base64
import html
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from kdviz.base.check import KdvizError
from kdviz.base.files import atomic
from kdviz.plots.data import FORMATS
from kdviz.viewer.answers import Answers
from kdviz.viewer.library import Library
from kdviz.viewer.page import inside_script, page

LARGEST = 40_000_000  # bytes of a saved page's answers
IMAGES = 10_000_000  # bytes of the images among them
NUMBERS = 100_000  # bytes of a table of a figure's numbers, above which it is left to the server
HEIGHT = 780  # pixels of the page in a notebook


class SavedPage:
    """The page with everything that it shows inside; `left_out` says what was too large for it."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.html = page(answers)
        self.left_out: list[str] = answers["left out"]

    def save(self, path: str | os.PathLike) -> Path:
        """Write the page as one file. Raises KdvizError where it cannot be written."""
        with atomic(path) as partial:
            partial.write_text(self.html, encoding="utf-8")
        return Path(path)

    def _repr_html_(self) -> str:
        """The page in a frame from which the notebook cannot be reached."""
        source = html.escape(self.html)
        style = f"width: 100%; height: {HEIGHT}px; border: 1px solid #8884; border-radius: 6px"
        sandbox = "allow-scripts allow-downloads"
        return f'<iframe title="kdviz view" sandbox="{sandbox}" style="{style}" srcdoc="{source}"></iframe>'


def view(
    *paths: str | os.PathLike, root: str | os.PathLike | None = None, images: bool = True, largest: int = LARGEST
) -> SavedPage:
    """Runs, results and reports on one page, shown by Jupyter as a cell's last value.

    Args:
        paths: folders, run folders, results (.nc); none: the working folder.
        root: folder of the data sets' files, where they are not in the usual places.
        images: whether the images behind bins, cells and points are looked up and kept in the page.
        largest: bytes that results may take in the page; those beyond are named in `left_out`.
    Returns: the page; `save(path)` writes it as one file.
    Raises: KdvizError for a path that is missing or of no known kind.
    """
    return SavedPage(record(Answers(Library(paths or (Path(),), root)), images=images, largest=largest))


def record(answers: Answers, *, images: bool = True, largest: int = LARGEST) -> dict[str, Any]:
    """Every answer that the page may ask for, by request; figures and images as data URIs.

    Args:
        answers: of a library.
        images: whether images of samples are among them.
        largest: bytes; later results are left out once these are used.
    """
    overview = answers.json("/api/overview")
    found: dict[str, Any] = {"/api/overview": overview, "left out": []}
    for run in overview["runs"]:
        found[f"/api/curves?id={run['id']}"] = answers.json("/api/curves", id=run["id"])
    used, wanted = 0, {}
    for line in overview["results"]:
        try:
            own, drawn = _of_result(answers, line["id"], found)
        except KdvizError as error:
            found[f"/api/result?id={line['id']}"] = {"error": str(error)}
            continue
        size = len(inside_script(own))
        if used + size > largest:
            found["left out"].append(line["name"])
            continue
        used += size
        found |= own
        if drawn["samples"] and f"/api/samples?id={drawn['samples']}" in found:
            wanted.setdefault(drawn["samples"], []).append(drawn)
    found["images"] = {source: _images(answers, source, found, many) for source, many in wanted.items() if images}
    return found


def _of_result(answers: Answers, name: str, known: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a page asks about one result and is not known yet, and the result's drawing."""
    drawn = answers.json("/api/result", id=name)
    own: dict[str, Any] = {f"/api/result?id={name}": drawn}
    source = drawn["samples"]
    if source and f"/api/samples?id={source}" not in known:
        own[f"/api/samples?id={source}"] = answers.json("/api/samples", id=source)
    for table in drawn["tables"]:
        for form in FORMATS:
            asked = {"id": name, "table": table, "as": form}
            text = answers.get("/download", asked).body
            if len(text) <= NUMBERS:
                own[f"/download?{urlencode(asked, quote_via=quote)}"] = text.decode()
    for style in drawn["figures"] if drawn["view"] is None else ():
        with suppress(KdvizError):
            png = answers.get("/figure", {"id": name, "style": style}).body
            own[f"/figure?id={name}&style={style}"] = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return own, drawn


def _images(answers: Answers, source: str, found: dict[str, Any], drawn: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The images of a source of samples that a reader is likeliest to ask for, as many as there is room for."""
    table = found[f"/api/samples?id={source}"]
    kept: dict[str, str] = {}
    room = IMAGES // max(1, len(found["/api/overview"]["results"]))
    asked = list(dict.fromkeys(likeliest(table, drawn)))
    for start in range(0, len(asked), 100):
        try:
            part = ",".join(map(str, asked[start : start + 100]))
            kept |= answers.json("/api/images", id=source, samples=part)["images"]
        except KdvizError:
            break
        if sum(map(len, kept.values())) > room:
            break
    return kept


def likeliest(table: dict[str, Any], drawn: Iterable[dict[str, Any]]) -> list[int]:
    """Samples in the order in which they are kept: of bins, those of low tau, errors, then the others."""
    ids, tau, target, student = table["ids"], table["tau"], table["target"], table["student"]
    first: list[int] = []
    for one in drawn:
        for space in (one["view"] or {}).get("spaces", ()):
            for bins in (space["behind"] or {}).values():
                first += [sample for one_bin in bins for sample in one_bin["ids"][:6]]
    if tau is not None:
        order = sorted((at for at in range(len(ids)) if tau[at] is not None), key=lambda at: tau[at])
        first += [ids[at] for at in order[:60]]
    if target is not None and student is not None:
        first += [ids[at] for at in range(len(ids)) if student["top"][at][0] != target[at]]
    return [*first, *ids]
