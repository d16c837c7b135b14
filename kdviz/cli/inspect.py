"""`kdviz inspect`: what is in a checkpoint, and what of it is not used."""

import json
from pathlib import Path
from typing import Annotated

import typer

from kdviz.base.check import one_line
from kdviz.cli.adaptation import Weights
from kdviz.cli.common import open_checkpoint
from kdviz.cli.options import ModelName

NEEDS_ARGUMENTS = True


def command(
    files: Annotated[list[Path], typer.Argument(help="Checkpoints of any known producer.")],
    model: ModelName = None,
    weights: Weights = None,
    classes: Annotated[int | None, typer.Option(help="The class count that the files must have.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per file and line.")] = False,
) -> None:
    """Print what is in a checkpoint, whoever wrote it; its producer, net, data, method, scores, recipe and teacher.

    Example: kdviz inspect checkpoints/resnet20_teacher.pt
    """
    for i, file in enumerate(files):
        checkpoint = open_checkpoint(file, model, classes, weights)
        if as_json:
            typer.echo(json.dumps(checkpoint.as_dict()))
            continue
        if i:
            typer.echo()
        width = max(map(len, checkpoint.facts))
        for label, value in checkpoint.facts.items():
            typer.echo(one_line(f"{label:<{width}}  {value}"))
