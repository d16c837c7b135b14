"""The project's docstrings as Markdown: sections on one line, formulas, doctests and shared arguments.

Used by mkdocstrings as a griffe extension.
"""

import re
from collections.abc import Iterator
from typing import Any

import griffe

SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Yields", "Source", "Differs from", "Example", "Constants")
SECTION = re.compile(rf"({'|'.join(SECTIONS)}):(?: (.+))?$")
PARSED = ("Args", "Attributes")  # laid out by griffe, entry by entry, where their lines are indented
ENTRY = re.compile(r"    (\*{0,2}\w+(?:, \*{0,2}\w+)*): (.*)$")
FORMULA = re.compile(r"(?:[A-Za-z]\w*(?:\([\w, ]*\))? = |form \d: )")


def escaped(text: str) -> str:
    """Prose whose signs mean themselves in Markdown; what stands in backticks stays.

    >>> escaped("a_i * b_i, `x_i`")
    'a\\\\_i \\\\* b\\\\_i, `x_i`'
    """
    parts = re.split(r"(`+[^`]*`+)", text)
    marks = str.maketrans({"_": r"\_", "*": r"\*", "<": "&lt;", "~": r"\~"})
    prose = (part if index % 2 else part.translate(marks) for index, part in enumerate(parts))
    return re.sub(r"(?<=\S) {3,}", " &emsp; ", "".join(prose))  # columns of formulas stay apart


def blocks(text: str) -> Iterator[list[str]]:
    """Paragraphs, sections and doctests of a docstring, whether or not blank lines part them."""
    block: list[str] = []
    for line in text.splitlines():
        doctest = bool(block) and block[0].startswith(">>>")
        starts = SECTION.match(line) or (line.startswith(">>>") and not doctest)
        if block and (not line.strip() or starts):
            yield block
            block = []
        if line.strip():
            block.append(line)
    if block:
        yield block


def block_as_markdown(lines: list[str]) -> list[str]:
    """One block of `blocks`, rewritten for griffe's Google parser and Markdown."""
    if lines[0].startswith(">>>"):
        return ["```pycon", *lines, "```"]
    section = SECTION.match(lines[0])
    if section and section[2] is None and section[1] in PARSED:
        return [lines[0], *entries(lines[1:])]
    if section:
        rest = [line.strip() for line in lines[1:]]
        return [f"**{section[1]}:** {escaped(' '.join([section[2] or '', *rest]).strip())}"]
    if lines[0].startswith("    "):
        return lines
    ends = [bool(FORMULA.match(line)) for line in (*lines[1:], "")]  # a formula begins a line of its own
    return [escaped(line) + ("  " if end else "") for line, end in zip(lines, ends, strict=True)]


def entries(lines: list[str]) -> Iterator[str]:
    """The lines of a section with one entry per argument: "x, y: [n]" is written out for each."""
    shared: list[str] = []
    texts: list[str] = []

    def flush() -> Iterator[str]:
        for name in shared:
            yield f"    {name}: {texts[0]}"
            yield from texts[1:]

    for line in lines:
        entry = ENTRY.match(line)
        if entry:
            yield from flush()
            shared, texts = entry[1].split(", "), [escaped(entry[2])]
        elif shared:
            texts.append(escaped(line))
        else:
            yield escaped(line)
    yield from flush()


def as_markdown(text: str) -> str:
    """A whole docstring, rewritten.

    >>> print(as_markdown("A sum.\\n\\nArgs:\\n    x, y: `[n]`.\\nSource: ours."))
    A sum.
    <BLANKLINE>
    Args:
        x: `[n]`.
        y: `[n]`.
    <BLANKLINE>
    **Source:** ours.
    """
    return "\n\n".join("\n".join(block_as_markdown(lines)) for lines in blocks(text))


class Docstrings(griffe.Extension):
    """Rewrites every docstring once it is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
