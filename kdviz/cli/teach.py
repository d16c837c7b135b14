"""`kdviz teach`: a teacher's logits of every training image and crop, ahead of the runs that share them."""

from pathlib import Path
from typing import Annotated

import typer

from kdviz.cli import completion
from kdviz.cli.options import Root, TeacherModel
from kdviz.cli.pace import progress

NEEDS_ARGUMENTS = True


def command(
    teacher: Annotated[Path, typer.Argument(help="The teacher's checkpoint, or FILE@MODEL.")],
    folder: Annotated[Path, typer.Argument(help="Folder for tables; give it to train as --teacher-cache.")],
    teacher_model: TeacherModel = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="The recipe that the runs will use, or a TOML file.", autocompletion=completion.recipes),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The data set, where the teacher does not say.", autocompletion=completion.data)
    ] = None,
    root: Root = None,
    limit: Annotated[int | None, typer.Option(help="As in the runs: train on so many images.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images at a time.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or bf16, as in the runs.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 [default: a GPU where there is one].")] = None,
) -> None:
    """Compute the teacher's logits of every crop of every training image; the same command goes on after a kill.

    Runs fill the same table as they meet crops; doing it ahead pays when many runs will share it.

    Example: kdviz teach checkpoints/resnet20_teacher.pt runs/teacher --limit 2000
    """
    from kdviz.checkpoints.related import load_teacher
    from kdviz.data.external import named_by_file
    from kdviz.train import load_recipe
    from kdviz.train.teach import fill_table

    opened = load_teacher(teacher, teacher_model)
    if data is None and opened.data is not None:
        data = named_by_file(opened.data, where=teacher)
    chosen = load_recipe(recipe, data=data, limit=limit, batch=batch, precision=precision)
    with progress("views") as moved:
        table = fill_table(chosen, opened, folder, root=root, device=device, progress=moved)
    images, views, classes = table.shape
    typer.echo(f"{table.path}: {images} images x {views} views x {classes} classes, {table.share:.0%} known")
