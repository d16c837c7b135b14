"""`kdviz report`: one self-contained HTML page per run or comparison."""

from pathlib import Path
from typing import Annotated

import typer

from kdviz.cli.common import hold
from kdviz.cli.options import ModelName

NEEDS_ARGUMENTS = True


def command(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of kdviz train, or checkpoint files.")],
    results: Annotated[
        list[Path] | None, typer.Option(help="Folder searched for results (.nc) of these checkpoints.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
    model: ModelName = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page [default: reports/NAME/report.html].")
    ] = None,
) -> None:
    """Write one HTML page about a run, or about several side by side; it opens offline.

    Where no histogram or tau of a net is found among the results, both are measured on 500 test images, or
    on 50 of a detector's.

    Example: kdviz report runs/glyphs100/resnet8_kd_seed0 \\
        runs/glyphs100/resnet8_kd+rk_seed0
    """
    from kdviz.base.files import atomic
    from kdviz.report import gather, measured, page

    folders = results if results is not None else [Path("reports")]
    subjects = gather(runs, results=[folder for folder in folders if folder.is_dir()], model=model)
    subjects = [measured(one) for one in subjects]
    name = subjects[0].label if len(subjects) == 1 else "comparison"
    path = out or Path("reports") / Path(name).name / "report.html"
    path = path if path.suffix in (".html", ".htm") else path / "report.html"
    text = page(subjects, title=title)
    hold(path.parent)
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names may hold bytes
    typer.echo(path)
