"""The frame of every page: title, contents, sections, style in light and dark; nothing is fetched."""

from collections.abc import Iterable
from html import escape
from importlib import resources
from string import Template

from kdviz.base.files import versions


def document(title: str, lead: str, sections: Iterable[tuple[str, str]], *, note: str = "") -> str:
    """One HTML document with all styles and images inside.

    Args:
        title, lead: plain texts, the heading and the line below it.
        sections: (plain heading, HTML); those without HTML are left out.
        note: plain text at the end of the page.
    Returns:
        HTML; the same text for the same inputs.
    """
    kept = [(heading, body) for heading, body in sections if body]
    template = Template((resources.files("kdviz.report") / "page.html").read_text(encoding="utf-8"))
    parts = (f'<h2 id="part{at}">{escape(heading)}</h2>{body}' for at, (heading, body) in enumerate(kept, 1))
    return template.substitute(
        title=escape(title),
        lead=escape(lead),
        contents=_contents([heading for heading, _ in kept]),
        body="\n".join(parts),
        note=escape(note),
        version=escape(versions().get("kdviz", "")),
    )


def _contents(titles: list[str]) -> str:
    """Links to the parts of the page."""
    links = (f'<li><a href="#part{at}">{escape(title)}</a></li>' for at, title in enumerate(titles, 1))
    return f'<nav aria-label="contents"><ul>{"".join(links)}</ul></nav>'
