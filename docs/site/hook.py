"""MkDocs' side of the made pages: they join the files, and the navigation is drawn up from them."""

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import pages  # noqa: E402
from mkdocs.config.defaults import MkDocsConfig  # noqa: E402
from mkdocs.structure.files import File, Files  # noqa: E402

made: dict[str, Any] = {}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the pages once per build and set the navigation."""
    texts, pictures = pages.notebooks()
    made.clear()
    made.update(texts | pages.pages())
    docs = Path(config.docs_dir)
    config.nav = pages.navigation(made, (path.relative_to(docs).as_posix() for path in docs.rglob("*.md")))
    made.update(pictures)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the made pages and the pictures of the reports."""
    for place, content in made.items():
        files.append(File.generated(config, place, content=content))
    for folder in pages.report_folders():
        for picture in folder.glob("*.png"):
            place = f"reports/{folder.parent.name}/{folder.name}/{picture.name}"
            files.append(File.generated(config, place, abs_src_path=str(picture)))
    return files
