"""`kdviz train`: a student by any method, from a recipe and flags."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kdviz.base.measures import in_words
from kdviz.base.processes import first_process
from kdviz.cli import completion
from kdviz.cli.common import pairs
from kdviz.cli.options import NETS, Root, TeacherModel
from kdviz.cli.pace import progress

NEEDS_ARGUMENTS = True
METHOD, RECIPE, RUN = "Method and student", "Recipe", "Run"  # titles of groups of options on the help page


def command(
    recipe: Annotated[
        str | None,
        typer.Argument(help="A bundled recipe (kdviz list recipes) or a TOML file.", autocompletion=completion.recipes),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="ce, kd, kd+rk, dist, pld, ... (kdviz list methods).",
            autocompletion=completion.methods,
            rich_help_panel=METHOD,
        ),
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="The teacher's checkpoint, or FILE@MODEL.", rich_help_panel=NETS)
    ] = None,
    teacher_model: TeacherModel = None,
    backbone: Annotated[
        Path | None,
        typer.Option(help="Of detectors: a classifier's file that the backbone starts from.", rich_help_panel=NETS),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(
            help="The student's architecture (kdviz list models).",
            autocompletion=completion.models,
            rich_help_panel=METHOD,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="The data set (kdviz list data).", autocompletion=completion.data, rich_help_panel=NETS),
    ] = None,
    root: Root = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The run's folder [default: below runs/].", rich_help_panel=RUN)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides weights, order and augmentation.", rich_help_panel=RECIPE)
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split.", rich_help_panel=RECIPE)] = None,
    batch: Annotated[int | None, typer.Option(help="Images in a step.", rich_help_panel=RECIPE)] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(help="sgd, adam, adamw, lamb, ... (pytorch-optimizer), timm:lamb.", rich_help_panel=RECIPE),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.", rich_help_panel=RECIPE)] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay.", rich_help_panel=RECIPE)] = None,
    schedule: Annotated[str | None, typer.Option(help="cosine or step.", rich_help_panel=RECIPE)] = None,
    warmup: Annotated[float | None, typer.Option(help="Epochs of linear warm-up.", rich_help_panel=RECIPE)] = None,
    ema: Annotated[
        float | None,
        typer.Option(help="Decay of the weights' moving average, saved as ema.pt.", rich_help_panel=RECIPE),
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="Compute a batch in so many parts, to save memory.", rich_help_panel=RECIPE)
    ] = None,
    holdout: Annotated[
        str | None,
        typer.Option(help="none, split (the data set's val), or a fraction of train.", rich_help_panel=RECIPE),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Train on so many images, stratified by class.", rich_help_panel=NETS)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A loss's setting, rank_kendall.steepness=2, or one of the recipe, mixup=0.2; repeat.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    keep_epochs: Annotated[
        int | None, typer.Option(help="Keep every N-th epoch's checkpoint in epochs/.", rich_help_panel=RUN)
    ] = None,
    score_every: Annotated[
        int | None,
        typer.Option(help="Also measure the test split every N epochs; nothing is chosen by it.", rich_help_panel=RUN),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, fp32, tf32 (NVIDIA GPUs), bf16 or fp16.", rich_help_panel=RECIPE)
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 [default: a GPU where there is one].", rich_help_panel=RUN)
    ] = None,
    compile: Annotated[bool, typer.Option("--compile", help="torch.compile the student.", rich_help_panel=RUN)] = False,
    teacher_cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder in which all runs over these images share the teacher's logits.", rich_help_panel=NETS
        ),
    ] = None,
    features_at: Annotated[
        str | None,
        typer.Option(
            help="Modules whose maps a method of features sees, as layer1,layer2,layer3.", rich_help_panel=METHOD
        ),
    ] = None,
    teacher_features_at: Annotated[
        str | None, typer.Option(help="The same of the teacher.", rich_help_panel=METHOD)
    ] = None,
    save_minutes: Annotated[
        float, typer.Option(help="How old the saved state may get; a kill loses no more.", rich_help_panel=RUN)
    ] = 5.0,
    workers: Annotated[
        int, typer.Option(help="Processes that read images, where these stay in files.", rich_help_panel=RUN)
    ] = 0,
    damaged: Annotated[
        str, typer.Option(help="refuse or replace image files that cannot be read.", rich_help_panel=RUN)
    ] = "refuse",
    loggers: Annotated[
        list[str] | None, typer.Option("--log", help="Beside the journal: tensorboard, wandb.", rich_help_panel=RUN)
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Write a trace of ten steps, trace.json.", rich_help_panel=RUN)
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew instead of resuming.", rich_help_panel=RUN)
    ] = False,
) -> None:
    """Train a student; the same command again resumes a run that was interrupted.

    torchrun --nproc-per-node N -m kdviz train ... divides each batch over N processes.

    Example: kdviz train glyphs100 --method kd+rk \\
        --teacher checkpoints/resnet20_teacher.pt --seed 1
    """
    from kdviz.train.recipe import load_recipe

    given = pairs(settings or [])
    changes: dict[str, Any] = {
        "method": method,
        "student": student,
        "data": data,
        "seed": seed,
        "epochs": epochs,
        "batch": batch,
        "optimizer": optimizer,
        "lr": lr,
        "weight_decay": weight_decay,
        "schedule": schedule,
        "warmup": warmup,
        "ema": ema,
        "accumulate": accumulate,
        "holdout": holdout,
        "limit": limit,
        "keep_epochs": keep_epochs,
        "score_every": score_every,
        "features_at": _names(features_at),
        "teacher_features_at": _names(teacher_features_at),
        "precision": precision,
        "compile": compile or None,
        "teacher": str(teacher) if teacher else None,
        "backbone": str(backbone) if backbone else None,
        "settings": {key: value for key, value in given.items() if "." in key},
        **{key: value for key, value in given.items() if "." not in key},
    }
    chosen = load_recipe(recipe, **changes)

    from kdviz.checkpoints import RunFolder
    from kdviz.checkpoints.related import load_teacher
    from kdviz.train import train

    where = out or Path("runs") / chosen.data / f"{chosen.student}_{chosen.method}_seed{chosen.seed}"
    taught = load_teacher(chosen.teacher, teacher_model) if chosen.teacher else None
    notes = [f"epoch 1/{chosen.epochs}"]

    def report(entry: dict[str, Any]) -> None:
        _report(entry)
        number = min(entry["epoch"] + 1, chosen.epochs)
        val = f", val {in_words(entry['val'])}" if entry["val"] else ""
        notes[:] = [f"epoch {number}/{chosen.epochs}, loss {entry['train']['total']:.3f}{val}"]

    with progress(f"{chosen.student} {chosen.method}") as moved:
        metrics = train(
            chosen,
            out=where,
            teacher=taught,
            root=root or RunFolder(where).root,
            device=device,
            teacher_cache=teacher_cache,
            fresh=fresh,
            save_minutes=save_minutes,
            workers=workers,
            damaged=damaged,
            loggers=loggers or (),
            profile=profile,
            progress=lambda done, count: moved(done, count, *notes),
            report=report,
        )
    for which in ("best", "last") if first_process() else ():
        found = metrics[which]
        loss = f", loss {found['loss']:.4f} nats" if "loss" in found else ""
        typer.echo(f"{which}: epoch {found['epoch']}, test {in_words(found)}{loss}")
    for name in ("last.pt", "best.pt", "journal.jsonl") if first_process() else ():
        typer.echo(where / name)


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(","))


def _report(entry: dict[str, Any]) -> None:
    val = f", val {in_words(entry['val'])}" if entry["val"] else ""
    pace = f"{entry['seconds']:.0f} s, {entry['images_per_second']} images/s"
    typer.echo(f"epoch {entry['epoch']}: loss {entry['train']['total']:.4f}{val} ({pace})")
