"""`kdviz table`: a paper's accuracy table, or one's own, run again under several seeds."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdviz.base.check import KdvizError, require
from kdviz.cli.common import write_figures
from kdviz.cli.options import Root

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdviz.tables.declare import Declaration
    from kdviz.tables.plan import Plan
    from kdviz.tables.queue import Queue
    from kdviz.tables.slurm import Task
    from kdviz.tables.status import Status

    Report = Callable[[Status], None]

NEEDS_ARGUMENTS = True
PLAN, RUNS, SHOW = "What is run", "Runs", "What is shown"  # titles of groups of options on the help page


def command(
    paper: Annotated[str, typer.Argument(help="rkkd or pld, or the TOML file of a table of your own.")],
    name: Annotated[str | None, typer.Argument(help="tab1, tab2, ..., fig4 (rkkd) of the paper.")] = None,
    data: Annotated[str | None, typer.Option(help="Data set [default: the table's].", rich_help_panel=PLAN)] = None,
    root: Root = None,
    seeds: Annotated[
        int | None, typer.Option(help="Runs of each cell, seeds 0, 1, ... [default: 5].", rich_help_panel=PLAN)
    ] = None,
    scale: Annotated[
        str, typer.Option(help="full, or small: small nets on a small data set.", rich_help_panel=PLAN)
    ] = "full",
    row: Annotated[list[str] | None, typer.Option(help="Only these rows; repeat.", rich_help_panel=PLAN)] = None,
    column: Annotated[list[str] | None, typer.Option(help="Only these columns; repeat.", rich_help_panel=PLAN)] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(help="NET=CHECKPOINT; repeat. The others are trained first.", rich_help_panel=PLAN),
    ] = None,
    backbone: Annotated[
        list[str] | None,
        typer.Option(
            help="Of detectors: NET=FILE, a classifier's file that the net's backbone starts from; repeat.",
            rich_help_panel=PLAN,
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Of every run, in place of the recipe's.", rich_help_panel=PLAN)
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Train on so many images.", rich_help_panel=PLAN)] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes [default: one per core or GPU].", rich_help_panel=RUNS)
    ] = None,
    per_gpu: Annotated[int, typer.Option(min=1, help="Workers that share a GPU.", rich_help_panel=RUNS)] = 1,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 [default: GPUs where there are some].", rich_help_panel=RUNS)
    ] = None,
    on_slurm: Annotated[
        bool, typer.Option("--slurm", help="Let a Slurm cluster's nodes do the runs.", rich_help_panel=RUNS)
    ] = False,
    slurm_options: Annotated[
        list[str] | None,
        typer.Option("--slurm-option", help="KEY=VALUE of sbatch, partition=gpu; repeat.", rich_help_panel=RUNS),
    ] = None,
    max_jobs: Annotated[int, typer.Option(min=1, help="Slurm tasks that run at a time.", rich_help_panel=RUNS)] = 8,
    teacher_cache: Annotated[
        bool, typer.Option(help="Runs share the teacher's logits on disk.", rich_help_panel=RUNS)
    ] = True,
    plan_only: Annotated[bool, typer.Option("--plan", help="Show the plan and stop.", rich_help_panel=SHOW)] = False,
    print_commands: Annotated[
        bool, typer.Option(help="Print what is left as commands and stop.", rich_help_panel=SHOW)
    ] = False,
    show_status: Annotated[
        bool, typer.Option("--status", help="Show how far the runs are and stop.", rich_help_panel=SHOW)
    ] = False,
    save_minutes: Annotated[
        float, typer.Option(help="How old a run's saved state may get.", rich_help_panel=RUNS)
    ] = 1.0,
    runs: Annotated[Path, typer.Option(help="Folder of the runs, shared by all tables.", rich_help_panel=RUNS)] = Path(
        "runs/tables"
    ),
    records: Annotated[
        Path | None,
        typer.Option(
            help="Records of finished runs, without weights, read and added to [default: records/ beside the table].",
            rich_help_panel=RUNS,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="[default: reports/tables/NAME].", rich_help_panel=SHOW)
    ] = None,
) -> None:
    """Run a table: every cell under several seeds, mean and spread beside the printed numbers, gains inside the noise
    marked. The same command again goes on where it stopped.

    Example: kdviz table rkkd tab2 --scale small --seeds 3 --workers 2
    """
    from kdviz.tables import pool
    from kdviz.tables.plan import plan
    from kdviz.tables.queue import Queue

    require(on_slurm or not slurm_options, "table: --slurm-option is for --slurm")
    options_of_slurm = dict(map(_option, slurm_options or []))
    changes = {key: value for key, value in (("epochs", epochs), ("limit", limit)) if value is not None}
    table = _changed(_declaration(paper, name, data, scale, seeds).only(row or (), column or ()), changes)
    given = dict(_net(text, "--teacher") for text in teacher or [])
    cache = runs / "teacher_logits" if teacher_cache else None
    options: dict[str, Any] = {
        "runs": runs,
        "teachers": given,
        "backbones": dict(_net(text, "--backbone") for text in backbone or []),
        "root": root,
        "changes": changes,
        "teacher_cache": cache,
    }
    folder = out or Path("reports") / "tables" / table.name
    options["records"] = records or folder.parent / "records"
    queue = Queue(runs / "queue.sqlite")
    if show_status:
        _status(queue, str(folder.resolve()), table.name, folder)
        return
    planned = plan(table, **options)
    if print_commands:
        from kdviz.tables.write import missing

        typer.echo("\n".join(missing(planned)))
        return
    _show(planned, runs, max_jobs if on_slurm else len(pool.devices(workers, per_gpu, device)))
    if plan_only:
        return

    def perform(key: str, left: int, report: "Report") -> "Status":
        if on_slurm:
            task = _task(queue, key, device, save_minutes)
            return _on_slurm(queue, task, min(max_jobs, left), options_of_slurm, report)
        return _here(queue, key, (workers, per_gpu, device, left), save_minutes, report)

    found = _train(planned, queue, folder, perform)
    _write(plan(table, **options), folder, found, options["records"])


def _declaration(paper: str, name: str | None, data: str | None, scale: str, seeds: int | None) -> "Declaration":
    """The table that was asked for."""
    from dataclasses import replace

    from kdviz.tables.declare import from_file
    from kdviz.tables.published import from_paper

    if paper.endswith(".toml"):
        require(name is None, f"table: {paper} is a whole table; leave {name} out")
        require(scale == "full", "table: --scale small is for the papers' tables; name small nets in your file")
        table = from_file(Path(paper))
        table = replace(table, data=data or table.data)
    else:
        require(name is not None, f"table: which table of {paper}? see: kdviz list figures")
        table = from_paper(paper, str(name), scale=scale, data=data)
    require(seeds is None or seeds > 0, f"table: --seeds must be above 0, got {seeds}")
    return replace(table, seeds=tuple(range(seeds))) if seeds else table


def _changed(table: "Declaration", changes: dict[str, Any]) -> "Declaration":
    """The table under a name and with a note of its own, where every run departs from its recipe."""
    from dataclasses import replace

    if not changes:
        return table
    note = f"Every run has {', '.join(f'{key} {value}' for key, value in changes.items())} in place of its recipe's."
    name = "_".join([table.name, *(f"{key}{value}" for key, value in changes.items())])
    return replace(table, name=name, remark=f"{table.remark} {note}".strip())


def _net(text: str, option: str) -> tuple[str, Path]:
    """NET=FILE, the file there."""
    net, equals, path = text.partition("=")
    require(net and equals and path, f"{option}: expected NET=FILE, got {text!r}")
    require(Path(path).is_file(), f"{option}: no file {path}")
    return net, Path(path)


def _option(text: str) -> tuple[str, str]:
    """KEY=VALUE; a KEY alone is an option without a value."""
    key, _, value = text.lstrip("-").partition("=")
    require(key, f"--slurm-option: expected KEY=VALUE, got {text!r}")
    return key, value or "true"


def _show(planned: "Plan", runs: Path, workers: int) -> None:
    """Print the plan: each cell's runs, what is finished, and how long the rest may take."""
    from kdviz.tables.status import rates, seconds

    table = planned.declaration
    left = planned.left
    typer.echo(f"{table.title}" + (f"\n{table.note}" if table.note else ""))
    for cell_row in table.rows:
        states = [_state(planned, (cell_row, column)) for column in table.columns]
        typer.echo(f"  {cell_row}: {', '.join(states)}")
    recipes = [job.recipe for job in left if job.recipe.expects_backbone]
    fresh = dict.fromkeys(recipe.student for recipe in recipes if recipe.backbone is None)
    if fresh:
        names = f"{', '.join(fresh)}: the backbone starts fresh, the recipe's source from ImageNet's weights"
        typer.echo(f"{names}; --backbone {next(iter(fresh))}=FILE")
    for name, why in planned.other.items():
        typer.echo(f"another run is in {runs / name}: {why}; move it away or choose another --runs")
    known = rates([runs, Path("runs")] if Path("runs").is_dir() else [runs])
    costs = [seconds(job, known) for job in left]
    teachers = len([job for job in left if job.id.split("/")[1].startswith("teacher_")])
    text = f"{len(left)} runs to train ({teachers} of them teachers), {len(planned.finished)} finished"
    if left:
        unknown = costs.count(None)
        total = sum(cost for cost in costs if cost is not None)
        count = min(workers, len(left))
        text += f"; about {_time(total / count)} with {count} worker{'s' * (count != 1)} by the pace of earlier runs"
        text = text if unknown < len(left) else text.rpartition(";")[0] + "; no earlier run shows how long that takes"
        text += f" ({unknown} runs not counted)" if 0 < unknown < len(left) else ""
    typer.echo(text)


