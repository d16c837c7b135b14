"""`kdviz data fetch`: a published data set's archive, brought from its site."""

from pathlib import Path
from typing import Annotated

import typer

from kdviz.base.check import one_of, require
from kdviz.cli.pace import progress

NEEDS_ARGUMENTS = True


def command(
    action: Annotated[str, typer.Argument(help="fetch.")],
    names: Annotated[list[str], typer.Argument(help="cifar10, cifar100, tiny-imagenet.")],
    root: Annotated[Path, typer.Option(help="Folder for the files; then name it with --root, or set $KDVIZ_DATA.")],
    url: Annotated[str | None, typer.Option(help="A mirror's address of the same file; one data set only.")] = None,
) -> None:
    """Fetch the archive of a published data set; a transfer that broke off goes on where it stopped.

    Example: kdviz data fetch cifar100 --root ~/data
    """
    one_of("kdviz data", ("fetch",), action=action)
    require(url is None or len(names) == 1, f"kdviz data: --url is for one data set, got {len(names)}")

    from kdviz.data.fetch import fetch

    for name in names:
        with progress(name) as moved:
            typer.echo(fetch(name, root.expanduser(), url=url, progress=moved))
