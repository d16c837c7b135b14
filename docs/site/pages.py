"""Pages made from what is registered: a new method, loss, command, figure or notebook needs no line here."""

import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import api
import tutorials

ROOT = Path(__file__).resolve().parents[2]
# Commands of figures that `make gallery` does not draw.
COMMANDS = {
    "fashion-mnist.png": "kdviz landscape runs/fashion/kd+rk/last.pt --samples 200 --steps 11",
    "view.png": "kdviz view runs reports",
}


def table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table; bars inside a cell are escaped."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", r"\|") for cell in line) + " |" for line in lines)


def code(value: Any) -> str:
    return f"`{value}`"


def paper(source: Any) -> str:
    """A citation as a line with its preprint as a link, and its BibTeX entry."""
    if source is None:
        return ""
    title = re.sub(r"[{}$\\]", "", str(source.title))
    preprint = f", [arXiv:{source.arxiv}](https://arxiv.org/abs/{source.arxiv})" if source.arxiv else ""
    venue = "" if source.venue == "arXiv" else f"{source.venue} "
    line = f"{source.authors.replace(' and ', '; ')}. *{title}*. {venue}{source.year}{preprint}."
    return f"## Source\n\n{line}\n\n```bibtex\n{source.bibtex}\n```\n"


def settings(defaults: Mapping[str, Any]) -> str:
    return table(("setting", "default"), ((code(key), code(value)) for key, value in defaults.items()))


# Methods and losses


def formula(term: Any) -> str:
    """The docstring of a term's loss or module, without a second entry in the index of names."""
    from kdviz.losses import LOSSES

    build = getattr(term, "build", None)
    thing = build or LOSSES[term.name].function
    options = "    options:\n      skip_local_inventory: true\n      heading_level: 3\n      members: []\n"
    shown = inspect.isclass(thing) or inspect.isfunction(thing)
    return f"::: {thing.__module__}.{thing.__qualname__}\n{options}" if shown else f"### {term.name}\n"


def method(name: str) -> str:
    """The page of a method: terms with their weights and formulas, settings, presets, source."""
    from kdviz.methods import METHODS

    one = METHODS[name]
    reads = ", ".join(sorted(getattr(one, "needs", ())))
    facts = (
        f"Kind: {getattr(one, 'kind', 'logit')}. Beside labels and the student's logits it reads: {reads or 'nothing'}."
    )
    terms = [
        (code(term.name), f"{term.weight:g}", f"{term.warmup:g}", "plain and strong" if term.strong else "plain")
        for term in one.terms
    ]
    presets = [
        (code(teacher), code(student), ", ".join(code(f"{key}={value}") for key, value in preset.items()))
        for (teacher, student), preset in one.presets.items()
    ]
    train = f"kdviz train glyphs100 --method {name} --teacher checkpoints/resnet20_teacher.pt"
    if "boxes" in getattr(one, "needs", ()):
        train = f"kdviz train glyphboxes --method {name}" + (" --teacher RUN" if "teacher" in one.needs else "")
    parts = [
        f"# {name}", one.summary, facts, f"```sh\n{train}\n```",
        "## Terms", table(("term", "weight", "warm-up, epochs", "views"), terms),
        *(formula(term) for term in one.terms),
        "## Settings", "`--set NAME=VALUE` of `kdviz train` changes any of them.", settings(one.defaults),
    ]  # fmt: skip
    if presets:
        parts += ["Some pairs of nets have their own:", table(("teacher", "student", "settings"), presets)]
    return "\n\n".join([*parts, paper(one.source)])


def methods() -> dict[str, str]:
    """A page for each method and their list."""
    from kdviz.methods import METHODS

    made = {f"methods/{name}.md": method(name) for name in METHODS}
    rows = [
        (f"[{name}]({name}.md)", getattr(one, "kind", ""), one.summary, paper_short(one.source))
        for name, one in METHODS.items()
    ]
    text = (
        "# Methods\n\nWhat `kdviz train --method` takes. A method is a weighted sum of terms; `kd+dist+rk` joins"
        " several.\n\n"
    )
    made["methods/index.md"] = text + table(("method", "compares", "what", "source"), rows) + "\n"
    return made


def paper_short(source: Any) -> str:
    return f"{source.authors.split(',')[0]} et al., {source.venue} {source.year}" if source else ""


def losses() -> dict[str, str]:
    """The list of losses; their docstrings stand on the page of `kdviz.losses`."""
    from kdviz.losses import LOSSES

    rows = [
        (
            f"[`{name}`][{api.home(one.function, 'kdviz.losses', name)}]",
            getattr(one, "long_name", ""),
            getattr(one, "unit", ""),
            ", ".join(map(code, one.takes)),
            one.summary,
        )
        for name, one in LOSSES.items()
    ]
    text = "# Losses\n\nPure functions of tensors: `kdviz.losses.NAME(student, teacher, target, *, ...)`.\n\n"
    return {"methods/losses.md": text + table(("loss", "name", "unit", "tensors", "what"), rows) + "\n"}


# Commands


def commands() -> dict[str, str]:
    """Help of every command, as the terminal shows it."""
    from typer.testing import CliRunner

    from kdviz.cli.app import COMMANDS, app

    runner, environment = CliRunner(), {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}
    parts = ["# Commands", f"```text\n{runner.invoke(app, ['--help'], env=environment).stdout.rstrip()}\n```"]
    for name in COMMANDS:
        shown = runner.invoke(app, [name, "--help"], env=environment, catch_exceptions=False).stdout.rstrip()
        parts += [f"## kdviz {name}", tutorials.fenced(shown, "text")]
    return {"commands.md": "\n\n".join(parts) + "\n"}