def _state(planned: "Plan", key: tuple[str, str]) -> str:
    cell, jobs = planned.declaration.cells[key], planned.cells[key]
    if not cell.trainable:
        return "–"
    if not jobs:
        return "given"
    return f"{sum(job.id in planned.finished for job in jobs)}/{len(jobs)}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _train(planned: "Plan", queue: "Queue", folder: Path, perform: "Callable[[str, int, Report], Status]") -> "Status":
    """Train what is left, by `perform`; the queue's status at the end."""
    from kdviz.tables.status import status

    key, left = str(folder.resolve()), planned.left
    wanted = [job for job in planned.jobs.values() if job in left or job.id in planned.finished]
    entries = [(job.id, job.payload, job.after and job.after.id) for job in wanted]
    queue.put(key, entries, planned.finished - {job.id for job in left})
    if not left:
        return status(queue.entries(key))
    seen: dict[str, int] = {}

    def report(now: "Status") -> None:
        _page(now, planned.declaration.name, folder)
        if (now.done, len(now.failed)) != (seen.get("done"), seen.get("failed")):
            typer.echo(f"{now.done} of {now.total} runs done" + (f", {len(now.failed)} failed" if now.failed else ""))
        seen.update(done=now.done, failed=len(now.failed))

    return perform(key, len(left), report)


