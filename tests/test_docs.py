"""The documentation's made pages: every method, loss, command and figure has its place without a line of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("griffe")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "site"))

import api  # noqa: E402
import docstrings  # noqa: E402
import pages  # noqa: E402

from kdviz.cli.app import COMMANDS  # noqa: E402
from kdviz.losses import LOSSES  # noqa: E402
from kdviz.methods import METHODS  # noqa: E402


@pytest.fixture(scope="module")
def made():
    return pages.pages()


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_a_page_with_formula_defaults_and_source(name):
    method, text = METHODS[name], pages.method(name)
    assert text.startswith(f"# {name}\n\n{method.summary}")
    for key, value in method.defaults.items():
        assert f"| `{key}` | `{value}` |" in text
    assert text.count(":::") == len(method.terms)  # mkdocstrings lays out each term's docstring
    assert (method.bibtex in text) if method.source else ("## Source" not in text)


def test_every_method_is_in_the_list_and_in_the_navigation(made):
    listed = set(re.findall(r"\(([\w+]+)\.md\)", made["methods/index.md"]))
    assert listed == set(METHODS)
    methods = next(part["Methods"] for part in pages.navigation(made, []) if "Methods" in part)
    assert {f"methods/{name}.md" for name in METHODS} < set(methods)


def test_every_loss_is_listed_and_described(made):
    described = "".join(text for place, text in made.items() if place.startswith("api/kdviz."))
    for name, loss in LOSSES.items():
        assert f"[`{name}`][{loss.function.__module__}.{name}]" in made["methods/losses.md"]
        assert f"::: {loss.function.__module__}.{name}\n" in described


def test_every_command_shows_its_help(made):
    assert re.findall(r"^## kdviz (\w+)$", made["commands.md"], re.MULTILINE) == list(COMMANDS)
    for name in COMMANDS:
        assert f"Usage: kdviz {name} " in made["commands.md"]


def test_every_figure_is_in_the_gallery(made):
    shown = re.findall(r"!\[.*?\]\(([^)]+)\)", made["gallery.md"])
    assert {path.name for path in (ROOT / "docs").glob("*.png")} <= set(shown)
    for picture in shown:
        assert (ROOT / "docs" / picture).exists() or (ROOT / picture).exists()


def test_an_object_stands_on_one_page_of_the_interface():
    paths = [path for each in api.contents().values() for path in each]
    assert len(paths) == len(set(paths)) > 50
    assert {"kdviz.analysis.logits.collect_logits", "kdviz.metrics.kendall.kendall_tau"} <= set(paths)


def test_a_page_without_a_place_comes_under_notes():
    assert pages.navigation([], ["index.md", "development.md", "clusters.md"])[-1] == {"Notes": ["clusters.md"]}


def test_a_notebook_becomes_text_and_pictures():
    texts, pictures = pages.notebooks()
    assert len(texts) == 1 + len(list((ROOT / "notebooks").glob("*.ipynb")))
    for place, text in texts.items():
        for picture in re.findall(r"^!\[[^]]*\]\((.+?)\)$", text, re.MULTILINE):
            assert pictures[f"{Path(place).parent}/{picture}"].startswith(b"\x89PNG")
        for link in re.findall(r"\]\((\w+\.md)\)", text):
            assert f"tutorials/{link}" in texts
    assert len(pictures) > 10


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A_i * B_i.", r"A\_i \* B\_i."),
        ("Args:\n    x, y: a_b.", "Args:\n    x: a\\_b.\n    y: a\\_b."),
        ("Sum.\nReturns: two\n    lines.\nSource: ours.", "Sum.\n\n**Returns:** two lines.\n\n**Source:** ours."),
        ("Raises:\n    KdvizError: no.", "**Raises:** KdvizError: no."),
        ("One.\n>>> f(1)\n1\n\n>>> f(2)", "One.\n\n```pycon\n>>> f(1)\n1\n```\n\n```pycon\n>>> f(2)\n```"),
        ("L = a\ng(x) = b,\nso c", "L = a  \ng(x) = b,\nso c"),
    ],
)
def test_a_docstring_becomes_markdown(text, expected):
    assert docstrings.as_markdown(text) == expected


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ("index", "methods/kd", "commands", "gallery", "tutorials/1_quickstart", "api/kdviz.losses"):
        text = (tmp_path / "site" / f"{page}.html").read_text(encoding="utf-8")
        loaded = re.findall(
            r'<(?:script|img|link rel="(?:stylesheet|preconnect)")[^>]+(?:src|href)="(https?:[^"]+)', text
        )
        assert loaded == []  # nothing comes from the network
