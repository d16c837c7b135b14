"""`kdviz view`: one local page over runs, results and reports; it follows training as it goes on."""

from pathlib import Path
from typing import Annotated

import typer

from kdviz.base.signals import Terminated


def command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders, runs, results (.nc), pages (.html) [default: the working folder]."),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that holds the data sets' files, for their images.")] = None,
    port: Annotated[int, typer.Option(help="Of the local server; 0 takes a free one.", min=0, max=65535)] = 0,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser [default: where there is a display].")
    ] = True,
    save: Annotated[
        Path | None, typer.Option(help="Write the page as one self-contained file (.html) instead of serving it.")
    ] = None,
    images: Annotated[bool, typer.Option("--images/--no-images", help="With --save: keep images in the file.")] = True,
) -> None:
    """Look at runs, results and reports on one page: curves as they grow, landscapes to turn, images behind numbers.

    The page is served to this machine alone (127.0.0.1) until Ctrl-C; nothing is fetched from elsewhere.

    Example: kdviz view runs reports
    """
    from kdviz.viewer.library import Library

    chosen = paths or [Path()]
    library = Library(chosen, root)
    if save is not None:
        _save(chosen, root, save, images)
        return
    from kdviz.viewer.server import Server

    with Server(library, port) as server:
        try:
            typer.echo(f"{server.url}  (Ctrl-C ends)")
            if open_browser:
                _open(server.url)
            server.serve_forever()
        except Terminated:
            raise
        except KeyboardInterrupt:  # the way to end it
            typer.echo()


def _save(paths: list[Path], root: Path | None, file: Path, images: bool) -> None:
    from kdviz.viewer.saved import view

    page = view(*paths, root=root, images=images)
    typer.echo(page.save(file))
    for name in page.left_out:
        typer.echo(f"kdviz: {name}: left out, too large for one page", err=True)


def _open(url: str) -> None:
    """Open the page where there is a browser that needs no terminal."""
    import os
    import sys
    import webbrowser

    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(url)