def _here(
    queue: "Queue", key: str, asked: tuple[int | None, int, str | None, int], save_minutes: float, report: "Report"
) -> "Status":
    """Worker processes on this machine; `asked` are workers, workers per GPU, device and the runs that are left."""
    from kdviz.tables import pool

    where = pool.devices(*asked[:3])[: asked[3]]
    typer.echo(f"{len(where)} worker{'s' * (len(where) != 1)} on {', '.join(dict.fromkeys(where))}")
    return pool.run(queue, key, where, save_minutes=save_minutes, report=report)


def _task(queue: "Queue", key: str, device: str | None, save_minutes: float) -> "Task":
    from kdviz.tables.slurm import Task

    return Task(queue.path.resolve(), key, device, save_minutes)


def _on_slurm(queue: "Queue", task: "Task", most: int, options: dict[str, str], report: "Report") -> "Status":
    """Tasks of a Slurm array, which go on when this command is interrupted."""
    from kdviz.tables import slurm

    name = slurm.job_name(task.plan)
    typer.echo(f"Slurm tasks {name}, {most} at a time; logs in {queue.path.parent / 'slurm'}")
    try:
        return slurm.run(queue, task, most=most, options=options, report=report)
    except KeyboardInterrupt:
        typer.echo(f"the Slurm tasks go on; the same command follows them, scancel --name {name} ends them", err=True)
        raise


def _page(now: "Status", name: str, folder: Path) -> None:
    from kdviz.base.files import atomic
    from kdviz.tables.status import page

    with atomic(folder / "status.html") as partial:
        partial.write_text(page(now, name), encoding="utf-8")


def _status(queue: "Queue", key: str, name: str, folder: Path) -> None:
    from kdviz.tables.status import plain, status

    entries = queue.entries(key)
    require(entries, f"table: nothing was started yet in {folder}; run the same command without --status")
    now = status(entries)
    _page(now, name, folder)
    typer.echo(f"{plain(now, name)}\n{folder / 'status.html'}")


def _write(planned: "Plan", folder: Path, now: "Status", records: Path) -> None:
    """Collect, print and write the table; an error at the end where runs have failed."""
    from kdviz.tables.collect import collect
    from kdviz.tables.write import keep_records, terminal, write

    result = collect(planned)
    keep_records(planned, records)
    words = shlex.join(["kdviz", *sys.argv[1:]])
    paths = write(planned, result, folder, command=words)
    grey = (lambda text: typer.style(text, dim=True)) if sys.stdout.isatty() else str
    typer.echo(f"\n{terminal(result, grey=grey)}\n")
    for path in paths:
        typer.echo(path)
    if bool(result["gain"].notnull().any()):
        write_figures(result, ["gains"], folder)
    if now.failed:
        first = now.failed[0]
        raise KdvizError(f"table: {len(now.failed)} runs failed, the first: {first[0]}: {first[1]}")
