"""The page as one HTML document, with its styles and scripts inside and, where it is saved, all its answers."""

import base64
import hashlib
import json
from importlib import resources
from string import Template
from typing import Any

SCRIPTS = ("dom", "charts", "surface", "maps", "samples", "results", "runs", "main")
HTML = "text/html; charset=utf-8"


def page(answers: dict[str, Any] | None = None) -> str:
    """The document.

    Args:
        answers: request -> answer, of a page that asks no server; None for the one that does.
    Returns:
        HTML that loads nothing from elsewhere. Its policy allows exactly its own script and style, so that nothing in
        the answers can run, whatever they hold.
    """
    style = _file("view.css")
    script = "".join(_file(f"{name}.js") for name in SCRIPTS)
    script = f'(() => {{\n"use strict";\n{script}}})();\n'
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'"
    )
    return Template(_file("view.html")).substitute(
        policy=policy, style=style, script=script, answers=inside_script(answers)
    )


def inside_script(value: Any) -> str:
    """JSON that can stand inside a <script> element: no sign in it ends the element or opens a comment.

    >>> inside_script({"a": "</script><!--"})
    '{"a": "\\\\u003c/script\\\\u003e\\\\u003c!--"}'
    """
    text = json.dumps(value, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _file(name: str) -> str:
    return (resources.files("kdviz.viewer") / "page" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
