"""HTML tables of plain texts."""

import math
from collections.abc import Iterable, Sequence
from html import escape


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int = 0, top: Sequence[int] = ()) -> str:
    """A table of plain texts, escaped.

    Args:
        head: the first row; all empty: none is drawn.
        rows: of as many texts each.
        numbers: how many columns, from the last, are numbers.
        top: columns of which the highest number is marked.
    """
    rows = [list(row) for row in rows]
    first = len(head) - numbers
    best = {column: max((value(row[column]) for row in rows), default=-math.inf) for column in top}

    def cell(tag: str, column: int, text: str) -> str:
        classes = ["number"] if column >= first else []
        if tag == "td" and column in best and len(rows) > 1 and value(text) == best[column] > -math.inf:
            classes.append("top")
        mark = f' class="{" ".join(classes)}"' if classes else ""
        return f"<{tag}{mark}>{escape(text)}</{tag}>"

    lines = [*([("th", head)] if any(head) else []), *(("td", row) for row in rows)]
    body = "".join(f"<tr>{''.join(cell(tag, i, text) for i, text in enumerate(line))}</tr>" for tag, line in lines)
    return f'<div class="wide"><table>{body}</table></div>'


def value(text: str) -> float:
    """The number that a text begins with, or minus infinity.

    >>> value("81.00 %"), value("–")
    (81.0, -inf)
    """
    try:
        return float(text.split()[0])
    except (ValueError, IndexError):
        return -math.inf


def flat(mapping: dict, prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names and texts.

    >>> flat({"lr": 0.1, "settings": {"kd.temperature": 4.0}})
    {'lr': '0.1', 'settings.kd.temperature': '4.0'}
    """
    found: dict[str, str] = {}
    for key, entry in mapping.items():
        if isinstance(entry, dict):
            found |= flat(entry, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(entry)
    return found
