"""Docstrings that list arguments list all of them."""

import ast
import re
from pathlib import Path

import pytest

import kdviz

ROOT = Path(kdviz.__file__).parent
SHARED = {"self", "cls", "venue", "datasets"}  # every figure's; described once in kdviz.plots


def undocumented(node):
    """Parameters of a function that its "Args:" section does not name; none where there is no such section."""
    doc = ast.get_docstring(node) or ""
    section = re.search(r"^Args:\s*\n((?:[ \t]+.*\n?|\n)*)", doc, re.M)
    if section is None:
        return set()
    named = set()
    for line in section.group(1).splitlines():
        entry = re.match(r"    ?\s{0,3}([*\w, ]+):", line)
        if entry:
            named |= {name.strip(" *") for name in entry.group(1).split(",")}
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return {one.arg for one in given if not one.arg.startswith("_")} - named - SHARED


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_docstring_that_lists_arguments_lists_all_of_them(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            assert not undocumented(node), f"{node.name}: {sorted(undocumented(node))}"


def test_the_check_sees_a_missing_argument():
    source = 'def f(a, b, *, c):\n    """Do it.\n\n    Args:\n        a, b: numbers.\n    """\n'
    assert undocumented(ast.parse(source).body[0]) == {"c"}
