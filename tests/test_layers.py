"""The layer rule of the house, held by walking every import of the package."""

import ast
from pathlib import Path

import pytest

import kdviz

ROOT = Path(kdviz.__file__).parent
# A layer may import itself and whatever stands before it; peers share a rank and do not import each other.
RANK = {
    "base": 0,
    "data": 1,
    "models": 1,
    "losses": 1,
    "metrics": 1,
    "methods": 2,
    "checkpoints": 2,
    "train": 3,
    "analysis": 3,
    "papers": 4,
    "report": 4,
    "tables": 5,
    "viewer": 6,  # it reads the queues of tables
    "cli": 7,
    "plots": 1,
}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT)


def imports(path):
    """(module, names) of every import in the file, TYPE_CHECKING blocks and function bodies included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_layers(path):
    layer = path.relative_to(ROOT).parts[0]
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "torch":
            assert layer != "plots", f"{path}: plots never import torch"
        if parts[0] in ("matplotlib", "seaborn"):
            assert layer in ("plots", "report", "cli") or path.name == "glyphs.py", f"{path} imports {module}"
        if parts[0] != "kdviz" or len(parts) < 2 or parts[1] == layer or parts[1] not in RANK:
            continue
        if layer == "plots":
            assert parts[1] == "base", f"{path} imports {module}: plots import base only"
        else:
            lower = RANK[parts[1]] < RANK[layer]
            drawing = parts[1] == "plots" and layer in ("papers", "report", "viewer", "cli")
            assert (lower and parts[1] != "plots") or drawing, f"{path} imports {module}"


@pytest.mark.parametrize("path", [*MODULES, *ROOT.glob("*.py")], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_is_long(path):
    assert len(path.read_text().splitlines()) <= 350


@pytest.mark.parametrize("path", [*MODULES, *ROOT.glob("*.py")], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_function_outside_the_commands_has_more_than_ten_parameters(path):
    if "cli" in path.parts:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            assert len([one for one in given if one.arg not in ("self", "cls")]) <= 10, node.name
