"""Pages of the Python interface: what each public package exports, its docstrings laid out by mkdocstrings."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

# Public packages in the order of the navigation. True: what their modules document stands there too
PACKAGES = {
    "kdviz.losses": False,
    "kdviz.methods": False,
    "kdviz.metrics": False,
    "kdviz.data": False,
    "kdviz.models": False,
    "kdviz.checkpoints": False,
    "kdviz.train": False,
    "kdviz.analysis": True,
    "kdviz.analysis.landscape": True,
    "kdviz.plots": False,
    "kdviz.papers": False,
    "kdviz.report": False,
    "kdviz.viewer": False,
}


def home(thing: Any, package: str, name: str) -> str:
    """The dotted path where a public object is defined; a constant's is where it is exported.

    >>> import kdviz
    >>> home(kdviz.collect_logits, "kdviz", "collect_logits")
    'kdviz.analysis.logits.collect_logits'
    """
    if inspect.isclass(thing) or inspect.isfunction(thing):
        return f"{thing.__module__}.{thing.__qualname__}"
    return f"{package}.{name}"


def exported(package: str) -> Iterator[tuple[str, Any]]:
    """Public names of a package that are functions or classes with a docstring, and what they name."""
    module = importlib.import_module(package)
    for name in getattr(module, "__all__", ()):
        thing = getattr(module, name)
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__doc__:
            yield name, thing
    if PACKAGES.get(package):
        for inner in modules(module):
            yield from documented(inner)


def modules(package: ModuleType) -> Iterator[ModuleType]:
    """The modules of a package; of its packages only those that have no page of their own."""
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if found.name in PACKAGES:
            continue
        inner = importlib.import_module(found.name)
        yield inner
        if found.ispkg:
            yield from modules(inner)


def documented(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Public functions and classes defined in a module whose docstring has arguments or attributes."""
    for name, thing in vars(module).items():
        own = (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__ == module.__name__
        if (
            own
            and not name.startswith("_")
            and any(f"{one}:\n" in (thing.__doc__ or "") for one in ("Args", "Attributes"))
        ):
            yield name, thing


def contents() -> dict[str, list[str]]:
    """Package -> dotted paths of what its page describes; each object stands on one page, the first that exports it."""
    seen: set[str] = set()
    pages: dict[str, list[str]] = {}
    for package in PACKAGES:
        paths = [home(thing, package, name) for name, thing in exported(package)]
        pages[package] = [path for path in dict.fromkeys(paths) if path not in seen and path.startswith("kdviz.")]
        seen.update(pages[package])
    return pages


def pages() -> dict[str, str]:
    """Page of each package, by its place among the documents."""
    made = {"api/index.md": index()}
    for package, paths in contents().items():
        summary = (importlib.import_module(package).__doc__ or "").strip().splitlines()[0]
        body = "\n\n".join(f"::: {path}" for path in paths)
        made[f"api/{package}.md"] = f"# {package}\n\n{summary}\n\n{body}\n"
    return made


def index() -> str:
    """Names that `import kdviz` gives, and the packages."""
    import kdviz

    packages = {name.removeprefix("kdviz."): name for name in PACKAGES}
    rows = ["| name | what it is |", "|---|---|"]
    for name in kdviz.__all__:
        thing = getattr(kdviz, name)
        summary = (thing.__doc__ or "").strip().splitlines()[0]
        target = f"{packages[name]}.md" if name in packages else ""
        path = home(thing, "kdviz", name)
        known = any(path in paths for paths in contents().values())
        link = f"[`kdviz.{name}`]({target})" if target else f"[`kdviz.{name}`][{path}]" if known else f"`kdviz.{name}`"
        rows.append(f"| {link} | {summary} |")
    rest = [f"- [`{name}`]({name}.md)" for name in PACKAGES if name.removeprefix("kdviz.") not in kdviz.__all__]
    intro = "Settings are keyword-only; tensors come in the order student, teacher, target."
    return "\n".join(["# Python interface", "", intro, "", *rows, "", "More packages:", "", *rest, ""])
