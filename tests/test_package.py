"""What the package says of itself: version, citation, types, and dependencies that are named."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
from minimum import lowest

import kdviz

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
DISTRIBUTIONS = {
    "sklearn": "scikit_learn",
    "umap": "umap_learn",
    "PIL": "pillow",
    "fontTools": "fonttools",
}  # where the import has another name


def imported(path):
    """Top-level modules that a file imports, at its head or inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def names(requirements):
    return {re.match(r"[\w-]+", one)[0].lower() for one in requirements}


def test_the_version_stands_in_one_place():
    assert PROJECT["dynamic"] == ["version"]
    assert "version" not in PROJECT
    source = (ROOT / PYPROJECT["tool"]["hatch"]["version"]["path"]).read_text(encoding="utf-8")
    assert f'__version__ = "{kdviz.__version__}"' in source


def test_the_citation_file_names_this_version_and_both_papers():
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == kdviz.__version__
    assert citation["license"] == PROJECT["license"]
    assert [one["name"] for one in citation["authors"]] == [one["name"] for one in PROJECT["authors"]]
    readme = " ".join(re.sub(r"[{}$\\]", "", (ROOT / "README.md").read_text(encoding="utf-8")).split())
    for paper in citation["references"]:
        assert {"type", "title", "authors", "year"} <= set(paper)
        assert paper["title"].replace("τ", "tau") in readme


def test_the_types_travel_with_the_package():
    assert (Path(kdviz.__file__).parent / "py.typed").exists()


def test_every_import_is_a_declared_dependency():
    declared = names(PROJECT["dependencies"])
    optional = names(one for extra in PROJECT["optional-dependencies"].values() for one in extra)
    used = {name for path in Path(kdviz.__file__).parent.rglob("*.py") for name in imported(path)}
    used = {DISTRIBUTIONS.get(name, name) for name in used - set(sys.stdlib_module_names) - {"kdviz"}}
    assert declared <= used | {"h5netcdf", "seaborn"}, "declared, but nothing imports it"  # xarray names h5netcdf
    assert used - declared <= {name.replace("-", "_") for name in optional} | {"triton"}  # triton comes with torch


@pytest.mark.parametrize("extra", [None, *PROJECT["optional-dependencies"]])
def test_a_dependency_has_a_lowest_version_and_a_tried_one(extra):
    requirements = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    tried = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    for one in requirements:
        assert re.search(r"[>=]=\d", one), one
    assert names(requirements) - tried <= {"timm", "torchvision"}


def test_minimum_pins_what_it_can():
    assert lowest(["numpy>=1.26", "torch>=2.6", "mkdocstrings[python]>=1.0"]) == ["numpy==1.26", "mkdocstrings==1.0"]