# Figures


def gallery_lines(makefile: str) -> list[tuple[str, str]]:
    """(picture, command) of each figure that `make gallery` draws.

    >>> gallery_lines("gallery:\\n\\tkdviz tau A.pt -o runs/gallery/tau\\n\\tcp runs/gallery/tau/x.png docs/tau.png\\n")
    [('tau.png', 'kdviz tau A.pt')]
    """
    drawn = {
        found[2]: found[1].removesuffix(" --format png")
        for found in re.finditer(r"(kdviz .+?) -o (runs/gallery/\S+)$", makefile, re.MULTILINE)
    }
    copied = re.findall(r"cp (runs/gallery/\S+)/\S+ docs/(\S+)$", makefile, re.MULTILINE)
    return [(picture, drawn[folder]) for folder, picture in copied if folder in drawn]


def gallery() -> str:
    """Every figure with the command that draws it."""
    parts = [
        "# Gallery",
        "All of the shipped students, on **glyphs100, a synthetic data set**: small nets that show what each figure is,"
        " never the papers' results.",
    ]
    drawn = dict(gallery_lines((ROOT / "Makefile").read_text(encoding="utf-8")))
    for picture in [*drawn, *sorted(path.name for path in (ROOT / "docs").glob("*.png") if path.name not in drawn)]:
        command = drawn.get(picture) or COMMANDS.get(picture)
        parts += [f"## {Path(picture).stem}", f"![{Path(picture).stem}]({picture})"]
        parts += [f"```sh\n{command}\n```"] if command else []
    parts.append("## Figures of the papers")
    for folder in report_folders():
        place, first = f"{folder.parent.name}/{folder.name}", sorted(folder.glob("*.png"))[0].name
        parts += [
            f"### {place.replace('/', ' ')}",
            f"[![{place}](reports/{place}/{first})](reports/{place}/findings.md)",
        ]
        parts.append(f"```sh\nkdviz paper {place.replace('/', ' ')}\n```")
    return "\n\n".join(parts) + "\n"


def report_folders() -> list[Path]:
    return sorted(path.parent for path in (ROOT / "reports").glob("*/*/findings.md"))


def reports() -> dict[str, str]:
    """The kept findings of each figure of the papers, with all of its pictures."""
    made = {}
    for folder in report_folders():
        place = f"{folder.parent.name}/{folder.name}"
        title, _, rest = (folder / "findings.md").read_text(encoding="utf-8").partition("\n")
        pictures = "\n\n".join(f"![{one.stem}]({one.name})" for one in sorted(folder.glob("*.png")))
        head = f"{title}\n\n```sh\nkdviz paper {place.replace('/', ' ')}\n```\n\n{pictures}\n"
        made[f"reports/{place}/findings.md"] = head + rest
    return made


# Notebooks and the files of the repository's root


def notebooks() -> tuple[dict[str, str], dict[str, bytes]]:
    """Pages of the notebooks and their pictures."""
    texts: dict[str, str] = {}
    pictures: dict[str, bytes] = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        texts[f"tutorials/{path.stem}.md"], found = tutorials.page(path)
        pictures |= {f"tutorials/{name}": content for name, content in found.items()}
    titles = [(name, re.search(r"^# (.+)$", text, re.MULTILINE)) for name, text in texts.items()]
    lines = [f"1. [{title[1] if title else Path(name).stem}]({Path(name).name})" for name, title in titles]
    intro = "# Tutorials\n\nThe notebooks of the repository's `notebooks/` as they last ran; `make lab` opens them.\n\n"
    return {"tutorials/index.md": intro + "\n".join(lines) + "\n", **texts}, pictures


def root_file(name: str) -> str:
    """A Markdown file of the repository's root; links to files that are no pages become plain names."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)]*\)", r"`\1`", text)


def pages() -> dict[str, str]:
    """Every page that is made, by its place among the documents, but for the tutorials."""
    made = {"gallery.md": gallery(), "contributing.md": root_file("CONTRIBUTING.md")}
    made["changelog.md"] = root_file("CHANGELOG.md")
    return made | methods() | losses() | commands() | reports() | api.pages()


def navigation(made: Iterable[str], written: Iterable[str]) -> list[Any]:
    """The tree of pages.

    Args:
        made: places of the pages that are made.
        written: places of those that stand in docs/ themselves; what has no place in the tree comes under "Notes".
    """
    made, written = list(made), sorted(written)
    within = {part: [one for one in made if one.startswith(f"{part}/")] for part in ("tutorials", "reports", "api")}
    listed = [f"methods/{name}" for name in ("index.md", "losses.md")]
    every = [*listed, *(one for one in made if one.startswith("methods/") and one not in listed)]
    notes = [one for one in written if one not in ("index.md", "development.md")]
    tree: list[Any] = [
        {"Home": "index.md"},
        {"Gallery": ["gallery.md", *({" ".join(one.split("/")[1:3]): one} for one in within["reports"])]},
        {"Tutorials": within["tutorials"]},
        {"Methods": every},
        {"Commands": "commands.md"},
        {"Python": within["api"]},
        {"Development": ["development.md", "contributing.md", "changelog.md"]},
    ]
    return tree + ([{"Notes": notes}] if notes else [])
